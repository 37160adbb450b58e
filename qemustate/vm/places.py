"""Where the devices of a VM are, as its state tells, and so where the next one can go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qemustate.errors import BadInput
from qemustate.hardware.config import Config
from qemustate.hardware.properties import Device
from qemustate.hardware.release import policy
from qemustate.hardware.topology import Topology
from qemustate.statemachine import guards

if TYPE_CHECKING:
    from qemustate.statemachine.state import VM, DeviceCell


def topology(vm: VM) -> Topology:
    """Return who occupies what: what the command line put there, what was plugged, and what is being plugged."""
    found = Topology.of_config(Config.from_argv([str(word) for word in vm.spawned["argv"]]))
    for name, cell in vm.devices.items():
        if name in found.occupants:
            if is_free(vm, cell):
                found.release(name)
        elif cell.properties and not is_free(vm, cell):
            found.occupy(Device(cell.properties))
        if name in found.occupants:
            found.occupants[name].leaving = vm.names("device", cell) == ("unplugging",)
    left = sorted((cell.since, cell.bus) for cell in vm.devices.values() if cell.bus and is_free(vm, cell))
    found.left = [bus for _, bus in left]
    for intent in vm.intents.values():
        for command, arguments, _ in intent.get("steps", ()) if intent["intent"] == "plug" else ():
            if command == "device_add" and arguments.get("id") not in found.occupants:
                found.occupy(Device(arguments))
    return found


def is_free(vm: VM, cell: DeviceCell) -> bool:
    """Say whether the place of a device is certain to be free again, by the release table of its kind.

    A device whose DEVICE_DELETED may have been lost with its monitor has left all the same, and nothing more will be told of it.
    """
    if vm.names("device", cell) != ("gone",):
        return False
    kind = hotplug_kind(cell)
    to_come = cell.belief == vm.watch.device.bit["leaving"]
    return not to_come or kind == "cpu" or policy(kind).place == "device_del"


def is_taken(vm: VM, places: Topology, device: Device) -> bool:
    """Say whether others are certain to be where a device names its place: there, asked to leave, or being plugged.

    Of a place that cannot be read QEMU says so.
    """
    try:
        holders = {it.key for it in places.in_the_way(device)}
    except BadInput:
        return False
    cells = [vm.devices.get(key) for key in holders]  # what is there without an id stays
    left = [cell for cell in cells if cell is not None and "gone" in vm.names("device", cell)]
    return bool(holders) and device.id not in holders and not left


def hotplug_kind(cell: DeviceCell | None) -> str:
    """Return the kind of hotplug that a device is certain to have, empty where it is not."""
    if cell is None:
        return ""
    told = guards.names(cell.kind, guards.DEVICE_KINDS)
    return next((name for name in guards.DEVICE_KINDS if told[name] is True), "")
