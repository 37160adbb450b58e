"""Findings grouped, with what they rest on."""

from qemustate.replay.check import check
from qemustate.replay.source import Source

from .conftest import story_of

DOUBLED = b"""\
{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}}, "capabilities": []}}
{"execute": "qmp_capabilities", "id": 1}
{"return": {}, "id": 1}
{"execute": "query-status", "id": 2}
{"return": {"status": "running", "running": true}, "id": 2}
{"execute": "query-status", "id": 3}
{"return": {"status": "paused", "running": false}, "id": 3}
{"timestamp": {"seconds": 8, "microseconds": 0}, "event": "STOP"}
{"timestamp": {"seconds": 9, "microseconds": 0}, "event": "STOP"}
{"timestamp": {"seconds": 9, "microseconds": 0}, "event": "STOP"}
"""


def groups(path, rule):
    return [it for it in check(Source(path).vms[0]).groups if it.rule == rule]


def test_a_group_counts_its_findings(story):
    """Every finding is in one group, and the group's first and last are those of its findings."""
    report = check(Source(story).vms[0])
    assert sum(it.count for it in report.groups) == len(report.findings)
    for group in report.groups:
        own = [it.seq for it in report.findings if (it.rule, it.subject) == (group.rule, group.subject)]
        assert {group.first, group.last} <= set(own)
        assert group.count <= len(own)


def test_repeats_are_one_line():
    """Forty commands that nobody answers are one line, with the first and the last of them below it."""
    stopped, resumed = groups(story_of("kill9_unanswered"), "command-without-reply")
    assert (
        stopped.line()
        == f"note at {stopped.first} to {stopped.last}, {stopped.count} times: command-without-reply stop: no answer in this trace"
    )
    assert stopped.count == resumed.count
    assert [line.split() for line in stopped.records()] == [
        [str(seq), line.split()[1], "->", "stop"]
        for seq, line in zip((stopped.first, stopped.last), stopped.records(), strict=True)
    ]


def test_a_contradiction_shows_both_sides(tmp_path):
    """What contradicts a belief rests on its own record, the command it answers, and what brought the belief about."""
    path = tmp_path / "t.qmp"
    path.write_bytes(DOUBLED)
    (group,) = groups(path, "contradicted-by-query")
    assert group.count == 1
    told = [line.split(maxsplit=2)[2] for line in group.records()]
    assert told == [
        "-> query-status",
        '<- query-status: {"status":"running","running":true}',
        "-> query-status",
        '<- query-status: {"status":"paused","running":false}',
    ]


def test_an_unplug_that_is_pending_rests_on_its_answer(cut):
    """A finding about how a trace ends shows the record since which it is so, and the command it answers."""
    (group,) = groups(cut("unplug_ignored", 12), "unplug-pending")
    assert [line.split(maxsplit=2)[2] for line in group.records()] == [
        "-> device_del id=vd1",
        "<- device_del: {}",
    ]
