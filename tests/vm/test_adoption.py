"""Adopting a VM that is not to be had: said clearly, and whatever runs is left alone."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from qemustate import VirtualMachine
from qemustate.errors import BadInput, MonitorUnavailable, OperationRefused, OutcomeUnknown, QemuGone
from qemustate.events.reader import LogReader
from qemustate.events.writer import LogWriter
from qemustate.qmp.blocking import Client
from qemustate.vm import adoption
from qemustate.vm.monitor import Monitor
from qemustate.vm.process import start_time
from qemustate.vm.recorder import open_recorder

pytestmark = pytest.mark.usefixtures("no_leaks")


def run(work):
    """Do asynchronous work for at most a minute."""

    async def main():
        async with asyncio.timeout(60):
            return await work

    return asyncio.run(main())


async def left(argv, log):
    """Launch a VM, let go of it, return its process number."""
    vm = await VirtualMachine.launch(argv, log=log)
    vm.leave()
    return vm.pid


def edit(log, *without, **more):
    """Write a log anew that tells of a QEMU that is said to be another, or less of it."""
    told = next(it.body for it in LogReader(log) if it.kind == "spawned") | more
    other = log.with_name("other")
    writer = LogWriter(other)
    writer.append("spawned", {name: it for name, it in told.items() if name not in without}, 1)
    writer.close()
    return other


def end(log):
    """Adopt a VM and end it."""

    async def work():
        await (await VirtualMachine.adopt(log)).close()

    run(work())


def test_a_monitor_that_somebody_holds(q35, tmp_path):
    """While another client has the monitor the VM is not adopted, which is said; it runs on, and is adopted when that client has gone."""
    log = tmp_path / "log"
    pid = run(left(q35, log))
    other = Client.connect(str(tmp_path / "log.d" / "monitor"), timeout=10)

    with pytest.raises(MonitorUnavailable, match="another client may hold the monitor"):
        run(adopted(log, timeout=0.5))

    assert other.execute("query-status")["status"] == "prelaunch"
    other.close()
    assert start_time(pid) is not None
    end(log)


async def adopted(log, **more):
    """Adopt a VM that cannot be."""
    await VirtualMachine.adopt(log, **more)


def test_a_monitor_whose_queue_is_full(q35, tmp_path):
    """Others who wait for the monitor as well are no reason to give up before the time is over."""
    log = tmp_path / "log"
    run(left(q35, log))
    waiting = []
    for _ in range(3):
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)
        waiting.append(sock)
        try:
            sock.connect(str(tmp_path / "log.d" / "monitor"))
        except BlockingIOError:
            break
    with pytest.raises(MonitorUnavailable):
        run(adopted(log, timeout=0.5))
    for sock in waiting:
        sock.close()
    end(log)


@pytest.fixture
def bystander():
    """Return a process that has nothing to do with any of it."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"]) as process:
        yield process
        process.kill()


def test_another_process_of_that_number(q35, bystander, tmp_path):
    """A process that has the number and not the start of the QEMU in the log is not that QEMU, and is left alone."""
    log = tmp_path / "log"
    pid = run(left(q35, log))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)

    with pytest.raises(QemuGone, match="nobody saw how"):
        run(adopted(edit(log, pid=bystander.pid, start=start_time(bystander.pid) + 1)))

    assert bystander.poll() is None


