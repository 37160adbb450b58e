"""A QEMU of our own from launch to end: recorded whole, live and replayed alike."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys

import pytest

from qemustate.errors import BadInput, CommandRefused, LaunchFailed, OutcomeUnknown
from qemustate.events.reader import LogReader
from qemustate.statemachine.fold import apply
from qemustate.vm import recorder as recorder_module
from qemustate.vm.cursor import Cursor
from qemustate.vm.listening import listening
from qemustate.vm.recorder import open_recorder
from qemustate.vm.session import Session

pytestmark = pytest.mark.usefixtures("no_leaks")


def live(folder, argv, scenario, **more):
    """Launch a QEMU, run a scenario of (session, recorder) with it; return the recorder, closed."""

    async def main():
        recorder = open_recorder(folder / "log")
        try:
            session = await Session.launch(argv, recorder, folder / "qmp", **more)
            with contextlib.closing(session):
                async with asyncio.timeout(60):
                    await scenario(session, recorder)
        finally:
            recorder.close()
        return recorder

    return asyncio.run(main())


async def seen(recorder, name):
    """Wait until the log has an event."""
    with Cursor(recorder, 1) as cursor:
        async for record in cursor:
            if record.kind == "event" and record.body["qmp"]["event"] == name:
                return


async def overdue(recorder):
    """Wait until the log says that an answer is overdue; a greeting may be too, where the machine is busy."""
    with Cursor(recorder, 1) as cursor:
        async for record in cursor:
            if record.kind == "deadline" and "id" in record.body:
                return


def test_live_is_replayed_after_every_record(q35, qemu, tmp_path, monkeypatch, replayed):
    """From launch through plug, unplug and reset to quit: the state seen live after each record is the replayed one."""
    states = {}

    def noted(vm, seq, *fact):
        apply(vm, seq, *fact)
        states[seq] = vm.to_plain()

    monkeypatch.setattr(recorder_module, "apply", noted)
    disk = tmp_path / "disk.qcow2"
    subprocess.run([qemu.img, "create", "-q", "-f", "qcow2", disk, "1M"], check=True)

    async def scenario(session, recorder):
        file = {"driver": "file", "filename": str(disk)}
        await session.execute("blockdev-add", {"driver": "qcow2", "node-name": "d", "file": file})
        await session.execute(
            "device_add", {"driver": "virtio-blk-pci", "id": "v", "drive": "d", "bus": "rp0"}
        )
        await session.execute("cont")
        await session.execute("stop")
        assert recorder.vm.to_json()["devices"]["v"]["is"] == "present"
        await session.execute("device_del", {"id": "v"})
        await session.execute("system_reset")
        await seen(recorder, "DEVICE_DELETED")
        await session.execute("blockdev-del", {"node-name": "d"})
        await session.execute("quit")
        assert await session.wait() == {"status": 0}

    recorder = live(tmp_path, q35, scenario)
    told = replayed(tmp_path / "log")
    del told[1]  # the beginning of the log, folded when it was opened
    assert states == told
    state = recorder.vm.to_json()
    assert (state["process"]["is"], state["process"]["exit"]) == ("exited", {"status": 0})
    assert state["devices"]["v"]["is"] == "gone"


def test_a_wedged_qemu_is_stalled_and_recovers(bare, tmp_path):
    """Stopped by a signal, QEMU answers nothing: the monitor is stalled once the deadline has passed, ready when it goes on."""

    async def scenario(session, recorder):
        session.process.signal(signal.SIGSTOP)
        asked = asyncio.ensure_future(session.execute("query-version"))
        await overdue(recorder)
        monitor = recorder.vm.to_json()["monitor"]
        assert monitor["is"] == "stalled"
        assert monitor["stalled"]["command"] == "query-version"
        session.process.signal(signal.SIGCONT)
        await asked
        assert recorder.vm.to_json()["monitor"]["is"] == "ready"

    recorder = live(tmp_path, bare, scenario, deadline=0.3)
    records = list(LogReader(recorder.writer.path))
    sent = next(r for r in records if r.kind == "command" and r.body["qmp"]["execute"] == "query-version")
    late = next(record for record in records if record.kind == "deadline" and "id" in record.body)
    assert late.body["after"] == 300_000
    assert late.time - sent.time >= 300_000


def test_a_dead_block_backend_stalls_the_monitor(bare, tmp_path):
    """QEMU stuck in a disk server that says nothing is stalled behind that command, and recovers when the server goes."""

    async def scenario(session, recorder):
        with listening(tmp_path / "nbd") as server:
            disk = {
                "driver": "nbd",
                "node-name": "n",
                "server": {"type": "unix", "path": str(tmp_path / "nbd")},
            }
            asked = asyncio.ensure_future(session.execute("blockdev-add", disk))
            behind = asyncio.ensure_future(session.execute("query-name"))
            await overdue(recorder)
            monitor = recorder.vm.to_json()["monitor"]
            assert (monitor["is"], monitor["stalled"]["command"]) == ("stalled", "blockdev-add")
            await asyncio.sleep(0.5)
            assert recorder.vm.to_json()["monitor"]["stalled"]["command"] == "blockdev-add"
            assert not behind.done()
            server.accept()[0].close()
            with pytest.raises(CommandRefused):
                await asked
            assert await behind == {}
        assert recorder.vm.to_json()["monitor"]["is"] == "ready"

    live(tmp_path, bare, scenario, deadline=0.3)


def test_a_killed_qemu(bare, tmp_path):
    """Kill -9 while a command is unanswered: the outcome is unknown, the end is recorded with its signal, no zombie."""

    async def scenario(session, _recorder):
        session.process.signal(signal.SIGSTOP)
        asked = asyncio.ensure_future(session.execute("query-version"))
        await asyncio.sleep(0)
        os.kill(session.process.pid, signal.SIGKILL)
        with pytest.raises(OutcomeUnknown):
            await asked
        assert await session.wait() == {"signal": 9}

    recorder = live(tmp_path, bare, scenario)
    state = recorder.vm.to_json()
    assert (state["process"]["is"], state["process"]["exit"]) == ("exited", {"signal": 9})
    assert [it["command"] for it in state["pending"]] == ["query-version"]
    assert [record.kind for record in LogReader(tmp_path / "log")][-3:] == ["lost", "exited", "closed"]
    assert not (tmp_path / "qmp").exists()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_block_that_ends_early_records_the_end(bare, tmp_path):
    """When the embedder goes away, its QEMU does, and the log says so."""

    async def scenario(_session, _recorder):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        live(tmp_path, bare, scenario)
    last = list(LogReader(tmp_path / "log"))[-2]
    assert (last.kind, last.body) == ("exited", {"signal": 9})


def test_what_does_not_come_up(qemu, tmp_path):
    """QEMU that dies at once is heard and recorded; a missing one and a socket in use are named."""
    never = None
    with pytest.raises(LaunchFailed, match="unsupported machine type") as dead:
        live(tmp_path, [qemu.binary, *qemu.args, "-M", "nonesuch"], never)
    assert dead.value.returncode == 1
    kinds = [record.kind for record in LogReader(tmp_path / "log")]
    # It may be gone before anybody can connect to it.
    assert [kind for kind in kinds if kind not in ("opened", "lost")] == [
        "segment",
        "spawned",
        "exited",
        "closed",
    ]
    with pytest.raises(LaunchFailed, match="no such program"):
        live(tmp_path, ["qemu-nonesuch"], never)
    with listening(tmp_path / "qmp"), pytest.raises(BadInput, match="a socket in use"):
        live(tmp_path, [qemu.binary], never)


def test_a_program_that_is_no_qemu(tmp_path):
    """A program that runs and does not take the socket is given up when the socket closes, and ended."""
    with pytest.raises(LaunchFailed, match="did not come up"):
        live(
            tmp_path, [sys.executable, "-c", "import os, time; os.closerange(3, 99); time.sleep(1000)"], None
        )


def test_secrets_of_the_command_line_are_not_recorded(bare, tmp_path):
    """QEMU gets the secret on its command line; the log does not."""

    async def scenario(session, _recorder):
        assert "geheim" in " ".join(session.process.argv)

    live(tmp_path, [*bare, "-object", "secret,id=s0,data=geheim"], scenario)
    assert b"geheim" not in (tmp_path / "log").read_bytes()


def test_a_full_disk_loses_no_vm(bare, small_disk, filled):
    """With the disk full QEMU is still asked, answers, and quits in order; afterwards the log says what is missing."""

    async def scenario(session, recorder):
        filler = filled(small_disk)
        while not recorder.writer.missing:
            await session.execute("query-version")
        assert (await session.execute("query-status"))["status"] == "prelaunch"
        filler.unlink()
        await session.execute("quit")
        assert await session.wait() == {"status": 0}

    recorder = live(small_disk, bare, scenario)
    assert recorder.vm.to_json()["process"]["exit"] == {"status": 0}
    [gap] = [record for record in LogReader(small_disk / "log") if record.kind == "gap"]
    assert gap.body["missing"] > 0


def test_a_command_can_be_held_against_the_schema_before_it_is_sent(q35, tmp_path):
    """Names, types and properties this QEMU does not take are doubts; what it takes gives none, and nothing is refused by us."""
    found = {}

    async def scenario(session, recorder):
        doubts = session.monitor.doubts
        found["fine"] = [
            *await doubts("query-status"),
            *await doubts("blockdev-add", {"driver": "null-co", "node-name": "n1"}),
            *await doubts(
                "device_add", {"driver": "virtio-blk-pci", "id": "vd1", "drive": "n1", "bus": "rp0"}
            ),
        ]
        found["command"] = await doubts("blokdev-add")
        found["missing"] = await doubts("blockdev-add", {"node-name": "n1"})
        found["enum"] = await doubts("blockdev-add", {"driver": "nosuch"})
        found["type"] = await doubts("device_del", {"id": 7})
        found["property"] = await doubts("device_add", {"driver": "virtio-blk-pci", "colour": "red"})
        found["driver"] = await doubts("device_add", {"driver": "nosuch-pci"})
        with pytest.raises(CommandRefused):
            await session.execute("device_add", {"driver": "nosuch-pci"})
        session.kill()
        await session.wait()

    live(tmp_path, q35, scenario)

    assert found.pop("fine") == []
    assert {what: [p.path for p in problems] for what, problems in found.items()} == {
        "command": ["blokdev-add"], "missing": ["driver"], "enum": ["driver"], "type": ["id"], "property": ["colour"], "driver": ["driver"],
    }  # fmt: skip
