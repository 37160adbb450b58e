"""Live migration over a Unix socket: both ends, in every outcome."""

import time

from stories.stage import NATIVE, PORTS, leave, story

SOCKET = "unix:mig.sock"
CAPABILITIES = {"capabilities": [{"capability": "events", "state": True}]}


def pair(stage, *more, incoming=SOCKET, target_stopped=False, guest=False, append=""):
    """Start both ends with MIGRATION events on, and let the source run."""
    source = stage.machine(*more, name="src", guest=guest, append=append)
    target = stage.machine(
        *more, "-incoming", incoming, name="dst", guest=guest, append=append, stopped=target_stopped
    )
    for end in (source, target):
        end.qmp.ok("migrate-set-capabilities", CAPABILITIES)
    if guest:
        source.boot()
    else:
        source.qmp.ok("cont")
        time.sleep(0.3)
    return source, target


def slowly(source):
    """Make the migration of this source take for ever."""
    source.qmp.ok("migrate-set-parameters", {"max-bandwidth": 4096})


def until(vm, status):
    """Wait for this status in a MIGRATION event."""
    vm.qmp.event("MIGRATION", status=status)


def completed(source, target):
    """Wait until both ends say that it is done."""
    until(source, "completed")
    until(target, "completed")


def migrated(source, target, uri=SOCKET):
    """Migrate, and wait until both ends say that it is done."""
    source.qmp.ok("migrate", {"uri": uri})
    completed(source, target)


def crawling(source):
    """Begin a migration that does not end by itself, and wait until it is under way."""
    slowly(source)
    source.qmp.ok("migrate", {"uri": SOCKET})
    until(source, "active")


def ask(*ends):
    """Ask the ends for their migration and their run state."""
    for end in ends:
        end.qmp.ok("query-migrate")
        end.qmp.ok("query-status")


def leave_both(source, target):
    """End both, the source first."""
    leave(source)
    leave(target)


@story
def migration(stage):
    """A running guest migrates; the target runs on; the source stays behind in postmigrate and quits."""
    source, target = pair(stage, guest=True)
    migrated(source, target)
    target.qmp.event("RESUME")
    ask(source, target)
    target.qmp.ok("stop")
    leave(source)
    target.qmp.ok("cont")
    leave(target)


@story
def migration_unasked(stage):
    """The same without a question, the source continued afterwards, as one does when the target is given up."""
    source, target = pair(stage)
    migrated(source, target)
    time.sleep(0.3)
    leave(target)
    source.qmp.ok("cont")
    time.sleep(0.3)
    source.qmp.ok("stop")
    source.qmp.ok("system_reset")
    leave(source)


@story
def migration_paused(stage):
    """A paused source: the target is paused as well."""
    source, target = pair(stage)
    source.qmp.ok("stop")
    migrated(source, target)
    time.sleep(0.3)
    for end in (source, target):
        end.qmp.ok("query-status")
    leave(source)
    target.qmp.ok("cont")
    time.sleep(0.2)
    leave(target)


@story
def migration_target_S(stage):  # noqa: N802 - the option's name
    """A running source and a target started with -S, told where to listen by migrate-incoming."""
    source, target = pair(stage, incoming="defer", target_stopped=True)
    target.qmp.ok("query-status")
    target.qmp.ok("migrate-incoming", {"uri": SOCKET})
    migrated(source, target)
    time.sleep(0.3)
    target.qmp.ok("query-status")
    target.qmp.ok("cont")
    time.sleep(0.2)
    leave(target)
    leave(source)


@story
def migration_cancelled(stage):
    """Cancelled on the way: the source goes on as if nothing had been, the target ends."""
    source, target = pair(stage)
    crawling(source)
    time.sleep(0.5)
    source.qmp.ok("query-migrate")
    source.qmp.refused("migrate", {"uri": SOCKET})
    source.qmp.refused("device_add", {"driver": "virtio-rng-pci", "id": "r1"})
    source.qmp.ok("migrate_cancel")
    until(source, "cancelled")
    ask(source)
    target.wait()
    source.qmp.ok("stop")
    leave(source)


@story
def migration_failed(stage):
    """Nobody listens; then the target is killed on the way. The source goes on."""
    source, target = pair(stage)
    source.qmp.command("migrate", {"uri": "unix:nosuch.sock"})
    time.sleep(0.3)
    ask(source)
    slowly(source)
    source.qmp.forget()
    source.qmp.ok("migrate", {"uri": SOCKET})
    until(source, "active")
    time.sleep(0.5)
    target.kill(9)
    until(source, "failed")
    ask(source)
    leave(source)


@story
def migration_stop_during(stage):
    """The source is stopped while it migrates; the target ends up paused."""
    source, target = pair(stage)
    crawling(source)
    source.qmp.ok("stop")
    time.sleep(0.2)
    source.qmp.ok("query-status")
    source.qmp.ok("migrate-set-parameters", {"max-bandwidth": 1 << 30})
    completed(source, target)
    time.sleep(0.3)
    target.qmp.ok("query-status")
    leave_both(source, target)


@story
def migration_pause_before_switchover(stage):
    """The capability pause-before-switchover: held in pre-switchover, continued; the target runs."""
    source, target = pair(stage)
    source.qmp.ok(
        "migrate-set-capabilities",
        {"capabilities": [{"capability": "pause-before-switchover", "state": True}]},
    )
    source.qmp.ok("migrate", {"uri": SOCKET})
    until(source, "pre-switchover")
    source.qmp.ok("query-status")
    source.qmp.ok("query-migrate")
    time.sleep(0.3)
    source.qmp.ok("migrate-continue", {"state": "pre-switchover"})
    completed(source, target)
    time.sleep(0.3)
    target.qmp.ok("query-status")
    leave_both(source, target)


@story
def migration_pending_unplug(stage):
    """Native PCIe: an unplug is pending when the guest migrates, and completes on the target."""
    cold = ["-device", "virtio-rng-pci,id=rng1,bus=rp0"]
    source, target = pair(stage, *NATIVE, *PORTS, *cold, guest=True)
    source.qmp.ok("device_del", {"id": "rng1"})
    migrated(source, target)
    target.qmp.event("DEVICE_DELETED", device="rng1")
    for end in (source, target):
        end.qmp.ok("qom-list", {"path": "/machine/peripheral"})
    leave_both(source, target)


@story
def migration_to_file(stage):
    """Saved with migrate to a file by way of a shell, and started from it (libvirt's save and restore)."""
    source = stage.bare(name="src")
    source.qmp.ok("migrate-set-capabilities", CAPABILITIES)
    source.qmp.ok("cont")
    time.sleep(0.3)
    source.qmp.ok("stop")
    source.qmp.ok("migrate", {"uri": "exec:cat > saved"})
    until(source, "completed")
    source.qmp.ok("query-status")
    leave(source)
    target = stage.bare("-incoming", "defer", name="dst")
    target.qmp.ok("migrate-set-capabilities", CAPABILITIES)
    target.qmp.ok("migrate-incoming", {"uri": "exec:cat saved"})
    until(target, "completed")
    target.qmp.ok("query-status")
    target.qmp.ok("cont")
    time.sleep(0.2)
    leave(target)
