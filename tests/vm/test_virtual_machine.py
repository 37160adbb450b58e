"""A VM in the hands of a runtime: what it asks for is done, refused with the reason, or unknown with what would tell."""

import asyncio
import os
import signal
import socket
import subprocess

import pytest

from qemustate import VirtualMachine
from qemustate.errors import (
    BadInput,
    CommandRefused,
    LaunchFailed,
    LogBusy,
    NoPlace,
    OperationRefused,
    OutcomeUnknown,
    QemuGone,
    RecordingFailed,
)
from qemustate.events.reader import LogReader
from qemustate.hardware.properties import Blockdev, Device, Object
from qemustate.vm import operations, sending, virtual_machine
from qemustate.vm.helpers import Helper

pytestmark = pytest.mark.usefixtures("no_leaks")

SCSI = ["-device", "virtio-scsi-pci,id=scsi0"]
NATIVE = ["-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"]
#: A disk without a file, for plugs that need no data.
NULL = {"driver": "null-co", "read-zeroes": True}


def disk(name, bus="scsi0.0"):
    """Return the parts of a SCSI disk."""
    place = {} if bus is None else {"bus": bus}
    return (
        Blockdev(NULL, **{"node-name": f"{name}-node"}),
        Device(driver="scsi-hd", id=name, drive=f"{name}-node", **place),
    )


def run(scenario, *args):
    """Run a scenario for at most a minute."""

    async def main():
        async with asyncio.timeout(60):
            return await scenario(*args)

    return asyncio.run(main())


def reap(pid):
    """Wait for a child that is nobody's any more."""
    return os.waitpid(pid, 0)[1]


def intents(log):
    """Return (intent, subject, outcome) of every intent that has ended, in that order."""
    return [
        (it.body["intent"], it.body["subject"], it.body["outcome"])
        for it in LogReader(log)
        if it.kind == "ended"
    ]


@pytest.fixture
def argv(q35):
    """Return the command line of a PC with a SCSI bus and a native root port."""
    return [*q35, *SCSI, *NATIVE]


def test_plug_and_unplug_leave_nothing(argv, tmp_path):
    """A disk is there when plug returns, and it and its node are gone when unplug returns."""

    async def scenario():
        async with VirtualMachine.launch(argv, log=tmp_path / "log") as vm:
            told = await vm.plug(*disk("d0"))
            assert (told["is"], told["driver"]) == ("present", "scsi-hd")
            assert (vm.state.device("d0"), vm.state.node("d0-node")) == ("present", "present")
            await vm.unplug("d0")
            assert (vm.state.device("d0"), vm.state.node("d0-node")) == ("gone", "gone")
            assert await vm.execute("query-named-block-nodes") == []
        return vm.state

    state = run(scenario)
    assert state["process"]["exit"] == {"status": 0}
    assert intents(tmp_path / "log") == [
        ("plug", "d0", "done"),
        ("unplug", "d0", "done"),
        ("quit", "", "done"),
    ]
    assert sorted(it.name for it in tmp_path.iterdir()) == ["log"]


def test_a_refused_step_takes_back_those_before_it(argv, tmp_path):
    """A device that QEMU refuses leaves no node behind, and the refusal keeps class, desc, command and state."""

    async def scenario():
        async with VirtualMachine.launch(argv, log=tmp_path / "log") as vm:
            node, device = disk("d0", bus="nobus")
            with pytest.raises(OperationRefused) as refused:
                await vm.plug(node, device)
            assert (refused.value.by, refused.value.error_class) == ("qemu", "GenericError")
            assert refused.value.desc == "Bus 'nobus' not found"
            assert (refused.value.command, refused.value.arguments["id"]) == ("device_add", "d0")
            assert refused.value.state["is"] == "gone"
            assert await vm.execute("query-named-block-nodes") == []
            await vm.plug(*disk("d0"))

    run(scenario)


