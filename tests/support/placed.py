"""Where a real QEMU has its devices."""

import re


def where(vm, name):
    """Return the bus and the slot and function that QEMU has for a PCI device."""
    path = f"/machine/peripheral/{name}"
    bus = vm.ok("qom-get", path=path, property="parent_bus").rpartition("/")[2]
    slot, function = vm.ok("qom-get", path=path, property="legacy-addr").split(".")
    return bus, (int(slot, 16), int(function, 16))


def place(vm, name, family):
    """Return the place that QEMU has for a device on a bus of this family."""
    path = f"/machine/peripheral/{name}"
    if family == "usb":
        listed = vm.ok("human-monitor-command", command_line="info usb").replace("\r", "")
        return (re.search(rf"Port ([\d.]+), .*ID: {name}$", listed, re.MULTILINE)[1],)
    keys = {"scsi": ("channel", "scsi-id", "lun"), "serial": ("nr",), "memory": ("slot",), "ide": ("unit",)}
    return tuple(vm.ok("qom-get", path=path, property=key) for key in keys[family])


def agrees(vm, topology):
    """Assert that every device with an id is where QEMU has it; of vCPUs, query-hotpluggable-cpus tells."""
    for key, occupant in topology.occupants.items():
        family = topology.buses[occupant.bus].family if occupant.bus in topology.buses else ""
        if not occupant.device.id or occupant.place is None or family in ("", "cpu"):
            continue
        if family == "pci":
            assert (key, *where(vm, key)) == (key, occupant.bus, occupant.place)
        else:
            assert (key, place(vm, key, family)) == (key, occupant.place)
