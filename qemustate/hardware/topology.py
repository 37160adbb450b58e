"""Who occupies which place in a VM: PCI slots, SCSI targets, USB ports, CPU and memory slots; where a device can go.

A :class:`Topology` is built from what was plugged cold (:meth:`Topology.of`, :meth:`Topology.of_config`) and kept up with what happens::

    topology.place(device)      a device with its place filled in, or NoPlace that says why there is none
    topology.check(device)      what speaks against a device as it is, before QEMU says so
    topology.in_the_way(device) who is where it would go
    topology.occupy(device)     it is plugged
    topology.asked(id)          device_del was answered: frees the place if the rule of its bus says so
    topology.release(id)        it is gone: DEVICE_DELETED, or a query that settled it

Nothing is asked of QEMU here. What QEMU tells is taken with :meth:`Topology.told_cpus`, :meth:`Topology.told_memory` and
:meth:`Topology.told_pci`.
What is not modelled (ISA, HDA, ...) has no place here, and nothing is said about it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self

from qemustate.errors import NoPlace
from qemustate.hardware.advice import full, objections, there
from qemustate.hardware.buses import Bus, wanted
from qemustate.hardware.cmdline import argument
from qemustate.hardware.occupancy import Occupancy, Occupant
from qemustate.hardware.places import FAMILIES, Place
from qemustate.hardware.properties import Device, Part
from qemustate.hardware.release import PORTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from qemustate.hardware.config import Config

#: Families whose devices do not say a bus.
_NAMELESS: Final = ("memory", "cpu", "ccw")

#: A ``-device`` of these stands in for the default display (system/vl.c default_list).
_DISPLAYS: Final = frozenset(
    (
        "VGA",
        "isa-cirrus-vga",
        "isa-vga",
        "cirrus-vga",
        "qxl-vga",
        "virtio-vga",
        "ati-vga",
        "vhost-user-vga",
        "virtio-vga-gl",
        "vmware-svga",
    )
)


class Topology(Occupancy):
    """The places of one VM, and where a device can go."""

    @classmethod
    def of(
        cls,
        parts: Iterable[Part],
        *,
        machine: Mapping[str, Any] | str = "",
        memory: Mapping[str, Any] | None = None,
        acpi_off: bool = False,
        usb: bool = False,
        defaults: int = 0,
    ) -> Self:
        """Return the topology of a VM with these parts plugged cold, in the order of the command line.

        ``machine`` is ``-machine``'s type or map, ``memory`` is ``-m``'s map, ``acpi_off`` whether bridges have no ACPI hotplug,
        ``usb`` whether the machine has its own USB controllers (``-usb``), ``defaults`` how many PCI slots the
        machine's own display and network devices take.
        """
        kind = {"type": machine} if isinstance(machine, str) else machine
        topology = cls(kind, memory, acpi_off=acpi_off, usb=usb)
        root = topology.root()
        for _ in range(defaults if root else 0):
            assert root is not None
            default = Device(driver="a default device")
            topology.reserve(root.name, topology.automatic(root, default) or (), default.kind)
        for part in parts:
            topology.occupy(part, cold=True)
        return topology

    @classmethod
    def of_config(cls, config: Config) -> Self:
        """Return the topology of a command line as it starts."""
        options: dict[str, Any] = {}
        for value in config.all("machine"):
            options |= value
        memory: Mapping[str, Any] = next(iter(config.all("m")), {})
        off = [
            str(it.get("property"))
            for it in config.all("global")
            if it.get("driver") in ("ICH9-LPC", "PIIX4_PM") and it.get("value") in (False, "off")
        ]
        # Devices in JSON are made after those that are not (system/vl.c qemu_create_cli_devices()).
        devices = [part for part in config.parts() if isinstance(part, Device)]
        others = [part for part in config.parts() if not isinstance(part, Device)]
        devices.sort(key=lambda device: argument("device", device).startswith("{"))
        return cls.of(
            [*others, *devices],
            machine=options,
            memory=memory,
            acpi_off="acpi-pci-hotplug-with-bridge-support" in off,
            usb=bool(config.all("usb")) or options.get("usb") in (True, "on"),
            defaults=_defaults(config),
        )

    def place(self, device: Device, *, cold: bool = False) -> Device:
        """Return the device with bus and address filled in where it left them open.

        ``cold``: for a command line, where buses need no hotplug. Raises NoPlace, which says what is in the way,
        and BadInput for a place that cannot be read.
        """
        key = device.id or device.kind
        family = wanted(device.kind)
        if against := [it.text for it in objections(self, device, cold=cold) if it.refused]:
            raise NoPlace(key, "; ".join(against))
        if not family:
            return device
        found = self._find(device, family, cold=cold)
        if found is None:
            raise NoPlace(key, full(self, device, family, cold=cold))
        bus, place = found
        filled = Device(device)
        if family not in _NAMELESS:
            filled["bus"] = bus.name
        filled.update(FAMILIES[family].say(place))
        return self._chassis(filled)

    def check(self, device: Device, *, cold: bool = False) -> list[str]:
        """Return what speaks against plugging a device as it is, a sentence each; nothing if all is well.

        What :meth:`place` would mend is spoken of too, where QEMU by itself would not: a bus or slot left open.
        """
        found = [it.text for it in objections(self, device, cold=cold)]
        family = wanted(device.kind)
        if not found and family and self.buses and self._find(device, family, cold=cold) is None:
            found.append(full(self, device, family, cold=cold))
        return found

    def in_the_way(self, device: Device) -> list[Occupant]:
        """Return who has the place that a device asks for on the bus it names, or all of that bus where no place is free.

        Empty where it names no bus or one that is not known. Raises BadInput for a place that cannot be read.
        """
        bus = self.named_bus(device)
        if bus is None or bus.family != wanted(device.kind):
            return []
        taken, wish = self.taken(bus.name), self.wish(device, bus)
        if wish is not None:
            return [taken[wish]] if wish in taken else []
        return [] if next(self.free(bus.name), None) else list(taken.values())

    def _find(self, device: Device, family: str, *, cold: bool) -> tuple[Bus, Place] | None:
        for bus in self.candidates(device, family, cold=cold):
            if bus.fixed and not cold:
                continue
            if any(it.refused for it in there(self, device, bus, cold=cold)):
                continue
            place = self.wish(device, bus)
            if place is None and bus.family == "serial":
                place = self.automatic(bus, device)  # port 0 is free to a console only
            elif place is None:
                place = next(self.free(bus.name), None)
            if place is not None:
                return bus, place
        return None

    def _chassis(self, device: Device) -> Device:
        """Give a port or bridge a chassis of its own, without which QEMU refuses the second one."""
        key = "chassis" if device.kind in PORTS else "chassis_nr" if device.kind == "pci-bridge" else ""
        if key and key not in device:
            numbers = (it.device.get(key) for it in self.occupants.values())
            device[key] = max((number for number in numbers if isinstance(number, int)), default=0) + 1
        return device


def _defaults(config: Config) -> int:
    """Return how many PCI slots the display and network devices take that a machine has unless told otherwise."""
    cards = [nic for nic in config.all("nic") if nic.get("type") != "none"]
    cards += [nic for nic in config.all("net") if nic.get("type") == "nic"]
    defaults = not config.all("nodefaults")
    drivers = {part.kind for part in config.parts() if isinstance(part, Device)}
    network = defaults and not any(config.all(option) for option in ("nic", "net", "netdev"))
    return len(cards) + network + _has_vga(config, otherwise=defaults and not drivers & _DISPLAYS)


def _has_vga(config: Config, *, otherwise: bool) -> bool:
    models = config.all("vga")
    return models[-1] != "none" if models else otherwise
