"""A disk plugged into a Linux guest and unplugged: by the facade, recorded, against a bare socket that sends the same commands."""

import asyncio
import contextlib
import socket
import statistics
from contextlib import closing
from pathlib import Path
from time import perf_counter

from bench.measure import Line, Result
from bench.roundtrip import qemu
from qemustate import VirtualMachine
from qemustate.hardware.properties import Blockdev, Device

OURS = "qemustate, VirtualMachine"
BARE = "bare socket"
GUEST = Path(__file__).resolve().parent.parent / ".cache" / "guest"
MACHINE = [
    "-accel", "tcg", "-M", "q35", "-S", "-cpu", "max", "-m", "256", "-display", "none", "-nodefaults",
    "-device", "pcie-root-port,id=rp0,chassis=1,slot=1",
]  # fmt: skip
#: Seconds for the guest to be done with a device before the next one.
REST = 0.5
NODE = {"driver": "null-co", "node-name": "node", "size": 1 << 20, "read-zeroes": True}
DISK = {"driver": "virtio-blk-pci", "id": "disk", "drive": "node", "bus": "rp0"}


class Bare:
    """A socket that sends prepared bytes and reads on until some bytes come, with no look at either."""

    def __init__(self, path):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self.until(b"\n")
        self.exchange(b'{"execute":"qmp_capabilities","id":"c"}', b'"c"')

    def exchange(self, data, wanted):
        """Send a command and read until these bytes."""
        self._socket.sendall(data)
        return self.until(wanted)

    def until(self, wanted):
        """Read until these bytes; return all that was read."""
        seen = b""
        while wanted not in seen:
            seen += self._socket.recv(65536)
        return seen

    def drain(self):
        """Forget what the other monitor's doings had QEMU say here."""
        self._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while self._socket.recv(65536):
                pass
        self._socket.setblocking(True)

    def plug(self):
        """Add the node and the device."""
        self.exchange(b'{"execute":"blockdev-add","arguments":{"driver":"null-co","node-name":"node","size":1048576,"read-zeroes":true},"id":"1"}', b'"id": "1"')  # fmt: skip
        self.exchange(b'{"execute":"device_add","arguments":{"driver":"virtio-blk-pci","id":"disk","drive":"node","bus":"rp0"},"id":"2"}', b'"id": "2"')  # fmt: skip

    def unplug(self):
        """Ask for the device, wait until it is deleted, and remove the node."""
        deleted = b'"path": "/machine/peripheral/disk"}'
        if deleted not in self.exchange(
            b'{"execute":"device_del","arguments":{"id":"disk"},"id":"3"}', b'"id": "3"'
        ):
            self.until(deleted)
        self.exchange(b'{"execute":"blockdev-del","arguments":{"node-name":"node"},"id":"4"}', b'"id": "4"')

    def close(self):
        """Hang up."""
        self._socket.close()


def hotplug(size, folder):
    """Measure both in turns, on one guest over two monitors."""
    title = "A virtio disk plugged into a Linux guest, and unplugged"
    command = qemu()
    missing = "qemu-system-x86_64" if command is None else "guest (make guest)"
    if command is None or not (GUEST / "vmlinuz").exists():
        return Result(title, {}, notes=[f"not measured: there is no {missing}"])
    took = asyncio.run(_measured(size, command, folder))
    plugs, unplugs = ({who: took[who, what] for who in (OURS, BARE)} for what in ("plug", "unplug"))
    return Result(
        title,
        {f"{who}, {what}": (took[who, what] * 1e3, "ms, median") for what in ("plug", "unplug") for who in (OURS, BARE)},
        [
            Line("plug, of a bare socket's time", plugs[OURS] / plugs[BARE]),
            Line("unplug with its guest, of a bare socket's time", unplugs[OURS] / unplugs[BARE]),
        ],
    )  # fmt: skip


async def _measured(size, command, folder):
    """Return the median seconds by (who, what)."""
    serial, bare = folder / "serial", folder / "bare"
    argv = [
        *command, *MACHINE, "-kernel", str(GUEST / "vmlinuz"), "-initrd", str(GUEST / "initrd.img"), "-append", "console=ttyS1 panic=-1",
        "-serial", f"unix:{serial},server=on,wait=off", "-serial", "null", "-qmp", f"unix:{bare},server=on,wait=off",
    ]  # fmt: skip
    took = {}
    async with VirtualMachine.launch(argv, log=folder / "hotplug.log") as vm:
        with closing(socket.socket(socket.AF_UNIX)) as console, closing(Bare(bare)) as raw:
            console.connect(str(serial))
            console.settimeout(180)
            await vm.resume()
            await asyncio.to_thread(_booted, console)
            for number in range(size.rounds * size.turns):
                for who in (OURS, BARE)[:: -1 if number % 2 else 1]:
                    await _once(vm, raw, who, took)
    return {key: statistics.median(seconds) for key, seconds in took.items()}


async def _once(vm, raw, who, took):
    parts = (Blockdev(NODE), Device(DISK))
    raw.drain()
    begin = perf_counter()
    if who == OURS:
        await vm.plug(*parts)
    else:
        raw.plug()
    took.setdefault((who, "plug"), []).append(perf_counter() - begin)
    await asyncio.sleep(REST)
    begin = perf_counter()
    if who == OURS:
        await vm.unplug("disk")
    else:
        raw.unplug()
    took.setdefault((who, "unplug"), []).append(perf_counter() - begin)
    await asyncio.sleep(REST)


def _booted(serial):
    """Wait until the guest says that it is there."""
    seen = b""
    while b"@@READY@@" not in seen:
        seen += serial.recv(4096)
