"""Devices: what hotplug makes of them, bus by bus."""

from __future__ import annotations

import pytest

from qemustate.statemachine import guards
from qemustate.statemachine.observer import observer

OLD, NEW = (7, 2, 22), (10, 0, 2)
BOTH = pytest.mark.parametrize("version", [OLD, NEW], ids=["7.2", "10.0"])


def started(w):
    i = w.send("cont")
    w.event("RESUME")
    w.answer(i)
    return w


def deleted(w, name):
    w.event("DEVICE_DELETED", device=name, path=f"/machine/peripheral/{name}")


def listed(w, *names):
    """Have QEMU list its devices: the ports of the command line, and these."""
    types = [{"name": name, "type": "child<x>"} for name in ("rp0", "rp1", *names)]
    w.ok("qom-list", types, path="/machine/peripheral")


def child_deleted(w, name, child="virtio-backend"):
    w.event("DEVICE_DELETED", path=f"/machine/peripheral/{name}/{child}")


@BOTH
def test_a_cold_plugged_device_is_present_from_the_start(wire, q35, version):
    """What the command line names is there before the first command."""
    w = wire(version, q35)

    assert w.device("rp0") == w.device("rp1") == ("present",)
    assert w.vm.devices["rp0"].driver == "pcie-root-port"


@BOTH
def test_plug_and_acknowledged_unplug(wire, q35, version):
    """adding, present, unplugging, gone: request answered is not gone, DEVICE_DELETED is."""
    w = started(wire(version, q35))
    i = w.send("device_add", id="vd1", driver="virtio-blk-pci", bus="rp0")
    assert w.device("vd1") == ("adding",)
    w.answer(i)
    assert w.device("vd1") == ("present",)
    w.ok("device_del", id="vd1")
    assert w.device("vd1") == ("unplugging",)
    child_deleted(w, "vd1")
    assert w.device("vd1") == ("gone",)
    deleted(w, "vd1")
    assert w.device("vd1") == ("gone",)
    assert w.vm.devices["vd1"].generation == 1
    assert not w.rules


@BOTH
def test_a_refused_plug_leaves_nothing(wire, q35, version):
    """An error answer to device_add: no device, and what QEMU said is kept."""
    w = started(wire(version, q35))
    w.refused("device_add", "Bus 'nobus' not found", id="vd1", driver="virtio-blk-pci", bus="nobus")

    assert w.device("vd1") == ("gone",)
    assert w.vm.devices["vd1"].refused == "Bus 'nobus' not found"


def test_a_duplicate_id_leaves_its_bearer(wire, q35):
    """Duplicate device ID: the first bearer of the id is still there."""
    w = started(wire(NEW, q35))
    w.plug("vd1")
    w.refused("device_add", "Duplicate device ID 'vd1'", id="vd1", driver="virtio-blk-pci", bus="rp1")

    assert w.device("vd1") == ("present",)
    assert w.vm.devices["vd1"].generation == 1
    assert w.rules == ["duplicate-id"]


@BOTH
def test_reset_completes_an_acpi_unplug(wire, q35, version):
    """ACPI: what is pending leaves with the reset, and DEVICE_DELETED follows."""
    w = started(wire(version, q35))
    w.plug("vd1")
    w.ok("device_del", id="vd1")
    w.event("RESET", guest=False, reason="host-qmp-system-reset")
    assert w.device("vd1") == ("gone",)
    deleted(w, "vd1")
    assert w.device("vd1") == ("gone",)


@BOTH
def test_reset_forgets_a_native_pcie_unplug(wire, native, version):
    """Native PCIe: the request is lost with the reset, and a device that is listed after it is present again."""
    w = started(wire(version, native))
    w.plug("vd1")
    w.ok("device_del", id="vd1")
    assert w.device("vd1") == ("unplugging",)
    w.event("RESET", guest=False, reason="host-qmp-system-reset")
    listed(w, "vd1")

    assert w.device("vd1") == ("present",)


