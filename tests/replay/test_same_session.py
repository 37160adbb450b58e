"""One live session, recorded three times at once: by us, by QEMU's own trace, and by the log of QEMU's own client."""

import asyncio
import contextlib
import json
import logging
import subprocess

import pytest
from qemu.qmp import ExecuteError, QMPClient

from qemustate.events.observe import parsed
from qemustate.events.records import MESSAGE_KINDS
from qemustate.events.writer import LogWriter
from qemustate.replay.diff import diff
from qemustate.replay.source import Source, records
from qemustate.statemachine.fold import apply
from qemustate.vm.recorder import Scribe
from qemustate.vm.tap import tap

DISK = {"driver": "virtio-blk-pci", "id": "vd1", "drive": "n1", "bus": "rp0"}

#: What is asked, one after another, and an event that is waited for.
ASKED = (
    ("query-status", None, None),
    ("blockdev-add", {"driver": "null-co", "node-name": "n1", "read-zeroes": True}, None),
    ("device_add", DISK, None),
    ("qom-list", {"path": "/machine/peripheral"}, None),
    ("cont", None, "RESUME"),
    ("stop", None, "STOP"),
    ("device_del", {"id": "vd1"}, None),
    ("device_add", DISK, None),
    ("blockdev-del", {"node-name": "nothing"}, None),
    ("system_reset", None, "RESET"),
    ("query-status", None, None),
    ("quit", None, "SHUTDOWN"),
)


@pytest.fixture
def session(qemu, tmp_path):
    """Run the session; return the paths of the three recordings."""
    log, trace, theirs = tmp_path / "ours.log", tmp_path / "trace.log", tmp_path / "theirs.log"
    argv = [
        qemu.binary, *qemu.args, "-machine", "q35,accel=tcg", "-S", "-display", "none", "-nodefaults",
        "-device", "pcie-root-port,id=rp0", "-qmp", f"unix:{tmp_path / 'qemu.sock'},server=on,wait=off",
        "-msg", "timestamp=on", "-trace", "handle_qmp_command", "-trace", "monitor_qmp_respond", "-D", trace,
    ]  # fmt: skip
    handler = logging.FileHandler(theirs)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s:%(name)s:%(message)s"))
    logger = logging.getLogger("qemu.qmp")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
    try:
        asyncio.run(_through_a_tap(tmp_path, log))
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        logger.removeHandler(handler)
        logger.setLevel(before)
        handler.close()
    return {"ours": log, "QEMU's": trace, "the client's": theirs}


async def _through_a_tap(folder, log):
    """Ask everything through a tap that records to ``log``."""
    scribe = Scribe(LogWriter(log))
    served = asyncio.Event()
    running = asyncio.ensure_future(
        tap(
            folder / "client.sock",
            folder / "qemu.sock",
            scribe,
            lambda text: served.set() if "are served" in text else None,
            asyncio.Event(),
        )
    )
    async with asyncio.timeout(60):
        await served.wait()
        client = QMPClient("vm")
        await client.connect(str(folder / "client.sock"))
        try:
            for name, arguments, event in ASKED:
                with client.listener(event or ()) as listener:
                    with contextlib.suppress(ExecuteError):
                        await client.execute(name, arguments)
                    if event:
                        await listener.get()
        finally:
            with contextlib.suppress(EOFError):
                await client.disconnect()
        await running
    scribe.close()


def shown(vm):
    """Return what may be, of everything but the process, of which only we know."""
    told = vm.to_json()
    return {
        "runstate": told["runstate"]["possible"],
        "migration": told["migration"]["possible"],
        **{
            collection: {name: it["possible"] for name, it in told[collection].items()}
            for collection in ("devices", "nodes", "jobs")
        },
    }


def told(path, *without):
    """Return (what was said, what may be after it) for every message of a recording but the greeting."""
    (trace,) = Source(path).vms
    vm, found = trace.start(), []
    for record in records(trace):
        if record.kind in without:
            continue
        apply(vm, record.seq, record.time, record.kind, record.body)
        if record.kind in MESSAGE_KINDS - {"greeting"}:
            qmp = parsed(record.body)
            words = record.kind, qmp.get("execute") or qmp.get("event"), json.dumps(qmp.get("id"))
            found.append((words, shown(vm)))
    return found


def test_all_three_tell_the_same(session):
    """After every message the states are the same, whoever recorded it, but for what only a tap knows: the command line."""
    ours = told(session["ours"], "spawned")
    assert len(ours) > 2 * len(ASKED)
    assert told(session["QEMU's"]) == ours
    assert told(session["the client's"]) == ours
    for (words, knowing), (same, not_knowing) in zip(told(session["ours"]), ours, strict=True):
        assert words == same
        for kind, possible in not_knowing.items():
            if isinstance(possible, dict):
                assert all(set(knowing[kind][name]) <= set(it) for name, it in possible.items())
            else:
                assert set(knowing[kind]) <= set(possible)


def test_all_three_are_alike(session):
    """Laid side by side, no two of the recordings differ."""
    one, other, third = session.values()
    assert diff(one, other) == diff(one, third) == diff(other, third) == []
