"""Migrations that are no plain precopy: what they do to the run state, and what ends them."""

from __future__ import annotations

import pytest

OLD, NEW = (7, 2, 22), (10, 0, 2)


def capable(w, **capabilities):
    told = [{"capability": name.replace("_", "-"), "state": state} for name, state in capabilities.items()]
    w.ok("migrate-set-capabilities", capabilities=told)


def runs(w):
    i = w.send("cont")
    w.event("RESUME")
    w.answer(i)


@pytest.fixture
def active(wire, q35):
    """Return a maker of a VM that runs and whose migration, with these capabilities, is active."""

    def make(version, **capabilities):
        w = wire(version, q35)
        runs(w)
        capable(w, events=True, **capabilities)
        i = w.send("migrate", uri="unix:m")
        w.event("MIGRATION", status="setup")
        w.answer(i)
        w.event("MIGRATION", status="active")
        return w

    return make


@pytest.mark.parametrize("version", [OLD, NEW])
def test_a_background_snapshot_pauses_the_vm_for_a_moment(active, version):
    """Its STOP is no switchover: the VM is paused, and goes on while its memory is saved; no `device` comes before the end."""
    w = active(version, background_snapshot=True)
    w.event("STOP")
    assert w.runstate == ("paused",)
    w.event("RESUME")
    assert w.runstate == ("running",)
    w.event("MIGRATION", status="completed")
    assert (w.runstate, w.migration) == (("running",), ("completed",))
    assert not w.rules


@pytest.mark.parametrize("version", [OLD, NEW])
def test_the_capability_can_be_taken_back(active, version):
    """Without background-snapshot the same STOP is the switchover."""
    w = active(version, background_snapshot=False)
    w.event("STOP")
    assert w.runstate == ("finish-migrate",)


def test_a_completion_without_device_is_impossible_in_10(active):
    """A plain migration of 10.0 says `device`; 7.2 says nothing in between."""
    for version, broken in ((OLD, set()), (NEW, {"impossible-transition"})):
        w = active(version)
        w.event("STOP")
        w.event("MIGRATION", status="completed")
        assert set(w.rules) == broken


def test_quit_cancels_a_postcopy_that_nobody_may_cancel(active):
    """10.0 refuses migrate_cancel in postcopy, and at `quit` does what it refused."""
    w = active(NEW, postcopy_ram=True)
    w.event("STOP")
    for status in ("device", "postcopy-active", "postcopy-paused"):
        w.event("MIGRATION", status=status)
    w.refused("migrate_cancel", "Postcopy migration in progress, cannot cancel.")
    assert w.migration == ("postcopy-paused",)
    i = w.send("quit")
    w.event("SHUTDOWN", guest=False, reason="host-qmp-quit")
    w.event("MIGRATION", status="cancelling")
    w.answer(i)
    assert w.migration == ("cancelling",)
    assert not w.rules


def test_under_colo_a_stop_is_a_checkpoint(active):
    """The VM is in `colo` until RESUME; when COLO ends there it goes on running, and is not in postmigrate."""
    w = active(OLD, x_colo=True)
    w.event("STOP")
    w.event("MIGRATION", status="colo")
    w.event("RESUME")
    assert (w.runstate, w.migration) == (("running",), ("colo",))
    w.event("STOP")
    assert w.runstate == ("colo",)
    i = w.send("x-colo-lost-heartbeat")
    w.event("MIGRATION", status="completed")
    assert w.runstate == ("colo",)
    w.answer(i)
    w.event("RESUME")
    assert w.runstate == ("running",)
    assert not w.rules


def test_a_stop_of_ours_under_colo_pauses(active):
    """A `stop` that is unanswered is the cause of a STOP there too."""
    w = active(OLD, x_colo=True)
    w.event("STOP")
    w.event("MIGRATION", status="colo")
    w.event("RESUME")
    i = w.send("stop")
    w.event("STOP")
    w.answer(i)
    assert "paused" in w.runstate


@pytest.mark.parametrize("version", [OLD, NEW])
def test_jobs_that_stand_still_come_before_stop(wire, q35, version):
    """QEMU has paused the VM already when the jobs say that they stand still; STOP settles it, and so does the answer."""
    w = wire(version, q35)
    runs(w)
    i = w.send("blockdev-backup", job_id="j", device="n1", target="n2", sync="full")
    for status in ("created", "running"):
        w.event("JOB_STATUS_CHANGE", id="j", status=status)
    w.answer(i)
    w.event("JOB_STATUS_CHANGE", id="j", status="paused")
    w.event("JOB_STATUS_CHANGE", id="j", status="running")
    assert w.runstate == ("running",)
    i = w.send("stop")
    w.event("JOB_STATUS_CHANGE", id="j", status="paused")
    assert w.runstate == ("paused", "running")
    w.event("STOP")
    assert w.runstate == ("paused",)
    w.answer(i)
    assert not w.rules


def test_a_job_that_is_no_block_job_is_not_gone(wire, q35):
    """DeviceNotActive says of a block job that it is gone, and of another that it is none."""
    for command, left in (("blockdev-create", ("running",)), ("blockdev-backup", ("null", "undefined"))):
        w = wire(NEW, q35)
        i = w.send(command, job_id="j", device="n1", target="n2", sync="full")
        for status in ("created", "running"):
            w.event("JOB_STATUS_CHANGE", id="j", status=status)
        w.answer(i)
        w.refuse(w.send("block-job-pause", device="j"), "Block job 'j' not found", "DeviceNotActive")
        assert w.vm.names("job", w.vm.jobs["j"]) == left