@BOTH
@pytest.mark.parametrize("heard", [True, False], ids=["DEVICE_DELETED", "qom-list"])
def test_a_reset_brings_back_nothing_that_has_left(wire, native, version, heard):
    """Native PCIe: a reset between the removal of a device and its DEVICE_DELETED leaves it gone; until that is told it may be there."""
    w = started(wire(version, native))
    w.plug("vd1")
    w.ok("device_del", id="vd1")
    w.event("RESET", guest=False, reason="host-qmp-system-reset")
    assert w.device("vd1") == ("gone", "present")
    if not heard:
        listed(w)
        assert w.device("vd1") == ("gone",)
    child_deleted(w, "vd1")
    assert w.device("vd1") == ("gone",)
    deleted(w, "vd1")

    assert w.device("vd1") == ("gone",)
    assert not w.rules


@pytest.mark.parametrize("kind", guards.DEVICE_KINDS)
def test_whatever_the_bus_a_device_that_has_left_stays_away(kind):
    """The row of a reset for a device that has left, unannounced, is that of every kind."""
    watcher = observer("device", None)
    profile = sum((guards.held if it == kind else guards.denied)(it) for it in guards.DEVICE_KINDS)
    after = watcher.image("RESET", watcher.of(("ejected",)), profile)

    assert watcher.inner_names(after.belief) == ("leaving",)
    assert not after.impossible


@BOTH
def test_a_slot_without_power_is_emptied_at_once(wire, native, version):
    """Native PCIe, plugged while the vCPUs stand still: device_del removes it, only the event is late."""
    w = wire(version, native)
    w.plug("vd1")
    assert w.device("vd1") == ("present",)
    w.ok("device_del", id="vd1")
    assert w.device("vd1") == ("gone",)
    deleted(w, "vd1")
    assert w.device("vd1") == ("gone",)


def test_a_slot_that_got_power_waits_for_the_guest(wire, native):
    """Native PCIe, plugged while paused and then resumed: the guest has to answer."""
    w = wire(NEW, native)
    w.plug("vd1")
    started(w)
    w.ok("device_del", id="vd1")

    assert w.device("vd1") == ("unplugging",)


@BOTH
def test_a_second_request_says_it_is_pending(wire, native, version):
    """Already in the process of unplug: still unplugging. Guest is busy: still present."""
    w = started(wire(version, native))
    w.plug("vd1")
    w.refused("device_del", "Hot-unplug failed: guest is busy (power indicator blinking)", id="vd1")
    assert w.device("vd1") == ("present",)
    w.ok("device_del", id="vd1")
    w.refused("device_del", "Device vd1 is already in the process of unplug", id="vd1")
    assert w.device("vd1") == ("unplugging",)
    w.ok("device_del", id="vd1")
    assert w.device("vd1") == ("unplugging",)


def test_device_not_found_says_it_has_left(wire, q35):
    """DeviceNotFound after an accepted request: gone, although DEVICE_DELETED is still due."""
    w = started(wire(NEW, q35))
    w.plug("vd1")
    w.ok("device_del", id="vd1")
    w.refused("device_del", "Device 'vd1' not found", "DeviceNotFound", id="vd1")

    assert w.device("vd1") == ("gone",)


def test_a_device_known_by_its_path_only(wire, q35):
    """DEVICE_DELETED with no `device` but the device's own path is that device's."""
    w = started(wire(NEW, q35))
    w.plug("vd1")
    w.ok("device_del", id="vd1")
    w.event("DEVICE_DELETED", path="/machine/peripheral/vd1")

    assert w.device("vd1") == ("gone",)
    w.checker.close()
    assert not w.rules


def test_device_del_takes_a_path(wire, q35):
    """device_del by QOM path is the device of that id."""
    w = started(wire(NEW, q35))
    w.plug("vd1")
    w.ok("device_del", id="/machine/peripheral/vd1")

    assert w.device("vd1") == ("unplugging",)
    assert set(w.vm.devices) == {"rp0", "rp1", "vd1"}


