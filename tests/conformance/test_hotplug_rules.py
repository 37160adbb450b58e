"""What holds for hotplug of every kind of device, each rule shown on a story or written by hand."""

from __future__ import annotations

import pytest
from support.told import STORIES, VERSIONS, story


def deleted(w, name):
    """Write the two events of a virtio device's removal."""
    w.event("DEVICE_DELETED", path=f"/machine/peripheral/{name}/virtio-backend")
    w.event("DEVICE_DELETED", device=name, path=f"/machine/peripheral/{name}")


def every_story(version):
    """Yield every story of a version, folded."""
    for path in sorted((STORIES / version).glob("*.jsonl.xz")):
        yield story(path.name.removesuffix(".jsonl.xz"), version)


# --- 1: device_add answered


def test_an_added_device_exists_though_no_guest_has_seen_it(told):
    """The answer to device_add means present, also while the vCPUs stand still."""
    done = told("plug_paused").at("<- device_add")

    assert done.devices["vd1"] == ("present",)
    assert done.runstate in (("paused",), ("prelaunch",))


def test_a_failed_plug_leaves_nothing_but_its_childrens_events(told, wire):
    """An error leaves no device; DEVICE_DELETED of children that were realized already may come with it."""
    assert told("device_add_refused").vm.names("device", told("device_add_refused").vm.devices["vd3"]) == (
        "gone",
    )

    w = wire()
    i = w.send("device_add", id="bad", driver="usb-storage", bus="usb.0")
    w.event("DEVICE_DELETED", path="/machine/peripheral/bad/bad.0/legacy[0]")
    w.refuse(i, "drive property not set")
    assert w.device("bad") == ("gone",)
    assert not w.rules


# --- 2: device_del answered


@pytest.mark.parametrize("version", VERSIONS)
def test_an_accepted_unplug_is_a_request_and_no_more(version):
    """After device_del's answer the device is unplugging, or on its way where its bus needs no guest, in every story."""
    asked = 0
    for told in every_story(version):
        for step in told.steps:
            if step.said == "<- device_del":
                asked += 1
                moved = {name for name, now in step.devices.items() if {*now} <= {"unplugging", "gone"}}
                assert moved
    assert asked > 25


@pytest.mark.parametrize("version", VERSIONS)
def test_no_story_has_the_event_before_the_answer(version):
    """DEVICE_DELETED follows the answer of its device_del, in every story."""
    early = 0
    for told in every_story(version):
        for step in told.steps:
            if step.said == "-> device_del":
                following = next(s for s in told.steps if s.seq > step.seq and s.said[:2] in ("<-", "<!"))
                between = [s.said for s in told.steps if step.seq < s.seq < following.seq]
                early += f"DEVICE_DELETED {step.qmp['arguments']['id']}" in between
    assert early == 0


def test_an_event_before_the_answer_would_be_no_breach(wire):
    """No code of QEMU's promises that order: a DEVICE_DELETED in between is believed, and the answer says nothing more."""
    w = wire()
    w.plug("vd1")
    i = w.send("device_del", id="vd1")
    deleted(w, "vd1")
    w.answer(i)

    assert w.device("vd1") == ("gone",)
    assert not w.rules


# --- 3: gone


def test_gone_is_its_own_event_children_come_first(told):
    """DEVICE_DELETED for the id means gone; the child's, without `device`, comes first and says it has left."""
    story = told("hotplug_acpi_ack")
    child = story.at("DEVICE_DELETED vd1/virtio-backend")
    own = story.at("DEVICE_DELETED vd1")

    assert child.seq < own.seq
    assert "device" not in child.qmp["data"]
    assert child.devices["vd1"] == own.devices["vd1"] == ("gone",)
    assert not [f for f in story.findings if f.rule == "unplug-lost"]


@pytest.mark.parametrize(
    "child", ["virtio-backend", "vd1.0/legacy[0]", "lapic", "thread[0]", "thread[0]/icp"]
)
def test_a_childs_event_is_never_a_device_of_its_own(wire, child):
    """Events that name only a path below a device concern that device; no other one appears."""
    w = wire()
    w.plug("vd1")
    w.ok("device_del", id="vd1")
    w.event("DEVICE_DELETED", path=f"/machine/peripheral/vd1/{child}")

    assert set(w.vm.devices) == {"rp0", "rp1", "vd1"}
    assert w.device("vd1") == ("gone",)


