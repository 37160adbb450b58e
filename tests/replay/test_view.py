"""The front door: qemustate.replay(path)."""

import subprocess
import sys

import pytest

import qemustate
from qemustate.errors import BadInput
from qemustate.replay.check import check
from qemustate.replay.source import Source


def test_replay_gives_views(quit_story):
    """The one call gives the VMs of a trace, which can be seen at any record."""
    (vm,) = qemustate.replay(str(quit_story))
    assert vm.name == "quit"
    assert vm.state["process"]["is"] == "exited"
    assert vm.state["process"]["exit"] == {"status": 0}
    assert vm.findings == []
    assert vm.devices == vm.state["devices"]
    early = vm.at(5)
    assert (early.seq, early.state["monitor"]["is"]) == (5, "negotiating")
    assert vm.state["process"]["is"] == "exited"
    assert vm.at(10**6).state == vm.state
    assert "after record 5" in repr(early)


def test_replay_refuses_what_is_no_trace(tmp_path):
    """What is no trace is a BadInput."""
    with pytest.raises(BadInput):
        qemustate.replay(tmp_path)


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "first",
    ["import qemustate", "import qemustate.replay.view", "from qemustate.replay.source import Source"],
)
def test_the_name_works_in_any_order_of_imports(quit_story, first):
    """The function and the package of the same name do not shadow each other, whichever is imported first."""
    done = run(
        f"{first}\nimport qemustate\nprint(qemustate.replay({str(quit_story)!r})[0].name)\nimport qemustate.replay.check as c\nprint(c.check.__name__)"
    )
    assert (done.stdout, done.stderr) == ("quit\ncheck\n", "")


def test_import_is_light():
    """Importing the package loads no dependency and no asyncio; using a name loads what it needs."""
    done = run(
        "import sys, qemustate\n"
        "print(sorted({'msgspec', 'msgpack', 'asyncio', 'transitions'} & set(sys.modules)))\n"
        "print(qemustate.LogReader.__name__, set(qemustate.__all__) <= set(dir(qemustate)))"
    )
    assert (done.stdout, done.stderr) == ("[]\nLogReader True\n", "")


def test_every_public_name_is_there():
    """Each name in __all__ can be had, and no other."""
    for name in qemustate.__all__:
        assert getattr(qemustate, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        qemustate.nothing  # noqa: B018


def test_a_view_is_found_by_time_too(quit_story):
    """A time leads where the last record up to it leads; a time is refused where a trace has none."""
    (vm,) = qemustate.replay(quit_story)
    for seq in range(2, vm.seq):
        when = vm.at(seq).state["at"]["time"]
        there = vm.at(when)
        assert there.state["at"]["time"] == when
        assert there.seq >= seq
    with pytest.raises(BadInput, match="expected a record's number or a time in ISO 8601, saw soon"):
        vm.at("soon")


def test_a_trace_without_times_has_no_moment(tmp_path):
    """A time is refused where a trace has none."""
    path = tmp_path / "t.qmp"
    path.write_bytes(b'{"execute": "stop"}\n{"return": {}}\n')
    (vm,) = qemustate.replay(path)
    with pytest.raises(BadInput, match="expected a trace with times"):
        vm.at("2026-11-23T13:45:07.026Z")


def test_a_view_has_the_whole_story(story):
    """Findings, what was not checked, changes, and the life of anything: without the command."""
    (vm,) = qemustate.replay(story)
    (trace,) = Source(story).vms
    report = check(trace)
    assert vm.findings == report.findings
    assert vm.report.not_checked == report.not_checked
    assert vm.lacks == trace.lacks
    for name in vm.devices:
        assert vm.explain(f"device={name}").state
    seq = vm.seq
    assert [it.seq for it in vm.timeline.changes()] == sorted(it.seq for it in vm.timeline.changes())
    vm.timeline.at(1)
    assert vm.seq == seq


def test_a_life_is_told_up_to_the_view(cut):
    """What is missing is what was missing then; how the trace ends is no finding before its end."""
    (vm,) = qemustate.replay(cut("unplug_ignored", 12))
    assert [it.rule for it in vm.findings] == ["unplug-pending"]
    assert vm.at(vm.seq - 1).findings == []
    assert vm.explain("vd1").missing[0].startswith("unplug requested 00:0")
    assert vm.at(10).explain("vd1").missing == ["the answer to device_del (record 10)"]
