"""Migrations of other kinds than plain precopy: postcopy and its recovery, many channels, snapshots of a running VM, COLO."""

import signal
import socket
import time

from stories.failover import NO_SLEEP
from stories.migration import (
    CAPABILITIES,
    SOCKET,
    ask,
    completed,
    crawling,
    leave_both,
    migrated,
    pair,
    slowly,
    until,
)
from stories.stage import leave, story

#: For ever, at this many bytes a second.
CRAWL = 4096


def ends(stage, *more, **options):
    """Start both ends, of a machine that does not sleep, as most are run."""
    return pair(stage, *NO_SLEEP, *more, **options)


def capable(vms, *names):
    """Switch these capabilities on in each of these VMs."""
    capabilities = [{"capability": name, "state": True} for name in names]
    for end in vms:
        end.qmp.ok("migrate-set-capabilities", {"capabilities": capabilities})


def in_postcopy(stage, *, crawl=True, guest=False, paused=False):
    """Start both ends and bring them into postcopy, in which they stay if it crawls."""
    source, target = ends(stage, guest=guest)
    if paused:
        source.qmp.ok("stop")
    capable((source, target), "postcopy-ram")
    slowly(source)
    if crawl:
        source.qmp.ok("migrate-set-parameters", {"max-postcopy-bandwidth": CRAWL})
    source.qmp.ok("migrate", {"uri": SOCKET})
    until(source, "active")
    until(target, "active")
    source.qmp.refused("migrate-pause")
    time.sleep(0.3)
    source.qmp.ok("migrate-start-postcopy")
    until(source, "postcopy-active")
    until(target, "postcopy-active")
    return source, target


def recovered(source, target, uri):
    """Let the target listen anew, and the source go on with its migration there."""
    target.qmp.ok("migrate-recover", {"uri": uri})
    source.qmp.forget()
    target.qmp.forget()
    source.qmp.ok("migrate", {"uri": uri, "resume": True})
    until(source, "postcopy-active")
    until(target, "postcopy-active")


def killed(vm):
    """End a VM as a crash would."""
    vm.kill(signal.SIGKILL)
    vm.wait()


@story
def postcopy(stage):
    """A running guest is moved by postcopy: the target runs while its memory still comes."""
    source, target = in_postcopy(stage, crawl=False, guest=True)
    completed(source, target)
    ask(source, target)
    leave_both(source, target)


@story
def postcopy_reset(stage):
    """Postcopy crawls, and both ends are reset on the way."""
    source, target = in_postcopy(stage)
    target.qmp.event("RESUME")
    target.qmp.ok("query-status")
    target.qmp.ok("system_reset")
    source.qmp.command("system_reset")
    time.sleep(0.3)
    source.qmp.ok("migrate-set-parameters", {"max-postcopy-bandwidth": 0})
    completed(source, target)
    ask(source, target)
    leave_both(source, target)


@story
def postcopy_recovered(stage):
    """Postcopy is broken by yank and by migrate-pause, and recovered twice; a recovery to where nobody listens fails."""
    # Paused, or the target's monitor would stand still too, when QEMU itself waits for memory.
    source, target = in_postcopy(stage, paused=True)
    ask(source, target)
    source.qmp.ok("yank", {"instances": [{"type": "migration"}]})
    until(source, "postcopy-paused")
    until(target, "postcopy-paused")
    ask(source, target)
    source.qmp.command("migrate", {"uri": "unix:nosuch.sock", "resume": True})
    time.sleep(0.5)
    ask(source)
    recovered(source, target, "unix:again.sock")
    ask(source, target)
    source.qmp.ok("migrate-pause")
    until(source, "postcopy-paused")
    until(target, "postcopy-paused")
    source.qmp.ok("system_reset")
    recovered(source, target, "unix:third.sock")
    source.qmp.ok("migrate-set-parameters", {"max-postcopy-bandwidth": 0})
    completed(source, target)
    ask(source, target)
    leave_both(source, target)


@story
def postcopy_broken(stage):
    """The target is killed in postcopy: the source is paused for good; it can be cancelled in 7.2, and never in 10.0."""
    source, target = in_postcopy(stage)
    killed(target)
    until(source, "postcopy-paused")
    ask(source)
    source.qmp.command("cont")
    source.qmp.command("migrate_cancel")
    time.sleep(0.5)
    ask(source)
    leave(source)


@story
def postcopy_cancelled(stage):
    """Cancelled in postcopy: 7.2 does it, and the target ends; 10.0 refuses. Then the source is continued, if it can be."""
    source, target = in_postcopy(stage)
    source.qmp.command("migrate_cancel")
    time.sleep(0.5)
    ask(source)
    source.qmp.command("cont")
    ask(source)
    leave(source)
    target.wait() if not target.alive() else leave(target)


