"""Which command an answer belongs to."""

from qemustate.replay.answers import Answers, line, name_of


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


def test_an_answer_comes_with_its_command():
    """The record of the command is what an answer is told with, and is then no longer waited for."""
    answers = Answers()
    asked = (1, 5_000_000, "command", {"qmp": {"execute": "stop", "id": 1}})
    assert answers.see(asked) is None
    assert answers.unanswered() == {1: asked}
    answer = (2, 6_000_000, "reply", {"qmp": {"return": {}, "id": 1}})
    assert answers.see(answer) is asked
    assert name_of(asked) == "stop"
    assert line(answer, asked) == "     2 00:00:06.000 <- stop: {}"
    assert answers.unanswered() == {}


def test_a_lost_connection_forgets_no_command():
    """QEMU may answer to the next connection, which uses the same ids again: newer commands are answered first."""
    answers = Answers()
    old = (1, 0, "command", {"qmp": {"execute": "stop", "id": 1}})
    new = (3, 0, "command", {"qmp": {"execute": "cont", "id": 1}})
    for told in (old, (2, 0, "lost", {}), new):
        answers.see(told)
    assert answers.unanswered() == {1: old, 3: new}
    reply = (4, 0, "reply", {"qmp": {"return": {}, "id": 1}})
    assert [answers.see(reply) for _ in range(3)] == [new, old, None]
