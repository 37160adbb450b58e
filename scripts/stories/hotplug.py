"""Plugging and unplugging while the guest works, on every bus."""

import time

from stories.stage import NATIVE, PORTS, add_disk, add_node, boot_and_plug, gone, leave, look, remove, story


@story
def hotplug_acpi_ack(stage):
    """ACPI: a disk is plugged, the guest sees it, and gives it back when asked."""
    plug_and_unplug(stage, [])


@story
def hotplug_pcie_ack(stage):
    """Native PCIe: the same; the guest takes some six seconds to give it back."""
    plug_and_unplug(stage, NATIVE)


def plug_and_unplug(stage, bus):
    """Plug a disk, unplug it, plug another with the same id, and unplug that without a question."""
    vm = boot_and_plug(stage, bus)
    look(vm)
    remove(vm)
    look(vm)
    gone(vm)
    look(vm)
    vm.qmp.ok("blockdev-del", {"node-name": "n1"})
    add_node(vm)
    add_disk(vm, bus="rp1")
    vm.console.settles("test -e /sys/block/vda")
    time.sleep(0.5)
    remove(vm)
    gone(vm)
    leave(vm)


@story
def guest_eject(stage):
    """ACPI: the guest ejects a disk that nobody asked back."""
    eject_unasked(stage, [])


@story
def guest_eject_pcie(stage):
    """Native PCIe: the guest ejects a disk that nobody asked back."""
    eject_unasked(stage, NATIVE)


def eject_unasked(stage, bus):
    """Boot, plug a disk, and have the guest eject it by turning its slot's power off."""
    vm = boot_and_plug(stage, bus)
    look(vm)
    vm.console.run("address=$(basename $(readlink -f /sys/block/vda/device/..))")
    vm.console.run(
        "for slot in /sys/bus/pci/slots/*; do"
        ' [ "$(cat $slot/address)" = "${address%.*}" ] && echo 0 > $slot/power; done'
    )
    gone(vm)
    time.sleep(0.3)
    vm.qmp.refused("device_del", {"id": "vd1"})
    look(vm)
    leave(vm)


@story
def net(stage):
    """A network card: its backend comes first and goes last, and may go while the card is still there."""
    vm = stage.machine(*PORTS)
    vm.boot()
    for early in (False, True):
        vm.qmp.ok("netdev_add", {"type": "hubport", "id": "nd1", "hubid": 0})
        vm.qmp.ok("device_add", {"driver": "virtio-net-pci", "id": "net1", "netdev": "nd1", "bus": "rp0"})
        vm.console.settles("test -e /sys/class/net/eth0")
        if early:
            vm.qmp.ok("netdev_del", {"id": "nd1"})
        remove(vm, "net1")
        gone(vm, "net1")
        if not early:
            vm.qmp.ok("netdev_del", {"id": "nd1"})
        look(vm)
    leave(vm)


@story
def device_add_refused(stage):
    """What QEMU refuses: an id or a node in use, a bus that is not there or takes no plugging, a driver nobody knows."""
    stage.image()
    vm = stage.machine(*PORTS)
    vm.boot()
    add_node(vm)
    add_disk(vm)
    disk = {"driver": "virtio-blk-pci", "drive": "n1"}
    for wrong in (
        {"driver": "virtio-rng-pci", "id": "vd1", "bus": "rp1"},
        {**disk, "id": "vd2", "bus": "rp1"},
        {**disk, "id": "vd2", "bus": "nobus"},
        {"driver": "virtio-rng-pci", "id": "r1", "bus": "pcie.0"},
        {"driver": "nosuch-pci", "id": "r1", "bus": "rp1"},
        {"driver": "virtio-rng-pci", "id": "r1", "bus": "rp1", "nosuch": 1},
        {"driver": "virtio-blk-pci", "id": "vd3", "bus": "rp1", "drive": "nonode"},
    ):
        vm.qmp.refused("device_add", wrong)
    vm.qmp.refused("device_del", {"id": "vd2"})
    look(vm)
    vm.qmp.ok("device_add", {"driver": "virtio-rng-pci", "id": "r1", "bus": "rp1"})
    vm.console.settles("grep -q virtio /sys/class/misc/hw_random/rng_available")
    look(vm)
    leave(vm)


@story
def slot_taken(stage):
    """A second device for a port that has one: 7.2 takes it, 10.0 refuses."""
    vm = stage.machine(*PORTS)
    vm.boot()
    vm.qmp.ok("device_add", {"driver": "virtio-rng-pci", "id": "r1", "bus": "rp0"})
    time.sleep(1)
    vm.qmp.command("device_add", {"driver": "virtio-rng-pci", "id": "r2", "bus": "rp0"})
    time.sleep(1)
    look(vm)
    remove(vm, "r1")
    gone(vm, "r1")
    time.sleep(1)
    look(vm)
    leave(vm)


@story
def id_reuse(stage):
    """USB is synchronous: the id is free with the reply, and DEVICE_DELETED of the earlier bearer comes later."""
    vm = stage.machine("-device", "qemu-xhci,id=usb")
    vm.boot()
    tablet = {"driver": "usb-tablet", "id": "tab", "bus": "usb.0"}
    vm.qmp.ok("device_add", tablet)
    for _ in range(4):
        one, two = vm.qmp.post("device_del", {"id": "tab"}), vm.qmp.post("device_add", tablet)
        vm.qmp.reply(one)
        vm.qmp.reply(two)
    vm.qmp.ok("qom-list", {"path": "/machine/peripheral"})
    for _ in range(4):
        gone(vm, "tab")
    look(vm)
    vm.qmp.ok("device_del", {"id": "tab"})
    vm.qmp.refused("device_del", {"id": "tab"})
    gone(vm, "tab")
    look(vm)
    leave(vm)