@story
def background_snapshot(stage):
    """A snapshot of a guest that runs on: its memory is protected and saved page by page; a second one is cancelled."""
    source = stage.machine(name="src")
    source.qmp.ok("migrate-set-capabilities", CAPABILITIES)
    source.boot()
    capable((source,), "background-snapshot")
    source.qmp.ok("migrate", {"uri": "exec:cat > saved"})
    until(source, "completed")
    ask(source)
    slowly(source)
    source.qmp.forget()
    time.sleep(0.5)  # 10.0 has not tidied up yet
    source.qmp.ok("migrate", {"uri": "exec:cat > again"})
    until(source, "active")
    source.qmp.event("RESUME")
    ask(source)
    source.qmp.ok("system_reset")
    source.qmp.ok("migrate_cancel")
    until(source, "cancelled")
    ask(source)
    source.qmp.ok("stop")
    leave(source)


@story
def multifd(stage):
    """Memory goes over several channels."""
    source, target = ends(stage, incoming="defer")
    capable((source, target), "multifd")
    for end in (source, target):
        end.qmp.ok("migrate-set-parameters", {"multifd-channels": 3})
    target.qmp.ok("migrate-incoming", {"uri": SOCKET})
    migrated(source, target)
    target.qmp.event("RESUME")
    ask(source, target)
    leave_both(source, target)


@story
def migration_again(stage):
    """Cancelled and reset on the way, then made again to another target; what has gone cannot be sent again."""
    source, target = ends(stage)
    crawling(source)
    source.qmp.ok("system_reset")
    source.qmp.ok("migrate_cancel")
    until(source, "cancelled")
    target.wait()
    source.qmp.forget()
    source.qmp.ok("migrate-set-parameters", {"max-bandwidth": 1 << 30})
    second = stage.bare(*NO_SLEEP, "-incoming", "unix:second.sock", name="dst2", stopped=False)
    second.qmp.ok("migrate-set-capabilities", CAPABILITIES)
    migrated(source, second, "unix:second.sock")
    source.qmp.refused("migrate", {"uri": "unix:third.sock"})
    source.qmp.ok("migrate_cancel")
    ask(source, second)
    leave(source)
    leave(second)


@story
def migration_without_events(stage):
    """Nobody asked for MIGRATION events: a migration that is cancelled and one that is done show in answers only."""
    source = stage.bare(name="src")
    source.qmp.ok("cont")
    target = stage.bare(*NO_SLEEP, "-incoming", SOCKET, name="dst", stopped=False)
    ask(source, target)
    slowly(source)
    source.qmp.ok("migrate", {"uri": SOCKET})
    time.sleep(0.3)
    ask(source, target)
    source.qmp.ok("migrate_cancel")
    time.sleep(0.3)
    ask(source)
    target.wait()
    source.qmp.ok("migrate-set-parameters", {"max-bandwidth": 1 << 30})
    second = stage.bare(*NO_SLEEP, "-incoming", "unix:second.sock", name="dst2", stopped=False)
    second.qmp.ok("query-status")
    source.qmp.ok("migrate", {"uri": "unix:second.sock"})
    second.qmp.event("RESUME", 5)
    time.sleep(0.5)
    source.qmp.ok("query-status")
    second.qmp.ok("query-status")
    ask(source, second)
    leave(source)
    leave(second)


def held(stage, *more, reset=False, paused=False):
    """Start both ends and bring the source into pre-switchover; it waits for the target's word at the end."""
    source, target = ends(stage, *more)
    if paused:
        source.qmp.ok("stop")
    capable((source, target), "return-path")
    capable((source,), "pause-before-switchover")
    source.qmp.ok("migrate", {"uri": SOCKET})
    until(source, "pre-switchover")
    if reset:
        source.qmp.ok("system_reset")
    return source, target


@story
def migration_cancelled_late(stage):
    """Held before the switchover, reset and cancelled: the source goes on."""
    source, target = held(stage, reset=True)
    source.qmp.refused("migrate-continue", {"state": "device"})
    source.qmp.ok("migrate_cancel")
    until(source, "cancelled")
    source.qmp.event("RESUME")
    ask(source)
    target.wait()
    leave(source)


@story
def migration_cancelled_in_device(stage):
    """Everything is sent, and the target stands still: cancelled while the source waits for its word. Then both go on."""
    source, target = held(stage, "-m", "32", paused=True)
    target.kill(signal.SIGSTOP)
    source.qmp.ok("migrate-continue", {"state": "pre-switchover"})
    until(source, "device")
    time.sleep(0.5)
    ask(source)
    source.qmp.ok("migrate_cancel")
    time.sleep(0.3)
    ask(source)
    target.kill(signal.SIGCONT)
    until(source, "cancelled")
    ask(source)
    time.sleep(0.5)
    ask(target)
    leave_both(source, target)


@story
def migration_failed_in_device(stage):
    """Everything is sent, and the target is killed before it has said so: the source goes on."""
    source, target = held(stage)
    target.kill(signal.SIGSTOP)
    source.qmp.ok("migrate-continue", {"state": "pre-switchover"})
    until(source, "device")
    time.sleep(0.5)
    target.kill(signal.SIGKILL)
    until(source, "failed")
    ask(source)
    leave(source)


