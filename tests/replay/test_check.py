"""Rules over a whole trace, or up to a record."""

import pytest

from qemustate.errors import BadInput
from qemustate.events.writer import LogWriter
from qemustate.replay.check import Until, check
from qemustate.replay.source import Source, records
from qemustate.statemachine.fold import fold


def test_the_state_is_that_of_the_fold(story):
    """Checking folds as replay does; stories of real QEMUs hold no violation but nonsense sent on purpose."""
    (trace,) = Source(story).vms
    report = check(trace)
    assert report.vm.to_plain() == fold(records(trace), trace.start()).to_plain()
    violations = {(it.rule, it.subject) for it in report.findings if it.severity == "violation"}
    assert violations <= {("malformed", "client")}
    assert report.violated is bool(violations)
    assert report.not_checked == []
    assert [it.seq for it in report.findings] == sorted(it.seq for it in report.findings)


def test_a_check_can_stop_anywhere(quit_story):
    """Up to a record, or to a time, the state is that of the records up to there, and the end's rules are silent."""
    (trace,) = Source(quit_story).vms
    history = list(records(trace))
    for record in history:
        seen: list[tuple[int, int]] = []
        report = check(
            trace, Until(seq=record.seq), after=lambda vm, seq, *_, seen=seen: seen.append((vm.seq, seq))
        )
        assert report.vm.to_plain() == fold(history[: record.seq]).to_plain()
        assert seen == [(seq, seq) for seq in range(1, record.seq + 1)]
    assert check(trace, Until(time=history[-1].time - 1)).vm.seq < len(history)
    assert check(trace, Until(time=history[-1].time)).vm.seq == len(history)


TEXT = b"""\
{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}}, "capabilities": []}}
{"timestamp": {"seconds": 9, "microseconds": 0}, "event": "RESUME"}
{"timestamp": {"seconds": 8, "microseconds": 0}, "event": "RESUME"}
"""


def test_what_a_trace_lacks_is_not_checked(tmp_path):
    """A text has no times: that a clock ran backwards in it is neither found nor passed; a doubled RESUME is found."""
    path = tmp_path / "t"
    path.write_bytes(TEXT)
    (trace,) = Source(path).vms
    report = check(trace)
    assert {it.rule for it in report.findings if it.severity == "violation"} == {"impossible-transition"}
    assert report.violated
    assert {"rule": "clock-backwards", "needs": ["times"]} in report.not_checked
    assert "clock-backwards" not in {it.rule for it in report.findings}


def test_a_record_that_cannot_be_folded_is_named(tmp_path):
    """A log may verify and hold a record of no sound shape: its number is told."""
    path = tmp_path / "odd.log"
    with LogWriter(path, durability="os") as writer:
        writer.append("opened", {}, 1)
        writer.append("event", {"origin": ["t", 7]}, 1)
    with pytest.raises(
        BadInput, match=r"odd\.log, record 3 \(line 7\): expected a sound record of kind event"
    ):
        check(Source(path).vms[0])


@pytest.mark.parametrize(
    "key",
    [
        "name",
        "records",
        "at",
        "process",
        "monitor",
        "runstate",
        "devices",
        "nodes",
        "jobs",
        "findings",
        "not_checked",
    ],
)
def test_the_contract_has_all_its_parts(quit_story, key):
    """A VM's JSON has every member of the contract."""
    (trace,) = Source(quit_story).vms
    assert key in check(trace).to_json()
