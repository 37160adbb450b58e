"""How far jobs are, as answers tell it, with or without their command."""

import pytest

from qemustate.statemachine import progress
from qemustate.statemachine.describe import record

BLOCK = {"device": "copy", "type": "mirror", "len": 8, "offset": 2, "status": "running", "busy": True}
ANY = {"id": "save", "type": "snapshot-save", "status": "ready", "current-progress": 5, "total-progress": 5}


def test_both_answers_are_known():
    """The two queries about jobs are told apart by the members of their answers."""
    assert progress.asked_for([BLOCK, BLOCK]) == "query-block-jobs"
    assert progress.asked_for([ANY]) == "query-jobs"
    assert progress.jobs([BLOCK]) == [("copy", "mirror", "running", 2, 8)]
    assert progress.jobs([ANY]) == [("save", "snapshot-save", "ready", 5, 5)]


@pytest.mark.parametrize("answer", [None, {}, [], [5], [BLOCK, ANY], [{"type": "x", "len": 1}], "text", [[]]])
def test_other_answers_tell_of_no_job(answer):
    """What has another shape, or none, is no answer about jobs."""
    assert progress.asked_for(answer) is None
    assert progress.jobs(answer) == []


def test_a_number_that_is_none_is_passed_over():
    """Masked numbers, as in QEMU's own test outputs, are no progress."""
    assert progress.jobs([{**BLOCK, "len": "LEN"}, BLOCK]) == [("copy", "mirror", "running", 2, 8)]


@pytest.mark.parametrize(
    ("done", "total", "complete", "shown"),
    [(0, 0, False, "j running (0 of 0)"), (1, 3, False, "j running 33 % (1 of 3)"), (3, 3, True, "j running 100 % (3 of 3)")],
)  # fmt: skip
def test_how_much_is_done(done, total, complete, shown):
    """Nothing of nothing is not complete."""
    it = progress.Progress("j", "mirror", "running", done, total)
    assert (it.complete, str(it)) == (complete, shown)


def test_an_answer_is_shown_as_what_it_is():
    """The line of an answer about jobs tells each of them, also where the command is not known."""
    line = record("reply", {"qmp": {"return": [BLOCK, {**BLOCK, "device": "b"}]}})
    assert line == "<- query-block-jobs: copy running 25 % (2 of 8); b running 25 % (2 of 8)"


def test_an_answer_without_its_command_is_believed(wire):
    """Where the beginning was not seen, what such an answer says of a job is so, and no contradiction."""
    w = wire()
    w.event("JOB_STATUS_CHANGE", id="copy", status="running")
    w.answer("7", [{**BLOCK, "status": "ready"}])
    assert w.vm.names("job", w.vm.jobs["copy"]) == ("ready",)
    assert "contradicted-by-query" not in {it.rule for it in w.checker.findings}
    w.answer("8", [ANY])
    assert w.vm.names("job", w.vm.jobs["save"]) == ("ready",)
