"""What went wrong in other layers over QEMU, each by its name, does not go wrong here.

What concerns the command line is in tests/hardware: an address in hexadecimal, descriptors joined with ``:``, two fw_cfg entries,
commas in paths.
"""

import asyncio
import os
import signal
import threading
import time

import pytest
from support.linux import bounded

from qemustate import VirtualMachine
from qemustate.errors import CommandRefused, NoPlace, OperationRefused, OutcomeUnknown
from qemustate.events.reader import LogReader
from qemustate.hardware.properties import Blockdev, Device, Object
from qemustate.vm.listening import listen
from qemustate.vm.monitor import Monitor

pytestmark = pytest.mark.usefixtures("no_leaks")


def run(scenario):
    """Run a scenario for at most a minute."""

    async def main():
        async with asyncio.timeout(60):
            return await scenario()

    return asyncio.run(main())


def rng(name, **more):
    """Return the parts of a device that needs a guest to leave."""
    source = Object({"qom-type": "rng-random", "id": f"{name}-source", "filename": "/dev/urandom"})
    return source, Device(driver="virtio-rng-pci", id=name, rng=f"{name}-source", **more)


def test_slot_reused_before_device_deleted(q35, tmp_path):
    """The port of a device that was asked to leave is nobody's until DEVICE_DELETED, and the next device's then."""

    async def scenario():
        async with VirtualMachine.launch(q35, log=tmp_path / "log") as vm:
            await vm.resume()
            await vm.plug(*rng("old"))
            unplug = vm.unplug("old", deadline=0.1)
            with pytest.raises(OutcomeUnknown):
                await unplug
            with pytest.raises(NoPlace, match="old"):
                vm.plug(*rng("new"))
            await vm.pause()  # firmware that is reset half-way may spin, and QEMU finalizes nothing then
            await vm.reset()  # which completes it
            await unplug.settled()
            assert (await vm.plug(*rng("new")))["bus"] == "rp0"

    run(scenario)


def test_a_second_device_in_one_port(q35, tmp_path):
    """A port that is named and occupied is refused before QEMU is asked, which 7.2 would take for a device that no guest sees."""

    async def scenario():
        async with VirtualMachine.launch(q35, log=tmp_path / "log") as vm:
            await vm.plug(*rng("old", bus="rp0"))
            with pytest.raises(NoPlace, match="port rp0: occupied by old"):
                vm.plug(*rng("new", bus="rp0"))
            assert await vm.advice(*rng("new", bus="rp0")) == ["port rp0: occupied by old"]
            await vm.reset()
            unplug = vm.unplug("old")
            await unplug.taken()
            with pytest.raises(NoPlace, match=r"occupied by old \(whose unplug was asked for\)"):
                vm.plug(*rng("new", bus="rp0"))
            await vm.reset()  # which completes it
            await unplug
            await vm.plug(*rng("new", bus="rp0"))

    run(scenario)


def test_duplicate_node_name_after_a_failed_plug(q35, tmp_path):
    """A plug that fails at its device leaves no node behind, so that the same one can be tried again."""
    node = Blockdev({"driver": "null-co", "read-zeroes": True, "node-name": "drive"})

    async def scenario():
        async with VirtualMachine.launch(q35, log=tmp_path / "log") as vm:
            for _ in range(2):
                with pytest.raises(OperationRefused, match="nonesuch"):
                    await vm.plug(node, Device(driver="virtio-blk-pci", id="d", drive="drive", nonesuch=1, bus="rp0"))  # fmt: skip
            await vm.plug(node, Device(driver="virtio-blk-pci", id="d", drive="drive", bus="rp0"))
            assert vm.state.node("drive") == "present"

    run(scenario)


def test_event_before_the_greeting(tmp_path, recorder):
    """An event that comes before the greeting is recorded as one, and the monitor opens all the same."""

    def serve(listener):
        connection, _ = listener.accept()
        with connection:
            connection.sendall(
                b'{"timestamp": {"seconds": 1, "microseconds": 7}, "event": "POWERDOWN"}\r\n'
                b'{"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 10}}, "capabilities": []}}\r\n'
            )
            connection.recv(4096)
            connection.sendall(b'{"return": {}, "id": "1"}\r\n')
            connection.recv(4096)

    async def scenario():
        monitor = Monitor(recorder)
        await monitor.open(tmp_path / "monitor", first=True)
        monitor.close()

    with listen(tmp_path / "monitor") as listener:
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        run(scenario)
        server.join()
    kinds = [it.kind for it in LogReader(tmp_path / "log")]
    assert kinds.index("event") < kinds.index("greeting") < kinds.index("reply")


