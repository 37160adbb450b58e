"""What nobody saw: lost answers, gaps and late beginnings leave open what they must, and no more."""

from __future__ import annotations

import pytest
from support.wire import Wire

EVENTS = [{"capability": "events", "state": True}]


def away(w):
    """Let the client leave and another come."""
    w.put("lost", {"by": "us"})
    w.put("opened", {})
    version = dict(zip(("major", "minor", "micro"), w.vm.version, strict=True))
    w.put("greeting", {"qmp": {"QMP": {"version": {"qemu": version}, "capabilities": []}}})
    w.ok("qmp_capabilities")


def deleted(w, name):
    """Write a device's own DEVICE_DELETED."""
    w.event("DEVICE_DELETED", device=name, path=f"/machine/peripheral/{name}")


def test_a_stop_that_was_never_answered_explains_no_later_one_alone(wire):
    """The monitor is lost with `stop` unanswered: a STOP after that may be its, or anybody's."""
    w = wire("-qmp", "unix:/run/other,server=on")
    w.send("stop")
    away(w)
    w.ok("query-status", {"status": "running", "running": True})
    w.event("STOP")

    assert {"paused", "save-vm"} <= set(w.runstate)


def test_of_two_wake_ups_the_second_still_wakes(wire):
    """Two `system_wakeup` in flight, one answered: the guest that sleeps again may be awake at once."""
    w = wire()
    first, second = w.send("system_wakeup"), w.send("system_wakeup")
    w.refuse(first, "Unable to wake up: guest is not in suspended state")
    w.event("SUSPEND")
    assert set(w.runstate) == {"running", "suspended"}
    w.event("WAKEUP")
    w.answer(second)
    w.event("SUSPEND")

    assert w.runstate == ("suspended",)


def test_a_snapshot_answered_after_it_was_over_explains_no_later_stop(wire):
    """The answer to snapshot-load comes last: nothing is being loaded from then on."""
    w = wire()
    i = w.send("snapshot-load", job_id="l", tag="t", vmstate="n", devices=["n"])
    for status in ("created", "running"):
        w.event("JOB_STATUS_CHANGE", id="l", status=status)
    w.event("STOP")
    w.event("RESUME")
    for status in ("waiting", "pending", "concluded"):
        w.event("JOB_STATUS_CHANGE", id="l", status=status)
    w.answer(i)
    w.event("STOP")

    assert "paused" in w.runstate
    assert w.rules == ["stop-unexplained"]


def test_a_target_that_was_left_may_be_through_with_its_migration(wire):
    """A client leaves a target: when one comes back, `completed` may be the incoming migration's or an outgoing one's."""
    w = wire("-incoming", "unix:m", running=False)
    w.ok("migrate-set-capabilities", capabilities=EVENTS)
    w.event("MIGRATION", status="active")
    away(w)
    w.event("MIGRATION", status="completed")

    assert {"paused", "postmigrate", "running"} <= set(w.runstate)
    w.ok("query-status", {"status": "paused", "running": False})
    assert not [f for f in w.checker.findings if f.severity == "violation"]


@pytest.mark.parametrize("full", [(7, 2, 22), (10, 0, 2)], ids=["7.2", "10.0"])
def test_a_log_that_begins_late_may_be_a_targets(full):
    """Nobody knows whether this VM waits for a migration: MIGRATION `completed` leaves a paused one possible."""
    w = Wire(full)
    w.put("greeting", {"qmp": {"QMP": {"version": {"qemu": dict(zip(("major", "minor", "micro"), full, strict=True))}, "capabilities": []}}})  # fmt: skip
    w.ok("qmp_capabilities")
    w.event("MIGRATION", status="completed")
    w.ok("query-status", {"status": "paused", "running": False})

    assert w.runstate == ("paused",)
    assert not w.rules


def test_an_untold_migration_into_this_vm_is_over_with_its_resume(wire):
    """Without events, RESUME of a waiting VM may come before anything was asked: its migration may be completed."""
    w = wire("-incoming", "unix:m", running=False)
    w.event("RESUME")

    assert "completed" in w.migration
    w.ok("query-migrate", {"status": "completed"})
    assert not w.rules


def test_migrate_is_taken_only_when_nothing_comes_in(wire):
    """Without events, an accepted `migrate` shows that the incoming migration is over: what follows is outgoing."""
    w = wire("-incoming", "unix:m", running=False)
    w.ok("query-name", {})
    w.ok("migrate", uri="unix:n")
    w.ok("query-status", {"status": "postmigrate", "running": False})

    assert "postmigrate" in w.runstate
    assert not w.rules


def test_a_job_of_that_id_may_be_another_one_after_a_gap(wire):
    """A job was over when its client left: the id may be borne by a snapshot since, which a STOP may be due to."""
    w = wire()
    i = w.send("blockdev-mirror", job_id="j", device="n", target="t", sync="full")
    for status in ("created", "aborting", "concluded"):
        w.event("JOB_STATUS_CHANGE", id="j", status=status)
    w.answer(i)
    assert w.vm.jobs["j"].type == "mirror"
    away(w)
    w.ok("query-status", {"status": "running", "running": True})
    w.event("JOB_STATUS_CHANGE", id="j", status="running")
    w.event("STOP")

    assert w.vm.jobs["j"].type == ""
    assert {"save-vm", "restore-vm"} <= set(w.runstate)


