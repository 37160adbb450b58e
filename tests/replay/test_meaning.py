"""What a record means when two traces are laid side by side."""

import pytest

from qemustate.replay.meaning import meanings


def words(*records, lacks=()):
    items = [(seq, 0, kind, body, 0) for seq, (kind, body) in enumerate(records, 1)]
    return [(it.lane, it.words) for it in meanings([items], lacks)]


def message(kind, **qmp):
    return kind, {"qmp": qmp}


STOP = message("command", execute="stop", id=1)
STOPPED = message("reply", **{"return": {}}, id=1)
PAUSED = message("event", event="STOP")


@pytest.mark.parametrize(
    ("data", "lane", "told"),
    [
        ({"device": "vd1", "path": "/machine/peripheral/vd1"}, "vd1", ("E", "vd1")),
        ({"path": "/machine/peripheral/vd1/virtio-backend"}, "vd1", ("E", "vd1")),
        ({"path": "/machine/unattached/device[3]"}, "/machine/unattached/device[3]", ("E", "/machine/unattached/device[3]")),
        ({"info": {"device": "cpu1", "status": 0}}, "cpu1", ("E", "cpu1")),
        ({"id": "job0", "status": "ready"}, "job0", ("E", "job0", "status=ready")),
        ({"guest": True, "reason": "guest-reset"}, "vm", ("E", "", "reason=guest-reset", "guest=True")),
        ({"offset": 12}, "vm", ("E", "")),
        (None, "vm", ("E", "")),
    ],
)  # fmt: skip
def test_an_event_is_about_something(data, lane, told):
    """An event's lane is the device, job or backend it is about; enumerations are part of its words, numbers are not."""
    assert words(message("event", event="E", data=data)) == [(lane, told)]


def test_an_answer_bears_its_command_and_outcome():
    """Answers are a lane of their own: name, subject, and done or the error's class."""
    add = message("command", execute="device_add", arguments={"driver": "e1000", "id": "n"}, id=7)
    refused = message("failure", error={"class": "GenericError", "desc": "no"}, id=7)
    assert words(add, refused) == [
        ("commands", ("device_add", "n")),
        ("answers", ("device_add", "n", "GenericError")),
    ]


@pytest.mark.parametrize(
    "record",
    [
        message("command", execute="query-status", id=1),
        message("command", execute="qmp_capabilities", id=1),
        message("event", event="RTC_CHANGE"),
        message("event", event="MIGRATION_PASS", data={"pass": 2}),
        message("reply", **{"return": {}}, id="of nobody"),
        message("greeting", QMP={}),
        ("gap", {"why": "?"}),
        ("snapshot", {"state": {}}),
    ],
    ids=lambda record: record[0],
)
def test_what_means_nothing(record):
    """Questions, negotiation, events that may come or not, and most facts of our own are not compared."""
    assert words(record) == []


@pytest.mark.parametrize(
    ("lacks", "left"),
    [
        ((), ["commands", "answers", "vm"]),
        (("replies",), ["commands", "vm"]),
        (("commands",), ["vm"]),
        (("events",), ["commands", "answers"]),
        (("times", "beginning", "process"), ["commands", "answers", "vm"]),
    ],
)
def test_what_one_trace_lacks_is_compared_in_neither(lacks, left):
    """Without commands, answers are about nothing."""
    assert [lane for lane, _ in words(STOP, STOPPED, PAUSED, lacks=lacks)] == left


def test_how_a_process_ended():
    """Of our own facts, the process's end is compared, where both traces have it."""
    ended = ("exited", {"signal": 9})
    assert words(ended) == [("vm", ("exited", "signal 9"))]
    assert words(ended, lacks=["process"]) == []
