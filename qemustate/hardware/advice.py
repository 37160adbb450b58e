"""What speaks against plugging a device, said before QEMU refuses it, or takes it and no guest sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from qemustate.errors import BadInput
from qemustate.hardware.buses import CPUS, wanted
from qemustate.hardware.places import FAMILIES, Place, pci_address, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qemustate.hardware.buses import Bus
    from qemustate.hardware.occupancy import Occupancy
    from qemustate.hardware.properties import Device


class Objection(msgspec.Struct, frozen=True):
    """One thing against a device. ``refused``: it has no place like that; else it has, but it will not be as meant."""

    text: str
    refused: bool = True


def objections(topology: Occupancy, device: Device, *, cold: bool = False) -> list[Objection]:
    """Return what speaks against plugging this device as it is."""
    try:
        return list(_objections(topology, device, cold=cold))
    except BadInput as unreadable:
        return [Objection(str(unreadable))]


def full(topology: Occupancy, device: Device, family: str, *, cold: bool) -> str:
    """Return why none of the buses that a device could go on has a place for it."""
    buses = topology.candidates(device, family, cold=cold)
    if not buses:
        return _NONE.get(family, f"there is no {family} bus")
    fixed = [f"bus {bus.name} {bus.fixed}" for bus in buses if bus.fixed and not cold]
    open_ = [bus for bus in buses if cold or not bus.fixed]
    asked = [it.text for bus in open_ for it in there(topology, device, bus, cold=cold) if it.refused]
    if asked:
        return "; ".join((*fixed, *asked))
    ports = [bus for bus in open_ if bus.kind == "port"]
    others = [_full_bus(topology, bus) for bus in open_ if bus.kind != "port"]
    return "; ".join((*fixed, *_full_ports(topology, ports), *others))


#: Family -> what there is not when there is no bus of it.
_NONE: Final = {
    "cpu": "it is not known which CPU slots there are (query-hotpluggable-cpus)",
    "memory": "there are no DIMM slots (-m slots=, maxmem=)",
    "pci": "there is no PCI bus that it could go on",
}


def _full_ports(topology: Occupancy, ports: list[Bus]) -> Iterator[str]:
    if ports:
        names = ", ".join(bus.name for bus in ports)
        holders = (it.name for bus in ports for it in topology.taken(bus.name).values())
        yield f"{'ports' if len(ports) > 1 else 'port'} {names}: occupied by {', '.join(holders)}"


def _full_bus(topology: Occupancy, bus: Bus) -> str:
    taken = topology.taken(bus.name)
    count = len({place[0] for place in taken}) if bus.family == "pci" else len(taken)
    return f"bus {bus.name} has no free {FAMILIES[bus.family].noun}: {count} taken"


def _objections(topology: Occupancy, device: Device, *, cold: bool) -> Iterator[Objection]:
    if device.id and (bearer := topology.occupants.get(device.id)):
        yield Objection(f"the id {device.id} is in use by a {bearer.device.kind}")
    family = wanted(device.kind)
    if not family or not topology.buses:
        return
    if family == "memory":
        yield from _memory(topology, device)
    if family == "cpu":
        yield from _cpu(topology, device)
    if "bus" in device:
        bus = topology.named_bus(device)
        if bus is None:
            names = ", ".join(it.name for it in topology.buses.values() if it.family == family) or "none"
            yield Objection(f"there is no bus {device['bus']}; of that kind there are: {names}")
            return
        if bus.family != family:
            yield Objection(f"bus {bus.name} is {bus.family}, a {device.kind} goes on {family}")
            return
    else:
        buses = topology.candidates(device, family, cold=cold)
        bus = buses[0] if len(buses) == 1 else None
    if bus is not None:
        if bus.fixed and not cold:
            yield Objection(f"bus {bus.name} {bus.fixed}")
        yield from there(topology, device, bus, cold=cold)
    yield from _left_open(topology, device, cold=cold)


def _left_open(topology: Occupancy, device: Device, *, cold: bool) -> Iterator[Objection]:
    """Say where QEMU would do badly by itself: it looks for a bus, not for a place (system/qdev-monitor.c qbus_find_recursive())."""
    taken = topology.default_bus(device)
    if "bus" not in device and taken and taken.fixed and not cold:
        yield Objection(f"without a bus QEMU takes {taken.name}, which {taken.fixed}", refused=False)
    bus = topology.named_bus(device) or taken
    if bus and bus.kind == "bridge" and bus.room.automatic is None and "addr" not in device:
        text = f"without an addr QEMU takes slot 0 of {bus.name}, which its hotplug controller does not have"
        yield Objection(text, refused=False)


def there(topology: Occupancy, device: Device, bus: Bus, *, cold: bool) -> Iterator[Objection]:
    """Say what is against the place on a bus that a device asks for; nothing if it leaves it open. Raises BadInput."""
    wish = topology.wish(device, bus)
    if wish is None:
        return
    family, taken = FAMILIES[bus.family], topology.taken(bus.name)
    where = f"{family.noun} {shown(wish)} of {bus.name}"
    if not family.within(wish, bus.room):
        yield Objection(f"there is no {where}")
    elif bus.family == "usb" and "." in wish[0] and wish not in topology.places(bus):
        yield Objection(f"there is no {where}: no hub is in port {wish[0].rpartition('.')[0]}")
    elif bus.family == "serial" and wish == (0,) and device.kind != "virtconsole":
        yield Objection(f"{where} is kept for a virtconsole")
    elif wish in taken:
        yield Objection(f"{where} is taken by {taken[wish].name}")
    elif bus.family == "pci":
        yield from _functions(topology, device, bus, wish, cold=cold)


def _functions(
    topology: Occupancy, device: Device, bus: Bus, wish: Place, *, cold: bool
) -> Iterator[Objection]:
    """Say what is against a function beside others: hw/pci/pci.c pci_init_multifunction(), do_pci_register_device()."""
    slot, function = wish
    beside = {
        place[1]: it
        for place, it in topology.taken(bus.name).items()
        if place[0] == slot and it.place != wish
    }
    first = beside.get(0)
    address = f"slot {pci_address(wish)} of {bus.name}"
    if function == 0 and beside and device.get("multifunction") not in (True, "on"):
        yield Objection(f"{address} has other functions: function 0 needs multifunction=on")
    elif function and first and not cold:
        yield Objection(
            f"{address} comes after its function 0 ({first.name}): the guest looks only when that is plugged"
        )
    elif function and first and first.device.get("multifunction") not in (True, "on"):
        yield Objection(f"{address}: function 0 ({first.name}) has no multifunction=on")
    elif function and not first:
        yield Objection(f"{address}: no guest sees it until function 0 is plugged", refused=False)


def _memory(topology: Occupancy, device: Device) -> Iterator[Objection]:
    wanted_size = topology.sizes.get(str(device.get("memdev", "")))
    if topology.space is None or wanted_size is None:
        return
    used = sum(topology.sizes.get(str(it.device.get("memdev", "")), 0) for it in topology.occupants.values())
    if used + wanted_size > topology.space:
        yield Objection(
            f"maxmem leaves {topology.space >> 20} MiB for memory devices: {used >> 20} MiB are used, {wanted_size >> 20} MiB wanted"
        )


def _cpu(topology: Occupancy, device: Device) -> Iterator[Objection]:
    kinds = set(topology.cpus.values())
    if kinds and device.kind not in kinds:
        yield Objection(f"this machine takes CPUs of the type {', '.join(sorted(kinds))}, not {device.kind}")
    bus = topology.buses.get(CPUS)
    place = topology.wish(device, bus) if bus else None
    if place is not None and place not in topology.cpus:
        yield Objection(f"there is no CPU slot {', '.join(f'{name} {number}' for name, number in place)}")