@story
def migration_cancelled_in_setup(stage):
    """Cancelled while it still tries to connect: somebody listens there, and takes nobody."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(stage.run / "full.sock"))
    listener.listen(0)
    waiting = [socket.socket(socket.AF_UNIX) for _ in range(2)]
    for one in waiting:
        one.setblocking(False)
        one.connect_ex(str(stage.run / "full.sock"))
    source = stage.bare(name="src")
    source.qmp.ok("migrate-set-capabilities", CAPABILITIES)
    source.qmp.ok("cont")
    source.qmp.ok("migrate", {"uri": "unix:full.sock"})
    until(source, "setup")
    time.sleep(0.3)
    ask(source)
    source.qmp.ok("migrate_cancel")
    time.sleep(0.3)
    ask(source)
    for one in (*waiting, listener):
        one.close()
    until(source, "cancelled")
    ask(source)
    leave(source)


@story
def migration_target_fails(stage):
    """The target lacks a device of the source: it fails to load, and ends; 10.0's can be told to stay."""
    source = stage.bare("-device", "virtio-rng-pci,id=rng1", name="src")
    target = stage.bare(*NO_SLEEP, "-incoming", "defer", name="dst")
    for end in (source, target):
        end.qmp.ok("migrate-set-capabilities", CAPABILITIES)
    source.qmp.ok("cont")
    answer = target.qmp.command("migrate-incoming", {"uri": SOCKET, "exit-on-error": False})
    stays = "error" not in answer
    if not stays:
        target.qmp.ok("migrate-incoming", {"uri": SOCKET})
    source.qmp.ok("migrate", {"uri": SOCKET})
    until(target, "failed")
    if stays:
        ask(target)
        leave(target)
    target.wait()
    time.sleep(0.5)
    ask(source)
    source.qmp.command("cont")
    ask(source)
    leave(source)


def in_colo(stage):
    """Start both ends under COLO, with no checkpoint before long; 10.0 makes a plain migration of it."""
    source, target = ends(stage)
    capable((source, target), "x-colo")
    source.qmp.ok("migrate", {"uri": SOCKET})
    until(source, "active")
    source.qmp.event("STOP")
    time.sleep(1)
    ask(source)
    return source, target


@story
def colo(stage):
    """COLO: the target runs in step with the source, until the source is told that the target is gone; 10.0 never gets there."""
    source, target = in_colo(stage)
    source.qmp.command("x-colo-lost-heartbeat")
    time.sleep(1)
    ask(source)
    killed(target)
    ask(source)
    leave(source)


@story
def colo_cancelled(stage):
    """COLO is cancelled, and the source is told to quit."""
    source, target = in_colo(stage)
    source.qmp.command("migrate_cancel")
    time.sleep(1)
    ask(source)
    killed(target)
    time.sleep(1)
    ask(source)
    leave(source)


@story
def colo_checkpoint(stage):
    """COLO makes a checkpoint, which stops both; 7.2's target aborts at it, and the source notices."""
    source, target = ends(stage)
    capable((source, target), "x-colo")
    source.qmp.ok("migrate-set-parameters", {"x-checkpoint-delay": 500})
    source.qmp.ok("migrate", {"uri": SOCKET})
    until(source, "active")
    source.qmp.event("STOP")
    time.sleep(2)
    ask(source)
    source.qmp.command("x-colo-lost-heartbeat")
    time.sleep(1)
    ask(source)
    killed(target)
    leave(source)


@story
def postcopy_held(stage):
    """The capability pause-before-switchover holds postcopy too, before the target runs."""
    source, target = ends(stage)
    capable((source, target), "postcopy-ram")
    capable((source,), "pause-before-switchover")
    crawling(source)
    time.sleep(0.3)
    source.qmp.ok("migrate-start-postcopy")
    until(source, "pre-switchover")
    ask(source)
    source.qmp.ok("migrate-continue", {"state": "pre-switchover"})
    until(source, "postcopy-active")
    completed(source, target)
    ask(source, target)
    leave_both(source, target)


@story
def postcopy_recovery_broken(stage):
    """The target stands still while postcopy is recovered, and yank breaks that: 7.2's target crashes; 10.0 tries again, and quits."""
    source, target = in_postcopy(stage, paused=True)
    for uri in ("unix:again.sock", "unix:third.sock"):
        time.sleep(0.5)
        source.qmp.ok("yank", {"instances": [{"type": "migration"}]})
        target.kill(signal.SIGCONT)
        time.sleep(1)
        if source.qmp.ok("query-migrate")["status"] == "postcopy-paused":
            target.qmp.ok("migrate-recover", {"uri": uri})
            target.kill(signal.SIGSTOP)
            source.qmp.ok("migrate", {"uri": uri, "resume": True})
            until(source, "postcopy-recover")
            ask(source)
    leave(source)
    killed(target)
