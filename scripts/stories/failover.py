"""A network card that stands in for another (virtio-net failover): the primary is kept hidden until the guest asks for it."""

import time

from stories.migration import CAPABILITIES, SOCKET, pair, slowly, until
from stories.stage import PORTS, gone, leave, look, story

MAC = "52:54:00:12:34:56"
#: The guest is offered no S3, as libvirt's users mostly have it: what arrives on a target was not asleep.
NO_SLEEP = ["-global", "ICH9-LPC.disable_s3=1"]
STANDBY = [*PORTS, *NO_SLEEP, "-device", f"virtio-net-pci,id=net1,bus=rp0,failover=on,mac={MAC}"]
#: No ROM, which is memory of its own: a migration would carry it to where no card has shown yet.
PRIMARY = {
    "driver": "e1000e",
    "id": "pri",
    "bus": "rp1",
    "failover_pair_id": "net1",
    "mac": MAC,
    "romfile": "",
}
COLD = ["-device", ",".join(["e1000e", *(f"{k}={v}" for k, v in PRIMARY.items() if k != "driver")])]

#: The guest has the primary.
HAS_IT = "test -d /sys/bus/pci/drivers/e1000e/0000*"


@story
def failover(stage):
    """The primary is hidden until the guest negotiates, even if it is plugged twice; unplugged; plugged again, it shows at once."""
    vm = stage.machine(*STANDBY)
    vm.qmp.ok("device_add", PRIMARY)
    look(vm)
    vm.qmp.ok("device_add", PRIMARY)
    vm.boot()
    vm.qmp.event("FAILOVER_NEGOTIATED")
    vm.console.settles(HAS_IT)
    look(vm)
    vm.qmp.ok("device_del", {"id": "pri"})
    gone(vm, "pri")
    look(vm)
    vm.qmp.refused("device_add", {**PRIMARY, "id": "other"})
    vm.qmp.command("device_add", PRIMARY)
    time.sleep(1)
    look(vm)
    leave(vm)


@story
def failover_alone(stage):
    """A primary whose standby is not there, or wants none, is a card like any other."""
    vm = stage.machine(*PORTS, "-device", f"virtio-net-pci,id=net1,bus=rp0,mac={MAC}")
    vm.boot()
    for pair_id in ("nosuch", "net1"):
        vm.qmp.ok("device_add", {**PRIMARY, "failover_pair_id": pair_id})
        vm.console.settles(HAS_IT)
        look(vm)
        vm.qmp.ok("device_del", {"id": "pri"})
        gone(vm, "pri")
    leave(vm)


@story
def failover_ignored(stage):
    """A guest without a driver for the standby: the primary stays hidden, across a reset too, and QEMU finds no such device when asked for it."""
    vm = stage.machine(*STANDBY, *COLD, append="guest.nodrivers")
    look(vm)
    vm.boot()
    look(vm)
    vm.qmp.ok("system_reset")
    vm.console.ready()
    look(vm)
    vm.qmp.refused("device_del", {"id": "pri"})
    look(vm)
    leave(vm)


@story
def failover_reset(stage):
    """A reset after the guest has negotiated, and one with an unplug of the primary pending."""
    vm = stage.machine(*STANDBY, *COLD)
    vm.boot()
    vm.qmp.event("FAILOVER_NEGOTIATED")
    vm.console.settles(HAS_IT)
    vm.qmp.ok("system_reset")
    look(vm)
    vm.console.ready()
    look(vm)
    vm.qmp.ok("stop")
    vm.qmp.ok("device_del", {"id": "pri"})
    vm.qmp.ok("system_reset")
    gone(vm, "pri")
    look(vm)
    leave(vm)


def both(stage):
    """Start both ends with a pair of cards, the guest having taken the primary."""
    source, target = pair(stage, *STANDBY, *COLD, guest=True)
    source.qmp.event("FAILOVER_NEGOTIATED")
    source.console.settles(HAS_IT)
    return source, target


@story
def failover_migration(stage):
    """A migration asks the guest to let go of the primary (UNPLUG_PRIMARY) and waits; the target plugs its own."""
    source, target = both(stage)
    source.qmp.ok("migrate", {"uri": SOCKET})
    source.qmp.event("UNPLUG_PRIMARY")
    source.qmp.ok("qom-list", {"path": "/machine/peripheral"})
    until(source, "completed")
    until(target, "completed")
    target.qmp.event("FAILOVER_NEGOTIATED")
    time.sleep(0.3)
    for end in (source, target):
        look(end)
    leave(source)
    leave(target)


@story
def failover_cancelled(stage):
    """The migration is given up: the primary comes back to the guest, and nothing says so."""
    source, _ = both(stage)
    slowly(source)
    source.qmp.ok("migrate", {"uri": SOCKET})
    source.qmp.event("UNPLUG_PRIMARY")
    until(source, "active")
    look(source)
    source.qmp.ok("migrate_cancel")
    until(source, "cancelled")
    source.console.settles(HAS_IT)
    look(source)
    source.qmp.ok("device_del", {"id": "pri"})
    gone(source, "pri")
    look(source)
    leave(source)


@story
def failover_unheard(stage):
    """The guest does not let go of the primary: the migration waits until it is given up."""
    source = stage.machine(*STANDBY, *COLD, name="src", append="acpiphp.disable=1")
    source.qmp.ok("migrate-set-capabilities", CAPABILITIES)
    source.boot()
    source.qmp.event("FAILOVER_NEGOTIATED")
    source.qmp.ok("migrate", {"uri": "exec:cat > saved"})
    source.qmp.event("UNPLUG_PRIMARY")
    until(source, "wait-unplug")
    time.sleep(1)
    source.qmp.ok("query-migrate")
    look(source)
    source.qmp.ok("device_del", {"id": "pri"})
    source.qmp.ok("migrate_cancel")
    until(source, "cancelled")
    look(source)
    leave(source)
