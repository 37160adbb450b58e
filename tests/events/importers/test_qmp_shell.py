"""Transcripts of qmp-shell."""

import pytest

from qemustate.events.observe import parsed

VERBOSE = b"""Welcome to the QMP low-level shell!
Connected to QEMU 7.2.22

(QEMU) {"execute": "cont", "arguments": {}}
{"return": {}}
(QEMU) {'timestamp': {'seconds': 5, 'microseconds': 6}, 'event': 'RESET', 'data': {'guest': True, 'reason': "it's"}}
(QEMU) {"execute": "nope", "arguments": {}}
{"error": {"class": "CommandNotFound", "desc": "no"}}
(QEMU)\x20
"""

LOGGED = b"""{"execute": "query-status", "arguments": {}, "return": {"running": true}}
{"execute": "nope", "arguments": {"a": 1}, "error": {"class": "CommandNotFound", "desc": "no"}}
"""


def test_verbose(imported):
    """Prompts and greetings are no messages; an event as Python prints it is one, True and quotes included."""
    it = imported("qmp-shell", VERBOSE)
    assert it.said == ["gap", "cont", "reply", "gap", "RESET", "gap", "nope", "failure"]
    assert parsed(it.bodies[4])["data"] == {"guest": True, "reason": "it's"}
    assert it.times[4] == 5_000_006
    assert it.skipped.count == 0
    assert it.lacks == ("times", "beginning", "process")


def test_logged(imported):
    """Command and answer in one object are two messages."""
    it = imported("qmp-shell", LOGGED)
    assert it.said == ["gap", "query-status", "reply", "gap", "nope", "failure"]
    assert parsed(it.bodies[4]) == {"execute": "nope", "arguments": {"a": 1}}
    assert parsed(it.bodies[2]) == {"return": {"running": True}}
    assert it.lacks == ("events", "times", "beginning", "process")


@pytest.mark.parametrize(
    "event", [b"{'a': True", b"{'a': open('x'), 'b': None}", b"{'" + b"(" * 5000 + b"': None}"]
)
def test_no_event_is_run(imported, event):
    """What is no literal of Python's is left out, and is not run."""
    it = imported("qmp-shell", b"(QEMU) " + event + b"\n" + VERBOSE)
    assert it.said == ["gap", "cont", "reply", "gap", "RESET", "gap", "nope", "failure"]