def test_only_a_childs_event_is_an_unplug_lost(wire, q35):
    """A device whose own DEVICE_DELETED never comes has left, and the rule says what is missing."""
    w = started(wire(NEW, q35))
    w.plug("vd1")
    w.ok("device_del", id="vd1")
    child_deleted(w, "vd1")
    assert w.device("vd1") == ("gone",)
    w.checker.close()

    assert "unplug-lost" in w.rules


@BOTH
def test_a_sync_bus_frees_the_id_before_the_event(wire, q35, version):
    """USB: five times deleted and added, then five DEVICE_DELETED: the sixth bearer is still present."""
    w = started(wire(version, [*q35, "-device", "qemu-xhci,id=xhci"]))
    w.plug("tab", "usb-tablet", "xhci.0")
    for _ in range(5):
        w.ok("device_del", id="tab")
        assert w.device("tab") == ("gone",)
        w.plug("tab", "usb-tablet", "xhci.0")
    for left in range(5, 0, -1):
        assert w.vm.devices["tab"].outstanding == left
        deleted(w, "tab")
        assert w.device("tab") == ("present",)

    assert w.vm.devices["tab"].generation == 6
    assert not w.rules
    deleted(w, "tab")
    assert w.device("tab") == ("gone",)


def test_a_plan_does_not_forget_who_still_leaves(wire, q35):
    """A plug that is begun before DEVICE_DELETED of the id's earlier bearer has come: that event is the earlier one's, and the next the new one's."""
    w = started(wire(NEW, q35))
    w.plug("vd1")
    w.ok("device_del", id="vd1")
    child_deleted(w, "vd1", "virtio-backend")
    w.put("begun", {"intent": "plug", "correlation": "1", "subject": "vd1"})
    assert w.device("vd1") == ("gone",)
    w.plug("vd1")
    w.put("ended", {"intent": "plug", "correlation": "1", "subject": "vd1", "outcome": "done", "why": ""})
    deleted(w, "vd1")
    assert w.device("vd1") == ("present",)
    deleted(w, "vd1")
    assert w.device("vd1") == ("gone",)
    assert not w.rules


def test_a_guest_may_eject_unasked(wire, q35):
    """DEVICE_DELETED with no request is the guest's own doing, and no violation."""
    w = started(wire(NEW, q35))
    w.plug("vd1")
    deleted(w, "vd1")

    assert w.device("vd1") == ("gone",)
    assert not w.rules


def test_a_vcpu_under_tcg_is_known_by_its_apic(wire, q35):
    """The vCPU's own DEVICE_DELETED never comes under TCG; its APIC's says that it has left."""
    w = started(wire(NEW, q35))
    w.plug("cpu1", "max-x86_64-cpu", "", socket_id=1)
    w.ok("device_del", id="cpu1")
    child_deleted(w, "cpu1", "lapic")
    assert w.device("cpu1") == ("gone",)
    w.plug("cpu1", "max-x86_64-cpu", "", socket_id=1)
    assert w.vm.devices["cpu1"].outstanding == 0
    w.ok("device_del", id="cpu1")
    child_deleted(w, "cpu1", "lapic")
    assert w.device("cpu1") == ("gone",)


@pytest.mark.parametrize("status", [0x81, 130, 1])
def test_a_dimm_refused_by_ost_is_present_again(wire, q35, status):
    """ACPI_DEVICE_OST with a failing status for an eject request: the guest keeps the DIMM."""
    w = started(wire(NEW, q35))
    w.plug("dimm1", "pc-dimm", "", memdev="m1")
    w.ok("device_del", id="dimm1")
    w.event(
        "ACPI_DEVICE_OST",
        info={"device": "dimm1", "source": 3, "status": 132, "slot": "0", "slot-type": "DIMM"},
    )
    assert w.device("dimm1") == ("unplugging",)
    w.event(
        "ACPI_DEVICE_OST",
        info={"device": "dimm1", "source": 3, "status": status, "slot": "0", "slot-type": "DIMM"},
    )

    assert w.device("dimm1") == ("present",)
    assert str(status) in w.vm.devices["dimm1"].refused


