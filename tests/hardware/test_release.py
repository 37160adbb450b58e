"""What frees a device, and what asking twice does, as QEMU has it."""

import time

import pytest

from qemustate.hardware import release
from qemustate.statemachine.guards import DEVICE_KINDS

ACPI_OFF = ("-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off")
PORT = ("-device", "pcie-root-port,id=rp,chassis=1")


@pytest.mark.parametrize(
    ("expected", "narrow", "arguments"),
    [
        ("acpi", "acpi", ("virtio-blk-pci", "q35", "pcie-root-port", False)),
        ("acpi", "acpi", ("virtio-blk-pci", "pc-q35-6.1", "pcie-root-port", False)),
        ("pcie", "pcie", ("virtio-blk-pci", "pc-q35-6.0", "pcie-root-port", False)),
        ("pcie", "pcie", ("virtio-blk-pci", "q35", "pcie-root-port", True)),
        ("shpc", "shpc", ("virtio-blk-pci", "q35", "pci-bridge", True)),
        ("acpi", "acpi", ("virtio-blk-pci", "", "", False)),
        ("pcie", "pcie", ("virtio-blk-pci", "virt", "pcie-root-port", False)),
        ("shpc", "shpc", ("virtio-blk-pci", "virt", "pcie-pci-bridge", False)),
        ("", "other", ("virtio-blk-pci", "virt", "", False)),
        ("", "other", ("virtio-blk-pci", None, "", False)),
        ("", "other", ("", "q35", "", False)),
        ("sync", "sync", ("scsi-hd", "q35", "virtio-scsi-pci", False)),
        ("sync", "sync", ("usb-tablet", None, "", False)),
        ("acpi", "acpi", ("nec-usb-xhci", "q35", "pcie-root-port", False)),
        ("sync", "sync", ("virtserialport", "s390-ccw-virtio", "", False)),
        ("cpu", "cpu", ("max-x86_64-cpu", "q35", "", False)),
        ("dimm", "dimm", ("pc-dimm", "q35", "", False)),
        ("dimm", "dimm", ("pc-dimm", None, "", False)),
        ("other", "spapr", ("pc-dimm", "pseries", "", False)),
        ("other", "spapr", ("virtio-blk-pci", "pseries-8.0", "", False)),
        ("other", "ccw", ("virtio-blk-ccw", "s390-ccw-virtio", "", False)),
        ("other", "ccw", ("virtio-blk-ccw", None, "", False)),
        ("other", "other", ("vfio-ap", "s390-ccw-virtio", "", False)),
    ],
)
def test_a_device_has_the_rule_of_its_bus(expected, narrow, arguments):
    """Machine, driver and the bridge above tell the kind of hotplug, and its rule where kinds are put together."""
    *rest, acpi_off = arguments

    assert release.kind(*rest, acpi_off=acpi_off) == expected
    assert release.narrow(*rest, acpi_off=acpi_off).kind == narrow


def test_every_kind_a_belief_knows_has_a_rule():
    """The kinds that guards tell apart are rows here, and a kind nobody knows has the rule that assumes least."""
    assert [release.policy(kind).kind for kind in DEVICE_KINDS] == list(DEVICE_KINDS)
    assert release.policy("") == release.policy("other")


def test_the_table_says_what_the_rows_say():
    """The overview at the top of the module is that of the rows."""
    lines = [line.split("  ") for line in release.__doc__.splitlines()]
    shown = {
        cells[0]: [cell.strip() for cell in cells[1:] if cell.strip()] for cells in lines if len(cells) > 4
    }
    shown = {kind: cells for kind, cells in shown.items() if kind.isalpha() and kind != "kind"}
    said = {"join": "join", "repeat": "repeat", "refused": "refused: it is gone"}

    assert shown == {
        kind: [
            it.id,
            it.place,
            it.backends,
            said[it.again] + (f" after {it.again_after // 1000} s of guest" if it.again_after else ""),
            it.reset,
        ]
        for kind, it in release.POLICIES.items()
    }


def test_a_synchronous_device_leaves_with_the_answer(live):
    """A USB device's id and port are free with the answer, a second request is refused, its backend follows the event."""
    vm = live("-M", "q35", "-device", "qemu-xhci,id=x", "-blockdev", "null-co,node-name=n,read-zeroes=on")
    for _ in range(3):
        vm.ok("device_add", driver="usb-storage", id="u", bus="x.0", port="1", drive="n")
        vm.ok("device_del", id="u")
        assert "not found" in vm.refused("device_del", id="u")
        vm.ok("device_add", driver="usb-tablet", id="u", bus="x.0", port="1")
        vm.event("DEVICE_DELETED", device="u")
        vm.ok("device_del", id="u")
        vm.event("DEVICE_DELETED", device="u")

    vm.ok("blockdev-del", node_name="n")


def test_acpi_keeps_a_request_until_the_guest_or_a_reset(live):
    """With ACPI a request may be repeated, frees nothing while it is pending, and a reset completes it."""
    vm = live("-M", "q35", *PORT, "-device", "qemu-xhci")
    vm.ok("cont")
    time.sleep(0.1)  # so that the virtual clock is not at 0
    vm.ok("stop")
    vm.ok("device_add", driver="virtio-rng-pci", id="r", bus="rp")
    vm.ok("device_del", id="r")
    vm.ok("device_del", id="r")
    assert "Duplicate" in vm.refused("device_add", driver="usb-tablet", id="r")
    assert "in use by" in vm.refused("device_add", driver="virtio-rng-pci", id="s", bus="rp", addr="0")
    vm.ok("system_reset")
    vm.event("DEVICE_DELETED", device="r")

    vm.ok("device_add", driver="virtio-rng-pci", id="r", bus="rp")


def test_acpi_refuses_a_repeat_when_the_clock_stood_at_zero(live):
    """A request made before the VM ever ran is not taken twice, as the rule's reason says."""
    vm = live("-M", "q35", *PORT)
    vm.ok("device_add", driver="virtio-rng-pci", id="r", bus="rp")
    vm.ok("device_del", id="r")
    assert "already in the process of unplug" in vm.refused("device_del", id="r")
    vm.ok("system_reset")

    vm.event("DEVICE_DELETED", device="r")


def test_native_pcie_refuses_a_repeat_and_forgets_with_a_reset(live):
    """A request that a root port took is refused again while the clock stands, and a reset does not complete it."""
    vm = live("-M", "q35", *ACPI_OFF, *PORT, "-device", "virtio-rng-pci,id=r,bus=rp")
    vm.ok("device_del", id="r")
    assert "already in the process of unplug" in vm.refused("device_del", id="r")
    vm.ok("system_reset")
    vm.event("RESET")

    assert "already in the process of unplug" in vm.refused("device_del", id="r")
    assert vm.devices() == ["r", "rp"]
