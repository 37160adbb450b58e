"""HMP passthrough means what the same command of QMP means."""

from __future__ import annotations

import pytest

from qemustate.statemachine import console

OLD, NEW = (7, 2, 22), (10, 0, 2)


def hmp(w, line, answer=""):
    w.ok("human-monitor-command", answer, command_line=line)


@pytest.fixture
def w(wire, q35):
    return wire(NEW, [*q35, "-device", "qemu-xhci,id=xhci"])


@pytest.mark.parametrize(
    ("line", "name", "arguments"),
    [
        ("device_add usb-mouse,id=m", "device_add", {"driver": "usb-mouse", "id": "m"}),
        ("device_del m", "device_del", {"id": "m"}),
        (" netdev_add user,id=n ", "netdev_add", {"type": "user", "id": "n"}),
        ("chardev-remove c", "chardev-remove", {"id": "c"}),
        ("migrate -d unix:a", "migrate", {"uri": "unix:a"}),
        ("migrate_set_capability events on", "migrate-set-capabilities", {"capabilities": [{"capability": "events", "state": True}]}),
        ("c", "cont", {}),
        ("savevm t", "snapshot-save", {}),
        ("dump-guest-memory -d f", "dump-guest-memory", {"detach": True}),
    ],
)  # fmt: skip
def test_lines_that_are_commands(line, name, arguments):
    """A line is read as the command of QMP whose function it calls, with the arguments it names."""
    assert console.meant(console.PASSTHROUGH, {"command-line": line}) == (name, arguments)


@pytest.mark.parametrize(
    "line", ["", "device_add help", "device_del", "info status", "migrate", "migrate_set_capability x"]
)
def test_lines_that_are_none(line):
    """What asks for help, names nothing or is known to QMP by no command stays the line it is."""
    asked = {"command-line": line}
    assert console.meant(console.PASSTHROUGH, asked) == (console.PASSTHROUGH, asked)
    assert console.meant("stop", {}) == ("stop", {})


def test_which_lines_may_do_anything():
    """A line that nobody here knows may do anything until it is answered; one that only looks may not."""
    assert console.opaque(console.PASSTHROUGH, {"command-line": "gdbserver"})
    assert not console.opaque(console.PASSTHROUGH, {"command-line": "info status"})
    assert not console.opaque("gdbserver", {})


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", None),
        ("warning: that is old\r\n", None),
        ("terminal does not allow synchronous migration, continuing detached\n", None),
        ("Error: Bus 'x' not found\r\n", ("GenericError", "Bus 'x' not found")),
        ("Error: Device 'm' not found\r\n", ("DeviceNotFound", "Device 'm' not found")),
        ("device_add: string expected\n", ("GenericError", "device_add: string expected")),
    ],
)
def test_what_is_printed_says_whether_it_was_done(text, error):
    """Nothing, or a remark, is printed where it was done; an error says what QMP's would."""
    assert console.refused(text) == (error and {"class": error[0], "desc": error[1]})


def test_devices(w):
    """A device comes and goes by the human monitor as by QMP, and a refusal changes nothing."""
    hmp(w, "device_add usb-tablet,id=t,bus=xhci.0")
    assert w.device("t") == ("present",)
    hmp(w, "device_add usb-tablet,id=t", "Error: Duplicate device ID 't' for device\r\n")
    assert w.device("t") == ("present",)
    i = w.send("human-monitor-command", command_line="device_del t")
    w.event("DEVICE_DELETED", device="t", path="/machine/peripheral/t")
    w.answer(i, "")
    assert w.device("t") == ("gone",)
    hmp(w, "device_del t", "Error: Device 't' not found\r\n")
    w.ok("qom-list", [{"name": "xhci", "type": "child<qemu-xhci>"}, {"name": "rp0", "type": "child<x>"}, {"name": "rp1", "type": "child<x>"}], path="/machine/peripheral")  # fmt: skip
    assert "contradicted-by-query" not in w.rules


def test_an_answer_that_never_comes(w):
    """A line that is not answered any more leaves what its command would: the device may be there."""
    w.send("human-monitor-command", command_line="device_add usb-tablet,id=t")
    w.put("lost", {})
    assert w.device("t") == ("gone", "present")


@pytest.mark.parametrize("version", [OLD, NEW])
def test_a_line_behind_another(wire, q35, version):
    """An answer to one line leaves what another one, unanswered, may do."""
    w = wire(version, q35)
    i = w.send("human-monitor-command", command_line="c")
    w.event("RESUME")
    w.answer(i, "")
    first = w.send("human-monitor-command", command_line="info status")
    second = w.send("human-monitor-command", command_line="savevm t")
    w.answer(first, "VM status: running")
    w.event("STOP")
    assert w.runstate == ("save-vm",)
    w.event("RESUME")
    w.answer(second, "")
    assert w.runstate == ("running",)


def test_a_migration_without_events(w):
    """A migration that a line began may be anywhere, where MIGRATION is not sent."""
    hmp(w, "migrate -d unix:a")
    assert {"setup", "active", "completed"} <= set(w.migration)
