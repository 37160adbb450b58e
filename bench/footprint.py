"""What it costs to have us: the import, and the memory of many replayed VMs."""

import json
import subprocess
import sys
from pathlib import Path
from time import perf_counter

from bench.measure import AT_MOST, Line, Result, in_turns
from bench.mix import ARGV, BEGIN
from qemustate.events.reader import LogReader
from qemustate.events.writer import LogWriter
from qemustate.statemachine.fold import fold_batches

ROOT = Path(__file__).resolve().parent.parent
DEVICES = 20
GIB = 1 << 30

#: The modules whose import is measured: the yardstick, the front door, what replays, what launches.
IMPORTS = ("asyncio", "qemustate", "qemustate.replay.view", "qemustate.vm.session")


def imports(size, _folder):
    """Measure imports in fresh interpreters, whose own start is not counted."""

    def importing(module):
        program = f"from time import perf_counter as t; a = t(); import {module}; print(t() - a)"
        command = [sys.executable, "-c", program]
        return lambda: float(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)

    took = in_turns(size, {name: importing(name) for name in IMPORTS})
    return Result(
        "Import, in fresh interpreters",
        {name: (seconds * 1e3, "ms") for name, seconds in took.items()},
        [Line("x import asyncio", took["qemustate"] / took["asyncio"], (AT_MOST, 1.5))],
    )


def memory(size, folder):
    """Measure the memory of a process that holds many VMs of 20 devices, each replayed from its log."""
    path = folder / "devices.log"
    with LogWriter(path, durability="os") as writer:
        for kind, body in _life():
            writer.append(kind, body, BEGIN)
    program = [sys.executable, "-m", "bench.footprint", str(path), str(size.vms)]
    done = subprocess.run(program, stdout=subprocess.PIPE, check=True, cwd=ROOT)
    before, after, peak, took, records = json.loads(done.stdout)
    return Result(
        f"{size.vms:,} replayed VMs of {DEVICES} devices in one process",
        {
            "resident at most": (peak / 2**20, "MiB"),
            "a VM": ((after - before) / size.vms / 2**10, "KiB"),
            "replayed": (size.vms * records / took, "records/s"),
        },
        [Line("of 1 GiB", peak / GIB, (AT_MOST, 1))],
        [f"{records} records a log"],
    )


def _life():
    yield "spawned", {"argv": ARGV, "pid": 4711, "start": 1}
    yield "opened", {"address": "/run/vm/monitor", "first": True}
    greeting = {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}, "capabilities": []}
    yield "greeting", {"qmp": {"QMP": greeting}}
    commands = [("qmp_capabilities", {})]
    for n in range(DEVICES):
        commands += [
            ("blockdev-add", {"driver": "null-co", "node-name": f"disk{n}"}),
            (
                "device_add",
                {"driver": "virtio-blk-pci", "id": f"vd{n}", "drive": f"disk{n}", "bus": "pcie.0"},
            ),
        ]
    for number, (name, arguments) in enumerate(commands, 1):
        identity = {"id": str(number)}
        yield "command", {"qmp": {"execute": name, "arguments": arguments, **identity}}
        yield "reply", {"qmp": {"return": {}, **identity}}


def _resident():
    """Return the bytes resident in this process, now and at most.

    Not from getrusage: its peak is handed down by the process that started this one.
    """
    told = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return [int(told[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM")]


def main(path, count):
    """Replay the log ``count`` times, keep every VM, print what that took: the work of the child process."""
    fold_batches(LogReader(path).batches())
    (before, _), start = _resident(), perf_counter()
    # Each from the bytes: no two VMs share a string that was decoded.
    vms = [fold_batches(LogReader(path).batches()) for _ in range(count)]
    took = perf_counter() - start
    assert all(sum(cell.driver == "virtio-blk-pci" for cell in vm.devices.values()) == DEVICES for vm in vms)
    print(json.dumps([before, *_resident(), took, vms[0].seq]))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