@pytest.mark.parametrize("version", [OLD, NEW])
def test_a_question_may_meet_what_is_not_announced(active, version):
    """While a migration is on, query-status may say finish-migrate before STOP is sent; that it does after `completed` is no contradiction."""
    w = active(version)
    i = w.send("query-status")
    assert w.runstate == ("finish-migrate", "running")
    w.answer(i, {"status": "running", "running": True})
    assert w.runstate == ("running",)
    w.ok("query-status", {"status": "finish-migrate", "running": False})
    assert w.runstate == ("finish-migrate",)
    w.event("STOP")
    if version >= (8, 2):
        w.event("MIGRATION", status="device")
    assert w.runstate == ("finish-migrate",)
    w.event("MIGRATION", status="completed")
    assert w.runstate == ("postmigrate",)
    w.ok("query-status", {"status": "finish-migrate", "running": False})
    w.ok("query-status", {"status": "postmigrate", "running": False})
    assert w.runstate == ("postmigrate",)
    assert not w.rules


def test_a_refused_cont_may_be_the_first_sign(active):
    """Cont is refused once the migration has stopped the VM, and STOP comes after."""
    w = active(NEW)
    w.refused("cont", "Migration is not finalized yet")
    assert w.runstate == ("finish-migrate",)
    w.event("STOP")
    w.event("MIGRATION", status="device")
    assert not w.rules


@pytest.mark.parametrize("version", [OLD, NEW])
def test_a_migrate_that_is_refused_may_have_failed(wire, q35, version):
    """Without events a refused migrate leaves `failed` behind or nothing; the VM is where it was; with events MIGRATION says."""
    w = wire(version, q35)
    w.refused("migrate", "File descriptor named 'x' has not been found", uri="fd:x")
    assert (w.runstate, w.migration) == (("prelaunch",), ("failed", "none"))
    w.ok("query-migrate", {"status": "failed"})
    w.refused("migrate", "There's a migration process in progress", uri="fd:x")
    assert "active" in w.migration
    assert not w.rules


@pytest.mark.parametrize("version", [OLD, NEW])
def test_a_snapshot_is_told_like_a_migration(active, version):
    """MIGRATION `setup` and `completed` of a snapshot leave the run state alone, also after a migration that failed."""
    w = active(version)
    w.event("MIGRATION", status="failed")
    w.ok("query-migrate", {"status": "failed", "error-desc": "x"})
    i = w.send("stop")
    w.event("STOP")
    w.answer(i)
    i = w.send("snapshot-save", job_id="s", tag="t", vmstate="n", devices=["n"])
    for status in ("created", "running"):
        w.event("JOB_STATUS_CHANGE", id="s", status=status)
    for status in ("setup", "completed"):
        w.event("MIGRATION", status=status)
    assert (w.runstate, w.migration) == (("paused",), ("completed",))
    assert not w.rules


def test_the_first_question_of_an_incoming_vm(wire, q35):
    """However late the first question comes, a VM whose migration is not told of may be anywhere by then."""
    w = wire(NEW, [*q35, "-incoming", "unix:m"])
    assert w.runstate == ("inmigrate",)
    w.send("query-status")
    assert {"inmigrate", "prelaunch", "paused"} <= set(w.runstate)


def test_cancelled_and_then_quit(active):
    """Quit cancels once more a migration that was cancelled and has not ended."""
    w = active(NEW)
    for _ in range(2):
        w.event("MIGRATION", status="cancelling")
    assert not w.rules


def test_another_monitors_migration(wire, q35):
    """Where another monitor may migrate and no event says so, what query-migrate says is news and no contradiction."""
    w = wire(NEW, [*q35, "-qmp", "unix:/run/other,server=on"])
    w.ok("query-migrate", {"status": "active"})
    assert w.migration != ("none",)
    assert not w.rules


def test_answers_just_before_stop_and_just_before_postmigrate(active):
    """A VM that the migration has stopped does `stop`, and refuses `cont`, whatever has been announced of that."""
    w = active(NEW)
    w.ok("stop")
    assert w.runstate == ("finish-migrate",)
    w.event("STOP")
    w.event("MIGRATION", status="device")
    i = w.send("cont")
    w.event("MIGRATION", status="completed")
    w.refuse(i, "Migration is not finalized yet")
    assert w.runstate == ("finish-migrate", "postmigrate")
    w.ok("query-status", {"status": "postmigrate", "running": False})
    assert not w.rules


def test_a_migration_met_by_a_late_trace(wire):
    """A trace that begins late, and finds the VM running and a migration under way, expects it to go on."""
    w = wire(NEW)
    w.event("NIC_RX_FILTER_CHANGED", path="/x")
    w.ok("query-status", {"status": "running", "running": True})
    w.ok("query-migrate", {"status": "cancelling"})
    assert {"cancelling", "cancelled"} <= set(w.migration)
    w.ok("query-migrate", {"status": "cancelled"})
    assert not w.rules
