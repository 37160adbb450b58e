"""The debug log of the library qemu.qmp."""

import json

import pytest

from qemustate.events.observe import parsed

GREETING = {"QMP": {"version": {}, "capabilities": []}}
MESSAGES = [
    ("<--", GREETING),
    ("-->", {"execute": "qmp_capabilities"}),
    ("<--", {"return": {}}),
    ("-->", {"execute": "query-status", "arguments": {}, "id": "__qmp#00000"}),
    ("<--", {"return": {"running": True}, "id": "__qmp#00000"}),
    ("<--", {"event": "STOP", "timestamp": {"seconds": 5, "microseconds": 6}}),
]
SAID = ["opened", "greeting", "qmp_capabilities", "reply", "query-status", "reply", "STOP"]


def log(prefix, messages=MESSAGES):
    return "".join(f"{prefix}{arrow} {json.dumps(it, indent=2)}\n" for arrow, it in messages).encode()


@pytest.mark.parametrize(
    ("prefix", "name", "time"),
    [
        ("DEBUG:qemu.qmp.qmp_client.vm-1:", "vm-1", 0),
        ("DEBUG:qemu.qmp.qmp_client:", "t0", 0),
        ("2024-03-01 12:00:00,250 DEBUG qemu.qmp.qmp_client.a: ", "a", 1_709_294_400_250_000),
        ("", "t0", 0),
    ],
)
def test_prefixes(imported, prefix, name, time):
    """Whatever stands before a message, all are found; the logger names the VM, and a time is read."""
    it = imported("qemu.qmp", log(prefix))
    assert (it.name, it.said) == (name, SAID)
    assert it.times[:-1] == [time] * 6
    assert it.times[-1] == (time or 5_000_006)
    assert [parsed(body) for body in it.bodies[1:]] == [message for _, message in MESSAGES]
    assert not any("text" in body for body in it.bodies)
    assert ("times" in it.lacks) == (time == 0)


def test_several_loggers_are_several_vms(imported_all):
    """Two clients that log to one file are two VMs."""
    found = imported_all("qemu.qmp", log("D:qmp_client.a:") + log("D:qmp_client.b:") + log("D:qmp_client.a:"))
    assert found["b"].said == SAID
    assert found["a"].said == [*SAID, "lost", *SAID]


@pytest.mark.parametrize(
    ("line", "body"),
    [
        (b"INFO:qemu.qmp.qmp_client.a:Task.Reader: EOFError\n", {}),
        (b"DEBUG:qemu.qmp.qmp_client.a:Transitioning from 'Runstate.DISCONNECTING' to 'Runstate.IDLE'.\n", {"by": "us"}),
    ],
)  # fmt: skip
def test_the_end_of_a_connection(imported, line, body):
    """A stream that QEMU ended is lost, one that the client left is lost by it, and each only once."""
    it = imported("qemu.qmp", log("DEBUG:qemu.qmp.qmp_client.a:") + line + line)
    assert it.said == [*SAID, "lost"]
    assert {name: value for name, value in it.bodies[-1].items() if name != "origin"} == body


def test_a_message_that_never_ends_is_counted(imported):
    """A message that another interrupts is left out, and told by the line where it begins."""
    it = imported("qemu.qmp", b'a --> {\n  "execute": "x",\n' + log("") + b"<-- {\n")
    assert it.said == SAID
    assert [line for _, line, _ in it.skipped.first] == [1, 2 + log("").count(b"\n") + 1]


def test_a_real_log(shared, imported):
    """A real log's messages are all there, and what followed the end of the stream is not told twice."""
    it = imported("qemu.qmp", (shared / "tool-logs" / "qemu.qmp-10.0.2-debug.log").read_bytes())
    assert it.name == "testvm"
    assert it.said == [
        "opened", "greeting", "qmp_capabilities", "reply", "query-status", "reply", "device_add", "reply", "device_del",
        "failure", "cont", "RESUME", "reply", "device_del", "reply", "system_reset", "RESET", "reply", "quit", "SHUTDOWN",
        "reply", "lost",
    ]  # fmt: skip
    assert it.skipped.count == 0