def test_quit_against_guest_shutdown(linux):
    """When the guest powers off just before it is asked to quit, the VM has ended, as was asked: quit is done, and tells how."""

    async def scenario():
        async with linux.boot() as (vm, _):
            with vm.changes() as records:
                powerdown = vm.powerdown()
                async for record in records:
                    if record.kind == "event" and record.body["qmp"]["event"] == "SHUTDOWN":
                        break
            await vm.quit()
            await powerdown
            assert await vm.wait() == {"status": 0}

    bounded(scenario)


def test_quit_against_a_kill(q35, tmp_path):
    """When QEMU is ended by somebody else while it is asked to quit, quit is done all the same, and nothing is left."""

    async def scenario():
        async with VirtualMachine.launch(q35, log=tmp_path / "log") as vm:
            os.kill(vm.pid, signal.SIGKILL)
            await vm.quit()
            assert await vm.wait() == {"signal": 9}

    run(scenario)
    assert [it.name for it in tmp_path.iterdir()] == ["log"]


def test_reply_larger_than_64_kib(q35, tmp_path):
    """A reply of some 200 KB comes whole, is recorded whole, and the monitor goes on."""

    async def scenario():
        async with VirtualMachine.launch(q35, log=tmp_path / "log") as vm:
            schema = await vm.execute("query-qmp-schema")
            assert (await vm.execute("query-status"))["status"] == "prelaunch"
            return schema

    schema = run(scenario)
    replies = [it.body["qmp"]["return"] for it in LogReader(tmp_path / "log") if it.kind == "reply"]
    assert schema in replies
    assert len(str(schema)) > 64 * 1024


def test_device_del_that_times_out_then_completes(q35, tmp_path):
    """Who waited is told that it is not known yet; the device is gone when it is gone, with its backend, and its id is free."""

    async def scenario():
        async with VirtualMachine.launch(q35, log=tmp_path / "log") as vm:
            await vm.resume()
            await vm.plug(*rng("r", bus="rp0"))
            unplug = vm.unplug("r", deadline=0.1)
            with pytest.raises(OutcomeUnknown, match="settled by DEVICE_DELETED"):
                await unplug
            assert vm.state.device("r") == "unplugging"
            await vm.pause()  # firmware that is reset half-way may spin, and QEMU finalizes nothing then
            await vm.reset()
            await unplug.settled()
            assert (vm.state.device("r"), vm.state["objects"]["r-source"]["is"]) == ("gone", "gone")
            await vm.plug(*rng("r", bus="rp0"))
            assert vm.state["devices"]["r"]["generation"] == 2

    run(scenario)


def test_cancelled_command(q35, tmp_path):
    """A command whose caller gave up is answered all the same; the answer is nobody else's, and the state knows it."""

    async def scenario():
        async with VirtualMachine.launch(q35, log=tmp_path / "log") as vm:
            for number in range(20):
                given_up = asyncio.ensure_future(
                    vm.execute("object-add", {"qom-type": "iothread", "id": f"io{number}"})
                )
                await asyncio.sleep(0)
                given_up.cancel()
                assert (await vm.execute("query-status"))["status"] == "prelaunch"
            assert {it["is"] for it in vm.state["objects"].values()} == {"present"}
            assert len(await vm.execute("query-iothreads")) == 20

    run(scenario)


def test_timestamp_microseconds(q35, tmp_path):
    """The microseconds of an event are microseconds: its time is that of its record."""

    async def scenario():
        async with VirtualMachine.launch(q35, log=tmp_path / "log") as vm:
            for _ in range(20):
                await vm.resume()
                await vm.pause()

    run(scenario)
    events = [it for it in LogReader(tmp_path / "log") if it.kind == "event"]
    stamps = [it.body["qmp"]["timestamp"] for it in events]
    times = [it["seconds"] * 1_000_000 + it["microseconds"] for it in stamps]
    assert len(times) >= 40
    assert times == sorted(times)
    assert all(0 <= it.time - at < 60_000_000 for it, at in zip(events, times, strict=True))
    assert time.time() * 1_000_000 > times[-1]


def test_error_class_kept(q35, tmp_path):
    """A refusal has QEMU's class and words, of a command and of an operation."""

    async def scenario():
        async with VirtualMachine.launch(q35, log=tmp_path / "log") as vm:
            with pytest.raises(CommandRefused) as refused:
                await vm.execute("device_del", {"id": "nosuch"})
            assert (refused.value.error_class, refused.value.command) == ("DeviceNotFound", "device_del")
            with pytest.raises(OperationRefused) as operation:
                await vm.unplug("nosuch")
            assert (operation.value.error_class, operation.value.desc) == (
                "DeviceNotFound", "Device 'nosuch' not found",
            )  # fmt: skip

    run(scenario)
