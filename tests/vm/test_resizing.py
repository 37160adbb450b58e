"""Memory and vCPUs that a machine has no room for: said with the reason, and nothing is left of the attempt."""

import asyncio

import pytest

from qemustate import VirtualMachine
from qemustate.errors import BadInput, NoPlace, OperationRefused

pytestmark = pytest.mark.usefixtures("no_leaks")

MIB = 1 << 20


def resized(qemu, folder, scenario, *arguments):
    """Run a scenario of a VM with this machine, for at most a minute."""
    argv = [qemu.binary, *qemu.args, "-S", "-display", "none", "-nodefaults", *arguments]

    async def main():
        async with asyncio.timeout(60), VirtualMachine.launch(argv, log=folder / "log") as vm:
            await scenario(vm)
            assert not vm.operations

    asyncio.run(main())


def test_memory_beyond_the_maximum(qemu, tmp_path):
    """More than maxmem is refused by QEMU and leaves no backend; without a slot, or a DIMM of the size, nothing is asked for at all."""

    async def scenario(vm):
        with pytest.raises(OperationRefused, match="not enough space") as refused:
            await vm.set_memory(1024 * MIB)
        assert (refused.value.subject, refused.value.left) == ("dimm0", ())
        assert await vm.execute("query-memory-devices") == []
        assert vm.state["objects"]["dimm0-memory"]["is"] == "gone"
        assert await vm.set_memory(192 * MIB) == 192 * MIB
        sent = vm.state.seq
        with pytest.raises(NoPlace, match="no free slot: 1 taken"):
            await vm.set_memory(256 * MIB)
        with pytest.raises(BadInput, match=f"DIMMs of {64 * MIB} bytes"):
            await vm.set_memory(160 * MIB)
        asked = {it.body["qmp"]["execute"] async for it in between(vm, sent) if it.kind == "command"}
        assert asked <= {"query-memory-size-summary", "query-memory-devices"}

    resized(qemu, tmp_path, scenario, "-M", "q35,accel=tcg", "-m", "128M,slots=1,maxmem=256M")


async def between(vm, seq):
    """Yield the records after number ``seq``, up to now."""
    with vm.changes(seq + 1) as changes:
        while vm.state.seq > seq:
            record = await anext(changes)
            seq = record.seq
            yield record


def test_a_machine_without_slots_for_memory(qemu, tmp_path):
    """Where nothing was said of slots at launch there is no place for more memory."""

    async def scenario(vm):
        with pytest.raises(NoPlace, match="there are no DIMM slots"):
            await vm.set_memory(256 * MIB)

    resized(qemu, tmp_path, scenario, "-M", "q35,accel=tcg", "-m", "128M")


def test_a_machine_without_places_for_vcpus(qemu, tmp_path):
    """A machine that cannot be asked for places keeps the vCPUs it has: that many are had, any other number is refused."""

    async def scenario(vm):
        assert await vm.set_vcpus(2) == 2
        with pytest.raises(
            OperationRefused, match="there are 2 vCPUs, and 0 of this machine's can be plugged"
        ):
            await vm.set_vcpus(3)
        with pytest.raises(
            OperationRefused, match="there are 2 vCPUs, and 0 of this machine's can be unplugged"
        ):
            await vm.set_vcpus(1)

    resized(qemu, tmp_path, scenario, "-M", "microvm,accel=tcg", "-smp", "2")
