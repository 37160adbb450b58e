"""Which device is in which place of its bus, as QEMU says, held against what the topology of a VM's state says.

QEMU's word is ``info qtree``, which walks the buses themselves, at one moment; DIMMs are on no bus, and ``query-memory-devices`` tells
of those.
"""

import re

from qemustate.hardware.buses import DIMMS
from qemustate.vm.places import topology

#: A line of ``info qtree``: how far in it is, and a bus, a device or one of its properties.
_LINE = re.compile(r'^( *)(?:bus: (\S+)|dev: (\S+), id "(.*)"|([\w-]+) = (\w[\w.]*)|addr .*, port ([\d.]+),)')
#: Properties that say a place, in its order.
_SAID = {"scsi": ("channel", "scsi-id", "lun"), "serial": ("nr",), "usb": ("port",), "pci": ("addr",)}


def seats(qtree):
    """Return what ``info qtree`` tells: (bus, id, properties) of each device, whose id may be empty."""
    found, buses, devices = [], [], []
    for line in qtree.replace("\r", "").splitlines():
        told = _LINE.match(line)
        if told is None:
            continue
        space, bus, driver, name, key, value, port = told.groups()
        depth = len(space)
        if bus:
            buses = [it for it in buses if it[0] < depth] + [(depth, bus)]
        elif driver:
            buses = [it for it in buses if it[0] < depth]
            devices = [it for it in devices if it[0] < depth] + [(depth, {})]
            found.append((buses[-1][1], name, devices[-1][1]))
        else:
            devices[-1][1].update({"port": port} if port else {key: value})
    return found


class Seated:
    """Every place that a VM's devices were believed to be in during a stretch of records."""

    def __init__(self, vm):
        self._key = None
        self.restart(vm)

    def restart(self, vm):
        """Begin a stretch with what is believed now."""
        self._taken = set()
        self._always = None
        self._key = None
        self.look(vm)

    def look(self, vm):
        """Add what the topology says after a record; it hangs on devices and on what is being plugged."""
        key = (
            [(name, cell.belief, id(cell.properties)) for name, cell in vm.devices.items()],
            [*vm.intents],
        )
        if key == self._key:
            return
        self._key, self.topology = key, topology(vm)
        self._taken |= {(it.bus, it.place, it.device.id) for it in self.topology.occupants.values()}
        named = {it.device.id for it in self.topology.occupants.values() if it.device.id}
        self._always = named if self._always is None else self._always & named

    def complaints(self, truth, gone):
        """Return a line for each device of QEMU's that was at no time where QEMU has it, and for each of ours that holds a place though it is ``gone``."""
        found = []
        for bus, name, place in self._told(truth):
            if not any((bus, place) == it[:2] and name in ("", it[2]) for it in self._taken):
                where = sorted(str(it[:2]) for it in self._taken if name and it[2] == name)
                found.append(f"{name or 'a device'} is in {place} of {bus}, believed {where}")
        there = {name for _, name, _ in truth["seats"]} | truth["dimms"].keys()
        found += [f"{name} holds a place, and is gone" for name in sorted(self._always - there) if gone(name)]
        return found

    def _told(self, truth):
        for bus, name, properties in truth["seats"]:
            known = self.topology.buses.get(bus)
            keys = _SAID.get(known.family) if known else None
            if keys:
                yield bus, name, tuple(_place(known.family, [properties[key] for key in keys]))
        for name, slot in truth["dimms"].items():
            yield DIMMS, name, (slot,)


def _place(family, words):
    match family:
        case "pci":
            return (int(part, 16) for part in words[0].split("."))
        case "usb":
            return words
    return (int(word) for word in words)
