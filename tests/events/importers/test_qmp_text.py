"""Plain QMP in any layout."""

import json

import pytest

from qemustate.events.importers import files
from qemustate.events.observe import parsed

GREETING = b'{"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 10}, "package": ""}, "capabilities": []}}'
STOP = b'{"timestamp": {"seconds": 1795387521, "microseconds": 147481}, "event": "STOP"}'
SAID = ["opened", "greeting", "qmp_capabilities", "reply", "stop", "STOP", "failure"]

MESSAGES = [
    GREETING,
    b'{"execute": "qmp_capabilities"}',
    b'{"return": {}}',
    b'{"exec-oob": "stop", "id": 1}',
    STOP,
    b'{"error": {"class": "GenericError", "desc": "no"}, "id": 1}',
]
SENT = {1, 3}


def pretty(message, indent="  "):
    return json.dumps(json.loads(message), indent=indent).encode()


LAYOUTS = {
    "lines": b"\n".join(MESSAGES) + b"\n",
    "CR LF and blank lines": b"\r\n\r\n".join(MESSAGES) + b"\r\n",
    "no end of line": b"\n".join(MESSAGES),
    "all on one line": b" ".join(MESSAGES),
    "pretty": b"\n\n".join(map(pretty, MESSAGES)),
    "pretty without indent": b"\n".join(pretty(it, "") for it in MESSAGES),
    "arrows": b"\n".join((b"-> " if n in SENT else b"<- ") + it for n, it in enumerate(MESSAGES)),
    "letters": b"\n".join((b"C: " if n in SENT else b"S: ") + it for n, it in enumerate(MESSAGES)),
    "arrows, pretty": b"\n".join(
        (b"-> " if n in SENT else b"<- ") + pretty(it) for n, it in enumerate(MESSAGES)
    ),
    "single quotes": b"\n".join(it.replace(b'"', b"'") if n in SENT else it for n, it in enumerate(MESSAGES)),
}


@pytest.mark.parametrize("size", [1, 5, 64 << 10])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout_means_nothing(imported, monkeypatch, layout, size):
    """In every layout, and in pieces of any size, the same messages are found, with nothing left out."""
    monkeypatch.setattr(files, "_PIECE", size)
    it = imported("qmp-text", LAYOUTS[layout])
    assert it.said == SAID
    assert it.skipped.count == 0
    assert [parsed(body) for body in it.bodies[1:]] == [json.loads(message) for message in MESSAGES]


def test_only_events_have_a_time(imported):
    """The time of an event is QEMU's own, that of other messages unknown."""
    it = imported("qmp-text", LAYOUTS["lines"])
    assert [time for time in it.times if time] == [1795387521147481]
    assert it.kinds[it.times.index(1795387521147481)] == "event"


def test_a_message_is_where_it_begins(imported):
    """The origin of a message over several lines is its first."""
    it = imported("qmp-text", b"\n" + pretty(GREETING) + b"\n" + STOP)
    assert it.origins == [
        ("t0.jsonl", 2),
        ("t0.jsonl", 2),
        ("t0.jsonl", 2 + pretty(GREETING).count(b"\n") + 1),
    ]


NOISE = {
    b"Welcome to the QMP low-level shell!": 1,
    b'{"some": "object"}': 1,
    b'{"event": 5}': 1,
    b"{bad json}": 1,
    b"one\ntwo": 2,
    b'{"execute": "a", ': 1,
    b'{"execute":\n  "a",\n': 1,
}


@pytest.mark.parametrize("noise", NOISE)
def test_noise_is_counted_and_costs_no_message(imported, noise):
    """What is no message is counted, and the messages before and behind it are found."""
    it = imported("qmp-text", GREETING + b"\n" + noise + b"\n" + STOP + b"\n" + STOP + b"\n")
    assert it.said == ["opened", "greeting", "STOP", "STOP"]
    assert it.skipped.count == NOISE[noise]
    assert it.skipped.first[0][1] == 2


def test_an_overlong_line_is_counted(imported, monkeypatch):
    """A line beyond the limit is left out, and those behind it are read."""
    monkeypatch.setattr("qemustate.events.importers.qmp_text.LINE_LIMIT", 200)
    it = imported("qmp-text", GREETING + b"\n" + b'{"return": "' + b"x" * 500 + b'"}\n' + STOP)
    assert it.said == ["opened", "greeting", "STOP"]
    assert it.skipped.first == [("t0.jsonl", 2, "longer than 200 bytes")]


@pytest.mark.parametrize(
    ("content", "lacks"),
    [
        (LAYOUTS["lines"], ("times", "beginning", "process")),
        (GREETING + b'\n{"return": {}}', ("times", "beginning", "process", "commands")),
        (b'{"execute": "stop"}', ("times", "beginning", "process", "replies")),
        (STOP, ("times", "beginning", "process")),
    ],
)
def test_what_a_text_lacks(imported, content, lacks):
    """A text has no times; one with answers and no commands lacks those, and the other way round."""
    assert imported("qmp-text", content).lacks == lacks


def test_a_second_greeting_is_a_second_connection(imported):
    """Between two greetings the connection was lost."""
    assert imported("qmp-text", GREETING + GREETING).kinds == [
        "opened",
        "greeting",
        "lost",
        "opened",
        "greeting",
    ]


def test_capability_dialogues_beside_the_project(shared, imported):
    """Pretty-printed dialogues of another project are read whole: as many answers as commands, nothing left out."""
    for path in sorted(shared.glob("libvirt-replies/*")):
        it = imported("qmp-text", path.read_bytes())
        assert it.skipped.count == 0, path
        answers = it.kinds.count("reply") + it.kinds.count("failure")
        assert it.kinds.count("command") == answers > 40, path
