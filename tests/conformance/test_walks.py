"""Random legal traffic, made by walking the tables' own machines, and what the observer makes of it.

The walker is in one state and fires one row at a time (:mod:`qemustate.statemachine.machine`); the observer keeps what may
be. ``support/legal.py`` walks all machines of a VM together and writes what its client sees.
"""

from __future__ import annotations

import copy
import os
import random

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from support.legal import Legal
from support.told import Told
from support.walks import rows_from, walker

from qemustate.statemachine import guards
from qemustate.statemachine.fold import apply, fold
from qemustate.statemachine.observer import observer
from qemustate.statemachine.state import VM
from qemustate.statemachine.tables import TABLES

OLD, NEW = (7, 2, 22), (10, 0, 2)
#: Examples are this many times more when everything is to be run.
MORE = 10 if os.environ.get("QEMUSTATE_FULL") == "1" else 1
BEGINNINGS = st.fixed_dictionaries(
    {"version": st.sampled_from([OLD, NEW]), **dict.fromkeys(("paused", "incoming", "events", "native", "others"), st.booleans())}
)  # fmt: skip


def chooser(data):
    """Return a function that lets Hypothesis choose from a list."""
    return lambda options: options[data.draw(st.integers(0, len(options) - 1))]


def begun(data):
    """Return a VM that has just been launched, one way or another."""
    beginning = data.draw(BEGINNINGS)
    version = beginning.pop("version")
    return Legal(version, **beginning)


def cells(vm, machines):
    """Yield the name, the true state and the belief of each machine; one never heard of has the belief None."""
    homes = {"device": vm.devices, "job": vm.jobs, "node": vm.nodes}
    for name, it in machines.items():
        kind, _, subject = name.partition(" ")
        cell = homes[kind].get(subject) if subject else getattr(vm, kind)
        watcher = vm.watcher(kind)
        yield name, it.state, watcher, cell and cell.belief


def assert_sound(vm, qemu):
    """The true state of every machine, hidden bits included, is in its belief; what was never heard of is not there."""
    for name, state, watcher, belief in cells(vm, qemu.machines):
        if belief is not None:
            assert watcher.bit[state] & belief, (name, state, watcher.inner_names(belief))
        elif not vm.late:
            assert state in ("gone", "undefined", "null"), (name, state)


@settings(deadline=None, max_examples=300 * MORE)
@given(data=st.data())
def test_legal_traffic_folds_without_a_violation_and_the_belief_holds_the_truth(data):
    """Whatever a VM and its client do within the tables, nothing is impossible, and what is true is believed."""
    qemu, vm, read = begun(data), VM(), 0
    for _ in range(data.draw(st.integers(1, 40))):
        qemu.step(chooser(data))
        for record in qemu.records[read:]:
            note(f"{record.seq} {record.kind} {record.body}")
            apply(vm, record.seq, record.time, record.kind, record.body)
            assert not vm.violations, record
        read = len(qemu.records)
        assert_sound(vm, qemu)


@settings(deadline=None, max_examples=250 * MORE)
@given(data=st.data())
def test_the_belief_after_a_gap_holds_the_truth(data):
    """A client leaves, things happen that nobody sees, and a client comes: nothing it sees then is impossible."""
    qemu, vm, read = begun(data), VM(), 0
    choose = chooser(data)
    for _ in range(data.draw(st.integers(0, 15))):
        qemu.step(choose)
    qemu.leave()
    for _ in range(data.draw(st.integers(0, 10))):
        qemu.step(choose)
    qemu.come_back(choose)
    for _ in range(data.draw(st.integers(0, 20))):
        for record in qemu.records[read:]:
            note(f"{record.seq} {record.kind} {record.body}")
            apply(vm, record.seq, record.time, record.kind, record.body)
            assert not vm.violations, record
        read = len(qemu.records)
        assert_sound(vm, qemu)
        qemu.step(choose)


@settings(deadline=None, max_examples=80 * MORE)
@given(data=st.data())
def test_a_prefix_and_the_rest_are_the_whole_across_snapshots(data):
    """Legal traffic folded in pieces, each from the snapshot of the one before, is the traffic folded at once."""
    qemu = begun(data)
    for _ in range(data.draw(st.integers(0, 30))):
        qemu.step(chooser(data))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(qemu.records)), max_size=3)))
    vm = VM()
    for start, end in zip([0, *cuts], [*cuts, len(qemu.records)], strict=True):
        vm = fold(qemu.records[start:end], VM.from_plain(copy.deepcopy(vm.to_plain())))

    assert vm.to_plain() == fold(qemu.records).to_plain()


# --- accepted exactly if a walk can take it


def profiles():
    """Facts about every guard: it holds, it does not, or nobody knows."""
    how = st.sampled_from([guards.held, guards.denied, guards.open_])
    return st.lists(how, min_size=len(guards.GUARDS), max_size=len(guards.GUARDS)).map(
        lambda chosen: sum(f(name) for f, name in zip(chosen, guards.GUARDS, strict=True))
    )


