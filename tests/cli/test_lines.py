"""Timelines as lines."""

import pytest

from qemustate.cli.lines import Changes
from qemustate.replay.subject import Subject
from qemustate.statemachine.fold import apply
from qemustate.statemachine.state import VM


@pytest.mark.parametrize("times", [1, 500])
def test_records_that_change_nothing_are_counted_and_not_shown(capsys, times):
    """However often a query has the same answer, only the first changes something."""
    vm, changes = VM(), Changes()
    apply(vm, 1, 0, "opened", {})
    for number in range(times):
        for kind, qmp in (
            ("command", {"execute": "query-status", "id": str(number)}),
            ("reply", {"return": {"status": "running"}, "id": str(number)}),
        ):
            apply(vm, vm.seq + 1, 0, kind, {"qmp": qmp})
            changes.see(vm, vm.seq, 0, kind, {"qmp": qmp})
    (line,) = capsys.readouterr().out.splitlines()
    assert "<- query-status" in line
    assert "-> running (query)" in line
    assert (changes.records, changes.shown) == (2 * times, 1)


def test_only_what_is_asked_about_is_shown(capsys):
    """With a subject, a line is for what changed it, and tells that alone."""
    vm, changes = VM(), Changes(Subject.read("device=d1"))
    for seq, (kind, body) in enumerate(
        [
            ("spawned", {"argv": ["qemu", "-device", "e1000,id=d1", "-device", "e1000,id=d2"]}),
            (
                "event",
                {
                    "qmp": {
                        "event": "DEVICE_DELETED",
                        "data": {"device": "d2", "path": "/machine/peripheral/d2"},
                    }
                },
            ),
            (
                "event",
                {
                    "qmp": {
                        "event": "DEVICE_DELETED",
                        "data": {"device": "d1", "path": "/machine/peripheral/d1"},
                    }
                },
            ),
        ],
        1,
    ):
        apply(vm, seq, 0, kind, body)
        changes.see(vm, seq, 0, kind, body)
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("[device d1: gone -> present (command line)]")
    assert second.endswith("[device d1: present -> gone (DEVICE_DELETED)]")
    assert (changes.records, changes.shown) == (3, 2)
