"""From launch to the end of the process, in all the ways there are."""

import signal
import time

from stories.stage import ends, leave, look, say, story


@story
def boot_powerdown(stage):
    """The guest boots, and powers off when its ACPI button is pressed."""
    vm = stage.machine()
    look(vm)
    vm.boot()
    look(vm)
    vm.qmp.ok("system_powerdown")
    ends(vm, "SHUTDOWN")


@story
def powerdown_ignored(stage):
    """The guest has no driver for its button: POWERDOWN and nothing more. Then it is told to quit."""
    vm = stage.machine(append="guest.nobutton")
    vm.boot()
    for _ in range(2):
        vm.qmp.ok("system_powerdown")
        time.sleep(1)
    vm.qmp.ok("stop")
    vm.qmp.ok("system_powerdown")
    leave(vm)


@story
def stop_cont(stage):
    """Stop and cont, also when there is nothing to do, with and without asking for the state in between."""
    vm = stage.bare()
    vm.qmp.ok("query-status")
    for asks in (True, False, True):
        vm.qmp.ok("cont")
        if asks:
            vm.qmp.ok("query-status")
        vm.qmp.ok("cont")
        time.sleep(0.2)
        vm.qmp.ok("stop")
        if asks:
            vm.qmp.ok("query-status")
        vm.qmp.ok("stop")
        time.sleep(0.2)
    for command in ("cont", "stop") * 3:
        vm.qmp.post(command)
    vm.qmp.ok("query-status")
    leave(vm)


@story
def no_S_boot(stage):  # noqa: N802 - the option's name
    """Started without -S: it runs before anyone is connected."""
    vm = stage.machine(stopped=False)
    vm.console.ready()
    say(vm, "stop", "query-status", "cont", 0.3, "system_reset")
    vm.console.ready()
    leave(vm)


@story
def late_stop(stage):
    """Started without -S and stopped before the first question."""
    vm = stage.bare(stopped=False)
    time.sleep(0.5)
    say(vm, "stop", 0.2, "system_reset", 0.2, "query-status")
    leave(vm)


@story
def reset(stage):
    """Reset before the first cont, while running, while paused, and twice in a row."""
    vm = stage.bare()
    say(vm, "system_reset", "query-status", "cont", 0.3)
    say(vm, "system_reset", 0.3, "query-status", "stop")
    say(vm, "system_reset", 0.3, "query-status", "stop", "query-status", "cont")
    say(vm, "system_reset", "system_reset", "stop", "system_reset", "cont", 0.3)
    leave(vm)


@story
def guest_reboot(stage):
    """The guest reboots by itself, once while the host waits and once just before a stop."""
    vm = stage.machine()
    vm.boot()
    vm.console.post("reboot -f")
    vm.qmp.event("RESET")
    vm.console.ready()
    vm.qmp.ok("query-status")
    vm.console.post("reboot -f")
    vm.qmp.event("RESET")
    vm.qmp.ok("stop")
    vm.qmp.ok("query-status")
    leave(vm)


@story
def reboot_is_shutdown(stage):
    """With -action reboot=shutdown a reboot of the guest is the end."""
    vm = stage.machine("-action", "reboot=shutdown")
    vm.boot()
    vm.console.post("reboot -f")
    ends(vm, "SHUTDOWN")


@story
def quit_(stage):
    """Quit before the first cont."""
    vm = stage.bare()
    leave(vm)


@story
def quit_running(stage):
    """Quit while the guest runs."""
    vm = stage.machine()
    vm.boot()
    look(vm)
    leave(vm)


@story
def kill9(stage):
    """SIGKILL: end of file and nothing else."""
    vm = stage.machine()
    vm.boot()
    vm.kill(signal.SIGKILL)
    ends(vm)


@story
def kill9_unanswered(stage):
    """SIGKILL with commands on the way: nobody knows which of them were done."""
    vm = stage.bare()
    vm.qmp.ok("cont")
    time.sleep(0.2)
    for command in ("stop", "cont") * 40:
        vm.qmp.post(command)
    vm.kill(signal.SIGKILL)
    ends(vm)


@story
def sigterm(stage):
    """SIGTERM: SHUTDOWN with the reason host-signal, then end of file."""
    vm = stage.machine()
    vm.boot()
    vm.kill(signal.SIGTERM)
    ends(vm)


@story
def sigterm_paused(stage):
    """SIGTERM while the VM is paused."""
    vm = stage.bare()
    vm.qmp.ok("cont")
    vm.qmp.ok("stop")
    vm.kill(signal.SIGTERM)
    ends(vm)


@story
def no_shutdown(stage):
    """With -no-shutdown the guest powers off and QEMU stays: cont is refused until a reset."""
    vm = stage.machine("-no-shutdown")
    for asks in (True, False):
        vm.boot()
        vm.console.post("poweroff -f")
        vm.qmp.event("SHUTDOWN")
        vm.qmp.event("STOP")
        if asks:
            vm.qmp.ok("query-status")
        vm.qmp.refused("cont")
        vm.qmp.ok("stop")
        vm.qmp.ok("system_reset")
        if asks:
            vm.qmp.ok("query-status")
    vm.boot()
    vm.qmp.ok("system_powerdown")
    vm.qmp.event("STOP")
    time.sleep(0.2)
    leave(vm)


@story
def suspend_wakeup(stage):
    """The guest suspends to RAM (S3): it is woken; after a new boot stopped and continued while asleep; and reset while asleep.

    This guest suspends once a boot. The reset leaves it in prelaunch, stopped, though nobody stopped it.
    """
    vm = sleeper(stage)
    vm.qmp.refused("system_wakeup")
    sleep_in_guest(vm)
    vm.qmp.ok("query-status")
    vm.qmp.ok("system_wakeup")
    awake(vm)
    vm.qmp.ok("query-status")
    boot_again(vm)
    sleep_in_guest(vm)
    say(vm, "stop", 0.3, "query-status", "cont", 0.3, "query-status")
    vm.qmp.command("system_wakeup")
    time.sleep(0.5)
    vm.qmp.ok("query-status")
    boot_again(vm)
    sleep_in_guest(vm)
    vm.qmp.ok("system_reset")
    time.sleep(1)
    vm.qmp.ok("query-status")
    leave(vm)


@story
def suspend_unseen(stage):
    """The guest suspends and nobody asks: woken; then stopped asleep and reset while stopped."""
    vm = sleeper(stage)
    sleep_in_guest(vm)
    vm.qmp.ok("system_wakeup")
    awake(vm)
    boot_again(vm)
    sleep_in_guest(vm)
    say(vm, "stop", 0.2, "system_reset", 0.2, "cont", 0.5, "stop")
    leave(vm)


def sleeper(stage):
    """Boot a guest that may suspend."""
    vm = stage.machine("-global", "ICH9-LPC.disable_s3=0")
    vm.boot()
    return vm


def sleep_in_guest(vm):
    """Have the guest suspend, and wait for SUSPEND."""
    vm.console.post("echo mem > /sys/power/state")
    vm.qmp.event("SUSPEND")
    time.sleep(0.3)


def awake(vm):
    """Wait until QEMU has woken the guest and it answers."""
    vm.qmp.event("WAKEUP")
    vm.console.answer()


def boot_again(vm):
    """Reset a running guest and wait until it is there again."""
    vm.qmp.ok("system_reset")
    vm.console.ready()
