"""Unplug requests that the guest can't take, or not yet: before it boots, while it is stopped, across a reset, or never."""

import time

from stories.stage import NATIVE, PORTS, add_disk, add_node, boot_and_plug, gone, leave, look, remove, story

COLD = [
    *PORTS,
    "-blockdev", "driver=qcow2,node-name=n1,file.driver=file,file.filename=disk.qcow2",
    "-device", "virtio-blk-pci,id=vd1,drive=n1,bus=rp0",
]  # fmt: skip


def boot_with_disk(stage, bus, **options):
    """Boot with a disk that was there from the start."""
    stage.image()
    vm = stage.machine(*bus, *COLD, **options)
    vm.boot()
    return vm


def boot_and_settle(stage, bus, **options):
    """Boot, plug a disk, and wait until the guest has it and is at rest."""
    vm = boot_and_plug(stage, bus, **options)
    time.sleep(1)
    return vm


@story
def unplug_ignored(stage):
    """ACPI, and a guest that knows no hotplug: the request stays pending, may be repeated, and a reset completes it."""
    vm = boot_with_disk(stage, [], append="acpiphp.disable=1")
    remove(vm)
    time.sleep(2)
    look(vm)
    remove(vm)
    time.sleep(1)
    vm.qmp.ok("system_reset")
    gone(vm)
    look(vm)
    leave(vm)


@story
def unplug_ignored_pcie(stage):
    """Native PCIe, and a guest that knows no hotplug: a repeat is refused for five seconds, and a reset completes nothing."""
    vm = boot_with_disk(stage, NATIVE, append="pcie_ports=compat")
    remove(vm)
    time.sleep(1)
    look(vm)
    vm.qmp.refused("device_del", {"id": "vd1"})
    time.sleep(6)
    remove(vm)
    vm.qmp.ok("system_reset")
    time.sleep(1)
    look(vm)
    leave(vm)


@story
def unplug_before_boot(stage):
    """ACPI: asked for before the guest runs, which loses the request; asked again when it is there."""
    stage.image()
    vm = stage.machine(*COLD)
    remove(vm)
    look(vm)
    vm.boot()
    time.sleep(1)
    look(vm)
    vm.qmp.command("device_del", {"id": "vd1"})
    time.sleep(2)
    look(vm)
    leave(vm)


@story
def unplug_before_boot_pcie(stage):
    """Native PCIe: asked for before the guest runs, which does it when it boots."""
    stage.image()
    vm = stage.machine(*NATIVE, *COLD)
    remove(vm)
    look(vm)
    vm.qmp.refused("device_del", {"id": "vd1"})
    vm.boot()
    gone(vm)
    look(vm)
    leave(vm)


@story
def unplug_firmware(stage):
    """ACPI: asked for while the firmware runs, and again when the guest is there."""
    stage.image()
    vm = stage.machine(*COLD)
    vm.qmp.ok("cont")
    time.sleep(0.3)
    remove(vm)
    vm.console.ready()
    time.sleep(1)
    look(vm)
    vm.qmp.command("device_del", {"id": "vd1"})
    gone(vm)
    leave(vm)


@story
def unplug_paused(stage):
    """ACPI: asked for twice while the VM is paused; done when it goes on."""
    vm = boot_and_settle(stage, [])
    vm.qmp.ok("stop")
    remove(vm)
    time.sleep(1)
    look(vm)
    remove(vm)
    vm.qmp.ok("cont")
    gone(vm)
    look(vm)
    leave(vm)


@story
def unplug_paused_pcie(stage):
    """Native PCIe: asked for while the VM is paused, a repeat is refused however long it takes; done after cont."""
    vm = boot_and_settle(stage, NATIVE)
    vm.qmp.ok("stop")
    remove(vm)
    time.sleep(1)
    look(vm)
    vm.qmp.refused("device_del", {"id": "vd1"})
    vm.qmp.ok("cont")
    gone(vm)
    leave(vm)


@story
def plug_paused(stage):
    """Plugged and unplugged while the VM is paused. The guest never saw the disk (ACPI)."""
    plugged_while_paused(stage, [])