def test_a_silent_guest_holds_up_only_its_own_device(q35, tmp_path):
    """An unplug that the guest does not answer is unknown after its deadline, stays open, and others go on meanwhile."""

    async def scenario():
        async with VirtualMachine.launch([*q35, *SCSI], log=tmp_path / "log") as vm:
            await vm.resume()
            await vm.plug(Object({"qom-type": "rng-random", "id": "r", "filename": "/dev/urandom"}),
                          Device(driver="virtio-rng-pci", id="rng", rng="r", bus="rp0"))  # fmt: skip
            pending = vm.unplug("rng", deadline=0.2, correlation="mine")
            await vm.plug(*disk("d0"))
            await vm.unplug("d0")
            with pytest.raises(OutcomeUnknown, match="settled by DEVICE_DELETED"):
                await pending
            assert not pending.ended
            assert list(vm.operations) == ["mine"]
            assert vm.state.device("rng") == "unplugging"
            assert [(it["intent"], it["overdue"]) for it in vm.state["intents"]] == [("unplug", True)]
            # Asked again, the same operation is waited for, with a deadline of its own.
            again, hasty = vm.unplug("rng"), vm.unplug("rng", deadline=0.05)
            assert (again.id, again.how) == ("mine", "repeated")
            with pytest.raises(OutcomeUnknown, match=r"0\.05 s"):
                await hasty
            await vm.pause()  # firmware that is reset half-way may spin, and QEMU finalizes nothing then
            # With ACPI a reset completes what is pending.
            await vm.reset()
            await again
            await pending.settled()
            assert vm.state.device("rng") == "gone"
            assert vm.state["objects"]["r"]["is"] == "gone"

    run(scenario)


#: Buses whose slots have power of their own to switch, by what provides them: the port's or bridge's driver, and where a device goes.
POWERED = {
    "pcie": (["-device", "pcie-root-port,id=slots"], {"bus": "slots"}),
    "shpc": (["-device", "pcie-pci-bridge,id=slots"], {"bus": "slots", "addr": "1"}),
}


def in_a_slot(bus, qemu):
    """Return a command line with such a bus, and the parts of a device on it."""
    argv, place = POWERED[bus]
    return (
        [qemu.binary, *qemu.args, "-machine", "q35,accel=tcg", "-S", "-display", "none", "-nodefaults", *NATIVE, *argv],
        (
            Object({"qom-type": "rng-random", "id": "source", "filename": "/dev/urandom"}),
            Device(driver="virtio-rng-pci", id="rng", rng="source", **place),
        ),
    )  # fmt: skip


@pytest.mark.parametrize("bus", POWERED)
def test_a_reset_brings_back_no_device_that_has_left(qemu, tmp_path, bus):
    """A slot that no guest has powered is emptied at once: a reset before DEVICE_DELETED undoes nothing, and the backend goes too."""
    argv, parts = in_a_slot(bus, qemu)

    async def scenario(log):
        async with VirtualMachine.launch(argv, log=log) as vm:
            await vm.resume()
            await vm.plug(*parts)
            unplug, reset = vm.unplug("rng"), vm.reset()
            await reset
            await vm.pause()  # firmware that is reset half-way may spin, and QEMU finalizes nothing then
            await unplug
            assert vm.state.device("rng") == "gone"
            assert vm.state["objects"]["source"]["is"] == "gone"
            assert "source" not in [it["name"] for it in await vm.execute("qom-list", {"path": "/objects"})]

    def reset_came_first(log):
        run(scenario, log)
        events = [it.body["qmp"]["event"] for it in LogReader(log) if it.kind == "event"]
        return next(it for it in events if it in ("RESET", "DEVICE_DELETED")) == "RESET"

    assert any(reset_came_first(tmp_path / str(number)) for number in range(5))


@pytest.mark.parametrize("bus", POWERED)
def test_an_unplug_that_a_reset_made_qemu_forget_is_refused(qemu, tmp_path, bus):
    """A device in a slot with power waits for its guest; a reset takes the request back, and device and backend stay."""
    argv, parts = in_a_slot(bus, qemu)

    async def scenario():
        async with VirtualMachine.launch(argv, log=tmp_path / "log") as vm:
            await vm.plug(*parts)
            await vm.reset()  # which gives power to a slot that is not empty
            unplug = vm.unplug("rng")
            await unplug.taken()
            await vm.reset()
            with pytest.raises(OperationRefused, match="a reset made QEMU forget"):
                await unplug
            assert vm.state.device("rng") == "present"
            assert vm.state["objects"]["source"]["is"] == "present"

    run(scenario)