def test_a_process_of_another_boot(q35, bystander, tmp_path):
    """After the host has booted the same number and start may name another process: QEMU is gone, and that one is left alone."""
    log = tmp_path / "log"
    run(left(q35, log))
    told = next(it.body for it in LogReader(log) if it.kind == "spawned")
    assert told["boot"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    # The numbers are right, and nobody listens where its monitor was.
    same = {"pid": bystander.pid, "start": start_time(bystander.pid), "monitor": str(tmp_path / "d" / "none")}

    with pytest.raises(MonitorUnavailable):
        run(adopted(edit(log, **same), timeout=0.2))
    (tmp_path / "other").unlink()
    with pytest.raises(QemuGone, match="nobody saw how"):
        run(adopted(edit(log, **same, boot="8f2e7b0e-0000-4000-8000-000000000000")))

    assert bystander.poll() is None
    end(log)


def test_a_log_that_names_no_boot(q35, tmp_path):
    """A log from before boots were noted is adopted by number and start."""
    log = tmp_path / "log"
    pid = run(left(q35, log))

    end(edit(log, "boot"))

    assert start_time(pid) is None


def test_a_qemu_that_is_not_seen_and_listens(q35, bystander, tmp_path, monkeypatch):
    """Where its number tells nothing, as in another PID namespace, a QEMU that listens at its monitor is not taken for gone, and loses nothing."""
    monkeypatch.setattr(adoption, "_DYING", 0.1)
    log = tmp_path / "log"
    pid = run(left(q35, log))
    other = edit(log, pid=bystander.pid, start=start_time(bystander.pid) + 1)

    with pytest.raises(BadInput, match="in another PID namespace"):
        run(adopted(other))

    assert [it.kind for it in LogReader(other)].count("exited") == 0
    assert start_time(pid) is not None
    end(log)


def test_a_qemu_with_another_uuid(q35, tmp_path):
    """A QEMU that says another UUID than its command line is not the one in the log, and is left alone."""
    log = tmp_path / "log"
    pid = run(left([*q35, "-uuid", "11111111-1111-1111-1111-111111111111"], log))
    told = next(it.body["argv"] for it in LogReader(log) if it.kind == "spawned")
    other = edit(log, argv=[it.replace("1111-1111", "1111-2222") for it in told])

    with pytest.raises(BadInput, match="a QEMU with the UUID"):
        run(adopted(other))

    assert start_time(pid) is not None
    end(log)


@pytest.mark.parametrize("command", ["qom-list", "query-uuid", "closefd"])
def test_a_connection_that_is_cut_while_a_vm_is_adopted(q35, tmp_path, monkeypatch, command):
    """Wherever the connection is lost before the adoption is done, another one is opened and asked everything."""
    log = tmp_path / "log"
    execute, cuts = Monitor.execute, [command]
    null = os.open(os.devnull, os.O_RDONLY)

    async def cut(self, name, *args, **more):
        if name in cuts:
            cuts.remove(name)
            self._client._socket.shutdown(socket.SHUT_RDWR)
        return await execute(self, name, *args, **more)

    async def work():
        vm = await VirtualMachine.launch([*q35, "-uuid", "12345678-9abc-def0-1234-56789abcdef0"], log=log)
        await vm.getfd("left", null)
        os.close(null)
        vm.leave()
        monkeypatch.setattr(Monitor, "execute", cut)
        async with VirtualMachine.adopt(log) as vm:
            assert not cuts
            told = vm._recorder.vm
            assert told.names("fd", told.fds["left"]) == ("gone",)

    run(work())


def test_a_step_that_was_refused_because_it_was_done_is_taken_back(q35, tmp_path):
    """A plug that is left when its first step was sent again and found done is undone, that step too."""
    log, made = tmp_path / "log", {"type": "hubport", "id": "n0", "hubid": 0}

    async def work():
        vm = await VirtualMachine.launch(q35, log=log)
        await vm.execute("netdev_add", made)
        vm.leave()
        recorder = open_recorder(log)  # as where the answer to the first was lost, and the second was refused
        steps = [
            ["netdev_add", made, ["netdev_del", {"id": "n0"}]],
            ["device_add", {"id": "d0", "driver": "e1000"}, None],
        ]
        recorder.record("begun", {"intent": "plug", "correlation": "a", "subject": "d0", "steps": steps})
        for number in ("901", "902"):
            recorder.record("opened", {"address": "", "alone": True})
            command = {"execute": "netdev_add", "arguments": made, "id": number}
            recorder.record("command", {"qmp": command})
            if number == "902":
                desc = {"class": "GenericError", "desc": "Duplicate ID 'n0' for netdev"}
                recorder.record("failure", {"qmp": {"id": number, "error": desc}})
            recorder.record("lost", {"why": "end of stream"})
        recorder.close()
        async with VirtualMachine.adopt(log) as vm:
            for operation in vm.operations.values():
                with contextlib.suppress(OperationRefused):
                    await operation.settled()
            netdevs = await vm.execute("human-monitor-command", {"command-line": "info network"})
            assert "n0" not in netdevs

    run(work())


def test_a_log_without_a_qemu(tmp_path):
    """A log that is not there, or tells of no QEMU, is bad input; helpers that were started for the QEMU that never came end."""
    log = tmp_path / "log"
    with pytest.raises(BadInput, match="no such file"):
        run(adopted(log))
    assert not log.exists()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"]) as helper:
        recorder = open_recorder(log)
        recorder.record("helper", {"name": "h", "pid": helper.pid, "start": start_time(helper.pid)})
        recorder.close()
        with pytest.raises(BadInput, match="one without pid and monitor"):
            run(adopted(log))
        assert start_time(helper.pid) is None
    assert [it.body for it in LogReader(log) if it.kind == "helper"][-1] == {"name": "h", "signal": 15}


def test_an_end_on_record_whose_rest_was_left(q35, tmp_path):
    """When who ended a VM was killed before it had cleared up, who comes to adopt it does."""
    log = tmp_path / "log"
    pid = run(left(q35, log))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    recorder = open_recorder(log)
    recorder.record(
        "begun", {"intent": "quit", "correlation": "q", "subject": "", "steps": [["quit", {}, None]]}
    )
    recorder.record("exited", {"signal": 9})
    recorder.close()

    with pytest.raises(QemuGone, match="signal 9"):
        run(adopted(log))

    assert [it.name for it in tmp_path.iterdir()] == ["log"]
    assert next(it.body["outcome"] for it in LogReader(log) if it.kind == "ended") == "done"


def begin(log, *intents):
    """Write into a log that operations have begun, as who is killed right then leaves it: (intent, command, arguments, sent)."""
    recorder = open_recorder(log)
    for number, (intent, command, arguments, sent) in enumerate(intents):
        steps = [[command, arguments, None]]
        told = {"correlation": f"c{number}", "subject": "", "steps": steps, "arguments": {"intent": intent}}
        recorder.record("begun", {"intent": intent, **told})
        if sent:
            qmp = {"execute": command, "id": f"x{number}"}
            recorder.record("command", {"qmp": qmp | ({"arguments": arguments} if arguments else {})})
    recorder.close()


@pytest.mark.parametrize(
    ("intents", "outcomes", "runstate"),
    [
        ([("resume", "cont", {}, True)], ["done"], "running"),
        ([("resume", "cont", {}, False), ("pause", "stop", {}, False)], ["refused", "done"], "prelaunch"),
        ([("pause", "stop", {}, True), ("resume", "cont", {}, False)], ["refused", "done"], "running"),
        ([("reset", "system_reset", {}, False)], ["refused"], "prelaunch"),
        ([("reset", "system_reset", {}, True)], ["unknown"], "prelaunch"),
        ([("dump", "dump-guest-memory", {"paging": False}, False)], ["refused"], "prelaunch"),
        ([("mirror", "blockdev-mirror", {"job-id": "j"}, False)], ["refused"], "prelaunch"),
    ],
)
def test_what_was_begun_is_gone_on_with_or_ended(q35, tmp_path, intents, outcomes, runstate):
    """What can be asked for again is; of several requests the last counts; what was never sent is refused, what may have been is unknown."""
    log = tmp_path / "log"
    run(left(q35, log))
    begin(log, *intents)

    async def work():
        async with VirtualMachine.adopt(log) as vm:
            async with asyncio.timeout(20):
                for operation in vm.operations.values():
                    with contextlib.suppress(OperationRefused, OutcomeUnknown):
                        await operation.settled()
            assert vm.operations == {}
            return (await vm.execute("query-status"))["status"]

    assert run(work()) == runstate
    ended = {it.body["correlation"]: it.body["outcome"] for it in LogReader(log) if it.kind == "ended"}
    assert [ended[f"c{number}"] for number in range(len(intents))] == outcomes


def test_a_resume_that_is_undone_at_once(q35, tmp_path):
    """A paused VM is adopted, whose guest may have slept for all that is known; resumed and paused in one breath, both were done."""

    async def work():
        vm = await VirtualMachine.launch(q35, log=tmp_path / "log")
        await vm.resume()
        await vm.pause()
        vm.leave()
        vm = await VirtualMachine.adopt(tmp_path / "log")
        resumed, paused = vm.resume(), vm.pause()
        assert await paused == "paused"
        assert await asyncio.wait_for(resumed, 30) in ("running", "suspended", "paused")
        await vm.close()

    run(work())
