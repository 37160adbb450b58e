"""Machines and devices provide the buses that QEMU gives them, and every driver goes where QEMU would have it."""

import re
import subprocess

import pytest

from qemustate.hardware.buses import machine_buses, provided, wanted
from qemustate.hardware.properties import Device

#: Family -> QOM type of the devices on its buses.
TYPES = {
    "pci": "pci-device",
    "usb": "usb-device",
    "scsi": "scsi-device",
    "serial": "virtio-serial-port",
    "cpu": "cpu",
    "memory": "pc-dimm",
    "ide": "ide-device",
}


# Listing types loads every module, which a QEMU unpacked without some of its packages does not survive.
@pytest.mark.parametrize("qemu", ["7.2"], indirect=True)
def test_every_driver_of_a_qemu_goes_on_its_bus(live, qemu):
    """Each driver that `-device help` lists goes on the family of bus that its QOM type says, and on none else."""
    vm = live("-M", "none")
    listed = subprocess.run(
        [qemu.binary, *qemu.args, "-M", "none", "-device", "help"], capture_output=True, text=True, check=True
    ).stdout
    drivers = set(re.findall(r'^name "([^"]+)"', listed, re.MULTILINE))
    families = {
        family: {entry["name"] for entry in vm.ok("qom-list-types", implements=kind, abstract=False)}
        for family, kind in TYPES.items()
    }
    seen = {
        driver: next((name for name, members in families.items() if driver in members), "")
        for driver in drivers
    }

    assert len(drivers) > 150
    assert {it: wanted(it) for it in drivers if wanted(it) not in (seen[it], "only")} == {
        it: seen[it] for it in drivers if wanted(it) not in (seen[it], "only")
    }
    assert {it for it in drivers if wanted(it) == "only" and seen[it]} == set()


@pytest.mark.parametrize(
    ("driver", "family"),
    [
        ("virtio-blk-ccw", "ccw"),
        ("virtio-net-device", "only"),
        ("host-s390x-cpu", "cpu"),
        ("power9_v2.0-spapr-cpu-core", "cpu"),
        ("spapr-vscsi", ""),
        ("vfio-ap", ""),
        ("ufs-lu", ""),
        ("uefi-vars-x64", ""),
    ],
)
def test_drivers_of_machines_not_at_hand(driver, family):
    """Drivers of other architectures are told by their names."""
    assert wanted(driver) == family


@pytest.mark.parametrize(
    ("arguments", "machine", "options", "usb"),
    [
        (["-M", "q35"], "q35", {}, False),
        (["-M", "q35", "-usb"], "q35", {}, True),
        (["-M", "pc"], "pc", {}, False),
        (["-M", "pc", "-usb"], "pc", {}, True),
        (["-M", "microvm"], "microvm", {}, False),
        (["-M", "microvm,pcie=on"], "microvm", {"pcie": True}, False),
    ],
)
def test_a_machine_has_its_buses_and_occupies_its_own_slots(live, arguments, machine, options, usb):
    """The buses of q35, pc and microvm, and the PCI slots they use themselves, are those that QEMU tells of."""
    vm = live(*arguments)
    tree = vm.ok("human-monitor-command", command_line="info qtree")
    names = set(re.findall(r"bus: ((?:pcie?|ide|usb-bus|virtio-mmio-bus)\.\d+)", tree))
    slots = {(it["slot"], it["function"]) for bus in vm.ok("query-pci") for it in bus["devices"]}
    buses, taken = machine_buses(machine, options, usb=usb)

    assert {bus.name for bus in buses} == names
    assert {place for places in taken.values() for place in places} == slots


@pytest.mark.parametrize(
    ("device", "buses"),
    [
        (Device(driver="virtio-scsi-pci", id="s"), [("s.0", "scsi", 255, "")]),
        (Device(driver="nec-usb-xhci", id="x", p2=8, p3="2"), [("x.0", "usb", 8, "")]),
        (Device(driver="qemu-xhci", id="x"), [("x.0", "usb", 4, "")]),
        (Device(driver="ich9-usb-uhci1", id="u", masterbus="e.0"), []),
        (Device(driver="virtio-serial-pci", id="v"), [("v.0", "serial", 30, "")]),
        (Device(driver="virtio-serial-ccw", id="v", max_ports=4), [("v.0", "serial", 3, "")]),
        (
            Device(driver="pcie-root-port", id="p", hotplug=False),
            [("p", "port", 0, "does not support hotplugging (hotplug=off)")],
        ),
        (Device(driver="pci-bridge", id="b"), [("b", "bridge", 31, "")]),
        (
            Device(driver="pci-bridge", id="b", shpc="off"),
            [("b", "bridge", 31, "does not support hotplugging")],
        ),
        (Device(driver="pxb-pcie", id="b"), [("b", "pxb", 31, "does not support hotplugging")]),
        (Device(driver="virtio-rng-pci", id="r"), []),
    ],
)
def test_a_device_provides_its_buses(device, buses):
    """Controllers, ports and bridges provide buses of their own, with as many places as their properties say."""
    found = provided(device, device.id, acpi=False, cold=True)

    assert [(bus.name, bus.kind, bus.room.last, bus.fixed) for bus in found] == buses


@pytest.mark.parametrize("machine", ["virt", "pseries-8.2", "s390-ccw-virtio"])
def test_other_machines_have_a_root(machine):
    """Machines that were not at hand have a PCI root all the same; one nobody knows has no bus at all."""
    assert [bus.name for bus in machine_buses(machine, {})[0] if bus.kind == "root"] in (
        ["pcie.0"],
        ["pci.0"],
    )
    assert machine_buses("isapc", {}) == ([], {})
