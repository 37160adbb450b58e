"""How much the guest has: memory and vCPUs, made more or less by plugging and unplugging what the machine can.

Each step is an operation of its own in the log; what these methods await is their sequence.
"""

from __future__ import annotations

from typing import Any

from qemustate.errors import BadInput, CommandRefused, OperationRefused
from qemustate.hardware.hotplug import Step
from qemustate.hardware.properties import Device, Object
from qemustate.vm.verbs import Verbs

_PERIPHERAL = "/machine/peripheral/"


class Resizing(Verbs):
    """The operations of a VM, and the sequences of them that resize it."""

    async def set_memory(self, size: int, *, deadline: float | None = None) -> int:
        """Give the guest ``size`` bytes of memory in all; return what it has then.

        A virtio-mem device is resized, where there is one. Otherwise a DIMM is plugged for what is missing, and
        hotplugged DIMMs are unplugged whose sizes make up what is too much. ``deadline`` is that of each step.
        Raises what plug and unplug raise, and BadInput where no step leads there.
        """
        return await _set_memory(self, size, deadline)

    async def set_vcpus(self, count: int, *, deadline: float | None = None) -> int:
        """Give the guest ``count`` vCPUs: plug where ``query-hotpluggable-cpus`` has places, or unplug hotplugged ones, last first.

        Raises what plug and unplug raise, and OperationRefused, with nothing done, where the places do not come to that
        number, or one was unplugged before and there is no KVM: QEMU crashes then, at the next (7.2) or when there have been more
        than ``maxcpus`` (``tcg/tcg.c`` tcg_register_thread()).
        """
        vm = self._recorder.vm
        left = any(
            cell.driver.endswith("-cpu") and not vm.may_be("device", name)
            for name, cell in vm.devices.items()
        )
        return await _set_vcpus(self, count, deadline, left=left)


async def _set_memory(vm: Verbs, wanted: int, deadline: float | None) -> int:
    told = await vm.execute("query-memory-size-summary")
    now: int = told["base-memory"] + told.get("plugged-memory", 0)
    devices = await vm.execute("query-memory-devices")
    virtio = [it["data"] for it in devices if it["type"] == "virtio-mem"]
    if virtio:
        # What is in DIMMs stays; the rest is the virtio-mem device's.
        target = virtio[0]["size"] + wanted - now
        await _virtio_mem(vm, virtio[0], target, wanted, deadline)
    elif wanted > now:
        await _more(vm, wanted - now, devices, deadline)
    elif wanted < now:
        await _less(vm, now - wanted, devices, deadline)
    told = await vm.execute("query-memory-size-summary")
    total: int = told["base-memory"] + told.get("plugged-memory", 0)
    return total


async def _virtio_mem(
    vm: Verbs, device: dict[str, Any], target: int, wanted: int, deadline: float | None
) -> None:
    block = device["block-size"]
    if target < 0 or target > device["max-size"] or target % block:
        raise BadInput(
            "set_memory",
            expected=f"a size that leaves virtio-mem 0 to {device['max-size']} bytes in steps of {block}",
            seen=f"{wanted}, which leaves it {target}",
        )
    name = str(device["id"])
    path = f"{_PERIPHERAL}{name}"
    step = Step("qom-set", {"path": path, "property": "requested-size", "value": target})
    await vm.begin("resize", step, subject=name, arguments={"bytes": target}, deadline=deadline)


async def _more(vm: Verbs, size: int, devices: list[dict[str, Any]], deadline: float | None) -> None:
    taken = {str(it["data"].get("id")) for it in devices}
    number = next(n for n in range(len(taken) + 1) if f"dimm{n}" not in taken)
    memory = Object({"qom-type": "memory-backend-ram", "id": f"dimm{number}-memory", "size": size})
    await vm.plug(memory, Device(driver="pc-dimm", id=f"dimm{number}", memdev=memory.id), deadline=deadline)


async def _less(vm: Verbs, size: int, devices: list[dict[str, Any]], deadline: float | None) -> None:
    dimms = [it["data"] for it in devices if it["type"] == "dimm" and it["data"].get("hotplugged")]
    chosen = []
    for dimm in reversed(dimms):
        if dimm["size"] <= size:
            chosen.append(dimm["id"])
            size -= dimm["size"]
    if size:
        sizes = ", ".join(str(dimm["size"]) for dimm in dimms) or "none"
        raise BadInput(
            "set_memory",
            expected="a size that whole hotplugged DIMMs can be taken away to reach",
            seen=f"DIMMs of {sizes} bytes",
        )
    for name in chosen:
        await vm.unplug(name, deadline=deadline)


async def _set_vcpus(vm: Verbs, wanted: int, deadline: float | None, *, left: bool) -> int:
    """Give the guest ``wanted`` vCPUs; ``left`` says whether one has been unplugged."""
    try:
        entries = await vm.execute("query-hotpluggable-cpus")
    except (
        CommandRefused
    ):  # by a machine that has no places for vCPUs, as microvm (hw/core/machine-qmp-cmds.c)
        entries = []
    present = [it for it in entries if "qom-path" in it]
    now: int = (
        sum(it["vcpus-count"] for it in present) if entries else len(await vm.execute("query-cpus-fast"))
    )
    if wanted > now:
        # QEMU lists them from the last to the first.
        free = [it for it in reversed(entries) if "qom-path" not in it]
        if left and not (await vm.execute("query-kvm"))["enabled"]:
            desc = "without KVM, QEMU crashes when a vCPU is plugged after one was unplugged"
            raise OperationRefused("set_vcpus", "", by="us", desc=desc)
        for entry in _making_up(wanted - now, free, wanted, now):
            await vm.plug(_vcpu(entry), deadline=deadline)
    else:
        hotplugged = [it for it in present if it["qom-path"].startswith(_PERIPHERAL)]
        for entry in _making_up(now - wanted, hotplugged, wanted, now):
            await vm.unplug(entry["qom-path"].removeprefix(_PERIPHERAL), deadline=deadline)
    return wanted


def _vcpu(entry: dict[str, Any]) -> Device:
    place = "-".join(str(value) for _, value in sorted(entry["props"].items()))
    return Device({"driver": entry["type"], "id": f"vcpu-{place}", **entry["props"]})


def _making_up(missing: int, entries: list[dict[str, Any]], wanted: int, now: int) -> list[dict[str, Any]]:
    """Return the first entries that hold as many vCPUs as are missing. Raises OperationRefused."""
    chosen = []
    for entry in entries:
        if entry["vcpus-count"] <= missing:
            chosen.append(entry)
            missing -= entry["vcpus-count"]
    if missing:
        can = sum(it["vcpus-count"] for it in entries)
        desc = f"there are {now} vCPUs, and {can} of this machine's can be {'plugged' if wanted > now else 'unplugged'}"
        raise OperationRefused("set_vcpus", "", by="us", desc=desc)
    return chosen
