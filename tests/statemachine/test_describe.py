"""One stable line for everything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qemustate.statemachine import describe
from qemustate.statemachine.state import iso

LINES = [
    ("event", {"qmp": {"event": "STOP"}}, None, "! STOP"),
    ("event", {"qmp": {"event": "RESET", "data": {"guest": False, "reason": "host-qmp-system-reset"}}}, None, "! RESET guest=false reason=host-qmp-system-reset"),
    ("command", {"qmp": {"execute": "device_del", "arguments": {"id": "vd1"}, "id": "7"}}, None, "-> device_del id=vd1"),
    ("command", {"qmp": {"execute": "getfd", "arguments": {"fdname": "a"}}, "fds": 1}, None, "-> getfd fdname=a (with 1 fd)"),
    ("command", {"qmp": {"exec-oob": "yank"}}, None, "-> yank"),
    ("reply", {"qmp": {"return": {}}}, "stop", "<- stop: {}"),
    ("reply", {"qmp": {"return": []}}, None, "<- ?: []"),
    ("failure", {"qmp": {"error": {"class": "GenericError", "desc": "no"}}}, "cont", "<- cont refused: GenericError: no"),
    ("failure", {"qmp": {"error": {"class": "GenericError", "desc": "two\nlines"}}}, "cont", '<- cont refused: GenericError: "two\\nlines"'),
    ("greeting", {"qmp": {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 22}}}}}, None, "<- greeting of QEMU 7.2.22"),
    ("spawned", {"argv": ["qemu-system-x86_64", "-S"], "pid": 12}, None, "* spawned qemu-system-x86_64 pid=12"),
    ("spawned", {"argv": []}, None, "* spawned ?"),
    ("exited", {"signal": 9, "origin": ["a.log", 3]}, None, "* exited signal=9"),
    ("malformed", {"data": b"x", "from": "qemu", "error": "bad"}, None, "* malformed from qemu: bad: b'x'"),
    ("note", {"text": "hello there"}, None, "* note: hello there"),
    ("snapshot", {"state": {}}, None, "* snapshot"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "body", "command", "line"), LINES)
def test_a_record_is_one_line(kind, body, command, line):
    """Each kind has its own mark, and says what a person needs."""
    assert describe.record(kind, body, command) == line


def test_a_long_value_is_shortened():
    """A value never makes a line endless."""
    assert describe.value({"a": "x" * 500}).endswith("...")
    assert len(describe.value({"a": "x" * 500})) == 60


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda x: st.lists(x, max_size=2) | st.dictionaries(st.text(max_size=3), x, max_size=2))  # fmt: skip


@given(
    st.sampled_from(["event", "command", "reply", "failure", "greeting"]),
    st.dictionaries(
        st.sampled_from(["event", "data", "execute", "arguments", "return", "error", "QMP"]), JSON, min_size=1
    ),
)
def test_any_message_is_one_line(kind, qmp):
    """A message of any shape gives a line, and never an error."""
    assert "\n" not in describe.record(kind, {"qmp": qmp})


@pytest.mark.parametrize(
    ("time", "text"),
    [(1_700_000_000_123_456, "2023-11-14T22:13:20.123Z"), (0, None), (-5, None), (10**19, None)],
)
def test_times_are_iso_in_utc(time, text):
    """Milliseconds in UTC; what is no time is none."""
    assert iso(time) == text


def test_a_line_of_the_timeline():
    """Number, time of day, record, and what it changed."""
    assert describe.line(7, 1_700_000_000_123_456, "! STOP", ["runstate: running -> paused (stop)"]) == (
        "     7 22:13:20.123 ! STOP   [runstate: running -> paused (stop)]"
    )
    assert describe.line(7, 0, "! STOP", []) == "     7            - ! STOP"