def test_an_unplug_error_event_is_a_refusal(wire, q35):
    """DEVICE_UNPLUG_GUEST_ERROR: unplugging is present again, with the refusal; twice is once."""
    w = started(wire(NEW, q35))
    w.plug("vd1")
    w.ok("device_del", id="vd1")
    w.event("DEVICE_UNPLUG_GUEST_ERROR", device="vd1", path="/machine/peripheral/vd1")
    w.event("DEVICE_UNPLUG_GUEST_ERROR", device="vd1", path="/machine/peripheral/vd1")

    assert w.device("vd1") == ("present",)
    assert w.rules == ["unplug-refused"]
    assert w.vm.to_json()["devices"]["vd1"]["refused"]


def test_qom_list_narrows_and_discovers(wire, q35):
    """What qom-list names is there, also what we never heard of after a gap; what it does not name is not."""
    w = started(wire(NEW, q35))
    w.plug("vd1")
    w.put("lost", {"by": "us"})
    w.put("opened", {})
    assert w.device("vd1") == ("gone", "present", "unplugging")
    w.put(
        "greeting",
        {"qmp": {"QMP": {"version": {"qemu": {"major": 10, "minor": 0, "micro": 2}}, "capabilities": []}}},
    )
    w.ok("qmp_capabilities")
    names = [{"name": n, "type": "child<x>"} for n in ("rp0", "rp1", "new")] + [
        {"name": "type", "type": "string"}
    ]
    w.ok("qom-list", names, path="/machine/peripheral")

    assert w.device("vd1") == ("gone",)
    assert w.device("rp0") == ("present", "unplugging")
    assert w.device("new") == ("present", "unplugging")
    assert not [r for r in w.rules if r != "gap"]


def test_a_plug_nobody_saw_answered_is_open(wire, q35):
    """The monitor is lost with device_add unanswered: gone or present; a late answer settles it."""
    w = started(wire(NEW, q35))
    i = w.send("device_add", id="vd1", driver="virtio-blk-pci", bus="rp0")
    w.put("lost", {"by": "peer"})
    assert w.device("vd1") == ("gone", "present")
    w.put("opened", {})
    w.put(
        "greeting",
        {"qmp": {"QMP": {"version": {"qemu": {"major": 10, "minor": 0, "micro": 2}}, "capabilities": []}}},
    )
    w.answer(i)

    assert w.device("vd1") == ("present",)


def test_an_id_never_heard_of_in_a_late_log_is_open(wire):
    """In a trace that began in the middle an unknown device may be there or not."""
    w = wire(NEW)
    w.ok("query-version", {})
    w.send("device_del", id="vd1")

    assert set(w.device("vd1")) >= {"gone", "present"}


STANDBY = ["-device", "virtio-net-pci,id=net1,bus=rp0,failover=on"]


def test_the_primary_of_a_failover_pair_hides_until_the_guest_negotiates(wire, q35):
    """device_add of a failover primary is answered, also twice, and there is no such device until the guest wants it."""
    w = started(wire(NEW, [*q35, *STANDBY]))
    for _ in range(2):
        w.plug("pri", "e1000e", "rp1", failover_pair_id="net1")
        assert w.device("pri") == ("adding",)
    w.refused("device_del", "Device 'pri' not found", "DeviceNotFound", id="pri")
    assert w.device("pri") == ("adding",)
    w.event("FAILOVER_NEGOTIATED", device_id="net1")
    assert w.device("pri") == ("present",)
    w.ok("device_del", id="pri")
    deleted(w, "pri")
    w.plug("pri", "e1000e", "rp1", failover_pair_id="net1")

    assert w.device("pri") == ("present",)
    assert not w.rules


