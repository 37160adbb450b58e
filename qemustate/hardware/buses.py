"""Which buses a machine and its devices provide, and which family of bus a driver goes on.

What machines occupy themselves was seen with ``query-pci`` and ``info qtree`` on QEMU 7.2 and 10.0 (x86), and read in
``hw/arm/virt.c``, ``hw/ppc/spapr_pci.c`` and ``hw/s390x/css-bridge.c`` for those that were not at hand.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from qemustate.hardware.places import Place, Room
from qemustate.hardware.release import BRIDGES, PORTS, is_pc

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qemustate.hardware.properties import Device

_T = TypeVar("_T")

#: What a driver's name says about the bus it goes on; the first that matches counts. Others are PCI.
_WANTS: Final = tuple(
    (re.compile(pattern), family)
    for pattern, family in (
        (r"scsi-(hd|cd|block|generic|disk)$", "scsi"),
        (r"(virtserialport|virtconsole)$", "serial"),
        (r".*-cpu(-core)?$", "cpu"),
        (r"(pc-dimm|nvdimm)$", "memory"),
        (r"usb-(?!ehci$|uhci$|ohci$|xhci$)|u2f-", "usb"),
        (r"ide-(hd|cd|cf)$", "ide"),
        (r".*-ccw$", "ccw"),
        (
            r"(virtio|vhost)-.*-device$|vhost-(scsi|user-blk|user-scsi|user-input|user-rng|user-gpu)$|virtio-(mem|pmem)$",
            "only",
        ),
        # ISA, HDA, smart cards, NVMe namespaces and what has no bus: nothing to pick.
        (
            (
                r"isa-|hda-|ccid-|i2c-|smbus-|ipmi-|hv-|hyperv-|spapr-|nvme-(ns|subsys)$|sd-card$|floppy$|loader$|guest-loader$"
                r"|(intel|amd)-iommu$|vmcoreinfo$|vmgenid$|pvpanic$|tpm-(tis|crb)|ramfb$|sga$|ib700$|i8042$|vmmouse$|vmbus-"
                r"|ne2k_isa$|adlib$|cs4231a$|gus$|sb16$|ipoctal232$|mc146818rtc$|pc-testdev$|vfio-ap$|.*-device$|generic-|ufs-lu$|uefi-vars-"
            ),
            "",
        ),
    )
)


def wanted(driver: str) -> str:
    """Return the family of bus that a driver goes on, empty where there is no place to pick."""
    return next((family for pattern, family in _WANTS if pattern.match(driver)), "pci")


class Bus(msgspec.Struct, frozen=True):
    """A bus: its name, its kind, who provides it (a device's id or key, empty: the machine), and its places.

    Kinds: ``root``, ``port``, ``switch``, ``bridge``, ``pxb`` (all PCI), ``scsi``, ``usb``, ``serial``, ``ide``, ``ccw``,
    ``memory``, ``cpu``, ``only``. ``fixed`` says why nothing can be hotplugged, empty where it can.
    """

    name: str
    kind: str
    room: Room
    provider: str = ""
    fixed: str = ""

    @property
    def family(self) -> str:
        """The family of its places."""
        return "pci" if self.kind in PCI else self.kind


#: Kinds of PCI bus, in the order in which a hotplugged device is put on them.
PCI: Final = ("port", "root", "bridge", "switch", "pxb")
#: Drivers that only go below others, or on the root: what is plugged cold to plug more into.
PLUMBING: Final = (*PORTS, *BRIDGES, "x3130-upstream", "pxb", "pxb-pcie", "pxb-cxl", "cxl-rp")

#: Names of ours for what is no bus to QEMU.
DIMMS: Final = "DIMM slots"
CPUS: Final = "CPU slots"

#: Why nothing can be plugged into a bus, in QEMU's words.
NOT_HOT: Final = "does not support hotplugging"

#: SCSI controller -> places on its bus (``max_target``, ``max_lun`` of hw/scsi/*.c); a host's own target is left out.
_SCSI: Final = {
    "virtio-scsi": Room(0, 255, 16383),
    "lsi53c": Room(0, 6),
    "pvscsi": Room(0, 63),
    "megasas": Room(0, 63, 255),
    "mptsas1068": Room(0, 7, 1),
    "am53c974": Room(0, 6, 7),
    "dc390": Room(0, 6, 7),
    "usb-bot": Room(0, 0, 15),
    "usb-uas": Room(0, 0, 255),
    "spapr-vscsi": Room(0, 63, 31),
}

#: USB controller -> its number of ports, and the properties that change it.
_USB: Final = {
    "qemu-xhci": (4, ("p2", "p3")),
    "nec-usb-xhci": (4, ("p2", "p3")),
    "usb-ehci": (6, ()),
    "ich9-usb-ehci": (6, ()),
    "ich9-usb-uhci": (2, ()),
    "piix3-usb-uhci": (2, ()),
    "piix4-usb-uhci": (2, ()),
    "pci-ohci": (3, ("num-ports",)),
}


def provided(device: Device, key: str, *, acpi: bool, cold: bool) -> list[Bus]:
    """Return the buses that a device provides.

    ``key`` is its id. ``acpi``: the machine has ACPI hotplug on bridges; only those that were there at the start get it.
    """
    driver = device.kind
    if driver in PLUMBING:
        return _pci_bus(device, key, acpi=acpi and cold)
    if room := _prefixed(_SCSI, driver):
        return [Bus(f"{key}.0", "scsi", room, key)]
    if found := _prefixed(_USB, driver):
        if "masterbus" in device:
            return []
        number, keys = found
        number = max((_int(device.get(name), number) for name in keys), default=number)
        return [Bus(f"{key}.0", "usb", Room(1, number), key)]
    if driver.startswith("virtio-serial-"):
        # Port 0 is kept for a console.
        return [Bus(f"{key}.0", "serial", Room(1, _int(device.get("max_ports"), 31) - 1, automatic=0), key)]
    if driver in ("ich9-ahci", "ahci"):
        return [Bus(f"{key}.{port}", "ide", Room(0, 0), key, fixed=NOT_HOT) for port in range(6)]
    return []


def _pci_bus(device: Device, key: str, *, acpi: bool) -> list[Bus]:
    driver = device.kind
    off = device.get("hotplug") in (False, "off")
    if driver in PORTS or driver == "cxl-rp":
        return [Bus(key, "port", Room(0, 0), key, fixed=f"{NOT_HOT} (hotplug=off)" if off else "")]
    if driver == "x3130-upstream":
        return [Bus(key, "switch", Room(0, 31), key, fixed="" if acpi else NOT_HOT)]
    if driver.startswith("pxb"):
        return [Bus(key, "pxb", Room(0, 31), key, fixed=NOT_HOT)]
    # A standard hotplug controller has no slot 0; all bridges but i82801b11 have one unless told not to.
    shpc = driver != "i82801b11-bridge" and device.get("shpc") not in (False, "off")
    hot = acpi or shpc
    room = Room(1, 31, automatic=None if shpc and not acpi else 0)
    return [Bus(key, "bridge", room, key, fixed="" if hot else NOT_HOT)]


def machine_buses(
    machine_type: str, options: Mapping[str, Any], *, usb: bool = False
) -> tuple[list[Bus], dict[str, list[Place]]]:
    """Return the buses of a machine itself, and the places its own devices occupy: bus -> places.

    ``options`` are ``-machine``'s. A machine that is not known has none: nothing is said about it then.
    """
    buses: list[Bus] = []
    taken: dict[str, list[Place]] = {}
    if "q35" in machine_type:
        buses.append(Bus("pcie.0", "root", Room(1, 31, automatic=0), fixed=NOT_HOT))
        taken["pcie.0"] = [(0, 0), (31, 0), (31, 2), (31, 3)]
        buses += (Bus(f"ide.{port}", "ide", Room(0, 0), fixed=NOT_HOT) for port in range(6))
        if usb:
            taken["pcie.0"] += [(29, 0), (29, 1), (29, 2), (29, 7)]
            buses.append(Bus("usb-bus.0", "usb", Room(1, 6)))
    elif is_pc(machine_type):
        fixed = f"{NOT_HOT} (acpi=off)" if no_acpi(options) else ""
        buses.append(Bus("pci.0", "root", Room(1, 31, automatic=0), fixed=fixed))
        taken["pci.0"] = [(0, 0), (1, 0), (1, 1), (1, 3)]
        buses += (Bus(f"ide.{port}", "ide", Room(0, 1), fixed=NOT_HOT) for port in range(2))
        if usb:
            taken["pci.0"].append((1, 2))
            buses.append(Bus("usb-bus.0", "usb", Room(1, 2)))
    elif machine_type == "microvm" or machine_type.startswith("virt"):
        if machine_type != "microvm" or options.get("pcie") in (True, "on"):
            buses.append(Bus("pcie.0", "root", Room(1, 31, automatic=0), fixed=NOT_HOT))
            taken["pcie.0"] = [(0, 0)]
        count = 24 if machine_type == "microvm" else 32
        buses += (Bus(f"virtio-mmio-bus.{n}", "only", Room(0, 0), fixed=NOT_HOT) for n in range(count))
    elif machine_type.startswith("pseries"):
        buses.append(Bus("pci.0", "root", Room(0, 31)))
    elif machine_type.startswith("s390"):
        buses.append(Bus("virtual-css", "ccw", Room(0, 0xFFFF)))
        buses.append(Bus("pci.0", "root", Room(0, 31)))
    return buses, taken


def no_acpi(options: Mapping[str, Any]) -> bool:
    """Tell whether ``-machine`` says acpi=off: without ACPI there are no DIMMs on x86, and no hotplug on pc's root."""
    return options.get("acpi") in (False, "off", "no", "n", "false")


def preferred(driver: str, *, cold: bool) -> tuple[str, ...]:
    """Return the kinds of PCI bus on which a device is put unasked, best first."""
    if driver == "xio3130-downstream":
        return ("switch",)
    if driver == "x3130-upstream":
        return ("port",)
    if cold:
        return ("root",) if driver in PLUMBING else ("root", "bridge", "port")
    if driver == "pci-bridge":
        return ("root", "bridge")
    return ("port", "root", "bridge")


def _prefixed(table: Mapping[str, _T], driver: str) -> _T | None:
    return next((value for prefix, value in table.items() if driver.startswith(prefix)), None)


def _int(value: Any, otherwise: int) -> int:
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    return value if isinstance(value, int) else otherwise