class Reference:
    """Every state a walker of the bound machine can be in after a course of triggers: tried out, one row at a time."""

    def __init__(self, table, version, profile):
        self.walker = walker(table, version)
        self.walker.profile = profile
        self.states = self._closed({self.walker.state})

    def _after(self, state, trigger):
        self.walker.state = state
        reached = set()
        for row in rows_from(self.walker, trigger):
            self.walker.state = state
            self.walker.take(row)
            reached.add(self.walker.state)
        return reached

    def _closed(self, states):
        new = set(states)
        while new:
            new = set().union(*(self._after(state, "") for state in new)) - states
            states |= new
        return states

    def can(self, trigger):
        """Take a trigger from wherever the walker may be; False if it cannot be taken from anywhere."""
        reached = set().union(*(self._after(state, trigger) for state in self.states))
        self.states = self._closed(reached)
        return bool(reached)


def legal_course(table, version, profile, data):
    """Return the triggers of a walk, silent moves left out."""
    it, course = walker(table, version), []
    it.profile = profile
    triggers = list(observer(table, version).triggers)
    for _ in range(data.draw(st.integers(0, 15))):
        moves = [row for trigger in ("", *triggers) for row in rows_from(it, trigger)]
        if not moves:
            break
        row = chooser(data)(moves)
        it.take(row)
        course += [] if row.silent else [row.trigger]
    return course


def one_thing_changed(course, triggers, data):
    """Return the course with one trigger put in, left out or doubled, or two exchanged."""
    place = data.draw(st.integers(0, max(len(course) - 1, 0)))
    how = data.draw(st.sampled_from(["insert", "delete", "duplicate", "swap"])) if course else "insert"
    if how == "insert":
        return [*course[:place], data.draw(st.sampled_from(triggers)), *course[place:]]
    if how == "delete":
        return course[:place] + course[place + 1 :]
    if how == "duplicate":
        return [*course[: place + 1], *course[place:]]
    other = data.draw(st.integers(0, len(course) - 1))
    course = list(course)
    course[place], course[other] = course[other], course[place]
    return course


@pytest.mark.parametrize("version", [OLD, NEW], ids=["7.2", "10.0"])
@pytest.mark.parametrize("table", TABLES)
@settings(deadline=None, max_examples=50 * MORE)
@given(data=st.data())
def test_a_mutation_is_accepted_exactly_if_a_walk_can_take_it(table, version, data):
    """One insertion, deletion, duplication or swap: the observer allows what a walk could do, all of it and no more."""
    profile = data.draw(profiles())
    watcher = observer(table, version)
    course = legal_course(table, version, profile, data)
    changed = one_thing_changed(course, sorted(watcher.triggers), data)
    for triggers in (course, changed):
        reference = Reference(table, version, profile)
        belief = watcher.closure(watcher.initial, profile)
        for trigger in triggers:
            step, possible = watcher.image(trigger, belief, profile), reference.can(trigger)
            assert step.impossible is not possible, (triggers, trigger)
            if not possible:
                assert triggers is changed
                break
            belief = step.belief
            assert set(watcher.inner_names(belief)) == reference.states


@settings(deadline=None, max_examples=80 * MORE)
@given(data=st.data())
def test_a_job_told_wrong_on_the_wire_is_found_exactly_if_no_job_does_that(data):
    """The same on the wire, for jobs, whose events are all there is: a violation if and only if no walk does that."""
    course = legal_course("job", NEW, 0, data)
    statuses = [t for t in sorted(observer("job", NEW).triggers) if t.startswith("JOB_STATUS_CHANGE")]
    events = [t for t in course if t in statuses]
    changed = one_thing_changed(events, statuses, data)
    qemu = Legal(NEW, paused=True, incoming=False, events=False, native=False, others=True)
    before = len(qemu.records)
    for trigger in changed:
        qemu._see(
            "event",
            {"qmp": {"event": "JOB_STATUS_CHANGE", "data": {"id": "j1", "status": trigger.split()[1]}}},
        )
    reference = Reference("job", NEW, 0)
    wrong = next((i for i, trigger in enumerate(changed, 1) if not reference.can(trigger)), None)
    found = [f.seq - before for f in Told(qemu.records).violations]

    assert found[:1] == ([] if wrong is None else [wrong])


def test_legal_traffic_moves_every_machine(figures):
    """The miniature is no straw man: over many walks it leads every machine through most of its states."""
    seen: dict[str, set[str]] = {}
    records = 0
    for seed in range(140):
        choose = random.Random(seed)
        coin = lambda: choose.random() < 0.5  # noqa: B023, E731
        qemu = Legal(
            choose.choice([OLD, NEW]),
            paused=coin(),
            incoming=coin(),
            events=coin(),
            native=coin(),
            others=coin(),
        )
        for _ in range(60):
            qemu.step(choose.choice)
            for name, it in qemu.machines.items():
                seen.setdefault(name.partition(" ")[0], set()).add(it.state)
        records += len(qemu.records)
    seen["backend"] = seen.pop("node")
    shares = {name: len(states) / len(TABLES[name].states) for name, states in seen.items()}
    figures.append(
        f"legal walks: 140 of 60 deeds each, {records} records; states walked through: "
        + ", ".join(f"{name} {len(seen[name])}/{len(TABLES[name].states)}" for name in shares)
    )

    assert min(shares.values()) >= 0.6
