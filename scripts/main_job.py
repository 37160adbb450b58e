"""The main job, end to end: a real QEMU from launch to quit, recorded, shown live, replayed, compared.

Where no QEMU can be had, the same is done with a bundled recording of one.
"""

import asyncio
import contextlib
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import qemustate
from qemustate.cli.lines import Changes
from qemustate.cli.run import timeline
from qemustate.events.writer import LogWriter
from qemustate.replay.check import check
from qemustate.replay.source import Source
from qemustate.statemachine import describe
from qemustate.statemachine.fold import apply
from qemustate.statemachine.state import VM
from qemustate.vm.cursor import Cursor
from qemustate.vm.recorder import open_recorder
from qemustate.vm.session import Session

ROOT = Path(__file__).resolve().parent.parent
BUNDLED = Path(qemustate.__file__).parent / "data" / "hotplug.jsonl.xz"
SIZE = 64 << 20
OPTIONS = [
    "-machine", "q35,accel=tcg", "-S", "-display", "none", "-nodefaults",
    "-device", "pcie-root-port,id=rp0,chassis=1", "-device", "pcie-root-port,id=rp1,chassis=2",
]  # fmt: skip


def find_qemu():
    """Return (command line that starts QEMU, qemu-img or None), or the reason why there is none."""
    listed = ROOT / ".cache" / "qemu.json"
    entries = json.loads(listed.read_text()) if listed.exists() else []
    for entry in entries:
        if "binary" in entry:
            return [entry["binary"], *entry["args"]], entry["img"]
    if binary := shutil.which("qemu-system-x86_64"):
        return [binary], shutil.which("qemu-img")
    return None, "; ".join(entry["missing"] for entry in entries) or "no qemu-system-x86_64 on this machine"


async def main_job(start, image, recorder, folder):
    """Take a VM through its life; return when QEMU has ended."""
    session = await Session.launch([*start, *OPTIONS], recorder, folder / "monitor")
    with contextlib.closing(session):
        do = session.execute
        if image is None:
            image = folder / "disk.qcow2"
            await create_disk(do, image, recorder)
        file = {"driver": "file", "filename": str(image)}
        await do("blockdev-add", {"driver": "qcow2", "node-name": "disk1", "file": file})
        await do("device_add", {"driver": "virtio-blk-pci", "id": "vd1", "drive": "disk1", "bus": "rp0"})
        await do("cont")
        await do("stop")
        await do("device_del", {"id": "vd1"})
        # No guest is there to let go of the disk. A reset makes ACPI's unplug request complete.
        await do("system_reset")
        await seen(recorder, "DEVICE_DELETED", {"device": "vd1"})
        await do("blockdev-del", {"node-name": "disk1"})
        await do("query-status")
        await do("quit")
        return await session.wait()


async def create_disk(do, image, recorder):
    """Create a qcow2 file with QEMU itself (QAPI blockdev-create), where qemu-img is missing."""
    image.touch()
    await do("blockdev-add", {"driver": "file", "node-name": "new", "filename": str(image)})
    options = {"driver": "qcow2", "file": "new", "size": SIZE}
    await do("blockdev-create", {"job-id": "create", "options": options})
    await seen(recorder, "JOB_STATUS_CHANGE", {"id": "create", "status": "concluded"})
    await do("job-dismiss", {"id": "create"})
    await do("blockdev-del", {"node-name": "new"})


async def seen(recorder, event, data):
    """Wait until the log has this event with such data, from the beginning of the log on."""
    async with asyncio.timeout(30):
        with Cursor(recorder, 1) as cursor:
            async for it in cursor:
                qmp = it.body["qmp"] if it.kind == "event" else {}
                if qmp.get("event") == event and data.items() <= qmp["data"].items():
                    return


def record(start, img, log, folder):
    """Run the main job with the timeline shown live; return the state it led to."""
    image = folder / "disk.qcow2" if img else None
    if image:
        subprocess.run([img, "create", "-q", "-f", "qcow2", str(image), str(SIZE)], check=True)
    recorder = open_recorder(log)
    with timeline(recorder):
        ended = asyncio.run(main_job(start, image, recorder, folder))
    print(f"\nQEMU ended with {ended}\n")
    return recorder.vm.to_json()


def record_bundled(log):
    """Record the bundled trace, message after message; return the state it led to."""
    trace = Source(BUNDLED).vms[0]
    vm, lines = VM(), Changes()
    with LogWriter(log, vm=trace.name, header_extra=trace.header_extra()) as writer:
        apply(vm, 1, 0, "segment", {"vm": trace.name})
        for kind, time, body in trace.entries():
            seq = writer.append(kind, body, time)
            apply(vm, seq, time, kind, body)
            lines.see(vm, seq, time, kind, body)
    print()
    apply(vm, writer.seq, time, "closed", {})
    return vm.to_json()


def main():
    """Do it, and say whether the state while it ran and the state replayed from the log are the same."""
    start, img = find_qemu()
    with tempfile.TemporaryDirectory(prefix="qemustate-") as name:
        folder = Path(name)
        log = folder / "vm.log"
        if start:
            print(f"qemustate: recording {shlex.join([*start, *OPTIONS])}\n")
            live = record(start, img, log, folder)
        else:
            print(f"qemustate: no QEMU ({img}): recording the bundled trace of one instead\n")
            live = record_bundled(log)
        replayed = qemustate.replay(log)[0]
        print("replayed from the log:\n")
        report = check(Source(log).vms[0])
        for line in describe.state(report.vm):
            print(line)
        agree = replayed.state == live == report.vm.to_json()
        said = "agree" if agree else "DO NOT AGREE"
        print(f"\nthe live state and the replayed state, {replayed.seq} records, {said}")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