def test_the_same_plug_twice_is_one(argv, tmp_path):
    """A second plug of the same parts joins the first; another one under the same id is refused before anything is sent."""

    async def scenario():
        async with VirtualMachine.launch(argv, log=tmp_path / "log") as vm:
            first = vm.plug(*disk("d0"))
            second = vm.plug(*disk("d0"))
            assert (first.how, second.how, second.id) == ("asked", "joined", first.id)
            with pytest.raises(BadInput, match="no other plug of that id under way"):
                vm.plug(Device(driver="scsi-cd", id="d0", bus="scsi0.0"))
            assert await first == await second

    run(scenario)
    assert intents(tmp_path / "log")[0] == ("plug", "d0", "done")


#: What asking for the same unplug twice comes to, by the command line and the parts of a device.
ASKED_TWICE = {
    "acpi": ("repeated", [], [Device(driver="virtio-rng-pci", id="x", bus="rp0")]),
    # A port is powered by the reset at launch; a device that is plugged later would go at once.
    "pcie": ("joined", [*NATIVE, "-device", "virtio-rng-pci,id=x,bus=rp0"], []),
    "dimm": (
        "joined",
        ["-m", "128M,slots=1,maxmem=1G"],
        [
            Object({"qom-type": "memory-backend-ram", "id": "m", "size": 128 << 20}),
            Device(driver="pc-dimm", id="x", memdev="m"),
        ],
    ),
}


@pytest.mark.parametrize("bus", ASKED_TWICE)
def test_a_second_request_does_what_its_bus_bears(q35, tmp_path, bus):
    """An unplug under way is asked for once more where that does no harm, else both wait for the first; either is told which."""
    how, more, parts = ASKED_TWICE[bus]

    async def scenario():
        async with VirtualMachine.launch([*q35, *more], log=tmp_path / "log") as vm:
            if parts:
                await vm.plug(*parts)
            await vm.resume()
            first = vm.unplug("x", deadline=60)
            await first.taken()
            second = vm.unplug("x", deadline=60)
            assert (first.how, second.how, second.id) == ("asked", how, first.id)
            await vm.execute("query-name")  # behind whatever was sent
        for it in (first, second):
            with pytest.raises(OutcomeUnknown, match="QEMU has ended"):
                await it

    run(scenario)
    sent = [it.body["qmp"]["execute"] for it in LogReader(tmp_path / "log") if it.kind == "command"]
    assert sent.count("device_del") == (2 if how == "repeated" else 1)


def test_who_waits_is_told_when_the_vm_is_let_go_of(q35, tmp_path):
    """An operation that is under way when its VM is let go of is unknown here, and goes on with whoever adopts it."""

    async def scenario():
        vm = await VirtualMachine.launch([*q35, *SCSI], log=tmp_path / "log")
        await vm.resume()
        await vm.plug(Device(driver="virtio-rng-pci", id="rng", bus="rp0", rng="r"),
                      Object({"qom-type": "rng-random", "id": "r", "filename": "/dev/urandom"}))  # fmt: skip
        pending = vm.unplug("rng", deadline=60)
        await vm.until(lambda state: state.device("rng") == "unplugging")
        vm.leave()
        with pytest.raises(OutcomeUnknown, match="nobody here looks after the VM"):
            await pending
        async with VirtualMachine.adopt(tmp_path / "log") as again:
            assert [it.subject for it in again.operations.values()] == ["rng"]

    run(scenario)


def test_a_verb_waits_for_its_job(argv, tmp_path):
    """A job is cancelled though QEMU has not heard of it yet; who waits for it to be ready is told that it will not be."""

    async def scenario():
        async with VirtualMachine.launch(argv, log=tmp_path / "log") as vm:
            for name in ("a", "b"):
                await vm.execute("blockdev-add", {**NULL, "size": 1 << 20, "node-name": name})
            job = vm.mirror("a", "b", speed=1)
            await job.cancel(force=True)
            assert job.ended
            assert await vm.execute("query-jobs") == []
            with pytest.raises(OperationRefused, match="nonesuch"):
                await vm.mirror("nonesuch", "b").ready()

    run(scenario)


def test_an_unplug_waits_for_the_plug_before_it(argv, tmp_path):
    """A device whose plug is under way is unplugged with all that the plug brings."""

    async def scenario():
        async with VirtualMachine.launch(argv, log=tmp_path / "log") as vm:
            plug, unplug = vm.plug(*disk("d0")), vm.unplug("d0")
            await asyncio.gather(plug, unplug)
            assert await vm.execute("query-named-block-nodes") == []

    run(scenario)


