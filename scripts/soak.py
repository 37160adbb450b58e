"""Many VMs in one process, each plugging and unplugging as fast as it can: is any event lost, does anything leak?

``python scripts/soak.py [--vms 50] [--seconds 300]`` prints figures, and exits with 1 where something is wrong. QEMU's own account
of each VM is what a second monitor is sent, which another process counts and nobody else listens to.
"""

import argparse
import asyncio
import contextlib
import json
import re
import select
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from qemustate import VirtualMachine
from qemustate.events.reader import LogReader
from qemustate.hardware.properties import Blockdev, Device
from qemustate.statemachine.fold import fold

CACHE = Path(__file__).resolve().parent.parent / ".cache"
#: No guest, and no vCPU ever runs: what is asked is the monitor, the recorder and the loop.
ARGUMENTS = [
    "-machine", "q35", "-accel", "tcg,tb-size=1", "-m", "16", "-S", "-display", "none", "-nodefaults", "-no-user-config",
    "-device", "virtio-scsi-pci,id=scsi", "-device", "qemu-xhci,id=usb",
]  # fmt: skip
#: Seconds between two looks at how late the loop is.
TICK = 0.01
DELETED = b'"DEVICE_DELETED"'


class Lateness:
    """How late the loop comes to what is due, in seconds."""

    def __init__(self):
        self.seen = []
        self._task = asyncio.ensure_future(self._look())

    async def _look(self):
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + TICK
            await asyncio.sleep(TICK)
            self.seen.append(loop.time() - due)

    async def end(self):
        """Stop looking; return the 50th and the 99th percentile in milliseconds."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        seen = sorted(self.seen)
        return [seen[len(seen) * percent // 100] * 1000 for percent in (50, 99)]


def resident():
    """Return this process's resident memory in MiB."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def held():
    """Return how many descriptors and tasks there are."""
    return len(list(Path("/proc/self/fd").iterdir())), len(asyncio.all_tasks())


def second_monitor(folder):
    """Return the options of a monitor that the command line does not show, at FOLDER/count."""
    file = folder / "count.cfg"
    file.write_text(
        f'[chardev "count"]\n  backend = "socket"\n  path = "{folder}/count"\n  server = "on"\n  wait = "off"\n'
        '[mon "count"]\n  mode = "control"\n  chardev = "count"\n'
    )
    return ["-readconfig", str(file)]


def count(paths):
    """Count DEVICE_DELETED on monitors until each ends; print the counts. What the other process does."""
    counts, rest = {}, {}
    for path in paths:
        monitor = socket.socket(socket.AF_UNIX)
        monitor.connect(path)
        monitor.sendall(b'{"execute":"qmp_capabilities"}\n')
        counts[monitor], rest[monitor] = 0, b""
    print("ready", flush=True)
    poller = select.poll()
    open_ = {monitor.fileno(): monitor for monitor in counts}
    for number in open_:
        poller.register(number, select.POLLIN)
    while open_:
        for number, _ in poller.poll():
            monitor = open_[number]
            if data := monitor.recv(1 << 16):
                data = rest[monitor] + data
                counts[monitor] += data.count(DELETED)
                # A name may be cut in two, but is not counted twice.
                rest[monitor] = data[-len(DELETED) + 1 :]
            else:
                poller.unregister(number)
                del open_[number]
    print(json.dumps(list(counts.values())), flush=True)


async def live(vm, until):
    """Plug and unplug a disk and a tablet until that time; return how often a device was unplugged."""
    disk = (
        Blockdev({"driver": "null-co", "node-name": "node", "size": 1 << 20}),
        Device(driver="scsi-hd", id="disk", drive="node", bus="scsi.0"),
    )
    tablet = Device(driver="usb-tablet", id="tablet", bus="usb.0")
    unplugs = 0
    while time.monotonic() < until:
        await asyncio.gather(vm.plug(*disk), vm.plug(tablet))
        await asyncio.gather(vm.unplug("disk"), vm.unplug("tablet"))
        unplugs += 2
    return unplugs


