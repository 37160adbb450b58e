"""The timeline against plain refolds."""

from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from qemustate.events.writer import LogWriter
from qemustate.replay.source import Source, records
from qemustate.replay.timeline import Timeline
from qemustate.statemachine.fold import apply, fold
from qemustate.statemachine.state import VM

from .conftest import STORIES

RECORDS = [
    list(records(Source(path).vms[0]))
    for path in STORIES
    if path.parent.name == "10.0" and path.name.split(".")[0] in ("hotplug_pcie_ack", "reset")
]
RECORDS.append(RECORDS[0][:1])


def refold(history, seq):
    return fold([record for record in history if record.seq <= seq]).to_plain()


def from_list(history):
    return lambda start: (record for record in history if record.seq >= start)


class Moves(RuleBasedStateMachine):
    """Any walk through a trace shows at every record what folding from the beginning shows."""

    def __init__(self):
        super().__init__()
        self.timeline = None

    @precondition(lambda self: self.timeline is None)
    @rule(history=st.sampled_from(RECORDS), every=st.sampled_from([1, 2, 5, 1000]))
    def open(self, history, every):
        self.history = history
        self.timeline = Timeline(from_list(history), every=every)
        self.seq = 0

    @precondition(lambda self: self.timeline)
    @rule(steps=st.integers(1, 30))
    def step(self, steps):
        for _ in range(steps):
            record = self.timeline.step()
            assert record == (self.history[self.seq] if self.seq < len(self.history) else None)
            self.seq = min(self.seq + 1, len(self.history))

    @precondition(lambda self: self.timeline)
    @rule()
    def back(self):
        assert self.timeline.back() is (self.seq > 0)
        self.seq = max(self.seq - 1, 0)

    @precondition(lambda self: self.timeline)
    @rule(seq=st.integers(-1, 120))
    def at(self, seq):
        self.timeline.at(seq)
        self.seq = max(0, min(seq, len(self.history)))

    @precondition(lambda self: self.timeline)
    @rule(data=st.data(), off=st.integers(-1, 1))
    def at_time(self, data, off):
        time = data.draw(st.sampled_from([record.time for record in self.history])) + off
        self.timeline.at_time(time)
        later = [record.seq for record in self.history if record.time > time]
        self.seq = later[0] - 1 if later else len(self.history)

    @precondition(lambda self: self.timeline)
    @rule()
    def end(self):
        self.timeline.end()
        self.seq = len(self.history)

    @invariant()
    def as_refolded(self):
        if self.timeline:
            assert self.timeline.seq == self.seq
            assert self.timeline.state.to_plain() == refold(self.history, self.seq)


TestMoves = Moves.TestCase
TestMoves.settings = settings(deadline=None, max_examples=200, stateful_step_count=20)


def test_every_change_is_told_once(story):
    """The changes of all subjects are those the fold reports, and those of a subject are the ones that name it."""
    (trace,) = Source(story).vms
    history = list(records(trace))
    vm, expected = VM(trace.name), []
    for record in history:
        apply(vm, record.seq, record.time, record.kind, record.body)
        expected += [(record.seq, machine, name, before) for machine, name, before, _ in vm.changed]
    timeline = Timeline(from_list(history), trace.start())
    told = [(it.seq, it.machine, it.subject, it.before) for it in timeline.changes()]
    assert told == expected
    by_subject = [it for subject in {n or m for _, m, n, _ in told} for it in timeline.changes(subject)]
    assert sorted(it.seq for it in by_subject) == sorted(seq for seq, _, _, _ in told)
    assert timeline.seq == 0


@pytest.mark.parametrize("machine", ["runstate", "process", "monitor"])
def test_changes_follow_each_other(story, machine):
    """Of one machine each change begins where the one before ended."""
    (trace,) = Source(story).vms
    moments = Timeline(lambda start: records(trace, start), trace.start()).changes(machine)
    assert moments or machine == "runstate"
    for one, next_ in pairwise(moments):
        assert one.after == next_.before


def test_a_logs_own_snapshots_save_the_way(tmp_path):
    """Far ahead of the cursor the state is taken from the log's snapshot; it is what folding all the way gives."""
    history = RECORDS[0]
    path = tmp_path / "a.log"
    vm = VM("a")
    with LogWriter(path, vm="a", durability="os") as writer:
        apply(vm, 1, 0, "segment", {"vm": "a"})
        for record in history[1:]:
            if record.seq % 10 == 0:
                writer.rotate(vm.to_plain(), "tables")
            apply(
                vm,
                writer.append(record.kind, record.body, record.time),
                record.time,
                record.kind,
                record.body,
            )
    (trace,) = Source(path).vms
    whole = list(records(trace))
    read = []

    def counted(start):
        for record in records(trace, start):
            read.append(record.seq)
            yield record

    timeline = Timeline(counted, trace.start(), snapshot=trace.snapshot)
    for seq in range(len(whole), 0, -1):
        assert timeline.at(seq).to_plain() == refold(whole, seq), seq
    timeline = Timeline(counted, trace.start(), snapshot=trace.snapshot)
    read.clear()
    timeline.at(len(whole))
    assert len(read) < 25
    assert timeline.at_time(whole[-1].time).to_plain() == refold(whole, len(whole))


def test_checkpoints_stay_few(monkeypatch):
    """However long a trace is, so many checkpoints are kept and no more, and every state can still be had."""
    monkeypatch.setattr("qemustate.replay.timeline._CHECKPOINTS", 4)
    history = RECORDS[0]
    timeline = Timeline(from_list(history), every=1)
    timeline.end()
    assert len(timeline._checkpoints) <= 5
    for seq in range(len(history), -1, -1):
        assert timeline.at(seq).to_plain() == refold(history, seq)


def test_changes_of_a_kind(story):
    """A kind and an id, or `vm`, choose among the changes of all subjects."""
    (trace,) = Source(story).vms
    timeline = Timeline(lambda start: records(trace, start), trace.start())
    every = timeline.changes()
    assert timeline.changes("vm") == [it for it in every if not it.subject]
    for name in {it.subject for it in every if it.machine == "device"}:
        wanted = [it for it in every if (it.machine, it.subject) == ("device", name)]
        assert timeline.changes(f"device={name}") == wanted