def test_gone_may_be_told_by_path_alone(wire):
    """DEVICE_DELETED with the path `/machine/peripheral/ID` and no `device` is that device's own."""
    w = wire()
    w.plug("vd1")
    w.ok("device_del", id="vd1")
    w.event("DEVICE_DELETED", path="/machine/peripheral/vd1")
    w.checker.close()

    assert w.device("vd1") == ("gone",)
    assert not w.rules


# --- 4: with no request


@pytest.mark.parametrize("name", ["guest_eject", "guest_eject_pcie"])
def test_a_guest_may_eject_what_nobody_asked_for(told, name):
    """The guest ejects through sysfs: gone, with no device_del and no breach."""
    story = told(name)
    gone = story.at("DEVICE_DELETED vd1")

    assert "-> device_del" not in [s.said for s in story.steps if s.seq < gone.seq]
    assert gone.devices["vd1"] == ("gone",)
    assert not story.violations


def test_a_function_takes_its_siblings(told):
    """Native PCIe: asked for one function, all of the slot go."""
    story = told("multifunction_pcie")

    assert story.said("-> device_del") == ["-> device_del"]
    assert story.vm.names("device", story.vm.devices["fn0"]) == ("gone",)
    assert story.vm.names("device", story.vm.devices["fn1"]) == ("gone",)
    assert not story.findings


def test_a_controller_takes_its_children(told):
    """SCSI: the controller's removal sends its disk's own DEVICE_DELETED first."""
    story = told("scsi")
    disk, controller = story.at("DEVICE_DELETED sd2"), story.at("DEVICE_DELETED scsi0")

    assert disk.seq < controller.seq
    assert disk.devices["sd2"] == ("gone",)
    assert disk.devices["scsi0"] == ("unplugging",)
    assert not story.findings


def test_an_eject_left_in_the_queue_hits_the_next_dimm(wire):
    """A second device_del of a DIMM may eject the next one in its slot: DEVICE_DELETED for what nobody asked for."""
    w = wire()
    w.plug("dimm1", "pc-dimm", "", memdev="m1")
    w.ok("device_del", id="dimm1")
    w.ok("device_del", id="dimm1")
    w.event("DEVICE_DELETED", device="dimm1", path="/machine/peripheral/dimm1")
    w.plug("dimm2", "pc-dimm", "", memdev="m2")
    assert w.device("dimm2") == ("present",)
    w.event("DEVICE_DELETED", device="dimm2", path="/machine/peripheral/dimm2")

    assert w.device("dimm1") == w.device("dimm2") == ("gone",)
    assert not w.rules


def test_two_devices_in_one_slot_go_together(told, wire, version):
    """7.2 takes a second device for an occupied port, and asking for one of them takes both."""
    story = told("slot_taken")
    if version == "10.0":
        assert "already occupied" in story.at("<! device_add").qmp["error"]["desc"]
        assert story.vm.names("device", story.vm.devices["r2"]) == ("gone",)
        return
    assert story.said("<- device_add").count("<- device_add") == 2
    w = wire()
    w.plug("r1", "virtio-rng-pci")
    w.plug("r2", "virtio-rng-pci")
    w.ok("device_del", id="r1")
    deleted(w, "r2")
    deleted(w, "r1")
    assert w.device("r1") == w.device("r2") == ("gone",)
    assert not w.rules


# --- 5: an older incarnation


def test_the_event_of_an_earlier_bearer_leaves_the_id_where_it_is(told):
    """USB: four times deleted and added again, then four DEVICE_DELETED, and the device is present through all."""
    story = told("id_reuse")
    final = [s.seq for s in story.steps if s.said == "-> device_del"][4]
    late = [s for s in story.steps if s.said == "DEVICE_DELETED tab" and s.seq < final]

    assert len(late) >= 3
    assert {s.devices["tab"] for s in late} <= {("present",), ("gone",)}
    assert late[-1].devices["tab"] == ("present",)
    assert story.vm.devices["tab"].generation == 5
    assert story.steps[-1].devices["tab"] == ("gone",)
    assert not story.violations


