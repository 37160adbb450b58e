"""What plug_steps says, a real QEMU does; and neither an unplug nor an undo leaves anything behind."""

import contextlib
import fcntl
import os
import socket
import struct
import time
from pathlib import Path

import pytest

from qemustate.errors import CommandRefused
from qemustate.hardware.hotplug import plug_steps, unplug_steps
from qemustate.hardware.properties import Blockdev, Chardev, Device, Fd, Netdev, Object

MACHINE = (
    "-M", "q35", "-device", "pcie-root-port,id=rp0,chassis=1", "-device", "pcie-root-port,id=rp1,chassis=2",
    "-device", "qemu-xhci,id=x,p2=8,p3=8", "-device", "virtio-scsi-pci,id=s", "-device", "virtio-serial-pci,id=v",
)  # fmt: skip


def held(vm):
    """Return everything that a plug may leave behind."""
    return {
        "nodes": sorted(it["node-name"] for it in vm.ok("query-named-block-nodes", flat=True)),
        "chardevs": sorted(it["label"] for it in vm.ok("query-chardev")),
        "objects": sorted(it["name"] for it in vm.ok("qom-list", path="/objects")),
        "netdevs": vm.ok("human-monitor-command", command_line="info network"),
        "devices": vm.devices(),
        "sets": vm.ok("query-fdsets"),
        "descriptors": sorted(vm.descriptors()),
    }


def unplug(vm, parts):
    """Take steps back, waiting for devices to be gone before their backends are."""
    for step in unplug_steps(parts):
        vm.run(step)
        if step.command == "device_del":
            vm.event("DEVICE_DELETED", device=step.arguments["id"])


def undo(vm, steps):
    """Undo steps in reverse; what is gone already is no error."""
    for step in reversed(steps):
        command, arguments = step.undo
        if command == "closefd":
            with contextlib.suppress(CommandRefused):
                vm.qmp.execute(command, arguments)
        else:
            vm.qmp.execute(command, arguments)
        if command == "device_del":
            vm.event("DEVICE_DELETED", device=arguments["id"])


def settled(vm, before):
    """Assert that nothing is left of what came after `before`; memory and nodes are freed by threads of their own, a little later."""
    deadline = time.monotonic() + 60
    while (after := held(vm)) != before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert {name: value for name, value in after.items() if value != before[name]} == {}


def whole(folder):
    """Return parts of every kind that need no guest, with what they refer to."""
    (folder / "disk").write_bytes(bytes(1 << 20))
    return [
        Device(driver="usb-storage", id="stick", bus="x.0", drive="null", removable=True),
        Device(driver="scsi-hd", id="d", bus="s.0", drive="top", serial="it, here"),
        Device(driver="virtserialport", id="p", bus="v.0", chardev="ring", name="org.port"),
        Device(driver="usb-net", id="n", bus="x.0", netdev="user"),
        Device(driver="usb-serial", id="u", bus="x.0", chardev="sock"),
        Blockdev({"driver": "raw", "node-name": "top", "file": "slow"}),
        Blockdev({"driver": "throttle", "node-name": "slow", "throttle-group": "group", "file": "base"}),
        Blockdev({"driver": "file", "node-name": "base", "filename": "disk", "cache": {"direct": False}}),
        Blockdev({"driver": "null-co", "node-name": "null", "read-zeroes": True, "size": 1 << 20}),
        Netdev(type="user", id="user", restrict=True, hostfwd=[{"str": "tcp:127.0.0.1:0-:22"}]),
        Netdev(type="socket", id="listening", listen="127.0.0.1:0"),
        Chardev(backend="ringbuf", id="ring", size=4096),
        Chardev(
            backend="socket", id="sock", path="sock", server=True, wait=False, logfile="log", logappend=True
        ),
        Chardev(backend="socket", id="tcp", host="127.0.0.1", port="0", server=True, wait=False, ipv4=True),
        Chardev(backend="udp", id="udp", host="127.0.0.1", port="9", localport="0"),
        Chardev(backend="file", id="file", path="out", append=True),
        Chardev(backend="pty", id="pty"),
        Chardev(backend="null", id="nothing"),
        Chardev(backend="testdev", id="testdev"),
        Object({"qom-type": "throttle-group", "id": "group", "limits": {"iops-total": 100}}),
        Object({"qom-type": "iothread", "id": "thread", "poll-max-ns": 0}),
        Object({"qom-type": "secret", "id": "secret", "data": "hush"}),
        Object({"qom-type": "memory-backend-ram", "id": "ram", "size": 1 << 20, "share": True}),
        Object({"qom-type": "rng-builtin", "id": "rng"}),
        Object({"qom-type": "filter-dump", "id": "dump", "netdev": "listening", "file": "dumped"}),
        Object({"qom-type": "authz-simple", "id": "authz", "identity": "me"}),
    ]


def test_every_kind_of_part_is_plugged_and_unplugged(live, tmp_path):
    """Devices with their whole trees of backends come, and go, with the same descriptors open as before."""
    parts = whole(tmp_path)
    vm = live(*MACHINE)
    before = held(vm)
    for _ in range(2):
        vm.run(*plug_steps(parts))
        assert vm.devices() == sorted([*before["devices"], "d", "n", "p", "stick", "u"])
        unplug(vm, parts)
        settled(vm, before)


