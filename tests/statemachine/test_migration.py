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
