"""Jobs, snapshots and dumps, with what they do to the run state."""

import time

from stories.clients import human
from stories.stage import add_node, leave, look, story

DISK = [
    "-blockdev", "driver=qcow2,node-name=n1,file.driver=file,file.filename=disk.qcow2",
    "-device", "virtio-blk-pci,id=vd1,drive=n1",
]  # fmt: skip


def with_disk(stage, *more):
    """Start a VM of firmware and one disk, and let it run."""
    stage.image()
    vm = stage.bare("-m", "32", *DISK, *more)
    vm.qmp.ok("cont")
    time.sleep(0.3)
    return vm


def job(vm, execute, name, **arguments):
    """Start a job and wait until it is over; it is dismissed when it does not go by itself."""
    vm.qmp.ok(execute, {"job-id": name, **arguments})
    vm.qmp.event("JOB_STATUS_CHANGE", id=name, status="concluded")


@story
def snapshot_jobs(stage):
    """Internal snapshots as jobs: saved and loaded, running and paused; one that fails; one deleted."""
    vm = with_disk(stage)
    where = {"vmstate": "n1", "devices": ["n1"]}
    for number, command in enumerate(("", "stop", "", "cont")):
        if command:
            vm.qmp.ok(command)
        job(vm, "snapshot-save", f"s{number}", tag=f"tag{number}", **where)
        vm.qmp.ok("query-jobs")
        vm.qmp.ok("job-dismiss", {"id": f"s{number}"})
        vm.qmp.ok("query-status")
        job(vm, "snapshot-load", f"l{number}", tag=f"tag{number}", **where)
        vm.qmp.ok("job-dismiss", {"id": f"l{number}"})
    job(vm, "snapshot-load", "bad", tag="nosuch", **where)
    vm.qmp.ok("query-status")
    vm.qmp.ok("job-dismiss", {"id": "bad"})
    job(vm, "snapshot-delete", "d0", tag="tag0", devices=["n1"])
    vm.qmp.ok("job-dismiss", {"id": "d0"})
    leave(vm)


@story
def snapshot_unseen(stage):
    """Snapshots of a VM that runs, then loaded into one that is paused, without a question; never dismissed."""
    vm = with_disk(stage)
    where = {"vmstate": "n1", "devices": ["n1"]}
    job(vm, "snapshot-save", "s1", tag="one", **where)
    vm.qmp.ok("stop")
    job(vm, "snapshot-load", "l1", tag="one", **where)
    vm.qmp.ok("cont")
    time.sleep(0.2)
    vm.qmp.ok("system_reset")
    vm.qmp.ok("stop")
    leave(vm)


@story
def savevm_hmp(stage):
    """savevm and loadvm through the human monitor, running and paused, and one that is not there."""
    vm = with_disk(stage)
    human(vm, "savevm one")
    vm.qmp.ok("query-status")
    human(vm, "loadvm one")
    time.sleep(0.2)
    vm.qmp.ok("stop")
    human(vm, "savevm two")
    human(vm, "loadvm one")
    vm.qmp.ok("query-status")
    vm.qmp.ok("cont")
    human(vm, "loadvm nosuch")
    vm.qmp.ok("query-status")
    human(vm, "loadvm two")
    vm.qmp.ok("query-status")
    leave(vm)


@story
def snapshot_after_migration(stage):
    """A migration that failed and one that completed, both told; then snapshots, whose status is told in the same words."""
    vm = with_disk(stage)
    wanted = {"capabilities": [{"capability": "events", "state": True}]}
    vm.qmp.ok("migrate-set-capabilities", wanted)
    vm.qmp.ok("migrate", {"uri": "unix:nosuch.sock"})
    vm.qmp.event("MIGRATION", status="failed")
    where = {"vmstate": "n1", "devices": ["n1"]}
    job(vm, "snapshot-save", "s1", tag="one", **where)
    look(vm)
    vm.qmp.ok("job-dismiss", {"id": "s1"})
    vm.qmp.ok("stop")
    human(vm, "savevm two")
    vm.qmp.ok("query-status")
    vm.qmp.ok("query-migrate")
    vm.qmp.ok("cont")
    vm.qmp.forget()
    vm.qmp.ok("migrate", {"uri": "exec:cat > saved"})
    vm.qmp.event("MIGRATION", status="completed")
    time.sleep(0.3)
    vm.qmp.ok("query-status")
    vm.qmp.ok("cont")
    job(vm, "snapshot-save", "s2", tag="three", **where)
    vm.qmp.ok("query-status")
    vm.qmp.ok("stop")
    job(vm, "snapshot-load", "l1", tag="three", **where)
    vm.qmp.ok("query-status")
    vm.qmp.ok("query-migrate")
    leave(vm)


@story
def devices_saved(stage):
    """The state of the devices alone is saved, from a VM that runs and one that is paused; a file that cannot be made stops it too."""
    vm = with_disk(stage)
    for number, command in enumerate(("", "stop", "cont", "system_reset")):
        if command:
            vm.qmp.ok(command)
        vm.qmp.ok("xen-save-devices-state", {"filename": f"state{number}"})
        vm.qmp.ok("query-status")
    vm.qmp.refused("xen-save-devices-state", {"filename": "/nosuch/folder/state"})
    vm.qmp.ok("query-status")
    leave(vm)


