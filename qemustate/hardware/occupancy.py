"""Who is in which place of a VM: the facts that :class:`qemustate.hardware.topology.Topology` answers from.

What is not modelled (ISA, HDA, ...) is known by its id and has no place.
"""

from __future__ import annotations

import contextlib
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import msgspec

from qemustate.errors import BadInput
from qemustate.hardware.buses import (
    CPUS,
    DIMMS,
    NOT_HOT,
    Bus,
    machine_buses,
    no_acpi,
    preferred,
    provided,
    wanted,
)
from qemustate.hardware.places import (
    CPU_IDS,
    FAMILIES,
    FUNCTIONS,
    HUB_PORTS,
    Place,
    Room,
    pci_address,
    shown,
    size,
)
from qemustate.hardware.properties import Device, Object, Part
from qemustate.hardware.release import Policy, is_pc, kind, narrow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_MIB: Final = 1 << 20
#: The highest slot of any PCI bus.
_SLOTS: Final = 31

#: Kind of bus -> what QEMU calls one without an id.
_AUTOMATIC: Final = {
    "port": "pcie",
    "switch": "pcie",
    "bridge": "pci",
    "usb": "usb-bus",
    "serial": "virtio-serial-bus",
}


class Occupant(msgspec.Struct):
    """A device in its place. ``key`` is its id, or a name of ours for what has none; ``leaving``: its unplug was asked for."""

    key: str
    device: Device
    bus: str
    place: Place | None
    cold: bool
    leaving: bool = False

    @property
    def name(self) -> str:
        """What a person calls it."""
        who = self.device.id or self.device.kind
        return f"{who} (whose unplug was asked for)" if self.leaving else who


