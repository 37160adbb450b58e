"""Operations that a guest takes part in: it gives back, refuses, powers off, or says nothing."""

import asyncio

import pytest
from support.linux import NATIVE, bounded

from qemustate.errors import OperationRefused, OutcomeUnknown
from qemustate.events.reader import LogReader
from qemustate.hardware.properties import Blockdev, Device

pytestmark = pytest.mark.usefixtures("no_leaks")

PORTS = [
    "-device", "pcie-root-port,id=rp0,chassis=1,slot=1",
    "-device", "pcie-root-port,id=rp1,chassis=2,slot=2",
]  # fmt: skip
NULL = {"driver": "null-co", "read-zeroes": True, "size": 1 << 20}


def disk(name, bus):
    """Return the parts of a virtio disk."""
    return (
        Blockdev(NULL, **{"node-name": f"{name}-node"}),
        Device(driver="virtio-blk-pci", id=name, drive=f"{name}-node", bus=bus),
    )


def told(log):
    """Return what a log says of a VM's end, in order: QEMU's events, the stream's end, the process's."""
    names = {"POWERDOWN", "SHUTDOWN"}
    found = []
    for record in LogReader(log):
        if record.kind == "event" and record.body["qmp"]["event"] in names:
            found.append((record.body["qmp"]["event"], record.body["qmp"].get("data", {}).get("reason")))
        elif record.kind in ("lost", "exited"):
            found.append((record.kind, record.body.get("why", record.body.get("status"))))
    return found


@pytest.mark.parametrize("bus", [[], NATIVE], ids=["acpi", "native"])
def test_a_disk_behind_a_root_port_comes_and_goes(linux, bus):
    """The guest sees a disk that was plugged and gives it back when asked; nothing of it is left, and its id and port can be used again."""

    async def scenario():
        async with linux.boot(*bus, *PORTS) as (vm, shell):
            # At the same time: they do not wait for one another.
            await asyncio.gather(
                vm.plug(*disk("d0", "rp0"), deadline=30), vm.plug(*disk("d1", "rp1"), deadline=30)
            )
            await shell.settles("test -e /sys/block/vda && test -e /sys/block/vdb")
            await vm.unplug("d0", deadline=120)
            assert (vm.state.device("d0"), vm.state.node("d0-node")) == ("gone", "gone")
            assert vm.state.device("d1") == "present"
            await vm.plug(*disk("d0", "rp0"), deadline=30)
            await shell.settles("test -e /sys/block/vda && test -e /sys/block/vdb")
            assert vm.state["devices"]["d0"]["generation"] == 2
            # The guest turns a slot's power off by itself: nobody asked, and it is gone all the same.
            await shell.run(
                "address=$(basename $(readlink -f /sys/block/vdb/device/..)); for slot in /sys/bus/pci/slots/*; do"
                ' [ "$(cat $slot/address)" = "${address%.*}" ] && echo 0 > $slot/power; done'
            )
            await vm.until(lambda state: "gone" in (state.device("d0"), state.device("d1")))

    bounded(scenario)


def test_a_guest_that_knows_no_hotplug_is_waited_for_and_refuses_nothing(linux):
    """An unplug without an answer is unknown, then still owned; a second request repeats it, and a reset completes it."""

    async def scenario():
        async with linux.boot(*PORTS, append="acpiphp.disable=1") as (vm, _):
            await vm.plug(*disk("d0", "rp0"))
            pending = vm.unplug("d0", deadline=0.5)
            with pytest.raises(OutcomeUnknown, match="a reset would complete it"):
                await pending
            assert vm.unplug("d0").how == "repeated"
            await vm.reset()
            await pending.settled()
            assert (vm.state.device("d0"), vm.state.node("d0-node")) == ("gone", "gone")

    bounded(scenario)


def test_a_guest_powers_off_when_asked(linux):
    """POWERDOWN is the request, SHUTDOWN the guest's, then the monitor's stream and the process end: four facts."""

    async def scenario():
        async with linux.boot() as (vm, _):
            await vm.powerdown(deadline=120)
            assert vm.state.process == "exited"
            assert await vm.wait() == {"status": 0}

    bounded(scenario)
    assert told(linux.folder / "log") == [
        ("POWERDOWN", None), ("SHUTDOWN", "guest-shutdown"), ("lost", "end of stream"), ("exited", 0),
    ]  # fmt: skip


def test_with_no_shutdown_the_vm_stays_behind_its_guest(linux):
    """With -no-shutdown a powerdown is done in run state `shutdown`, QEMU still answers, and goes when told to."""

    async def scenario():
        async with linux.boot("-no-shutdown") as (vm, _):
            await vm.powerdown(deadline=120)
            assert (vm.state.process, vm.state.runstate) == ("running", "shutdown")
            with pytest.raises(OperationRefused) as refused:
                await vm.resume()
            assert refused.value.command == "cont"
            await vm.quit()

    bounded(scenario)
    ends = told(linux.folder / "log")
    assert ends[:2] == [("POWERDOWN", None), ("SHUTDOWN", "guest-shutdown")]
    assert ends[-2:] == [("lost", "end of stream"), ("exited", 0)]


def test_firmware_does_not_hear_the_power_button(linux):
    """A powerdown that nobody answers is unknown after its deadline and stays open; quit ends the VM, and with it the powerdown."""

    async def scenario():
        async with linux.launch() as vm:
            await vm.resume()
            powerdown = vm.powerdown(deadline=0.3)
            with pytest.raises(OutcomeUnknown, match="settled by SHUTDOWN, which the guest may never send"):
                await powerdown
            assert [it["intent"] for it in vm.state["intents"]] == ["powerdown"]
            await vm.quit()
            await powerdown.settled()

    bounded(scenario)
    assert told(linux.folder / "log")[:2] == [("POWERDOWN", None), ("SHUTDOWN", "host-qmp-quit")]


def test_pause_resume_and_reset(linux):
    """Each is done when it is so, asked twice or not; a reset of a paused VM leaves it to be resumed."""

    async def scenario():
        async with linux.launch() as vm:
            assert await vm.resume() == "running"
            assert await vm.resume() == "running"
            assert await vm.pause() == "paused"
            assert await vm.pause() == "paused"
            await vm.reset()
            assert vm.state.runstate == "prelaunch"
            assert await vm.resume() == "running"
            await vm.reset()
            assert vm.state.runstate == "running"
            assert (await vm.execute("query-status"))["status"] == "running"

    bounded(scenario)