def test_what_is_undone_at_once_was_done(argv, tmp_path):
    """Opposite requests in one breath are each done, whatever the next has made of it when somebody looks."""

    async def scenario():
        async with VirtualMachine.launch(argv, log=tmp_path / "log") as vm:
            for _ in range(5):
                asked = [vm.resume(), vm.pause(), vm.resume(), vm.pause(), vm.resume()]
                await asyncio.wait_for(asyncio.gather(*asked), 20)

    run(scenario)


def test_a_vm_is_let_go_of_while_its_monitor_is_opened_again(argv, tmp_path):
    """Whenever a VM is let go of after its monitor broke, nothing of ours is left that would hold the monitor."""

    async def scenario():
        vm = await VirtualMachine.launch(argv, log=tmp_path / "log")
        for pause in (0, 0.049, 0.05, 0.051, 0.06):
            vm._session.monitor._client._socket.shutdown(socket.SHUT_RDWR)
            await asyncio.sleep(pause)
            vm.leave()
            vm = await VirtualMachine.adopt(tmp_path / "log", timeout=10)
        await vm.close()

    run(scenario)


def test_what_went_by_itself_leaves_what_it_brought_to_its_unplug(argv, tmp_path):
    """A device that somebody else has unplugged is no mistake: the unplug takes away what the plug brought besides."""

    async def scenario():
        async with VirtualMachine.launch(argv, log=tmp_path / "log") as vm:
            await vm.plug(*disk("d0"))
            await vm.execute("device_del", {"id": "d0"})
            await vm.until(lambda state: state.device("d0") == "gone")
            await vm.unplug("d0")
            assert vm.state.node("d0-node") == "gone"
            assert await vm.execute("query-named-block-nodes") == []

    run(scenario)


def test_what_an_unplug_cannot_remove_is_named(argv, tmp_path, monkeypatch):
    """A node that somebody has put another on stays when its disk goes: the unplug is refused and says which command would remove it."""
    monkeypatch.setattr(sending, "_PATIENCE", 0.1)

    async def scenario():
        async with VirtualMachine.launch(argv, log=tmp_path / "log") as vm:
            await vm.plug(*disk("d0"))
            await vm.execute("blockdev-add", {"driver": "raw", "file": "d0-node", "node-name": "other"})
            with pytest.raises(OperationRefused, match="could not be removed") as refused:
                await vm.unplug("d0")
            assert [*refused.value.left] == [("blockdev-del", {"node-name": "d0-node"})]
            assert (vm.state.device("d0"), vm.state.node("d0-node")) == ("gone", "present")

    run(scenario)


def test_the_last_size_that_was_asked_for_counts(argv, tmp_path):
    """A balloon that no guest moves: asked for another size, the first request is refused, and the second stays open."""

    async def scenario():
        balloon = ["-device", "virtio-balloon-pci,id=balloon0"]
        async with VirtualMachine.launch([*argv, *balloon], log=tmp_path / "log") as vm:
            first = vm.balloon(64 << 20)
            await first.taken()
            second = vm.balloon(96 << 20, deadline=0.2)
            with pytest.raises(
                OperationRefused, match=f"another size has been asked for since: {96 << 20}"
            ) as refused:
                await first
            assert refused.value.by == "us"
            with pytest.raises(OutcomeUnknown):
                await second
            assert list(vm.operations) == [second.id]

    run(scenario)


def test_requests_that_cannot_be(argv, tmp_path):
    """A correlation that is in use, and a plug of nothing, are refused at once; a job that is never ready says so."""

    async def scenario():
        async with VirtualMachine.launch(argv, log=tmp_path / "log") as vm:
            vm.powerdown(correlation="mine")
            with pytest.raises(BadInput, match="one that is not in use"):
                vm.pause(correlation="mine")
            with pytest.raises(BadInput, match="at least one part"):
                vm.plug()
            for name in ("a", "b"):
                await vm.execute("blockdev-add", {**NULL, "size": 1 << 20, "node-name": name})
            with pytest.raises(OperationRefused, match="it ended before it was ready"):
                await vm.backup("a", "b").ready()

    run(scenario)


