"""What topology says of places is what QEMU has: every place handed out is taken, every objection is a refusal."""

import re

import pytest

from qemustate.errors import NoPlace
from qemustate.hardware.config import Config
from qemustate.hardware.properties import Device
from qemustate.hardware.topology import Topology

ACPI_OFF = {
    "global": [{"driver": "ICH9-LPC", "property": "acpi-pci-hotplug-with-bridge-support", "value": "off"}]
}


def port(number, **more):
    return Device(driver="pcie-root-port", id=f"rp{number}", chassis=number + 1, **more)


#: Everything that a PCI machine can have, mostly without saying where.
CROWD = [
    port(0),
    port(1, hotplug=False),
    Device(driver="qemu-xhci", id="x"),
    Device(driver="virtio-scsi-pci", id="s", addr="10"),
    Device(driver="virtio-serial-pci", id="vs", max_ports=4),
    port(9),
    Device(driver="x3130-upstream", id="up", bus="rp9"),
    Device(driver="xio3130-downstream", id="dn0", bus="up", chassis=20),
    Device(driver="xio3130-downstream", id="dn1", bus="up", chassis=21),
    Device(driver="pcie-pci-bridge", id="ppb"),
    Device(driver="pci-bridge", id="b", bus="ppb", addr="1", chassis_nr=1, shpc=True),
    Device(driver="pci-bridge", id="plain", bus="ppb", addr="2", chassis_nr=2),
    Device(driver="lsi53c895a", id="lsi"),
    Device(driver="usb-hub", id="hub", bus="x.0", port="1"),
    Device(driver="usb-tablet", id="tablet", bus="x.0"),
    Device(driver="virtio-rng-pci", id="f1", addr="1c.1"),
    Device(driver="virtio-rng-pci", id="f0", addr="1c.0", multifunction=True),
    Device(driver="virtio-rng-pci", id="below", bus="b", addr="3"),
    Device(driver="virtio-rng-pci", id="below2", bus="plain", addr="1"),
    Device(driver="virtserialport", id="p"),
    Device(driver="virtconsole", id="console"),
    Device(driver="pxb-pcie", id="pxb", bus_nr=32, bus="pcie.0"),
    Device(driver="pcie-root-port", id="rpx", bus="pxb", chassis=40),
]


def where(vm, name):
    """Return the bus and the address that QEMU has for a PCI device."""
    path = f"/machine/peripheral/{name}"
    bus = vm.ok("qom-get", path=path, property="parent_bus").rpartition("/")[2]
    slot, function = vm.ok("qom-get", path=path, property="legacy-addr").split(".")
    return bus, (int(slot, 16), int(function, 16))


def agrees(vm, topology):
    """Assert that every device with an id is where QEMU has it."""
    for key, occupant in topology.occupants.items():
        family = topology.buses[occupant.bus].family if occupant.bus in topology.buses else ""
        path = f"/machine/peripheral/{key}"
        if not occupant.device.id or not family:
            continue
        if family == "pci":
            assert (key, *where(vm, key)) == (key, occupant.bus, occupant.place)
        elif family == "usb":
            listed = vm.ok("human-monitor-command", command_line="info usb").replace("\r", "")
            assert re.search(rf"Port ({occupant.place[0]}), .*ID: {key}$", listed, re.MULTILINE), listed
        elif family == "serial":
            assert (vm.ok("qom-get", path=path, property="nr"),) == occupant.place
        elif family == "scsi":
            read = {
                name: vm.ok("qom-get", path=path, property=name) for name in ("channel", "scsi-id", "lun")
            }
            assert tuple(read.values()) == occupant.place


def started(live, config, tmp_path=None):
    return live(*config.argv()[1:]), Topology.of_config(config)


@pytest.mark.parametrize("more", [{}, ACPI_OFF], ids=["acpi", "native"])
def test_what_was_plugged_cold_is_where_topology_says(live, more):
    """Devices that did not say where they go are, bus and place, where QEMU put them."""
    vm, topology = started(
        live, Config(options={"machine": {"type": "q35"}, "nodefaults": True, "device": CROWD, **more})
    )

    agrees(vm, topology)


def fill(vm, topology, make, count):
    """Plug devices until there is no place left, and return the last reason."""
    for number in range(count + 1):
        try:
            device = topology.place(make(number))
        except NoPlace as none:
            assert number == count
            agrees(vm, topology)
            return none.why
        assert topology.check(device) == []
        vm.ok("device_add", **device)
        topology.occupy(device)
    raise AssertionError("there is no end of places")


def rng(number):
    return Device(driver="virtio-rng-pci", id=f"r{number}")


@pytest.mark.parametrize("more", [{}, ACPI_OFF], ids=["acpi", "native"])
def test_every_root_port_is_filled(live, more):
    """Each port takes one device, and then the reason names the ports, their devices, and the bus that takes none."""
    ports = [port(number, multifunction=True, addr=f"3.{number}") for number in range(4)]
    vm, topology = started(
        live, Config(options={"machine": {"type": "q35"}, "nodefaults": True, "device": ports, **more})
    )
    why = fill(vm, topology, rng, 4)

    assert why == (
        "bus pcie.0 does not support hotplugging; ports rp0, rp1, rp2, rp3: occupied by r0, r1, r2, r3"
    )
