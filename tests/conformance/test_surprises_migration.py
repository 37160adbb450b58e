"""What QEMU does when it migrates that its documentation would not make one expect, by version."""

from __future__ import annotations

import pytest

OLD, NEW = "7.2", "10.0"


# --- 6: migrating a sleeping guest


def test_a_sleeping_guest_migrates_and_wakes_or_sleeps_on(wire, version):
    """7.2 wakes it: WAKEUP comes on the source after `completed`. 10.0: the target's RESUME may lead to `suspended`."""
    w = wire()
    events = [{"capability": "events", "state": True}]
    w.ok("migrate-set-capabilities", capabilities=events)
    w.event("SUSPEND")
    i = w.send("migrate", uri="unix:m")
    w.event("MIGRATION", status="setup")
    w.answer(i)
    w.event("MIGRATION", status="active")
    w.event("STOP")
    if version == NEW:
        w.event("MIGRATION", status="device")
    w.event("MIGRATION", status="completed")
    assert w.runstate == ("postmigrate",)
    if version == OLD:
        w.event("WAKEUP")
        assert w.runstate == ("postmigrate",)

    target = wire("-incoming", "unix:m", running=False)
    target.ok("migrate-set-capabilities", capabilities=events)
    target.event("MIGRATION", status="active")
    target.event("RESUME")
    assert target.runstate == (("running",) if version == OLD else ("running", "suspended"))
    target.event("MIGRATION", status="completed")
    assert not w.rules
    assert not target.rules


# --- 10: migration, by version


def test_completion_inserts_device_by_version(told, version):
    """10.0 says `device` in every completion, 7.2 only with pause-before-switchover."""
    plain = told("migration.src").said("MIGRATION ")
    held = told("migration_pause_before_switchover.src").said("MIGRATION ")

    assert ("MIGRATION device" in plain) == (version == NEW)
    assert held.index("MIGRATION pre-switchover") < held.index("MIGRATION device")


@pytest.fixture
def migrating(wire):
    """Return a VM whose migration is active, with events on."""
    w = wire()
    w.ok("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
    i = w.send("migrate", uri="unix:m")
    w.event("MIGRATION", status="setup")
    w.answer(i)
    w.event("MIGRATION", status="active")
    return w


def test_postcopy_is_announced_in_another_order_by_version(migrating, version):
    """7.2 says `postcopy-active` before STOP, 10.0 after STOP and `device`; both end in `postmigrate`."""
    w = migrating
    i = w.send("migrate-start-postcopy")
    w.answer(i)
    for event in ["postcopy-active", "STOP"] if version == OLD else ["STOP", "device", "postcopy-active"]:
        if event == "STOP":
            w.event("STOP")
            assert w.runstate == ("finish-migrate",)
        else:
            w.event("MIGRATION", status=event)
    assert w.migration == ("postcopy-active",)
    w.event("MIGRATION", status="completed")
    assert w.runstate == ("postmigrate",)
    assert not w.rules


def test_cancel_in_postcopy_by_version(migrating, version):
    """7.2 takes it: the source is `cancelled` and in `postmigrate`, and can be continued. 10.0 refuses."""
    w = migrating
    if version == NEW:
        w.event("STOP")
        w.event("MIGRATION", status="device")
        w.event("MIGRATION", status="postcopy-active")
        w.refused("migrate_cancel", "Postcopy migration in progress, cannot cancel.")
        assert w.migration == ("postcopy-active",)
        assert w.runstate == ("finish-migrate",)
    else:
        w.event("MIGRATION", status="postcopy-active")
        w.event("STOP")
        i = w.send("migrate_cancel")
        w.event("MIGRATION", status="cancelling")
        w.answer(i)
        w.event("MIGRATION", status="cancelled")
        assert "postmigrate" in w.runstate
        w.ok("query-status", {"status": "postmigrate", "running": False})
        i = w.send("cont")
        w.event("RESUME")
        w.answer(i)
        assert w.runstate == ("running",)
    assert not w.rules


def test_recovery_of_postcopy_by_version(migrating, version):
    """A broken postcopy is recovered: 10.0 says `postcopy-recover-setup` first, 7.2 does not."""
    w = migrating
    if version == OLD:
        w.event("MIGRATION", status="postcopy-active")
        w.event("STOP")
    else:
        w.event("STOP")
        w.event("MIGRATION", status="device")
        w.event("MIGRATION", status="postcopy-active")
    w.event("MIGRATION", status="postcopy-paused")
    i = w.send("migrate", uri="unix:m", resume=True)
    w.event("MIGRATION", status="postcopy-recover-setup" if version == NEW else "setup")
    w.answer(i)
    for status in ("postcopy-recover", "postcopy-active", "completed"):
        w.event("MIGRATION", status=status)

    assert w.migration == ("completed",)
    assert w.runstate == ("postmigrate",)
    assert not w.rules


def test_a_bad_uri_may_be_announced_before_it_is_refused(wire, version):
    """7.2 sends `setup` (and `failed`) before the error reply of a bad URI; 10.0 only the error."""
    w = wire()
    w.ok("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
    i = w.send("migrate", uri="nonsense:x")
    if version == OLD:
        w.event("MIGRATION", status="setup")
        w.event("MIGRATION", status="failed")
    w.refuse(i, "uri is not a valid migration protocol")

    assert w.migration == (("failed",) if version == OLD else ("none",))
    assert w.runstate == ("running",)
    assert not w.rules


def test_incoming_setup_is_announced_whatever_was_asked(wire, version):
    """7.2 sends `setup` for an incoming migration also with events off; 10.0 keeps the status, unannounced."""
    w = wire("-incoming", "defer", running=False)
    i = w.send("migrate-incoming", uri="unix:m")
    if version == OLD:
        w.event("MIGRATION", status="setup")
    w.answer(i)

    assert ("none" if version == OLD else "setup") in w.migration
    assert "inmigrate" in w.runstate
    assert not w.rules


def test_the_source_is_completed_even_if_the_target_fails(wire, version):
    """MIGRATION `completed` on the source says nothing of the target, whose load may fail after all."""
    target = wire("-incoming", "unix:m", running=False)
    target.ok("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
    target.event("MIGRATION", status="active")
    target.event("MIGRATION", status="failed")
    target.put("lost", {})
    target.put("exited", {"status": 1})

    assert target.migration == ("failed",)
    assert target.vm.names("process", target.vm.process) == ("exited",)
    assert not [f for f in target.checker.findings if f.severity == "violation"]