@story
def plug_paused_pcie(stage):
    """Plugged and unplugged while the VM is paused: gone at once, since its slot has no power (native PCIe)."""
    plugged_while_paused(stage, NATIVE)


def plugged_while_paused(stage, bus):
    """Boot, stop, plug, unplug, and go on."""
    stage.image()
    vm = stage.machine(*bus, *PORTS)
    vm.boot()
    vm.qmp.ok("stop")
    add_node(vm)
    add_disk(vm)
    remove(vm)
    time.sleep(1)
    look(vm)
    vm.qmp.ok("cont")
    gone(vm)
    look(vm)
    leave(vm)


@story
def reset_pending(stage):
    """ACPI: a reset while an unplug is pending completes it, running and paused."""
    stage.image()
    vm = stage.machine(*COLD, "-device", "virtio-rng-pci,id=rng1,bus=rp1", append="acpiphp.disable=1")
    vm.boot()
    remove(vm)
    time.sleep(0.5)
    vm.qmp.ok("system_reset")
    gone(vm)
    vm.console.ready()
    vm.qmp.ok("stop")
    remove(vm, "rng1")
    time.sleep(0.5)
    vm.qmp.ok("system_reset")
    gone(vm, "rng1")
    look(vm)
    leave(vm)


@story
def reset_pending_pcie(stage):
    """Native PCIe: a reset drops the pending request, so that it has to be made again."""
    vm = boot_and_settle(stage, NATIVE)
    remove(vm)
    time.sleep(0.5)
    vm.qmp.ok("system_reset")
    vm.console.ready()
    time.sleep(2)
    look(vm)
    time.sleep(3)
    vm.qmp.command("device_del", {"id": "vd1"})
    gone(vm)
    look(vm)
    leave(vm)


@story
def second_device_del(stage):
    """ACPI: a second request right behind the first, and a third when it is gone."""
    vm = boot_and_settle(stage, [])
    first, second = (vm.qmp.post("device_del", {"id": "vd1"}) for _ in range(2))
    vm.qmp.reply(first)
    vm.qmp.reply(second)
    gone(vm)
    time.sleep(0.3)
    vm.qmp.refused("device_del", {"id": "vd1"})
    look(vm)
    leave(vm)


@story
def second_device_del_pcie(stage):
    """Native PCIe: a second request is refused while the first is on its way."""
    vm = boot_and_settle(stage, NATIVE)
    remove(vm)
    vm.qmp.refused("device_del", {"id": "vd1"})
    time.sleep(1)
    vm.qmp.refused("device_del", {"id": "vd1"})
    gone(vm)
    vm.qmp.refused("device_del", {"id": "vd1"})
    leave(vm)


@story
def unplug_too_soon_pcie(stage):
    """Native PCIe: asked back while the guest is still powering the slot, and again until it works."""
    stage.image()
    vm = stage.machine(*NATIVE, *PORTS)
    vm.boot()
    add_node(vm)
    add_disk(vm)
    for _ in range(40):
        if "return" in vm.qmp.command("device_del", {"id": "vd1"}):
            break
        time.sleep(0.1)
    gone(vm)
    look(vm)
    leave(vm)


@story
def unplug_path(stage):
    """Asked for by the QOM path, by a client that has only that."""
    vm = boot_and_settle(stage, [])
    vm.qmp.ok("device_del", {"id": "/machine/peripheral/vd1"})
    gone(vm)
    look(vm)
    leave(vm)


@story
def multifunction_pcie(stage):
    """Native PCIe: two functions of one slot; asking for one takes both."""
    vm = stage.machine(*NATIVE, *PORTS)
    vm.boot()
    vm.qmp.ok("device_add", {"driver": "virtio-rng-pci", "id": "fn1", "bus": "rp0", "addr": "0.1"})
    vm.qmp.ok(
        "device_add",
        {"driver": "virtio-rng-pci", "id": "fn0", "bus": "rp0", "addr": "0.0", "multifunction": True},
    )
    time.sleep(2)
    look(vm)
    remove(vm, "fn1")
    gone(vm, "fn0")
    gone(vm, "fn1")
    look(vm)
    leave(vm)
