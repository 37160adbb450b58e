"""The hotplug controller of a conventional PCI bridge (SHPC), where ACPI leaves it alone."""

import time

from stories.stage import NATIVE, gone, leave, look, plug, remove, story

#: q35: a bridge from PCIe to PCI on the root bus.
BRIDGE = [*NATIVE, "-device", "pcie-pci-bridge,id=br0"]

#: i440fx, whose bridges ACPI serves unless told not to (QEMU hw/acpi/piix4.c). Linux then takes the controller only where
#: there is no ACPI at all.
OLD = [
    "-M", "pc", "-global", "PIIX4_PM.acpi-pci-hotplug-with-bridge-support=off",
    "-device", "pci-bridge,id=br0,chassis_nr=1,shpc=on",
]  # fmt: skip
NO_ACPI = "acpi=off"


def add_rng(vm, device="rng1", slot=1):
    """Plug a random number generator into the bridge."""
    plug(vm, device, "virtio-rng-pci", bus="br0", addr=f"{slot:#x}")


def settled(vm, there="test"):
    """Wait until the guest has the generator, or has it no more (``! test``)."""
    vm.console.settles(f"{there} -d /sys/bus/pci/drivers/virtio-pci/0000:01*")


def boot_and_plug(stage, bus, **options):
    """Boot, plug, and wait until the guest has it."""
    vm = stage.machine(*bus, **options)
    vm.boot()
    add_rng(vm)
    settled(vm)
    time.sleep(1)
    return vm


@story
def shpc_ack(stage):
    """SHPC on q35: a device is plugged, the guest sees it, and gives it back when asked; then the next."""
    vm = boot_and_plug(stage, BRIDGE)
    look(vm)
    remove(vm, "rng1")
    look(vm)
    gone(vm, "rng1")
    look(vm)
    time.sleep(1)
    add_rng(vm, "rng1", 2)
    settled(vm)
    time.sleep(1)
    remove(vm, "rng1")
    gone(vm, "rng1")
    leave(vm)


@story
def shpc_i440fx(stage):
    """SHPC on i440fx, with a guest that knows no ACPI: the same."""
    vm = boot_and_plug(stage, OLD, append=NO_ACPI)
    look(vm)
    remove(vm, "rng1")
    gone(vm, "rng1")
    look(vm)
    leave(vm)


@story
def shpc_ignored(stage):
    """SHPC, and a guest that does not drive it: what was there stays, what was plugged never got power and goes at once."""
    vm = stage.machine(*OLD, "-device", "virtio-rng-pci,id=cold,bus=br0,addr=0x3")
    vm.boot()
    remove(vm, "cold")
    time.sleep(1)
    look(vm)
    vm.qmp.command("device_del", {"id": "cold"})
    add_rng(vm)
    time.sleep(1)
    look(vm)
    remove(vm, "rng1")
    gone(vm, "rng1")
    vm.qmp.ok("system_reset")
    time.sleep(1)
    look(vm)
    leave(vm)


@story
def shpc_too_soon(stage):
    """SHPC: asked back right behind the plug, and again while the request is on its way."""
    vm = stage.machine(*BRIDGE)
    vm.boot()
    add_rng(vm)
    vm.qmp.command("device_del", {"id": "rng1"})
    for _ in range(3):
        time.sleep(0.3)
        vm.qmp.command("device_del", {"id": "rng1"})
    time.sleep(8)
    look(vm)
    leave(vm)


@story
def shpc_reset(stage):
    """SHPC: a reset drops the pending request, running and paused; it has to be made again."""
    vm = boot_and_plug(stage, BRIDGE)
    remove(vm, "rng1")
    time.sleep(0.5)
    vm.qmp.ok("system_reset")
    vm.console.ready()
    time.sleep(2)
    look(vm)
    vm.qmp.ok("stop")
    remove(vm, "rng1")
    vm.qmp.ok("system_reset")
    time.sleep(0.5)
    look(vm)
    vm.boot()
    time.sleep(1)
    remove(vm, "rng1")
    gone(vm, "rng1")
    look(vm)
    leave(vm)


@story
def shpc_paused(stage):
    """SHPC while the VM is paused: what is plugged then has no power and goes at once; what the guest has waits for it."""
    vm = boot_and_plug(stage, BRIDGE)
    vm.qmp.ok("stop")
    add_rng(vm, "rng2", 2)
    remove(vm, "rng2")
    gone(vm, "rng2")
    add_rng(vm, "rng3", 3)
    vm.qmp.ok("system_reset")
    remove(vm, "rng3")
    time.sleep(0.3)
    remove(vm, "rng1")
    time.sleep(0.3)
    look(vm)
    vm.boot()
    time.sleep(8)
    look(vm)
    leave(vm)