def test_generations_are_counted_one_event_each(wire):
    """Of n earlier bearers each takes one DEVICE_DELETED; the next one is the present bearer's."""
    w = wire("-device", "qemu-xhci,id=usb")
    w.plug("tab", "usb-tablet", "usb.0")
    for _ in range(3):
        w.ok("device_del", id="tab")
        w.plug("tab", "usb-tablet", "usb.0")
    for _ in range(3):
        w.event("DEVICE_DELETED", device="tab", path="/machine/peripheral/tab")
        assert w.device("tab") == ("present",)
    w.event("DEVICE_DELETED", device="tab", path="/machine/peripheral/tab")

    assert w.device("tab") == ("gone",)
    assert w.vm.devices["tab"].generation == 4
    assert not w.rules


# --- 6: missing


def test_under_tcg_a_cpu_goes_with_its_apics_event_only(told):
    """DEVICE_DELETED names the lapic and never the CPU: the CPU is gone, which qom-list confirms."""
    story = told("cpu")

    assert story.said("DEVICE_DELETED") == ["DEVICE_DELETED cpu2/lapic", "DEVICE_DELETED cpu1/lapic"]
    assert story.at("DEVICE_DELETED cpu2/lapic").devices["cpu2"] == ("gone",)
    assert not story.findings


def test_with_kvm_both_events_come(wire):
    """The lapic's DEVICE_DELETED and the CPU's own: gone, and nothing is left over for a later bearer."""
    w = wire("-accel", "kvm")
    for _ in range(2):
        w.plug("cpu1", "host-x86_64-cpu", "", socket_id=1)
        w.ok("device_del", id="cpu1")
        w.event("DEVICE_DELETED", path="/machine/peripheral/cpu1/lapic")
        w.event("DEVICE_DELETED", device="cpu1", path="/machine/peripheral/cpu1")
        assert w.device("cpu1") == ("gone",)
    assert w.vm.devices["cpu1"].outstanding == 0
    assert not w.rules


def test_the_end_of_qemu_announces_no_device(wire):
    """QEMU exits with an unplug pending: no DEVICE_DELETED will come, and nothing is overdue."""
    w = wire()
    w.plug("vd1")
    w.ok("device_del", id="vd1")
    i = w.send("quit")
    w.event("SHUTDOWN", guest=False, reason="host-qmp-quit")
    w.answer(i)
    w.put("lost", {})
    w.put("exited", {"status": 0})
    w.checker.close()

    assert not w.rules


# --- 7: backends


def test_backends_are_busy_until_the_event(wire):
    """Between the answer and DEVICE_DELETED blockdev-del is refused, and the node stays; after it, it goes."""
    w = wire()
    w.ok("blockdev-add", driver="null-co", node_name="s1")
    w.plug("vd1", drive="s1")
    w.ok("device_del", id="vd1")
    w.refused("blockdev-del", "Node s1 is in use", node_name="s1")
    assert w.vm.names("node", w.vm.nodes["s1"]) == ("present",)
    deleted(w, "vd1")
    w.ok("blockdev-del", node_name="s1")
    assert w.vm.names("node", w.vm.nodes["s1"]) == ("gone",)


def test_a_netdev_goes_though_its_card_is_still_there(told):
    """netdev_del never refuses; object-del of a memory backend does while its DIMM is there."""
    net, dimm = told("net"), told("dimm")
    early = net.at("<- netdev_del", 2)

    assert early.devices["net1"] == ("present",)
    assert not net.violations
    assert "in use" in dimm.at("<! object-del").qmp["error"]["desc"]
    assert dimm.vm.names("object", dimm.vm.objects["m1"]) == ("gone",)
    assert dimm.vm.names("object", dimm.vm.objects["m2"]) == ("present",)


# --- 8: the id of a synchronous bus


def test_a_synchronous_bus_forgets_the_id_with_the_answer(told):
    """USB: a second device_del is DeviceNotFound, although DEVICE_DELETED has not come."""
    story = told("id_reuse")
    missing = story.at("<! device_del")

    assert missing.qmp["error"]["class"] == "DeviceNotFound"
    assert missing.devices["tab"] == ("gone",)
    assert "DEVICE_DELETED tab" in [s.said for s in story.steps if s.seq > missing.seq]


# --- 9: by path