@story
def dump_guest_memory(stage):
    """The guest's memory is dumped: waited for, detached, paused, and refused."""
    vm = with_disk(stage)
    vm.qmp.ok("dump-guest-memory", {"paging": False, "protocol": "file:one.core"})
    vm.qmp.ok("query-status")
    vm.qmp.forget()
    vm.qmp.ok("dump-guest-memory", {"paging": False, "protocol": "file:two.core", "detach": True})
    vm.qmp.event("DUMP_COMPLETED")
    # 10.0 says so a moment before another dump is allowed.
    time.sleep(0.5)
    vm.qmp.ok("query-dump")
    vm.qmp.ok("query-status")
    vm.qmp.ok("stop")
    vm.qmp.ok("dump-guest-memory", {"paging": False, "protocol": "file:three.core"})
    vm.qmp.ok("query-status")
    vm.qmp.refused("dump-guest-memory", {"paging": False, "protocol": "file:/nosuch/folder/core"})
    vm.qmp.ok("query-status")
    leave(vm)


@story
def mirror(stage):
    """A disk is mirrored: cancelled by force on the way, cancelled when ready, and completed."""
    vm = with_disk(stage)
    for name in ("force", "cancel", "complete"):
        add_node(vm, f"t-{name}", stage.image(f"{name}.qcow2"))
        speed = {"speed": 1} if name == "force" else {}
        vm.qmp.ok("stop" if name == "cancel" else "cont")
        vm.qmp.ok(
            "blockdev-mirror",
            {"job-id": name, "device": "n1", "target": f"t-{name}", "sync": "full", **speed},
        )
        if name != "force":
            vm.qmp.event("BLOCK_JOB_READY", device=name)
        vm.qmp.ok("query-jobs")
        if name == "complete":
            vm.qmp.ok("job-complete", {"id": name})
        else:
            vm.qmp.ok("block-job-cancel", {"device": name, "force": name == "force"})
        vm.qmp.event("JOB_STATUS_CHANGE", id=name, status="null")
        vm.qmp.ok("query-jobs")
    leave(vm)


@story
def backup(stage):
    """A backup that is paused, resumed, finalized and dismissed by hand; a second is cancelled; a third is refused its name."""
    vm = with_disk(stage)
    add_node(vm, "t1", stage.image("t1.qcow2"))
    add_node(vm, "t2", stage.image("t2.qcow2"))
    manual = {"auto-finalize": False, "auto-dismiss": False, "sync": "full", "device": "n1"}
    vm.qmp.ok("blockdev-backup", {"job-id": "b1", "target": "t1", **manual, "speed": 1 << 16})
    vm.qmp.ok("job-pause", {"id": "b1"})
    vm.qmp.event("JOB_STATUS_CHANGE", id="b1", status="paused")
    vm.qmp.ok("query-jobs")
    vm.qmp.refused("blockdev-backup", {"job-id": "b1", "target": "t2", **manual})
    vm.qmp.ok("job-resume", {"id": "b1"})
    vm.qmp.ok("block-job-set-speed", {"device": "b1", "speed": 0})
    vm.qmp.event("JOB_STATUS_CHANGE", id="b1", status="pending")
    vm.qmp.ok("query-jobs")
    vm.qmp.refused("job-dismiss", {"id": "b1"})
    vm.qmp.ok("job-finalize", {"id": "b1"})
    vm.qmp.event("JOB_STATUS_CHANGE", id="b1", status="concluded")
    vm.qmp.ok("query-jobs")
    vm.qmp.ok("job-dismiss", {"id": "b1"})
    vm.qmp.refused("job-cancel", {"id": "b1"})
    vm.qmp.ok("blockdev-backup", {"job-id": "b2", "target": "t2", **manual, "speed": 1})
    vm.qmp.ok("job-cancel", {"id": "b2"})
    vm.qmp.event("JOB_STATUS_CHANGE", id="b2", status="concluded")
    vm.qmp.ok("query-jobs")
    vm.qmp.ok("job-dismiss", {"id": "b2"})
    look(vm)
    leave(vm)


@story
def jobs_at_quit(stage):
    """QEMU is told to quit while a mirror is ready and a backup is going on."""
    vm = with_disk(stage)
    add_node(vm, "t1", stage.image("t1.qcow2"))
    add_node(vm, "t2", stage.image("t2.qcow2"))
    add_node(vm, "n2", stage.image("other.qcow2"))
    vm.qmp.ok("blockdev-mirror", {"job-id": "m1", "device": "n1", "target": "t1", "sync": "full"})
    vm.qmp.event("BLOCK_JOB_READY")
    vm.qmp.ok("blockdev-backup", {"job-id": "b1", "device": "n2", "target": "t2", "sync": "full", "speed": 1})
    vm.qmp.ok("query-jobs")
    leave(vm)