async def sample(seconds):
    """Return memory, descriptors and tasks at a fifth of the time and near its end."""
    found = []
    for pause in (0.2, 0.75):
        await asyncio.sleep(seconds * pause)
        found.append((resident(), *held()))
    return found


async def soak(qemu, folder, vms, seconds):
    """Run it; return the figures, and what is wrong."""
    before = held()
    lateness = Lateness()
    await asyncio.sleep(min(5, seconds))
    idle = await lateness.end()
    places = [folder / str(number) for number in range(vms)]
    running = []
    for place in places:
        place.mkdir()
        argv = [*qemu, *ARGUMENTS, *second_monitor(place)]
        running.append(await VirtualMachine.launch(argv, log=place / "log"))
    command = [sys.executable, __file__, "--count", *(str(place / "count") for place in places)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as counter:  # noqa: ASYNC220  (nothing goes on yet)
        assert counter.stdout.readline() == "ready\n"
        lateness = Lateness()
        sampling = asyncio.ensure_future(sample(seconds))
        until = time.monotonic() + seconds
        unplugs = await asyncio.gather(*(live(vm, until) for vm in running))
        (early, *held_early), (late, *held_late) = await sampling
        busy = await lateness.end()
        for vm in running:
            await vm.close()
        counted = json.loads(counter.stdout.read())
    held_end = [end - begin for end, begin in zip(held(), before, strict=True)]
    wrong = [f"descriptors and tasks left at the end: {held_end}"] if any(held_end) else []
    records = 0
    for vm, place, asked, sent in zip(running, places, unplugs, counted, strict=True):
        log = list(LogReader(place / "log"))
        records += len(log)
        seen = sum(it.kind == "event" and it.body["qmp"]["event"] == "DEVICE_DELETED" for it in log)
        if not asked == seen == sent:
            wrong.append(f"VM {place.name}: {asked} unplugs, {sent} DEVICE_DELETED sent, {seen} in the log")
        if fold(log).to_plain() != vm._recorder.vm.to_plain():  # noqa: SLF001  (nothing less is compared)
            wrong.append(f"VM {place.name}: its log tells another state than it had")
    # What is under way at a moment differs: tasks that stay are seen at the end, where none may be left.
    if held_early[0] != held_late[0] or held_late[1] > 2 * held_early[1]:
        wrong.append(f"descriptors and tasks: {held_early} at 20 %, {held_late} at the end")
    if late > early * 1.1 + 8:
        wrong.append(f"resident memory: {early:.0f} MiB at 20 %, {late:.0f} MiB at the end")
    figures = [
        f"{vms} VMs, {seconds:g} s: {sum(unplugs)} unplugs ({sum(unplugs) / seconds:.0f}/s), {records} records ({records / seconds:.0f}/s)",
        f"DEVICE_DELETED: {sum(counted)} sent by QEMU, {sum(unplugs)} unplugs done",
        f"memory at {seconds * 0.2:.0f} s and {seconds * 0.95:.0f} s: {early:.1f} and {late:.1f} MiB",
        f"descriptors then: {held_early[0]} and {held_late[0]}, tasks: {held_early[1]} and {held_late[1]}; left at the end: {held_end}",
        f"lateness of the loop: p50 {busy[0]:.2f} ms, p99 {busy[1]:.2f} ms; idle p50 {idle[0]:.2f} ms, p99 {idle[1]:.2f} ms",
    ]  # fmt: skip
    return figures, wrong


def main():
    """Print figures and what is wrong; return the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--vms", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--count", nargs="*")
    options = parser.parse_args()
    if options.count:
        count(options.count)
        return 0
    entries = json.loads((CACHE / "qemu.json").read_text())
    entry = next((it for it in entries if "binary" in it), None)
    if entry is None:
        print("soak: there is no qemu-system-x86_64 (make qemu)", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="soak-", dir=CACHE) as folder:
        qemu = [entry["binary"], *entry["args"]]
        figures, wrong = asyncio.run(soak(qemu, Path(folder), options.vms, options.seconds))
    print(*figures, sep="\n")
    for line in wrong:
        print(f"WRONG: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
