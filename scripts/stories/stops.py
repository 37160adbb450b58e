"""A VM that stops by itself: a panic, a watchdog, an I/O error."""

import time

from stories.stage import ends, leave, look, say, story


@story
def panic_pause(stage):
    """The guest panics and QEMU pauses it; it is reset and boots again; it panics once more and is continued."""
    vm = stage.machine("-device", "pvpanic", "-action", "panic=pause", append="panic=0")
    vm.boot()
    vm.console.post("echo c > /proc/sysrq-trigger")
    vm.qmp.event("GUEST_PANICKED")
    vm.qmp.event("STOP")
    look(vm)
    vm.qmp.ok("stop")
    vm.qmp.ok("system_reset")
    vm.qmp.ok("query-status")
    vm.boot()
    vm.console.post("echo c > /proc/sysrq-trigger")
    vm.qmp.event("STOP")
    time.sleep(0.2)
    vm.qmp.ok("cont")
    time.sleep(0.2)
    vm.qmp.ok("stop")
    leave(vm)


@story
def panic_poweroff(stage):
    """The guest panics and QEMU ends."""
    vm = stage.machine("-device", "pvpanic", "-action", "panic=shutdown", append="panic=0")
    vm.boot()
    vm.console.post("echo c > /proc/sysrq-trigger")
    ends(vm, "GUEST_PANICKED")


@story
def panic_none(stage):
    """The guest panics, QEMU says so and lets it run; the guest reboots by itself."""
    vm = stage.machine("-device", "pvpanic", "-action", "panic=none")
    vm.boot()
    vm.console.post("echo c > /proc/sysrq-trigger")
    vm.qmp.event("GUEST_PANICKED")
    vm.console.ready()
    vm.qmp.ok("query-status")
    leave(vm)


@story
def panic_no_shutdown(stage):
    """The guest panics under -no-shutdown with the default action."""
    vm = stage.machine("-device", "pvpanic", "-no-shutdown", append="panic=0")
    vm.boot()
    vm.console.post("echo c > /proc/sysrq-trigger")
    vm.qmp.event("GUEST_PANICKED")
    time.sleep(0.5)
    vm.qmp.ok("query-status")
    vm.qmp.command("cont")
    time.sleep(0.2)
    vm.qmp.ok("system_reset")
    vm.qmp.ok("query-status")
    leave(vm)


@story
def watchdog_pause(stage):
    """Nobody feeds the watchdog, which pauses the VM; it is continued, fires again, and is reset."""
    vm = stage.machine("-device", "i6300esb", "-action", "watchdog=pause")
    vm.boot()
    starve(vm)
    vm.qmp.event("WATCHDOG")
    vm.qmp.event("STOP")
    look(vm)
    say(vm, "cont", 0.3, "query-status", "system_reset")
    vm.console.ready()
    starve(vm)
    vm.qmp.event("STOP")
    time.sleep(0.2)
    vm.qmp.ok("system_reset")
    time.sleep(0.2)
    vm.qmp.ok("query-status")
    leave(vm)


@story
def watchdog_reset(stage):
    """Nobody feeds the watchdog, which resets the VM."""
    vm = stage.machine("-device", "i6300esb", "-action", "watchdog=reset")
    vm.boot()
    starve(vm)
    vm.qmp.event("WATCHDOG")
    vm.qmp.event("RESET")
    vm.console.ready()
    vm.qmp.ok("query-status")
    leave(vm)


@story
def watchdog_poweroff(stage):
    """Nobody feeds the watchdog, which ends QEMU."""
    vm = stage.machine("-device", "i6300esb", "-action", "watchdog=poweroff")
    vm.boot()
    starve(vm)
    ends(vm, "WATCHDOG")


def starve(vm):
    """Start the guest's watchdog with two seconds to live, and feed it no more."""
    assert vm.console.run("modprobe i6300esb heartbeat=2 && echo > /dev/watchdog")[0] == 0


@story
def io_error_stop(stage):
    """Writes to a disk with werror=stop fail: the VM stops, is continued and tries again, until it works."""
    stage.image("disk.raw", form="raw")
    errors = ",".join(
        f"inject-error.{n}.event=none,inject-error.{n}.iotype=write,inject-error.{n}.errno={errno},inject-error.{n}.once=on"
        for n, errno in enumerate((5, 28, 5))
    )
    vm = stage.machine(
        "-blockdev", f"driver=blkdebug,node-name=n1,image.driver=file,image.filename=disk.raw,{errors}",
        "-device", "virtio-blk-pci,id=vd1,drive=n1,werror=stop",
    )  # fmt: skip
    vm.boot()
    vm.console.post("dd if=/dev/zero of=/dev/vda bs=4096 count=1 oflag=direct; sync")
    for asks in (True, False, False):
        vm.qmp.event("STOP")
        time.sleep(0.2)
        if asks:
            look(vm)
            vm.qmp.ok("stop")
            vm.qmp.ok("query-block")
        vm.qmp.ok("cont")
    time.sleep(1.2)
    vm.qmp.ok("query-status")
    vm.qmp.ok("stop")
    leave(vm)


@story
def io_error_reset(stage):
    """The same, but the VM is reset while it is stopped for the error."""
    stage.image("disk.raw", form="raw")
    vm = stage.machine(
        "-blockdev",
        "driver=blkdebug,node-name=n1,image.driver=file,image.filename=disk.raw,"
        "inject-error.0.event=none,inject-error.0.iotype=write,inject-error.0.errno=28",
        "-device", "virtio-blk-pci,id=vd1,drive=n1,werror=stop",
    )  # fmt: skip
    vm.boot()
    vm.console.post("dd if=/dev/zero of=/dev/vda bs=4096 count=1 oflag=direct; sync")
    vm.qmp.event("STOP")
    time.sleep(0.2)
    vm.qmp.ok("cont")
    vm.qmp.event("STOP")
    time.sleep(0.2)
    vm.qmp.ok("system_reset")
    time.sleep(0.2)
    vm.qmp.ok("query-status")
    leave(vm)