def test_device_del_takes_a_qom_path(told, wire):
    """`/machine/peripheral/ID` is that device, and `/machine/unattached/device[0]` one without an id."""
    story = told("unplug_path")
    assert story.at("<- device_del").devices["vd1"] == ("unplugging",)
    assert story.at("DEVICE_DELETED vd1").devices["vd1"] == ("gone",)
    assert not story.violations

    w = wire()
    w.refused(
        "device_del",
        "Device '/machine/unattached/device[0]' does not support hotunplugging",
        id="/machine/unattached/device[0]",
    )
    assert not w.rules


# --- 10: while migrating


def test_hotplug_is_refused_while_migrating_and_backends_are_not(wire):
    """device_add and device_del are refused in any status that is no end; netdev_add is not."""
    w = wire()
    w.ok("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
    w.plug("vd1")
    i = w.send("migrate", uri="unix:m")
    w.event("MIGRATION", status="setup")
    w.answer(i)
    w.event("MIGRATION", status="active")
    w.refused(
        "device_add", "device_add not allowed while migrating", id="vd2", driver="virtio-rng-pci", bus="rp1"
    )
    w.refused("device_del", "device_del not allowed while migrating", id="vd1")
    w.ok("netdev_add", type="user", id="n1")

    assert w.device("vd2") == ("gone",)
    assert w.device("vd1") == ("present",)
    assert w.vm.names("netdev", w.vm.netdevs["n1"]) == ("present",)
    assert not w.rules


def test_an_unplug_is_carried_to_the_migrations_target(told):
    """Asked for on the source, done on the target: DEVICE_DELETED there, with no request; here it stays pending."""
    source, target = told("migration_pending_unplug.src"), told("migration_pending_unplug.dst")

    assert source.steps[-1].devices["rng1"] == ("unplugging",)
    assert source.steps[-1].migration == ("completed",)
    assert not target.said("-> device_del")
    assert target.at("DEVICE_DELETED rng1").devices["rng1"] == ("gone",)
    assert not source.violations
    assert not target.violations


# --- 11: error classes


@pytest.mark.parametrize(
    ("command", "arguments", "kind"),
    [
        ("device_del", {"id": "nope"}, ""),
        ("netdev_del", {"id": "nope"}, "netdevs"),
        ("set_link", {"name": "nope", "up": True}, ""),
        ("device_add", {"id": "d9", "driver": "pc-dimm", "memdev": "nope"}, ""),
    ],
)
def test_device_not_found_says_that_nothing_is_there(wire, command, arguments, kind):
    """The four commands whose error has a class of its own: what was named is not there, and that is no breach."""
    w = wire()
    w.put("command", {"qmp": {"execute": command, "arguments": arguments, "id": "n"}})
    w.refuse("n", "Device 'nope' not found", "DeviceNotFound")

    assert not [f for f in w.checker.findings if f.severity == "violation"]
    for collection in ("devices", *([kind] if kind else [])):
        machine = collection.removesuffix("s")
        found = getattr(w.vm, collection)
        name = arguments.get("id", "")
        assert name not in found or w.vm.names(machine, found[name]) == ("gone",)


# --- 12: types


def test_types_are_strict_from_9_2_on(wire, version):
    """7.2 takes "on" and "100" for any property, 10.0 wants JSON's own types: the answer alone decides."""
    w = wire()
    i = w.send("device_add", id="r1", driver="virtio-rng-pci", bus="rp0", **{"max-bytes": "100"})
    if version == "7.2":
        w.answer(i)
    else:
        w.refuse(i, "Parameter 'max-bytes' expects uint64")

    assert w.device("r1") == (("present",) if version == "7.2" else ("gone",))
    assert not w.rules


# --- 13: slow refusals


def test_a_refusal_may_be_slow_and_others_go_on(wire):
    """A failing device_add takes tens of milliseconds: events in between find the device still being added."""
    w = wire()
    i = w.send("device_add", id="vd1", driver="virtio-blk-pci", bus="nobus")
    w.event("RTC_CHANGE", offset=0)
    w.clock += 60_000
    assert w.device("vd1") == ("adding",)
    w.refuse(i, "Bus 'nobus' not found")

    assert w.device("vd1") == ("gone",)
    assert not w.rules
