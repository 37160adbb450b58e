"""The run state: what each event and answer leaves possible."""

from __future__ import annotations

import pytest

OLD, NEW = (7, 2, 22), (10, 0, 2)
BOTH = pytest.mark.parametrize("version", [OLD, NEW], ids=["7.2", "10.0"])


@pytest.fixture
def running(wire, q35):
    def start(version=NEW, *more):
        w = wire(version, [*q35, *more])
        i = w.send("cont")
        w.event("RESUME")
        w.answer(i)
        assert w.runstate == ("running",)
        return w

    return start


@BOTH
def test_paused_launch_waits_in_prelaunch(wire, q35, version):
    """With -S the VM is in prelaunch until cont."""
    assert wire(version, q35).runstate == ("prelaunch",)


@BOTH
def test_without_s_the_first_answer_finds_it_running(wire, q35, version):
    """Without -S no RESUME is seen; the first answer shows that start-up is over."""
    w = wire(version, [a for a in q35 if a != "-S"])

    assert w.runstate == ("running",)
    assert w.vm.assumptions["first-reply"] == 1


@BOTH
def test_incoming_waits_for_its_migration(wire, q35, version):
    """With -incoming the VM is in inmigrate, once it is known that events would tell of the end."""
    w = wire(version, [*q35, "-incoming", "unix:/run/mig"])
    w.ok("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])

    assert w.runstate == ("inmigrate",)


@BOTH
def test_our_stop_pauses(running, version):
    """STOP before the answer to our own stop: paused, by us."""
    w = running(version)
    i = w.send("stop")
    w.event("STOP")
    assert w.runstate == ("paused",)
    assert w.vm.runstate.cause == "stop"
    w.answer(i)
    assert w.runstate == ("paused",)


@BOTH
def test_stop_when_stopped_is_a_reply_and_nothing_else(wire, q35, version):
    """A stop that changes nothing sends no event and leaves the state as it was."""
    w = wire(version, q35)
    w.ok("stop")

    assert w.runstate == ("prelaunch",)
    assert not w.rules


@pytest.mark.parametrize(
    ("event", "data", "state"),
    [
        ("WATCHDOG", {"action": "pause"}, "watchdog"),
        ("GUEST_PANICKED", {"action": "pause"}, "guest-panicked"),
        ("BLOCK_IO_ERROR", {"action": "stop", "device": "", "operation": "write"}, "io-error"),
    ],
)
@BOTH
def test_a_stop_has_the_cause_announced_before_it(running, version, event, data, state):
    """WATCHDOG, GUEST_PANICKED and BLOCK_IO_ERROR say what the STOP after them is."""
    w = running(version)
    w.event(event, **data)
    assert w.runstate == ("running",)
    w.event("STOP")

    assert w.runstate == (state,)
    assert w.vm.assumptions["stop-has-its-cause"] >= 1


def test_a_cause_that_does_not_stop_explains_nothing(running):
    """WATCHDOG with action none is no cause of the next STOP."""
    w = running()
    w.event("WATCHDOG", action="none")
    w.clock += 5_000_000
    w.event("STOP")

    assert "watchdog" not in w.runstate
    assert "stop-unexplained" in w.rules


def test_a_rate_limited_cause_may_come_after_its_stop(running):
    """Within the rate limit of an earlier BLOCK_IO_ERROR a STOP may be the next one's; outside it may not (10.0)."""
    w = running()
    w.event("BLOCK_IO_ERROR", action="report", device="", operation="read")
    w.clock += 500_000
    w.event("STOP")
    assert "io-error" in w.runstate

    w = running()
    w.event("BLOCK_IO_ERROR", action="report", device="", operation="read")
    w.clock += 5_000_000
    w.event("STOP")
    assert "io-error" not in w.runstate


def test_a_late_cause_does_not_explain_the_next_stop(running):
    """A BLOCK_IO_ERROR older than the last RESUME belongs to a STOP that is over."""
    w = running()
    before = w.clock
    w.event("BLOCK_IO_ERROR", action="stop", device="", operation="write")
    w.event("STOP")
    i = w.send("cont")
    w.event("RESUME")
    w.answer(i)
    w.event("BLOCK_IO_ERROR", at=before + 500, action="stop", device="", operation="write")
    w.clock += 5_000_000
    i = w.send("stop")
    w.event("STOP")
    w.answer(i)

    assert w.runstate == ("paused",)


@BOTH
def test_reset_of_a_stopped_vm_is_prelaunch_and_says_only_reset(running, version):
    """RESET moves a stopped VM to prelaunch, and leaves a running one running."""
    w = running(version)
    w.event("RESET", guest=True, reason="guest-reset")
    assert w.runstate == ("running",)
    i = w.send("stop")
    w.event("STOP")
    w.answer(i)
    i = w.send("system_reset")
    w.event("RESET", guest=False, reason="host-qmp-system-reset")
    w.answer(i)
    assert w.runstate == ("prelaunch",)


@BOTH
def test_shutdown_that_pauses_needs_a_reset(running, version):
    """With -no-shutdown SHUTDOWN and STOP lead to shutdown; cont is refused, a reset leads to prelaunch."""
    w = running(version, "-no-shutdown")
    w.event("SHUTDOWN", guest=True, reason="guest-shutdown")
    assert w.runstate == ("running",)
    w.event("STOP")
    assert w.runstate == ("shutdown",)
    w.refused("cont", "Resetting the Virtual Machine is required")
    assert w.runstate == ("shutdown",)
    w.event("RESET", guest=False, reason="host-qmp-system-reset")
    assert w.runstate == ("prelaunch",)


def test_stop_in_sleep_is_remembered_since_9(running):
    """10.0 pauses a sleeping guest and returns it to sleep; 7.2 ignores the stop."""
    w = running(NEW)
    w.event("SUSPEND")
    assert w.runstate == ("suspended",)
    i = w.send("stop")
    w.event("STOP")
    w.answer(i)
    assert w.runstate == ("paused",)
    i = w.send("cont")
    w.event("RESUME")
    w.answer(i)
    assert w.runstate == ("suspended",)

    w = running(OLD)
    w.event("SUSPEND")
    w.ok("stop")
    assert w.runstate == ("suspended",)


@BOTH
def test_wakeup_runs(running, version):
    """WAKEUP takes a sleeping guest back to running."""
    w = running(version)
    w.event("SUSPEND")
    i = w.send("system_wakeup")
    w.event("WAKEUP")
    w.answer(i)

    assert w.runstate == ("running",)


@BOTH
def test_an_outgoing_migration_ends_in_postmigrate(running, version):
    """STOP of a migration is finish-migrate; MIGRATION completed is followed by postmigrate, silently."""
    w = running(version)
    w.ok("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
    i = w.send("migrate", uri="unix:/run/mig")
    w.event("MIGRATION", status="setup")
    w.answer(i)
    w.event("MIGRATION", status="active")
    assert w.runstate == ("running",)
    w.event("STOP")
    assert w.runstate == ("finish-migrate",)
    if version == NEW:
        w.event("MIGRATION", status="device")
    w.event("MIGRATION", status="completed")
    assert w.runstate == ("postmigrate",)
    assert w.migration == ("completed",)
    w.ok("query-status", {"status": "finish-migrate", "running": False})
    assert w.runstate == ("finish-migrate", "postmigrate")  # it is not there yet, and will be without a word
    w.ok("query-status", {"status": "postmigrate", "running": False})
    assert w.runstate == ("postmigrate",)
    assert "contradicted-by-query" not in w.rules


@BOTH
def test_a_migration_without_events_may_be_anywhere_until_it_is_asked(running, version):
    """Without the capability `events` the belief is wide, and a query narrows it."""
    w = running(version)
    w.ok("migrate", uri="unix:/run/mig")
    assert {"setup", "active", "completed", "failed"} <= set(w.migration)
    w.event("STOP")
    assert "finish-migrate" in w.runstate
    w.ok("query-migrate", {"status": "completed"})
    assert w.migration == ("completed",)


@BOTH
def test_a_failed_migration_resumes(running, version):
    """A migration that is cancelled after the VM was stopped gives it back with RESUME."""
    w = running(version)
    w.ok("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
    w.ok("migrate", uri="unix:/run/mig")
    w.event("MIGRATION", status="setup")
    w.event("MIGRATION", status="active")
    w.event("STOP")
    w.event("MIGRATION", status="cancelling")
    w.event("RESUME")
    w.event("MIGRATION", status="cancelled")

    assert w.runstate == ("running",)
    assert w.migration == ("cancelled",)


@BOTH
def test_snapshots_stop_and_resume(running, version):
    """A snapshot job's STOP is save-vm; HMP's savevm likewise, before its answer."""
    w = running(version)
    i = w.send("snapshot-save", job_id="s", tag="t", vmstate="d", devices=["d"])
    w.event("JOB_STATUS_CHANGE", id="s", status="created")
    w.event("JOB_STATUS_CHANGE", id="s", status="running")
    w.answer(i)
    w.event("STOP")
    assert w.runstate == ("save-vm",)
    w.event("RESUME")
    assert w.runstate == ("running",)
    i = w.send("human-monitor-command", command_line="savevm t")
    w.event("STOP")
    assert w.runstate == ("save-vm",)
    w.event("RESUME")
    w.answer(i, "")
    assert w.runstate == ("running",)


def test_a_stop_nobody_asked_for_is_said_and_stays_open(wire, q35):
    """With two monitors a STOP without cause may be the other's pause, snapshot or migration."""
    w = wire(NEW, [*[a for a in q35 if a != "-S"], "-qmp", "unix:/run/other,server=on"])
    w.event("STOP")

    assert {"paused", "save-vm", "finish-migrate"} <= set(w.runstate)
    assert w.rules == ["stop-unexplained"]
    w.ok("query-status", {"status": "paused", "running": False})
    assert w.runstate == ("paused",)


@BOTH
def test_a_late_start_knows_nothing_until_told(wire, version):
    """A trace that begins in the middle believes every state, and the first query settles it."""
    w = wire(version)
    w.event("NIC_RX_FILTER_CHANGED", path="/x")
    w.ok("query-status", {"status": "io-error", "running": False})
    assert w.runstate == ("io-error",)
    assert w.vm.assumptions["no-unseen-migration"] == 1
    w.ok("query-migrate", {})
    assert w.migration == ("none",)
    assert w.runstate == ("io-error",)
    assert not w.rules


def test_an_impossible_transition_is_a_violation_and_not_the_end(running):
    """RESUME of a running VM cannot be; the belief goes on from whatever RESUME leads to."""
    w = running()
    w.event("RESUME")

    assert w.rules == ["impossible-transition"]
    assert "running" in w.runstate


def test_quit_stops_the_vcpus_without_a_word(running):
    """After SHUTDOWN and the end of the stream the run state is shutdown."""
    w = running()
    i = w.send("quit")
    w.event("SHUTDOWN", guest=False, reason="host-qmp-quit")
    w.answer(i)
    assert w.runstate == ("running",)
    w.put("lost", {"by": "peer"})
    w.put("exited", {"status": 0})

    assert w.runstate == ("shutdown",)
    assert w.vm.names("process", w.vm.process) == ("exited",)
    assert not w.rules


@pytest.mark.parametrize(
    ("more", "after"),
    [([], ("running", "suspended")), (["-global", "ICH9-LPC.disable_s3=1"], ("running",))],
)
def test_a_guest_that_is_offered_no_sleep_arrives_awake(wire, q35, more, after):
    """RESUME ends an incoming migration (9.0 on): the guest may have slept on the source, unless there is no S3."""
    w = wire((10, 0, 2), [*q35, "-incoming", "defer", *more])
    w.ok("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
    w.event("RESUME")

    assert w.runstate == after
    assert (w.vm.assumptions["no-s3-no-sleep"] > 0) is bool(more)


def test_a_wake_up_is_announced_once_and_before_the_next_sleep(running):
    """WAKEUP comes for a guest that slept or that somebody woke, before its answer or after; no SUSPEND comes in between."""
    w = running()
    for early in (True, False):
        w.event("SUSPEND")
        i = w.send("system_wakeup")
        if early:
            w.event("WAKEUP")
        w.answer(i)
        if not early:
            w.event("WAKEUP")
        assert w.runstate == ("running",)
    assert not w.rules
    w.event("WAKEUP")
    assert w.rules == ["impossible-transition"]
    w.event("SUSPEND")
    w.ok("system_wakeup")
    w.event("SUSPEND")

    assert w.rules == ["impossible-transition"] * 2


def test_a_wake_up_that_was_refused_wakes_nobody(running):
    """After the refusal a WAKEUP is as impossible as before; one that was done stays due."""
    w = running()
    awake = "Unable to wake up: guest is not in suspended state"
    w.refused("system_wakeup", awake)
    w.event("WAKEUP")
    assert w.rules == ["impossible-transition"]
    w.event("SUSPEND")
    w.ok("system_wakeup")
    w.refused("system_wakeup", awake)
    w.event("WAKEUP")

    assert w.rules == ["impossible-transition"]


def test_a_dump_is_over_before_the_vm_goes_on(running):
    """DUMP_COMPLETED of a running VM cannot be."""
    w = running()
    w.event("DUMP_COMPLETED", result={"total": 1, "status": "completed", "completed": 1})

    assert w.rules == ["impossible-transition"]


def migrating(w):
    w.ok("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
    return migrate(w)


def migrate(w):
    i = w.send("migrate", uri="unix:/run/mig")
    w.event("MIGRATION", status="setup")
    w.answer(i)
    w.event("MIGRATION", status="active")
    return w


@BOTH
def test_while_a_migration_is_on_another_is_refused_and_no_device_is_added(running, version):
    """What QEMU answers to nobody while it migrates away is a violation, and none any more when that has ended."""
    w = migrating(running(version))
    w.refused("migrate", "There's a migration process in progress", uri="unix:/run/mig")
    w.refused(
        "device_add", "device_add not allowed while migrating", driver="virtio-rng-pci", id="r1", bus="rp0"
    )
    assert not w.rules
    w.plug("r1", "virtio-rng-pci")
    w.ok("migrate", uri="unix:/run/mig")
    assert w.rules == ["impossible-transition"] * 2
    for status in ("cancelling", "cancelled"):
        w.event("MIGRATION", status=status)
    w.plug("r2", "virtio-rng-pci", "rp1")
    migrate(w)

    assert w.rules == ["impossible-transition"] * 2


def test_a_migration_that_is_resumed_is_no_second_one(running):
    """A migrate with resume, and one after query-migrate has told of the end, are taken."""
    w = migrating(running())
    w.ok("migrate", uri="unix:/run/mig", resume=True)
    assert not w.rules
    w.ok("query-migrate", {"status": "active"})
    w.event("MIGRATION", status="failed")
    w.ok("query-migrate", {"status": "failed"})
    migrate(w)

    assert not [rule for rule in w.rules if rule != "migration-failed"]


@BOTH
@pytest.mark.parametrize("status", ["device", "pre-switchover"])
def test_the_vm_is_stopped_before_the_switchover(running, version, status):
    """MIGRATION device while the VM runs cannot be; after its STOP it is told of finish-migrate."""
    w = migrating(running(version))
    w.event("STOP")
    w.event("MIGRATION", status=status)
    assert w.runstate == ("finish-migrate",)
    assert not w.rules
    w = migrating(running(version))
    w.event("MIGRATION", status=status)

    assert w.rules == ["impossible-transition"]


@BOTH
def test_devices_saved_alone_stop_the_vm_too(running, version):
    """xen-save-devices-state stops the VM in save-vm and lets it go on."""
    w = running(version)
    i = w.send("xen-save-devices-state", filename="f")
    w.event("STOP")
    assert w.runstate == ("save-vm",)
    w.event("RESUME")
    w.answer(i)
    assert w.runstate == ("running",)


def test_a_shutdown_that_only_pauses_after_all(running):
    """A STOP after SHUTDOWN says that somebody, unseen, has told QEMU to pause; and so may the next one."""
    w = running(NEW)
    for _ in range(2):
        w.event("SHUTDOWN", guest=True, reason="guest-shutdown")
    w.event("STOP")
    assert w.runstate == ("shutdown",)
    w.ok("set-action", shutdown="pause")
    w.event("SHUTDOWN", guest=False, reason="host-qmp-system-reset")
    assert not w.rules
