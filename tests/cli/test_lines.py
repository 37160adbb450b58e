"""Records as lines, each answer with the name of its command."""

import pytest

from qemustate.cli.lines import Changes
from qemustate.replay.answers import Answers
from qemustate.statemachine.fold import apply
from qemustate.statemachine.state import VM


def told(*records):
    answers = Answers()
    return [answers.describe(seq, kind, {"qmp": qmp}) for seq, (kind, qmp) in enumerate(records, 1)]


def test_an_answer_bears_the_name_of_its_command():
    """Answers find their command by id, in any order."""
    lines = told(
        ("command", {"execute": "stop", "id": 1}),
        ("command", {"exec-oob": "migrate-pause", "id": [2]}),
        ("failure", {"error": {"class": "GenericError", "desc": "no"}, "id": [2]}),
        ("reply", {"return": {}, "id": 1}),
    )
    assert lines[2:] == ["<- migrate-pause refused: GenericError: no", "<- stop: {}"]


def test_answers_without_an_id_come_in_order():
    """Without ids the oldest command is the one that is answered; QEMU answers in order."""
    lines = told(
        ("command", {"execute": "stop"}), ("command", {"execute": "cont"}),
        ("reply", {"return": 1}), ("reply", {"return": 2}), ("reply", {"return": 3}),
    )  # fmt: skip
    assert lines[2:] == ["<- stop: 1", "<- cont: 2", "<- ?: 3"]


def test_an_answer_to_nobody_has_no_name():
    """An id that no command bears is answered to nobody."""
    assert told(("reply", {"return": 1, "id": "x"})) == ["<- ?: 1"]


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