def test_cancelling_who_waits_cancels_nothing_else(argv, tmp_path):
    """The plug is done though nobody waits for it any more."""

    async def scenario():
        async with VirtualMachine.launch(argv, log=tmp_path / "log") as vm:
            operation = vm.plug(*disk("d0"))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(operation, 0)
            await operation.settled()
            assert vm.state.device("d0") == "present"

    run(scenario)


def test_the_four_ends_are_four_facts(argv, tmp_path):
    """Kill, quit: the process's end, with its status or signal, is what is waited for; operations under way end as unknown."""

    async def scenario():
        vm = await VirtualMachine.launch(argv, log=tmp_path / "log")
        await vm.resume()
        await vm.plug(Device(driver="virtio-rng-pci", id="rng", bus="rp0", rng="r"),
                      Object({"qom-type": "rng-random", "id": "r", "filename": "/dev/urandom"}))  # fmt: skip
        pending = vm.unplug("rng")
        await vm.kill()
        with pytest.raises(OutcomeUnknown, match="QEMU has ended"):
            await pending
        with pytest.raises(QemuGone, match="signal 9"):
            await vm.until(lambda state: state.runstate == "paused")
        await vm.close()
        return await vm.wait()

    assert run(scenario) == {"signal": 9}
    kinds = [it.kind for it in LogReader(tmp_path / "log")]
    assert kinds.index("lost") < kinds.index("exited")


def test_callbacks_may_ask(argv, tmp_path):
    """Callbacks fire when a state is entered, and a command from inside one is answered."""
    seen = []

    async def scenario():
        async with VirtualMachine.launch(argv, log=tmp_path / "log") as vm:

            class Listener:
                def on_enter_running(self):
                    seen.append("running")

                async def on_enter_gone(self, name):
                    seen.append((name, (await vm.execute("query-status"))["status"]))

            vm.listen("runstate", Listener())
            vm.listen("device", Listener())
            await vm.resume()
            await vm.plug(*disk("d0"))
            await vm.unplug("d0")
            await vm.until(lambda _state: ("d0", "running") in seen)

    run(scenario)
    assert seen[0] == "running"


def test_callbacks_are_told_of_doubt_until_they_end(argv, tmp_path):
    """A state that is left, one that is no longer certain, and one that is certain again; nothing after who listens has had enough."""
    seen = []

    class Listener:
        def on_exit_running(self):
            seen.append("left running")

        def on_uncertain(self):
            seen.append("uncertain")

        def on_enter_running(self):
            seen.append("running")

    async def scenario():
        async with VirtualMachine.launch(argv, log=tmp_path / "log") as vm:
            await vm.resume()
            end = vm.listen("runstate", Listener())
            vm._session.monitor.close()
            await vm.until(lambda state: state.runstate is None)
            await vm.until(lambda state: state.runstate == "running")
            await asyncio.sleep(0)
            end()
            await vm.pause()

    run(scenario)
    assert (seen[0], seen[-1]) == ("left running", "running")
    assert "uncertain" in seen
    assert seen.count("running") == 1


def test_what_qemu_says_to_nobody_is_kept(argv, tmp_path):
    """Its standard error can be read while it runs, and is in the log when it has ended."""

    async def scenario():
        async with VirtualMachine.launch([*argv, "-trace", "runstate_set"], log=tmp_path / "log") as vm:
            await vm.resume()
            while "runstate_set" not in vm.stderr():  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.01)

    run(scenario)
    notes = [it.body["text"] for it in LogReader(tmp_path / "log") if it.kind == "note"]
    assert len(notes) == 1
    assert notes[0].startswith("QEMU's standard error: ")
    assert "runstate_set" in notes[0]


def test_left_and_adopted(argv, tmp_path):
    """A VM that was let go of is adopted from its log: the state is what QEMU says, and it can be used and ended."""

    async def scenario():
        vm = await VirtualMachine.launch(argv, log=tmp_path / "log")
        await vm.plug(*disk("d0"))
        await vm.resume()
        with pytest.raises(LogBusy):
            await VirtualMachine.adopt(tmp_path / "log")
        vm.leave()
        async with VirtualMachine.adopt(tmp_path / "log") as again:
            assert again.pid == vm.pid
            assert (again.state.runstate, again.state.device("d0"), again.state.node("d0-node")) == (
                "running", "present", "present",
            )  # fmt: skip
            await again.unplug("d0")
            assert await again.execute("query-named-block-nodes") == []
        # It was still a child of ours.
        assert again.state["process"]["exit"] == {"status": 0}
        with pytest.raises(QemuGone):
            await VirtualMachine.adopt(tmp_path / "log")

    run(scenario)
    assert sorted(it.name for it in tmp_path.iterdir()) == ["log"]