def test_every_plug_is_undone_from_wherever_it_stopped(live, tmp_path):
    """After any number of steps, their undo in reverse leaves QEMU as it was."""
    steps = plug_steps(whole(tmp_path))
    vm = live(*MACHINE)
    before = held(vm)
    for done in range(1, len(steps) + 1, 3):
        vm.run(*steps[:done])
        undo(vm, steps[:done])
        settled(vm, before)


def test_descriptors_go_where_names_and_paths_are_wanted(live, tmp_path):
    """Sockets by name and files by set are plugged, and nothing of them is open after their parts are gone."""
    # Nothing virtio, for which firmware would open descriptors of its own.
    vm = live("-M", "q35", "-device", "lsi53c895a,id=s", "-device", "qemu-xhci,id=x")
    vm.ok("cont")  # 7.2 lets go of a set only while it runs
    before = held(vm)
    pairs = [socket.socketpair(socket.AF_UNIX, kind) for kind in (1, 1, socket.SOCK_DGRAM)]
    chardev, plain, dgram = (Fd(ours.fileno()) for ours, _ in pairs)
    (tmp_path / "disk").write_bytes(bytes(1 << 20))
    with (tmp_path / "disk").open("r+b") as disk, (tmp_path / "out").open("ab") as out:
        parts = [
            Device(driver="scsi-hd", id="d", bus="s.0", drive="top"),
            Device(driver="usb-serial", id="u", bus="x.0", chardev="sock"),
            Blockdev(
                {
                    "driver": "raw",
                    "node-name": "top",
                    "file": {"driver": "file", "filename": Fd(disk.fileno())},
                }
            ),
            Chardev(backend="socket", id="sock", fd=chardev),
            Chardev(backend="file", id="file", path=Fd(out.fileno()), append=True),
            Netdev(type="socket", id="plain", fd=plain),
            Netdev(type="dgram", id="dgram", local={"type": "fd", "str": dgram}),
        ]
        steps = plug_steps(parts, fd_prefix="test", fdset=40)
        vm.run(*steps)
        for name in ("test-0", "test-1", "test-2"):
            assert vm.refused("closefd", fdname=name) == f"File descriptor named '{name}' not found"
        sent = [step for step in steps if step.command in ("blockdev-add", "device_add", "netdev_add")]
        plugged = [
            Blockdev(it.arguments) if it.command == "blockdev-add" else Device(it.arguments)
            for it in sent
            if it.command != "netdev_add"
        ]
        plugged += [part for part in parts if isinstance(part, Netdev)]
        plugged += [
            Chardev(backend="socket", id="sock", path=""),
            Chardev(backend="file", id="file", path="/dev/fdset/40"),
        ]
        unplug(vm, plugged)
    settled(vm, before)
    for pair in pairs:
        for end in pair:
            end.close()


def test_a_name_is_left_when_the_command_never_looked_for_it(live):
    """A duplicate id is refused before the descriptor is looked up, so the undo closes it; else the undo finds it gone."""
    vm = live("-M", "none")
    before = held(vm)
    ours, theirs = socket.socketpair()
    send, plug = plug_steps([Chardev(backend="socket", id="c", fd=Fd(ours.fileno()))])
    vm.run(send, plug, send)
    assert "already exists" in vm.refused(plug.command, **plug.arguments)
    vm.ok(*send.undo[:1], **send.undo[1])
    vm.ok(plug.undo[0], **plug.undo[1])
    assert "not found" in vm.refused(send.undo[0], **send.undo[1])
    settled(vm, before)
    ours.close()
    theirs.close()


#: Parts that are refused for what their descriptor is (the end of a pair of sockets whose other end is closed).
LOOKED_UP = [
    lambda fd: Netdev(type="tap", id="t", fd=fd),
    lambda fd: Netdev(type="vhost-vdpa", id="t", vhostfd=fd),
    lambda fd: Blockdev({"driver": "nbd", "node-name": "t", "server": {"type": "fd", "str": fd}}),
    lambda fd: Device(driver="vhost-vsock-pci", id="t", bus="rp0", vhostfd=fd, **{"guest-cid": 3}),
    lambda fd: Device(driver="vhost-scsi-pci", id="t", bus="rp0", vhostfd=fd, wwpn="naa.5001405324af0985"),
]


def test_a_name_is_gone_once_it_was_looked_up(live):
    """A command that is refused for what a descriptor is has taken its name, so that its undo finds none, and nothing is open."""
    vm = live(*MACHINE)
    before = held(vm)
    for make in LOOKED_UP:
        ours, theirs = socket.socketpair()
        theirs.close()
        send, plug = plug_steps([make(Fd(ours.fileno()))])
        vm.run(send)
        ours.close()
        with pytest.raises(CommandRefused):
            vm.run(plug)
        assert "not found" in vm.refused(send.undo[0], **send.undo[1])
        settled(vm, before)