def test_a_cold_plugged_primary_hides_too(wire, q35):
    """-device with failover_pair_id, behind its standby, is not there before the guest has negotiated."""
    w = wire(NEW, [*q35, *STANDBY, "-device", "e1000e,id=pri,bus=rp1,failover_pair_id=net1"])

    assert w.device("pri") == ("adding",)


@pytest.mark.parametrize("standby", [[], ["-device", "virtio-net-pci,id=net1,bus=rp0"]])
def test_a_primary_without_a_standby_is_a_device_like_any_other(wire, q35, standby):
    """Nothing hides a device whose standby is not there or wants none."""
    w = started(wire(NEW, [*q35, *standby]))
    w.plug("pri", "e1000e", "rp1", failover_pair_id="net1")

    assert w.device("pri") == ("present",)


def test_a_primary_may_hide_behind_what_nobody_here_knows(wire, q35):
    """Where another monitor may have added the standby, the primary is there or hidden."""
    w = started(wire(NEW, [*q35, "-qmp", "unix:other,server=on"]))
    w.plug("pri", "e1000e", "rp1", failover_pair_id="net1")

    assert w.device("pri") == ("adding", "present")


SHPC = ["-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off", "-device", "pcie-pci-bridge,id=br0"]
OLD_SHPC = [
    "-M",
    "pc",
    "-global",
    "PIIX4_PM.acpi-pci-hotplug-with-bridge-support=off",
    "-device",
    "pci-bridge,id=br0",
]


@pytest.mark.parametrize("argv", [SHPC, OLD_SHPC], ids=["q35", "i440fx"])
def test_behind_a_bridge_a_reset_drops_the_request(wire, q35, argv):
    """SHPC: as with native PCIe, what was asked back before a reset is present after it."""
    w = started(wire(NEW, [*q35, *argv]))
    w.plug("r1", "virtio-rng-pci", "br0", addr="1")
    w.ok("device_del", id="r1")
    assert w.device("r1") == ("unplugging",)
    w.event("RESET", guest=False, reason="host-qmp-system-reset")
    assert w.device("r1") == ("gone", "present")
    listed(w, "r1", "br0")

    assert w.device("r1") == ("present",)


def test_behind_a_bridge_what_has_no_power_goes_at_once(wire, q35):
    """SHPC: a device plugged while the vCPUs stand still is gone with the answer to device_del."""
    w = wire(NEW, [*q35, *SHPC])
    w.plug("r1", "virtio-rng-pci", "br0", addr="1")
    w.ok("device_del", id="r1")

    assert w.device("r1") == ("gone",)


def test_acpi_serves_the_bridges_of_an_old_machine_unless_told_not_to(wire, q35):
    """i440fx without the option: a reset completes the request behind a bridge too."""
    w = started(wire(NEW, [*q35, "-M", "pc", "-device", "pci-bridge,id=br0"]))
    w.plug("r1", "virtio-rng-pci", "br0", addr="1")
    w.ok("device_del", id="r1")
    w.event("RESET", guest=False, reason="host-qmp-system-reset")

    assert w.device("r1") == ("gone",)


@pytest.mark.parametrize("bus", ["xhci.0", ""])
def test_a_device_goes_with_the_one_that_provides_its_bus(wire, q35, bus):
    """A controller that is being taken away takes what is on its bus, whose own event comes later; one that stays does not."""
    w = wire((10, 0, 2), [*q35, "-device", "qemu-xhci,id=xhci"])
    w.plug("t", "usb-tablet", bus) if bus else w.ok("device_add", id="t", driver="usb-tablet")
    w.ok("device_del", id="xhci")
    ports = [{"name": name, "type": "child<pcie-root-port>"} for name in ("rp0", "rp1")]
    w.ok("qom-list", ports, path="/machine/peripheral")
    assert (w.device("t"), w.device("xhci")) == (("gone",), ("gone",))
    assert not w.rules
    w.event("DEVICE_DELETED", device="t", path="/machine/peripheral/t")
    w.event("DEVICE_DELETED", device="xhci", path="/machine/peripheral/xhci")
    assert not w.rules