def test_a_monitor_that_is_lost_is_opened_again(argv, tmp_path):
    """When our connection breaks and QEMU lives, it is opened again and asked; what was begun meanwhile is done."""

    async def scenario():
        async with VirtualMachine.launch(argv, log=tmp_path / "log") as vm:
            await vm.plug(*disk("d0"))
            vm._session.monitor.close()
            await vm.unplug("d0")
            assert (vm.state.device("d0"), vm.state.node("d0-node")) == ("gone", "gone")

    run(scenario)
    assert sum(it.kind == "opened" for it in LogReader(tmp_path / "log")) == 2


def test_a_connection_that_has_just_been_lost_is_none(argv, tmp_path):
    """Who asks whether the monitor is there in the very moment of its loss waits for the next connection."""

    async def scenario():
        async with VirtualMachine.launch(argv, log=tmp_path / "log") as vm:
            vm._session.monitor.close()
            await vm._link.back()
            assert await vm.execute("query-name") == {}

    run(scenario)


def test_a_connection_that_is_lost_as_it_comes_back_is_none(argv, tmp_path, monkeypatch):
    """Who waited for the monitor goes on waiting where it is lost again before they have had their turn."""

    async def scenario():
        async with VirtualMachine.launch(argv, log=tmp_path / "log") as vm:
            monitor, ready = vm._session.monitor, vm._link._ready
            cuts = [monitor.close]

            def set_and_cut():
                asyncio.Event.set(ready)
                if cuts:
                    asyncio.get_running_loop().call_soon(cuts.pop())

            monkeypatch.setattr(ready, "set", set_and_cut)
            monitor.close()
            await vm._link.back()
            assert monitor.connected
            assert not cuts

    run(scenario)


def test_helpers_live_and_die_with_the_vm(argv, tmp_path):
    """A helper is up before QEMU starts, found again by who adopts the VM, and ended with it; its socket goes too."""
    socket = tmp_path / "helper.sock"
    code = f"import socket, time; s = socket.socket(socket.AF_UNIX); s.bind({str(socket)!r}); s.listen(); time.sleep(1000)"
    helper = Helper("helper", ("python3", "-c", code), str(socket))

    async def scenario():
        vm = await VirtualMachine.launch(argv, log=tmp_path / "log", helpers=[helper])
        pid = next(it for it in LogReader(tmp_path / "log") if it.kind == "helper").body["pid"]
        assert socket.is_socket()
        vm.leave()
        again = await VirtualMachine.adopt(tmp_path / "log")
        await again.close()
        assert not socket.exists()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    run(scenario)
    told = [it.body for it in LogReader(tmp_path / "log") if it.kind == "helper"]
    assert told[-1] == {"name": "helper", "signal": signal.SIGTERM}


def test_a_failed_launch_leaves_nothing(qemu, tmp_path):
    """QEMU's own words are in the error, and neither socket nor folder stays."""
    with pytest.raises(LaunchFailed, match="unsupported machine type"):
        run(
            VirtualMachine._launch,
            [qemu.binary, *qemu.args, "-M", "nonesuch"],
            tmp_path / "log",
            None,
            None,
            (),
            5,
        )
    assert [it.name for it in tmp_path.iterdir()] == ["log"]


def test_a_second_launch_into_the_log_of_a_running_vm_is_refused(argv, tmp_path):
    """The log of a VM that may run is for adopting, not for launching another."""

    async def scenario():
        vm = await VirtualMachine.launch(argv, log=tmp_path / "log")
        vm.leave()
        with pytest.raises(BadInput, match="one that may run: adopt it"):
            await VirtualMachine.launch(argv, log=tmp_path / "log")
        await (await VirtualMachine.adopt(tmp_path / "log")).close()

    run(scenario)