class Occupancy:
    """The places of one VM and who is in them. Arguments as of :meth:`qemustate.hardware.topology.Topology.of`."""

    def __init__(
        self,
        machine: Mapping[str, Any],
        memory: Mapping[str, Any] | None = None,
        *,
        acpi_off: bool = False,
        usb: bool = False,
    ) -> None:
        """Make the topology of a machine with nothing plugged."""
        self.machine_type = str(machine.get("type", ""))
        self.acpi_off = acpi_off or (is_pc(self.machine_type) and no_acpi(machine))
        buses, taken = machine_buses(self.machine_type, machine, usb=usb)
        #: Bus name -> bus, in the order of creation.
        self.buses = {bus.name: bus for bus in buses}
        #: Key -> occupant, in the order of plugging.
        self.occupants: dict[str, Occupant] = {}
        for bus, places in taken.items():
            for place in places:
                self.reserve(bus, place, self.machine_type or "the machine")
        sizes = {name: size((memory or {}).get(name, 0), _MIB) for name in ("size", "maxmem")}
        #: Bytes there are for memory devices, None where the command line is not known to say.
        self.space = max(sizes["maxmem"] - sizes["size"], 0) if memory else None
        if slots := int((memory or {}).get("slots", 0)):
            fixed = f"{NOT_HOT} (acpi=off)" if no_acpi(machine) else ""
            self.buses[DIMMS] = Bus(DIMMS, "memory", Room(0, slots - 1), fixed=fixed)
        #: Memory backend -> its size in bytes.
        self.sizes: dict[str, int] = {}
        #: The buses of devices that have gone, in the order in which they went.
        self.left: list[str] = []
        #: CPU slot -> its CPU type, as told by query-hotpluggable-cpus.
        self.cpus: dict[Place, str] = {}

    # --- facts

    def occupy(self, part: Part, *, cold: bool = False) -> str:
        """Take note that a part was plugged, and return the key it goes by: its id, or a name of ours.

        Without a bus or address, it is where QEMU puts it by itself; with one that cannot be read, nowhere. Backends of
        memory are kept for their size, other backends have no place.
        """
        if isinstance(part, Object) and part.kind.startswith("memory-backend"):
            self.sizes[part.id] = size(part.get("size", 0))
        if not isinstance(part, Device):
            return part.id
        device = Device(part)
        if cold and isinstance(device.get("addr"), int):
            # On a command line a number can only come from JSON, and is slot times 8 plus function there.
            device["addr"] = pci_address(divmod(device["addr"], FUNCTIONS + 1))
        key = device.id or self._key(device)
        bus = self.named_bus(device) if "bus" in device else self.default_bus(device)
        place = None
        if bus:
            with contextlib.suppress(BadInput):
                place = self.wish(device, bus)
                place = self.automatic(bus, device) if place is None else place
        self.occupants[key] = Occupant(
            key, device, bus.name if bus else str(device.get("bus", "")), place, cold
        )
        acpi = not self.acpi_off and kind("pci", self.machine_type) == "acpi"
        for new in provided(device, key, acpi=acpi, cold=cold):
            name = new.name if device.id else self._number(new)
            # Buses of devices without an id are numbered, and a number may name the root bus: that one is found first.
            self.buses.setdefault(name, msgspec.structs.replace(new, name=name))
        return key

    def asked(self, key: str) -> None:
        """Take note that ``device_del`` was answered: the place is free at once if the rule of its bus says so."""
        if self.policy(key).place == "device_del":
            self.release(key)
        elif occupant := self.occupants.get(key):
            occupant.leaving = True

    def release(self, key: str) -> None:
        """Take note that a device is gone, with all that is on its buses; one not known is nothing."""
        gone = self.occupants.pop(key, None)
        if gone is None:
            return
        self.left = [*(bus for bus in self.left if bus != gone.bus), gone.bus]
        for bus in [bus for bus in self.buses.values() if bus.provider == key]:
            del self.buses[bus.name]
            for child in [it.key for it in self.occupants.values() if it.bus == bus.name]:
                self.release(child)

    def reset(self) -> None:
        """Take note of a reset: where it makes QEMU forget an unplug, nothing is on its way out any more."""
        for key, occupant in self.occupants.items():
            if occupant.leaving and self.policy(key).reset == "forgets":
                occupant.leaving = False

    def told_cpus(self, cpus: Sequence[Mapping[str, Any]]) -> None:
        """Take what ``query-hotpluggable-cpus`` returned."""
        self.cpus = {}
        self.buses[CPUS] = Bus(CPUS, "cpu", Room())
        for slot in reversed(cpus):
            place = tuple((name, slot["props"][name]) for name in CPU_IDS if name in slot["props"])
            self.cpus[place] = str(slot["type"])
            path = str(slot.get("qom-path", ""))
            key = path.removeprefix("/machine/peripheral/")
            known = self.occupants.get(key)
            if known:
                known.bus, known.place = CPUS, place
            elif path:
                self.reserve(CPUS, place, key)

    def told_memory(self, devices: Sequence[Mapping[str, Any]]) -> None:
        """Take what ``query-memory-devices`` returned: sizes, and which slots DIMMs are in."""
        for told in devices:
            data = told["data"]
            key = str(data.get("id", data.get("memaddr", "")))
            memdev = str(data.get("memdev", "")).rpartition("/")[2]
            self.sizes[memdev] = int(data.get("max-size", data.get("size", 0)))
            kind = {"dimm": "pc-dimm", "nvdimm": "nvdimm"}.get(told["type"], "")
            place = (data["slot"],) if kind else None
            if known := self.occupants.get(key):
                known.place = place if kind else known.place
                known.device.setdefault("memdev", memdev)
            else:
                device = Device(driver=kind or str(told["type"]), id=key, memdev=memdev)
                self.occupants[key] = Occupant(key, device, DIMMS if kind else "", place, cold=False)

    def told_pci(self, buses: Sequence[Mapping[str, Any]]) -> None:
        """Take what ``query-pci`` returned: devices not known yet get an occupant, those known are where it says.

        Below bridges it tells of devices only once firmware has numbered the buses.
        """
        root = self.root()
        for bus in buses:
            name = root if bus["bus"] == 0 else self._numbered(bus["bus"])
            if name:
                self._told(name.name, bus.get("devices", ()))

    # --- questions

    def policy(self, key: str) -> Policy:
        """Return the rule by which a device is released; of one that is not known, that of a device nobody knows."""
        occupant = self.occupants.get(key)
        driver = occupant.device.kind if occupant else ""
        provider = self.buses[occupant.bus].provider if occupant and occupant.bus in self.buses else ""
        parent = self.occupants[provider].device.kind if provider in self.occupants else ""
        return narrow(driver, self.machine_type, parent, acpi_off=self.acpi_off)

    def taken(self, bus: str) -> dict[Place, Occupant]:
        """Return the places of a bus that are taken, and by whom."""
        return {it.place: it for it in self.occupants.values() if it.bus == bus and it.place is not None}

    def free(self, bus: str) -> Iterator[Place]:
        """Yield the places of a bus that could be handed out, in order: of PCI, slots with no function in use."""
        known, taken = self.buses[bus], self.taken(bus)
        used = {place[0] for place in taken} if known.family == "pci" else set()
        return (place for place in self.places(known) if place not in taken and place[0] not in used)

    def places(self, bus: Bus) -> Iterator[Place]:
        """Yield every place of a bus, taken or not, in the order in which they are handed out."""
        if bus.family == "cpu":
            return iter(sorted(self.cpus))
        return chain(FAMILIES[bus.family].all(bus.room), self._behind_hubs(bus))

    def named_bus(self, device: Device) -> Bus | None:
        """Return the bus that a device names, None if it names none or it is not known."""
        return self.buses.get(str(device.get("bus", "")).rpartition("/")[2])

    def candidates(self, device: Device, family: str, *, cold: bool = False) -> list[Bus]:
        """Return the buses that a device may go on by itself, best first; where it names one, that one if it is known.

        Of the ports it is the one that has been empty for longest: a guest that is told of an unplug and of a plug behind
        another port at once may eject twice, and the second hits who is in the port by then (hw/acpi/pcihp.c).
        """
        if "bus" in device:
            named = self.named_bus(device)
            return [named] if named else []
        buses = [bus for bus in self.buses.values() if bus.family == family]
        if family != "pci":
            return buses
        kinds = preferred(device.kind, cold=cold)
        left = {name: order for order, name in enumerate(self.left)}
        usable = [bus for bus in buses if bus.kind in kinds]
        return sorted(usable, key=lambda bus: (kinds.index(bus.kind), left.get(bus.name, -1)))

    def wish(self, device: Device, bus: Bus) -> Place | None:
        """Return the place on a bus that a device asks for, completed where QEMU completes it; None if it leaves it open.

        Raises BadInput for one that cannot be read.
        """
        place = FAMILIES[bus.family].read(device)
        if place is None:
            return None
        if bus.family == "scsi" and "lun" not in device:
            taken = self.taken(bus.name)
            units = ((*place[:2], unit) for unit in range(bus.room.units + 1))
            return next((it for it in units if it not in taken), place)
        if bus.family == "cpu":
            return next((slot for slot in self.cpus if set(place) <= set(slot)), place)
        return place

    # --- how

    def reserve(self, bus: str, place: Place, who: str) -> None:
        """Take note that something without an id is in a place."""
        key = f"{bus}/{shown(place)}"
        self.occupants[key] = Occupant(key, Device(driver=who), bus, place, cold=True)

    def automatic(self, bus: Bus, device: Device) -> Place | None:
        """Return the place that QEMU takes for a device that asks for none."""
        first = bus.room.first if bus.room.automatic is None else bus.room.automatic
        if bus.family == "serial" and device.kind != "virtconsole":
            first = bus.room.first
        taken = self.taken(bus.name)
        if bus.family in ("usb", "cpu"):
            return next(self.free(bus.name), None)
        # QEMU 7.2 puts a second device into slot 1 of a port, where no guest finds it; 10.0 refuses it (hw/pci/pci.c do_pci_register_device()).
        last = _SLOTS if bus.kind == "port" else bus.room.last
        room = msgspec.structs.replace(bus.room, first=first, last=last)
        return next((place for place in FAMILIES[bus.family].all(room) if place not in taken), None)

    def _behind_hubs(self, bus: Bus) -> Iterator[Place]:
        for place, it in self.taken(bus.name).items():
            if it.device.kind == "usb-hub":
                ports = int(it.device.get("ports", HUB_PORTS))
                yield from ((f"{place[0]}.{port}",) for port in range(1, ports + 1))

    def default_bus(self, device: Device) -> Bus | None:
        """Return the bus that QEMU takes for a device that names none: the newest of its family, a root before what is below."""
        family = wanted(device.kind)
        buses = [bus for bus in reversed(self.buses.values()) if bus.family == family]
        if family == "pci":
            newest = next((bus for bus in buses if bus.kind == "pxb"), None)
            return newest or next((bus for bus in buses if bus.kind == "root"), None)
        if family == "only":
            return next((bus for bus in buses if not self.taken(bus.name)), None)
        return next(iter(buses), None) if family != "ide" else None

    def root(self) -> Bus | None:
        """Return the root PCI bus of the machine."""
        return next((bus for bus in self.buses.values() if bus.kind == "root"), None)

    def _told(self, bus: str, devices: Sequence[Mapping[str, Any]]) -> None:
        for device in devices:
            place = (device["slot"], device["function"])
            known = self.occupants.get(device["qdev_id"])
            if known:
                known.bus, known.place = bus, place
            elif place not in self.taken(bus):
                self.reserve(bus, place, device["class_info"].get("desc", "a PCI device"))
            if "pci_bridge" in device and device["qdev_id"] in self.buses:
                self._told(device["qdev_id"], device["pci_bridge"].get("devices", ()))

    def _numbered(self, number: int) -> Bus | None:
        """Return the root bus of a pxb with this number."""
        return next(
            (
                bus
                for bus in self.buses.values()
                if bus.kind == "pxb" and self.occupants[bus.provider].device.get("bus_nr") == number
            ),
            None,
        )

    def _key(self, device: Device) -> str:
        same = sum(1 for it in self.occupants.values() if it.device.kind == device.kind)
        return f"{device.kind}/{same}"

    def _number(self, bus: Bus) -> str:
        """Return the name of a bus whose device has no id: QEMU numbers those of a kind."""
        prefix = _AUTOMATIC.get(bus.kind, bus.kind)
        explicit = "pcie.0" if prefix == "pcie" else ""
        count = sum(
            1
            for name in self.buses
            if name.rpartition(".")[0] == prefix and name.rpartition(".")[2].isdecimal() and name != explicit
        )
        return f"{prefix}.{count}"