@story
def usb_paused(stage):
    """USB while the VM is paused: plugged and unplugged at once, without the guest."""
    vm = stage.bare("-device", "qemu-xhci,id=usb")
    vm.qmp.ok("device_add", {"driver": "usb-tablet", "id": "tab", "bus": "usb.0"})
    remove(vm, "tab")
    gone(vm, "tab")
    look(vm)
    vm.qmp.ok("cont")
    vm.qmp.ok("device_add", {"driver": "usb-kbd", "id": "kbd", "bus": "usb.0"})
    vm.qmp.ok("stop")
    remove(vm, "kbd")
    gone(vm, "kbd")
    leave(vm)


@story
def scsi(stage):
    """SCSI disks come and go at once; the controller takes its last disk with it."""
    for name in ("a.qcow2", "b.qcow2"):
        stage.image(name)
    vm = stage.machine(*PORTS)
    vm.boot()
    vm.qmp.ok("device_add", {"driver": "virtio-scsi-pci", "id": "scsi0", "bus": "rp0"})
    vm.console.settles("test -e /sys/class/scsi_host")
    for number, name in enumerate(("a.qcow2", "b.qcow2"), 1):
        add_node(vm, f"n{number}", name)
        vm.qmp.ok(
            "device_add",
            {
                "driver": "scsi-hd",
                "id": f"sd{number}",
                "bus": "scsi0.0",
                "drive": f"n{number}",
                "lun": number,
            },
        )
    vm.console.settles("test -e /sys/block/sdb")
    look(vm)
    remove(vm, "sd1")
    gone(vm, "sd1")
    look(vm)
    remove(vm, "scsi0")
    gone(vm, "scsi0")
    look(vm)
    leave(vm)


@story
def cpu(stage):
    """CPUs are plugged and given back. TCG names only their lapic in DEVICE_DELETED."""
    vm = stage.machine("-smp", "1,maxcpus=3,sockets=3,cores=1,threads=1")
    vm.boot()
    vm.qmp.ok("query-hotpluggable-cpus")
    for number in (1, 2):
        vm.qmp.ok(
            "device_add",
            {
                "driver": "max-x86_64-cpu",
                "id": f"cpu{number}",
                "socket-id": number,
                "core-id": 0,
                "thread-id": 0,
            },
        )
        vm.qmp.event("ACPI_DEVICE_OST")
    vm.qmp.refused(
        "device_add", {"driver": "max-x86_64-cpu", "id": "cpu3", "socket-id": 2, "core-id": 0, "thread-id": 0}
    )
    look(vm)
    time.sleep(1)
    remove(vm, "cpu2")
    vm.qmp.event("DEVICE_DELETED", path="/machine/peripheral/cpu2/lapic")
    time.sleep(0.5)
    look(vm)
    vm.qmp.ok("stop")
    remove(vm, "cpu1")
    time.sleep(0.5)
    look(vm)
    vm.qmp.ok("cont")
    vm.qmp.event("DEVICE_DELETED", path="/machine/peripheral/cpu1/lapic")
    time.sleep(0.5)
    look(vm)
    leave(vm)


@story
def dimm(stage):
    """Memory is plugged and given back; one that the kernel uses for itself is refused."""
    vm = stage.machine("-m", "256,slots=3,maxmem=2G", append="guest.online")
    vm.boot()
    add_dimm(vm, 1)
    time.sleep(1)
    vm.qmp.refused("object-del", {"id": "m1"})
    look(vm)
    remove(vm, "dimm1")
    gone(vm, "dimm1")
    vm.qmp.ok("object-del", {"id": "m1"})
    look(vm)
    vm.console.run("echo online_kernel > /sys/devices/system/memory/auto_online_blocks")
    add_dimm(vm, 2)
    time.sleep(1)
    vm.console.run(
        "mkdir /tmp/eat; mount -t ramfs none /tmp/eat; dd if=/dev/zero of=/tmp/eat/f bs=1M count=200"
    )
    vm.qmp.forget()
    remove(vm, "dimm2")
    vm.qmp.event("ACPI_DEVICE_OST")
    time.sleep(5)
    look(vm)
    leave(vm)


def add_dimm(vm, number):
    """Plug 128 MiB and wait for the guest's word."""
    vm.qmp.ok("object-add", {"qom-type": "memory-backend-ram", "id": f"m{number}", "size": 128 << 20})
    vm.qmp.ok("device_add", {"driver": "pc-dimm", "id": f"dimm{number}", "memdev": f"m{number}"})
    vm.qmp.event("ACPI_DEVICE_OST")


@story
def virtio_mem(stage):
    """virtio-mem grows and shrinks; a reset takes all of it away."""
    vm = stage.machine(
        "-m", "256,slots=1,maxmem=1G",
        "-object", "memory-backend-ram,id=m1,size=256M", "-device", "virtio-mem-pci,id=vm0,memdev=m1,requested-size=0",
        append="guest.online",
    )  # fmt: skip
    vm.boot()
    for size in (128, 64):
        vm.qmp.ok("qom-set", {"path": "vm0", "property": "requested-size", "value": size << 20})
        vm.qmp.event("MEMORY_DEVICE_SIZE_CHANGE", size=size << 20)
        vm.qmp.ok("query-memory-devices")
    vm.qmp.ok("system_reset")
    vm.qmp.event("MEMORY_DEVICE_SIZE_CHANGE", size=0)
    vm.console.ready()
    vm.qmp.event("MEMORY_DEVICE_SIZE_CHANGE", size=64 << 20)
    leave(vm)