def test_a_qemu_that_ended_unseen_is_recorded_when_it_is_looked_for(argv, tmp_path):
    """Who comes to adopt a QEMU that is gone is told so, and the log says that nobody saw how it ended."""

    async def scenario():
        vm = await VirtualMachine.launch(argv, log=tmp_path / "log")
        vm.leave()
        os.kill(vm.pid, signal.SIGKILL)
        reap(vm.pid)
        with pytest.raises(QemuGone, match="nobody saw how"):
            await VirtualMachine.adopt(tmp_path / "log")

    run(scenario)
    assert next(it for it in LogReader(tmp_path / "log") if it.kind == "exited").body == {}


def test_a_mirror_pivots_when_it_is_completed(argv, qemu, tmp_path):
    """A mirror becomes ready, is completed, ends as done, and is dismissed; one that is cancelled by force is refused."""
    for name in ("a", "b"):
        subprocess.run([qemu.img, "create", "-q", "-f", "raw", tmp_path / name, "1M"], check=True)

    async def scenario():
        async with VirtualMachine.launch(argv, log=tmp_path / "log") as vm:
            for name in ("a", "b"):
                await vm.execute(
                    "blockdev-add", {"driver": "file", "node-name": name, "filename": str(tmp_path / name)}
                )
            job = vm.mirror("a", "b")
            await job.ready()
            assert job.status == "ready"
            await job.complete()
            assert await vm.execute("query-jobs") == []
            other = vm.mirror("a", "b", speed=1)
            await vm.until(lambda state: state.job(other.subject) in ("running", "ready"))
            await other.cancel(force=True)
            with pytest.raises(OperationRefused, match="canceled"):
                await other

    run(scenario)


def test_any_command_and_its_refusal(argv, tmp_path):
    """What has no method of its own is executed by name; a descriptor is handed over by name or in a set."""
    null = os.open("/dev/null", os.O_RDONLY)

    async def scenario():
        async with VirtualMachine.launch(argv, log=tmp_path / "log") as vm:
            with pytest.raises(CommandRefused, match="CommandNotFound"):
                await vm.execute("nonesuch")
            await vm.getfd("one", null)
            path = await vm.add_fd(null)
            assert path.startswith("/dev/fdset/")
            await vm.execute("closefd", {"fdname": "one"})
            assert vm.state["fds"]["one"]["is"] == "gone"

    run(scenario)
    os.close(null)


def test_devices_find_their_places(qemu, tmp_path):
    """A device that names no bus goes to a free port, never to one whose device is not gone; when all are taken, the error says so."""
    ports = [
        word
        for number in range(2)
        for word in ("-device", f"pcie-root-port,id=rp{number},chassis={number},slot={number}")
    ]
    argv = [
        qemu.binary,
        *qemu.args,
        "-machine",
        "q35,accel=tcg",
        "-S",
        "-display",
        "none",
        "-nodefaults",
        *ports,
        *SCSI,
    ]

    def rng(name):
        return (
            Object({"qom-type": "rng-random", "id": f"{name}-source", "filename": "/dev/urandom"}),
            Device(driver="virtio-rng-pci", id=name, rng=f"{name}-source"),
        )

    async def scenario():
        async with VirtualMachine.launch(argv, log=tmp_path / "log") as vm:
            await asyncio.gather(vm.plug(*rng("r0")), vm.plug(*rng("r1")))
            assert {vm.state["devices"][name]["bus"] for name in ("r0", "r1")} == {"rp0", "rp1"}
            with pytest.raises(NoPlace, match="r2"):
                vm.plug(*rng("r2"))
            occupied, misspelt = Device(driver="virtio-rng-pci", id="r2"), Device(driver="scsi-hd", lunn=0)
            assert [it for it in await vm.advice(occupied) if "occupied by" in it]
            assert [it for it in await vm.advice(misspelt) if "lunn" in it and "lun" in it]
            assert await vm.advice(*disk("d0", bus=None)) == []
            await vm.resume()
            unplug = vm.unplug("r0", deadline=0.1)
            with pytest.raises(OutcomeUnknown):
                await unplug  # no guest answers
            with pytest.raises(NoPlace):
                vm.plug(*rng("r2"))
            await vm.pause()  # firmware that is reset half-way may spin, and QEMU finalizes nothing then
            await vm.reset()  # which completes it
            await unplug.settled()
            told = await vm.plug(*rng("r2"))
            assert told["bus"] == "rp0"
            disks = [vm.plug(*disk(f"d{number}", bus=None)) for number in range(3)]
            for it in disks:
                await it
            assert {vm.state["devices"][f"d{number}"]["bus"] for number in range(3)} == {"scsi0.0"}

    run(scenario)