def test_a_tap_refused_for_one_of_several_descriptors_leaves_it_open(live):
    """QEMU forgets the name and keeps the descriptor, which nothing can take back: known, and not ours to undo."""
    vm = live("-M", "none")
    before = vm.descriptors()
    ours, theirs = socket.socketpair()
    send, plug = plug_steps([Netdev(type="tap", id="t", fds=[Fd(ours.fileno())])])
    vm.run(send)
    with pytest.raises(CommandRefused, match="TUNGETIFF"):
        vm.run(plug)
    assert "not found" in vm.refused(send.undo[0], **send.undo[1])
    assert len(vm.descriptors()) == len(before) + 1
    ours.close()
    theirs.close()


#: Backends that need no screen, Braille display or spice, besides those above. A vc leaves its screen with QEMU.
CHARDEVS = [
    {"backend": "msmouse"},
    {"backend": "wctablet"},
    {"backend": "serial", "path": "/dev/ptmx"},
    {"backend": "pipe", "path": "/dev/null"},
    {"backend": "qemu-vdagent", "clipboard": True},
    {"backend": "memory", "size": 4096},
    {"backend": "socket", "path": "absent", "reconnect": 60, "server": False},
    {"backend": "socket", "path": "name", "abstract": True, "tight": False, "server": True, "wait": False},
    {
        "backend": "socket",
        "host": "::1",
        "port": "0",
        "server": True,
        "wait": False,
        "telnet": True,
        "nodelay": True,
    },
    {"backend": "socket", "host": "127.0.0.1", "port": 0, "server": True, "wait": False, "websocket": True},
    {"backend": "udp", "host": "127.0.0.1", "port": 9, "localaddr": "127.0.0.1", "localport": 0},
    {"backend": "pty", "logfile": "log"},
    {"backend": "file", "path": "out", "input-path": "/dev/null"},
]


def test_chardevs_of_every_backend_come_and_go(live):
    """Each backend is plugged under the name that the command line has for it, and all of it goes."""
    vm = live("-M", "none")
    before = held(vm)
    for members in CHARDEVS:
        part = Chardev(id="c", **members)
        vm.run(*plug_steps([part]))
        assert "c" in held(vm)["chardevs"]
        vm.run(*unplug_steps([part]))
        settled(vm, before)


def test_a_mux_stays_with_an_old_qemu(live):
    """QEMU 7.2 calls a mux busy even with nothing on it, 10.0 lets it go."""
    vm = live("-M", "none")
    parts = [Chardev(backend="mux", id="m", chardev="c"), Chardev(backend="null", id="c")]
    vm.run(*plug_steps(parts))
    if vm.version == "7.2":
        assert vm.refused("chardev-remove", id="m") == "Chardev 'm' is busy"
    else:
        vm.run(*unplug_steps(parts))
        assert [it["label"] for it in vm.ok("query-chardev")] == ["monitor"]


def test_a_set_of_a_stopped_vm_stays_with_an_old_qemu(live):
    """QEMU 7.2 keeps a removed set until it is asked again while the VM runs; 10.0 lets it go."""
    vm = live("-M", "q35")
    with Path("/dev/null").open("r+b") as null:
        send, _ = plug_steps([Chardev(backend="pipe", id="p", path=Fd(null.fileno()))])
        vm.run(send)
    vm.ok(send.undo[0], **send.undo[1])
    assert len(vm.ok("query-fdsets")) == (vm.version == "7.2")
    vm.ok("cont")
    if vm.version == "7.2":
        vm.ok(send.undo[0], **send.undo[1])

    assert vm.ok("query-fdsets") == []


@pytest.fixture
def taps():
    """Return two queues of a tap device that go with the test."""
    fds = []
    try:
        for _ in range(2):
            fds.append(os.open("/dev/net/tun", os.O_RDWR))
            flags = 0x0002 | 0x1000 | 0x0100  # IFF_TAP, IFF_NO_PI, IFF_MULTI_QUEUE
            name = f"qs{os.getpid()}".encode()
            fcntl.ioctl(fds[-1], 0x400454CA, struct.pack("16sH22x", name, flags))
    except OSError as error:
        pytest.skip(f"no tap device can be made here: {error}")
    yield fds
    for fd in fds:
        os.close(fd)


def test_the_queues_of_a_tap_are_joined_with_colons(live, taps):
    """A tap of two queues and a NIC on it are plugged into a port, and all of it goes when the guest has let go."""
    vm = live(*MACHINE)
    before = held(vm)
    parts = [
        Netdev(type="tap", id="t", fds=[Fd(fd) for fd in taps]),
        Device(driver="virtio-net-pci", id="n", netdev="t", mq=True, vectors=6, bus="rp0", addr="0"),
    ]
    steps = plug_steps(parts)
    vm.run(*steps)
    assert "index=1,type=tap" in vm.ok("human-monitor-command", command_line="info network")
    first, *rest = unplug_steps([parts[1], Netdev(type="tap", id="t")])
    vm.run(first)
    vm.ok("system_reset")  # stands for the guest: with ACPI it completes the request
    vm.event("DEVICE_DELETED", device="n")
    vm.run(*rest)
    settled(vm, before)
