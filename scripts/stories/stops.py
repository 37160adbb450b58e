"""A VM that stops by itself: a panic, a watchdog, an I/O error."""

import time

from stories.stage import ends, leave, look, say, story


@story
def panic_pause(stage):
    """The guest panics and QEMU pauses it; it is reset and boots again; it panics once more and is continued."""
    vm = panicked(stage, "-action", "panic=pause")
    vm.qmp.event("GUEST_PANICKED")
    vm.qmp.event("STOP")
    look(vm)
    say(vm, "stop", "system_reset", "query-status")
    vm.boot()
    panic(vm)
    vm.qmp.event("STOP")
    say(vm, 0.2, "cont", 0.2, "stop")
    leave(vm)


@story
def panic_poweroff(stage):
    """The guest panics and QEMU ends."""
    vm = panicked(stage, "-action", "panic=shutdown")
    ends(vm, "GUEST_PANICKED")


@story
def panic_none(stage):
    """The guest panics, QEMU says so and lets it run; the guest reboots by itself."""
    vm = panicked(stage, "-action", "panic=none", append="")
    vm.qmp.event("GUEST_PANICKED")
    vm.console.ready()
    vm.qmp.ok("query-status")
    leave(vm)


@story
def panic_no_shutdown(stage):
    """The guest panics under -no-shutdown with the default action."""
    vm = panicked(stage, "-no-shutdown")
    vm.qmp.event("GUEST_PANICKED")
    say(vm, 0.5, "query-status")
    vm.qmp.command("cont")
    say(vm, 0.2, "system_reset", "query-status")
    leave(vm)


def panicked(stage, *arguments, append="panic=0"):
    """Boot a guest with pvpanic, and have it panic; with panic=0 it then stays where it is."""
    vm = stage.machine("-device", "pvpanic", *arguments, append=append)
    vm.boot()
    panic(vm)
    return vm


def panic(vm):
    """Have the guest panic."""
    vm.console.post("echo c > /proc/sysrq-trigger")


@story
def watchdog_pause(stage):
    """Nobody feeds the watchdog, which pauses the VM; it is continued, fires again, and is reset."""
    vm = starved(stage, "pause")
    vm.qmp.event("WATCHDOG")
    vm.qmp.event("STOP")
    look(vm)
    say(vm, "cont", 0.3, "query-status", "system_reset")
    vm.console.ready()
    starve(vm)
    vm.qmp.event("STOP")
    say(vm, 0.2, "system_reset", 0.2, "query-status")
    leave(vm)


@story
def watchdog_reset(stage):
    """Nobody feeds the watchdog, which resets the VM."""
    vm = starved(stage, "reset")
    vm.qmp.event("WATCHDOG")
    vm.qmp.event("RESET")
    vm.console.ready()
    vm.qmp.ok("query-status")
    leave(vm)


@story
def watchdog_poweroff(stage):
    """Nobody feeds the watchdog, which ends QEMU."""
    vm = starved(stage, "poweroff")
    ends(vm, "WATCHDOG")


def starved(stage, action):
    """Boot a guest with a watchdog of that action, and starve it."""
    vm = stage.machine("-device", "i6300esb", "-action", f"watchdog={action}")
    vm.boot()
    starve(vm)
    return vm


def starve(vm):
    """Start the guest's watchdog with two seconds to live, and feed it no more."""
    assert vm.console.run("modprobe i6300esb heartbeat=2 && echo > /dev/watchdog")[0] == 0


@story
def io_error_stop(stage):
    """Writes to a disk with werror=stop fail: the VM stops, is continued and tries again, until it works."""
    errors = (
        f"inject-error.{n}.event=none,inject-error.{n}.iotype=write,inject-error.{n}.errno={errno},inject-error.{n}.once=on"
        for n, errno in enumerate((5, 28, 5))
    )
    vm = failing(stage, ",".join(errors))
    for asks in (True, False, False):
        vm.qmp.event("STOP")
        time.sleep(0.2)
        if asks:
            look(vm)
            say(vm, "stop", "query-block")
        vm.qmp.ok("cont")
    say(vm, 1.2, "query-status", "stop")
    leave(vm)


@story
def io_error_reset(stage):
    """The same, but the VM is reset while it is stopped for the error."""
    vm = failing(stage, "inject-error.0.event=none,inject-error.0.iotype=write,inject-error.0.errno=28")
    vm.qmp.event("STOP")
    say(vm, 0.2, "cont")
    vm.qmp.event("STOP")
    say(vm, 0.2, "system_reset", 0.2, "query-status")
    leave(vm)


def failing(stage, errors):
    """Boot a guest with a disk that fails so and stops the VM for it, and have it write there."""
    stage.image("disk.raw", form="raw")
    vm = stage.machine(
        "-blockdev", f"driver=blkdebug,node-name=n1,image.driver=file,image.filename=disk.raw,{errors}",
        "-device", "virtio-blk-pci,id=vd1,drive=n1,werror=stop",
    )  # fmt: skip
    vm.boot()
    vm.console.post("dd if=/dev/zero of=/dev/vda bs=4096 count=1 oflag=direct; sync")
    return vm
