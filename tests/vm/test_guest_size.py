"""Memory and vCPUs of a running guest: more and less of them, and what happens when the guest won't."""

import pytest
from support.linux import bounded

from qemustate.errors import BadInput, OperationRefused, OutcomeUnknown
from qemustate.events.reader import LogReader

pytestmark = pytest.mark.usefixtures("no_leaks")

MIB = 1 << 20
VIRTIO_MEM = [
    "-object", f"memory-backend-ram,id=vmem0-memory,size={512 * MIB}",
    "-device", "virtio-mem-pci,id=vmem0,memdev=vmem0-memory",
]  # fmt: skip
BALLOON = ["-device", "virtio-balloon-pci,id=balloon0"]


async def total(shell):
    """Return what the guest thinks it has, in bytes."""
    status, said = await shell.run("grep MemTotal /proc/meminfo")
    assert not status
    return int(said.split()[1]) << 10


def test_dimms_are_plugged_taken_back_and_refused(linux):
    """Memory comes as a DIMM and goes with it; one that the guest has put to use for itself is refused by the guest, and stays."""

    async def scenario():
        async with linux.boot(memory="256,slots=4,maxmem=2G") as (vm, shell):
            before = await total(shell)
            assert await vm.set_memory(384 * MIB, deadline=120) == 384 * MIB
            online = "for block in /sys/devices/system/memory/memory*; do echo online_{} > $block/state; done; true"
            await shell.settles("ls /sys/devices/system/memory | grep -q memory3[2-9]")
            await shell.run(online.format("movable"))
            assert await total(shell) > before
            assert await vm.set_memory(256 * MIB, deadline=120) == 256 * MIB
            assert vm.state.device("dimm0") == "gone"
            assert vm.state["objects"]["dimm0-memory"]["is"] == "gone"
            with pytest.raises(BadInput, match="whole hotplugged DIMMs"):
                await vm.set_memory(128 * MIB)
            # The guest uses the next one for its kernel, and cannot give that back.
            await vm.set_memory(384 * MIB, deadline=120)
            await shell.settles("ls /sys/devices/system/memory | grep -q memory3[2-9]")
            await shell.run(online.format("kernel"))
            await shell.run(
                "mount -t tmpfs none /tmp; cat /proc/*/maps >/tmp/x; ls -lR /sys >/dev/null; true"
            )
            with pytest.raises(OperationRefused) as refused:
                await vm.set_memory(256 * MIB, deadline=120)
            assert (refused.value.by, refused.value.subject) == ("guest", "dimm0")
            assert refused.value.desc == "_OST status 130"
            assert refused.value.state["is"] == "present"
            assert vm.state["objects"]["dimm0-memory"]["is"] == "present"

    bounded(scenario)


def test_virtio_mem_and_a_balloon_follow_what_is_asked(linux):
    """A virtio-mem device is resized where there is one, a balloon gives memory back; both are done when the guest has done it."""

    async def scenario():
        async with linux.boot(
            *VIRTIO_MEM, *BALLOON, memory="256,maxmem=2G", append="memhp_default_state=online_movable"
        ) as (vm, shell):
            await shell.settles("ls -d /sys/bus/virtio/drivers/virtio_mem/virtio*")
            assert await vm.set_memory((256 + 128) * MIB, deadline=120) == (256 + 128) * MIB
            assert vm.state["memory"]["devices"]["vmem0"] == {"requested": 128 * MIB, "actual": 128 * MIB}
            with pytest.raises(BadInput, match="in steps of"):
                await vm.set_memory(256 * MIB + 1)
            assert await vm.set_memory(256 * MIB, deadline=120) == 256 * MIB
            assert await vm.balloon(200 * MIB, deadline=120) == 200 * MIB
            # A VM that stands still gives nothing, and takes it up when it goes on.
            await vm.pause()
            waiting = vm.balloon(256 * MIB, deadline=0.2)
            with pytest.raises(OutcomeUnknown, match="settled by BALLOON_CHANGE"):
                await waiting
            await vm.resume()
            assert await waiting.settled() == 256 * MIB

    bounded(scenario)


def test_vcpus_come_and_go(linux):
    """A vCPU is plugged or unplugged until there are as many as asked for, though under TCG no event names one that has gone."""

    async def scenario():
        async with linux.boot("-smp", "1,maxcpus=4") as (vm, shell):
            with pytest.raises(
                OperationRefused, match="there are 1 vCPUs, and 3 of this machine's can be plugged"
            ):
                await vm.set_vcpus(5)
            assert await vm.set_vcpus(3, deadline=120) == 3
            await shell.settles(
                "test -e /sys/devices/system/cpu/cpu2 && echo 1 > /sys/devices/system/cpu/cpu2/online"
            )
            assert await vm.set_vcpus(2, deadline=120) == 2
            await shell.settles("! test -e /sys/devices/system/cpu/cpu2")
            listed = await vm.execute("query-hotpluggable-cpus")
            assert sum("qom-path" in it for it in listed) == 2
            gone = [name for name, it in vm.state["devices"].items() if it["is"] == "gone"]
            assert len(gone) == 1
            deleted = [
                it.body["qmp"]["data"].get("device")
                for it in LogReader(linux.folder / "log")
                if it.kind == "event" and it.body["qmp"]["event"] == "DEVICE_DELETED"
            ]
            assert deleted
            assert gone[0] not in deleted
            # What is impossible is not begun; nor is what would crash this QEMU.
            with pytest.raises(
                OperationRefused, match="there are 2 vCPUs, and 1 of this machine's can be unplugged"
            ):
                await vm.set_vcpus(0)
            with pytest.raises(OperationRefused, match="without KVM"):
                await vm.set_vcpus(3)
            assert not vm.operations

    bounded(scenario)