def test_an_unplug_ends_when_its_place_is_free(q35, tmp_path, monkeypatch):
    """However late the event that frees the port, who waited for the unplug can plug the next device there."""
    monkeypatch.setattr(operations, "_MOMENT", 0)

    async def scenario():
        async with VirtualMachine.launch(q35, log=tmp_path / "log") as vm:
            for number in range(5):
                await vm.plug(Device(driver="virtio-rng-pci", id=f"r{number}"))
                unplug = vm.unplug(f"r{number}")
                await unplug.taken()
                await vm.reset()  # which completes it
                await unplug

    run(scenario)


def test_a_guest_that_spins_holds_back_what_has_left(argv, tmp_path):
    """Under TCG a vCPU that never stops keeps QEMU from letting go of a device: the unplug stays open, and ends when the vCPU stops."""
    firmware = bytearray(64 << 10)
    firmware[-16:-13] = b"\xfa\xeb\xfe"  # at the reset vector: cli; jmp to itself
    (tmp_path / "firmware").write_bytes(firmware)

    async def scenario():
        async with VirtualMachine.launch(
            [*argv, "-bios", str(tmp_path / "firmware")], log=tmp_path / "log"
        ) as vm:
            await vm.plug(*disk("d0"))
            await vm.resume()
            unplug = vm.unplug("d0", deadline=0.5)
            with pytest.raises(OutcomeUnknown):
                await unplug
            assert (vm.state.device("d0"), vm.state.node("d0-node")) == ("gone", "present")
            await vm.pause()
            await unplug.settled()
            assert vm.state.node("d0-node") == "gone"

    run(scenario)


def test_a_wedged_qemu(argv, tmp_path, monkeypatch):
    """A QEMU that answers nothing makes a plug unknown, and done when it goes on; closing a VM that is wedged kills it."""
    monkeypatch.setattr(virtual_machine, "_LEAVING", 0.2)

    async def scenario():
        async with VirtualMachine.launch(argv, log=tmp_path / "log", deadline=0.1) as vm:
            os.kill(vm.pid, signal.SIGSTOP)
            plug = vm.plug(*disk("d0"), deadline=0.3)
            with pytest.raises(OutcomeUnknown):
                await plug
            stalled = (await vm.until(lambda state: state["monitor"]["is"] == "stalled"))["monitor"][
                "stalled"
            ]
            assert stalled["command"] == "blockdev-add"
            os.kill(vm.pid, signal.SIGCONT)
            assert (await plug.settled())["is"] == "present"
            os.kill(vm.pid, signal.SIGSTOP)
        return vm.state

    assert run(scenario)["process"]["exit"] == {"signal": 9}


def test_a_monitor_that_another_client_holds(argv, tmp_path):
    """While somebody else has our monitor nothing is sure and nothing is lost: what was asked for is done when they leave."""

    async def scenario():
        async with VirtualMachine.launch(argv, log=tmp_path / "log", deadline=0.1) as vm:
            with socket.socket(socket.AF_UNIX) as other:
                other.connect(str(tmp_path / "log.d" / "monitor"))
                vm._session.monitor.close()
                plug = vm.plug(*disk("d0"), deadline=0.5)
                with pytest.raises(OutcomeUnknown):
                    await plug
                await vm.until(lambda state: state["monitor"]["is"] == "held")
            assert (await plug.settled())["is"] == "present"

    run(scenario)


def test_a_full_disk_leaves_the_vm_alone(argv, small_disk, filled, tmp_path):
    """Where the log cannot be written nothing that changes something is sent, looking goes on, and so does quitting."""

    async def scenario():
        async with VirtualMachine.launch(argv, log=small_disk / "log", folder=tmp_path / "run") as vm:
            await vm.plug(*disk("d0"))
            filler = filled(small_disk)
            with pytest.raises((OperationRefused, RecordingFailed), match="No space left"):
                await asyncio.gather(*(vm.plug(*disk(f"e{number}")) for number in range(50)))
            assert (await vm.execute("query-status"))["running"] is False
            filler.unlink()
            await vm.unplug("d0")
            filled(small_disk)
        return vm.state

    assert run(scenario)["process"]["exit"] == {"status": 0}
