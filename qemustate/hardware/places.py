"""Places on a bus, and how a device's properties say which: PCI slots, SCSI targets, USB ports, and so on.

=========  ==============================  ============================  ==========================================
family     place                           said as                       read by QEMU in
=========  ==============================  ============================  ==========================================
pci        (slot, function)                ``addr`` "1f.2"               hw/core/qdev-properties-system.c, hexadecimal
scsi       (channel, target, unit)         ``scsi-id``, ``lun``          hw/scsi/scsi-bus.c
usb        port, also behind hubs          ``port`` "1.2"                hw/usb/bus.c
serial     port number                     ``nr``                        hw/char/virtio-serial-bus.c
ide        unit                            ``unit``                      hw/ide/qdev.c
ccw        device number                   ``devno`` "fe.0.0001"         hw/s390x/css.c, hexadecimal
memory     DIMM slot                       ``slot``                      hw/mem/pc-dimm.c
cpu        the ids of a CPU slot           ``socket-id``, ``core-id`` .. query-hotpluggable-cpus
only       the only place there is         nothing                       virtio-mmio
=========  ==============================  ============================  ==========================================
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from qemustate.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from qemustate.hardware.properties import Device

#: A place on a bus; what it holds depends on the family.
Place = tuple[Any, ...]

#: Highest function of a PCI slot.
FUNCTIONS: Final = 7
#: Ports of a ``usb-hub`` (hw/usb/dev-hub.c NUM_PORTS), behind the port it is in.
HUB_PORTS: Final = 8
#: Properties that name a CPU slot (qapi/machine.json CpuInstanceProperties), widest first.
CPU_IDS: Final = (
    "node-id", "drawer-id", "book-id", "socket-id", "die-id", "cluster-id", "module-id", "core-id", "thread-id",
)  # fmt: skip


class Room(msgspec.Struct, frozen=True):
    """The places of a bus: numbers from ``first`` to ``last``; ``units`` is the highest unit of each.

    ``automatic`` is the first that QEMU takes by itself, where that is not ``first``.
    """

    first: int = 0
    last: int = 31
    units: int = 0
    automatic: int | None = None


class Family(msgspec.Struct, frozen=True):
    """How places of one family are read, listed and said."""

    #: What a person calls such a place.
    noun: str
    #: The place that a device asks for, None if it leaves it open. Raises BadInput.
    read: Callable[[Device], Place | None]
    #: Every place of a room, in the order in which they are handed out.
    all: Callable[[Room], Iterator[Place]]
    #: The properties that say a place.
    say: Callable[[Place], dict[str, Any]]
    #: Whether a place exists in a room.
    within: Callable[[Place, Room], bool]


def shown(place: Place) -> str:
    """Return a place as a person reads it: PCI in hexadecimal, as everywhere."""
    if len(place) == 2 and all(isinstance(it, int) for it in place):
        return pci_address(place)
    return ":".join(str(it) for it in place)


def pci_address(place: Place) -> str:
    """Return what ``addr`` wants: slot and function in hexadecimal, the function only where it is not 0."""
    slot, function = place
    return f"{slot:x}.{function:x}" if function else f"{slot:x}"


def size(value: Any, unit: int = 1) -> int:
    """Return a size in bytes: a number counts ``unit`` bytes, as does a text that has no suffix of its own (util/cutils.c).

    Raises BadInput for a text that is no size.
    """
    if isinstance(value, int):
        return value * unit
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([bkmgtpe]?)(?:ib)?", str(value).strip(), re.IGNORECASE)
    if not found:
        raise BadInput("memory", expected="a size (4G)", seen=repr(value))
    scale = 1 << 10 * "bkmgtpe".index(found[2].lower()) if found[2] else unit
    return int(float(found[1]) * scale) if "." in found[1] else int(found[1]) * scale


def read_pci(device: Device) -> Place | None:
    """Return the slot and function of ``addr``, None without one.

    A number is refused: QEMU 7.2 reads it as a slot in hexadecimal digits, 10.0 as slot times 8 plus function. Raises BadInput
    for that, and for what is no address.
    """
    addr = device.get("addr")
    if addr is None:
        return None
    found = (
        re.fullmatch(r"(?:0x)?([0-9a-f]{1,2})(?:\.([0-7]))?", addr, re.IGNORECASE)
        if isinstance(addr, str)
        else None
    )
    if not found or int(found[1], 16) > 31:
        raise _bad(device, "addr", 'a slot up to 1f and a function up to 7, as text ("1f.7")', addr)
    return int(found[1], 16), int(found[2] or 0)


def _all_pci(room: Room) -> Iterator[Place]:
    return ((slot, 0) for slot in range(room.first, room.last + 1))


def _read_scsi(device: Device) -> Place | None:
    if "scsi-id" not in device:
        return None
    return _number(device, "channel", 0), _number(device, "scsi-id"), _number(device, "lun", 0)


def _all_scsi(room: Room) -> Iterator[Place]:
    targets = range(room.first, room.last + 1)
    return ((0, target, unit) for unit in range(room.units + 1) for target in targets)


def _say_scsi(place: Place) -> dict[str, Any]:
    channel, target, unit = place
    return ({"channel": channel} if channel else {}) | {"scsi-id": target, "lun": unit}


def _within_scsi(place: Place, room: Room) -> bool:
    channel, target, unit = place
    return bool(channel == 0 and room.first <= target <= room.last and 0 <= unit <= room.units)


def _read_usb(device: Device) -> Place | None:
    return (str(device["port"]),) if "port" in device else None


def _all_usb(room: Room) -> Iterator[Place]:
    return ((str(port),) for port in range(room.first, room.last + 1))


def _within_usb(place: Place, room: Room) -> bool:
    root = place[0].partition(".")[0]
    return root.isdecimal() and room.first <= int(root) <= room.last


def _read_cpu(device: Device) -> Place | None:
    ids = tuple((name, _number(device, name)) for name in CPU_IDS if name in device)
    return ids or None


def _read_devno(device: Device) -> Place | None:
    if "devno" not in device:
        return None
    found = re.fullmatch(r"([0-9a-f]{1,2})\.([0-3])\.([0-9a-f]{1,4})", str(device["devno"]), re.IGNORECASE)
    if not found:
        raise _bad(device, "devno", "cssid.ssid.device in hexadecimal (fe.0.0001)", device["devno"])
    return tuple(int(number, 16) for number in found.groups())


def _numbered(key: str) -> tuple[Callable[[Device], Place | None], Callable[[Place], dict[str, Any]]]:
    def read(device: Device) -> Place | None:
        # QEMU takes -1 for a slot that is left open.
        number = _number(device, key, -1)
        return None if number == -1 else (number,)

    return read, lambda place: {key: place[0]}


def _all_numbers(room: Room) -> Iterator[Place]:
    return ((number,) for number in range(room.first, room.last + 1))


def _within(place: Place, room: Room) -> bool:
    lowest = room.first if room.automatic is None else min(room.first, room.automatic)
    return bool(lowest <= place[0] <= room.last)


def _number(device: Device, key: str, otherwise: int | None = None) -> int:
    value = device.get(key, otherwise)
    if isinstance(value, str) and value.removeprefix("-").isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _bad(device, key, "a number", value)
    return value


def _bad(device: Mapping[str, Any], key: str, expected: str, seen: Any) -> BadInput:
    name = device.get("id") or device.get("driver", "")
    return BadInput(f"device {name}", key, expected=expected, seen=repr(seen))


_READ_NR, _SAY_NR = _numbered("nr")
_READ_UNIT, _SAY_UNIT = _numbered("unit")
_READ_SLOT, _SAY_SLOT = _numbered("slot")

#: Name of a family -> how its places are read and said.
FAMILIES: Final[dict[str, Family]] = {
    "pci": Family("slot", read_pci, _all_pci, lambda place: {"addr": pci_address(place)}, _within),
    "scsi": Family("target", _read_scsi, _all_scsi, _say_scsi, _within_scsi),
    "usb": Family("port", _read_usb, _all_usb, lambda place: {"port": place[0]}, _within_usb),
    "serial": Family("port", _READ_NR, _all_numbers, _SAY_NR, _within),
    "ide": Family("unit", _READ_UNIT, _all_numbers, _SAY_UNIT, _within),
    "memory": Family("slot", _READ_SLOT, _all_numbers, _SAY_SLOT, _within),
    "ccw": Family(
        "device number",
        _read_devno,
        lambda room: ((0xFE, 0, number) for number in range(room.first, room.last + 1)),
        lambda place: {"devno": f"{place[0]:x}.{place[1]:x}.{place[2]:04x}"},
        lambda place, room: bool(place[2] <= room.last),
    ),
    "cpu": Family("CPU slot", _read_cpu, lambda _: iter(()), dict, lambda _place, _room: True),
    "only": Family("place", lambda _: (0,), lambda _: iter([(0,)]), lambda _: {}, lambda *_: True),
}