def test_a_job_is_of_the_type_of_the_command_that_bears_its_id(wire):
    """Two job commands in flight: each job has the type of its own."""
    w = wire()
    w.send("blockdev-mirror", job_id="a", device="n", target="t", sync="full")
    w.send("blockdev-backup", job_id="b", device="m", target="u", sync="full")
    w.event("JOB_STATUS_CHANGE", id="b", status="created")
    w.event("JOB_STATUS_CHANGE", id="a", status="created")
    w.event("JOB_STATUS_CHANGE", id="c", status="created")

    assert [w.vm.jobs[name].type for name in "abc"] == ["mirror", "backup", ""]


def test_an_event_due_before_a_gap_may_have_come_in_it(wire):
    """USB: deleted and added again, and the client leaves: the next DEVICE_DELETED is the old bearer's or the new one's."""
    w = wire("-device", "qemu-xhci,id=usb")
    w.plug("tab", "usb-tablet", "usb.0")
    w.ok("device_del", id="tab")
    w.plug("tab", "usb-tablet", "usb.0")
    away(w)
    names = [{"name": n, "type": "child<x>"} for n in ("rp0", "rp1", "usb", "tab")]
    w.ok("qom-list", names, path="/machine/peripheral")
    deleted(w, "tab")
    assert {"gone", "present"} <= set(w.device("tab"))
    w.ok("qom-list", names, path="/machine/peripheral")
    deleted(w, "tab")

    assert w.device("tab") == ("gone",)
    assert not [f for f in w.checker.findings if f.severity == "violation"]


def test_an_unanswered_plug_of_a_free_id_may_have_been_done(wire):
    """A vCPU under TCG has left, is added again, and QEMU dies: gone or present."""
    w = wire()
    w.plug("cpu1", "max-x86_64-cpu", "", socket_id=1)
    w.ok("device_del", id="cpu1")
    w.event("DEVICE_DELETED", path="/machine/peripheral/cpu1/lapic")
    w.send("device_add", id="cpu1", driver="max-x86_64-cpu", socket_id=1)
    w.put("lost", {})

    assert w.device("cpu1") == ("gone", "present")


def test_an_unanswered_plug_of_an_id_that_became_free_may_have_been_done(wire):
    """USB: the next bearer was asked for while the earlier one was there, which was gone before the answer was lost."""
    w = wire("-device", "qemu-xhci,id=usb")
    w.plug("tab", "usb-tablet", "usb.0")
    unplug = w.send("device_del", id="tab")
    w.send("device_add", id="tab", driver="usb-tablet", bus="usb.0")
    deleted(w, "tab")
    w.answer(unplug)
    assert w.device("tab") == ("gone",)
    w.put("lost", {})

    assert w.device("tab") == ("gone", "present")


def test_a_usb_device_whose_unplug_was_not_answered_is_there_or_not(wire):
    """USB devices go with the command: with the answer lost there is no unplug that is still under way."""
    w = wire("-device", "qemu-xhci,id=usb")
    w.plug("tab", "usb-tablet", "usb.0")
    w.send("device_del", id="tab")
    w.put("lost", {})

    assert set(w.device("tab")) == {"present", "gone"}


@pytest.mark.parametrize(("driver", "bus", "after"), [("usb-tablet", "usb.0", "gone"), ("virtio-rng-pci", "rp0", "unplugging")])  # fmt: skip
def test_a_device_whose_plug_was_not_answered_is_unplugged_as_its_bus_has_it(wire, driver, bus, after):
    """A lost answer leaves what the command said: once QEMU names the device, its unplug goes by the rule of its bus."""
    w = wire("-device", "qemu-xhci,id=usb")
    w.send("device_add", id="new", driver=driver, bus=bus)
    w.put("lost", {})
    w.put("opened", {"alone": True})
    w.ok("qom-list", [{"name": n, "type": "child<x>"} for n in ("rp0", "rp1", "usb", "new")], path="/machine/peripheral")  # fmt: skip
    w.ok("device_del", id="new")

    assert w.device("new") == (after,)


def test_of_two_that_may_bear_an_id_neither_rule_is_certain(wire):
    """An unplug and another device's plug of that id, neither answered: who is there may be either."""
    w = wire("-device", "qemu-xhci,id=usb")
    w.plug("x", "usb-tablet", "usb.0")
    w.send("device_del", id="x")
    w.send("device_add", id="x", driver="virtio-rng-pci", bus="rp0")
    away(w)
    w.ok("qom-list", [{"name": n, "type": "child<x>"} for n in ("rp0", "rp1", "usb", "x")], path="/machine/peripheral")  # fmt: skip
    w.ok("device_del", id="x")

    assert {"gone", "unplugging"} <= set(w.device("x"))


def test_what_a_verb_led_to_may_be_told_no_more(wire):
    """The monitor is lost after `job-pause` was answered: the job may stand still already."""
    w = wire()
    i = w.send("blockdev-mirror", job_id="j", device="n", target="t", sync="full")
    for status in ("created", "running", "ready"):
        w.event("JOB_STATUS_CHANGE", id="j", status=status)
    w.answer(i)
    w.ok("job-pause", id="j")
    assert w.job("j") == ("ready",)
    w.put("lost", {})

    assert {"ready", "standby", "concluded"} <= set(w.job("j"))
