"""Kinds of device, each by its own driver: plugged, used by the guest, given back, and what its bus does when it is not."""

import contextlib
import time

from support.monitor import Closed

from stories.stage import PORTS, ends, gone, leave, look, plug, remove, story

#: A guest that takes no PCI hotplug by ACPI.
DEAF = "acpiphp.disable=1"


def cycle(vm, device, driver, settled, **more):
    """Plug a device, wait until the guest has it, and take it back; plug it again, and have a reset take it."""
    plug(vm, device, driver, **more)
    vm.console.settles(settled)
    look(vm)
    remove(vm, device)
    gone(vm, device)
    plug(vm, device, driver, **more)
    vm.console.settles(settled)
    vm.qmp.ok("stop")
    remove(vm, device)
    vm.qmp.ok("system_reset")
    gone(vm, device)
    look(vm)
    vm.boot()


@story
def rng(stage):
    """virtio-rng: its object may be deleted under it; given back; taken by a reset."""
    vm = stage.machine(*PORTS)
    vm.boot()
    vm.qmp.ok("object-add", {"qom-type": "rng-builtin", "id": "random"})
    cycle(
        vm, "rng1", "virtio-rng-pci", "grep -q virtio /sys/class/misc/hw_random/rng_available", rng="random"
    )
    plug(vm, "rng1", "virtio-rng-pci", rng="random")
    vm.qmp.ok("object-del", {"id": "random"})
    look(vm)
    leave(vm)


BALLOON = "test -d /sys/bus/virtio/drivers/virtio_balloon/virtio*"


@story
def balloon(stage):
    """virtio-balloon: blown up, across a reset too; a second is refused; given back, and nobody takes its command."""
    vm = stage.machine(*PORTS)
    vm.boot()
    vm.qmp.refused("balloon", {"value": 128 << 20})
    plug(vm, "b1", "virtio-balloon-pci")
    vm.qmp.refused("device_add", {"driver": "virtio-balloon-pci", "id": "b2", "bus": "rp1"})
    vm.console.settles(BALLOON)
    for size in (192 << 20, 160 << 20):
        vm.qmp.ok("balloon", {"value": size})
        vm.qmp.event("BALLOON_CHANGE", actual=size)
    vm.qmp.ok("query-balloon")
    vm.qmp.ok("system_reset")
    vm.console.ready()
    vm.qmp.event("BALLOON_CHANGE", actual=160 << 20)
    remove(vm, "b1")
    gone(vm, "b1")
    vm.qmp.refused("query-balloon")
    look(vm)
    leave(vm)


@story
def balloon_reset(stage):
    """A reset completes the unplug of a balloon that is pending (ACPI), of which 10.0 dies: its list of what to reset changes under it."""
    vm = stage.machine(*PORTS, "-device", "virtio-balloon-pci,id=b1,bus=rp0", append=DEAF)
    vm.boot()
    remove(vm, "b1")
    look(vm)
    with contextlib.suppress(Closed):
        vm.qmp.ok("system_reset")
        gone(vm, "b1")
        look(vm)
        vm.qmp.ok("quit")
    ends(vm)


def plug_display(vm):
    """Plug the plainest display, and take it back: the guest lets it go within a second."""
    plug(vm, "d1", "bochs-display")
    vm.console.settles("grep -q 0x1234 /sys/bus/pci/devices/*/vendor")
    remove(vm, "d1")
    time.sleep(1)
    look(vm)
    vm.qmp.refused("device_del", {"id": "d1"})


@story
def gpu(stage):
    """Displays: QEMU plugs none but the plainest, and never says that it has gone, since a console holds on to it."""
    vm = stage.machine(*PORTS, "-device", "virtio-gpu-pci,id=vg0,bus=rp1")
    vm.boot()
    for driver in ("virtio-gpu-pci", "VGA"):
        vm.qmp.refused("device_add", {"driver": driver, "id": "d1", "bus": "rp0"})
    vm.qmp.refused("device_del", {"id": "vg0"})
    look(vm)
    plug_display(vm)
    vm.qmp.ok("system_reset")
    time.sleep(0.5)
    look(vm)
    leave(vm)


@story
def gpu_again(stage):
    """A display plugged where one has been: QEMU dies of it, since the memory of the first is still there."""
    vm = stage.machine(*PORTS)
    vm.boot()
    plug_display(vm)
    with contextlib.suppress(Closed):
        plug(vm, "d1", "bochs-display")
    ends(vm)


SERIAL = ["-device", "virtio-serial-pci,id=vs0"]


@story
def serial_port(stage):
    """A port of virtio-serial: the guest opens it, a reset closes it; it goes at once when asked, also under an open file."""
    vm = stage.machine(*SERIAL)
    vm.boot()
    for name in ("p1", "p2"):
        vm.qmp.ok("chardev-add", {"id": f"c-{name}", "backend": {"type": "ringbuf", "data": {"size": 1024}}})
        vm.qmp.ok(
            "device_add", {"driver": "virtserialport", "id": name, "bus": "vs0.0", "chardev": f"c-{name}"}
        )
    vm.console.settles("test -e /dev/vport0p2 || test -e /dev/vport1p2")
    vm.console.run("exec 4<>$(ls /dev/vport*p1)")
    vm.qmp.event("VSERPORT_CHANGE", id="p1", open=True)
    look(vm)
    vm.qmp.refused("chardev-remove", {"id": "c-p1"})
    remove(vm, "p1")
    vm.qmp.ok("system_reset")
    gone(vm, "p1")
    vm.qmp.ok("chardev-remove", {"id": "c-p1"})
    vm.console.ready()
    vm.console.run("exec 4<>$(ls /dev/vport*p2)")
    vm.qmp.event("VSERPORT_CHANGE", id="p2", open=True)
    vm.qmp.ok("system_reset")
    vm.console.ready()
    vm.qmp.ok("stop")
    remove(vm, "p2")
    gone(vm, "p2")
    look(vm)
    leave(vm)


@story
def vsock(stage):
    """vsock needs the host's own driver: without its descriptor QEMU refuses the device, and nothing of it is left."""
    vm = stage.machine(*PORTS)
    vm.boot()
    for wrong in ({"vhostfd": "nosuch"}, {"guest-cid": 1}):
        vm.qmp.refused(
            "device_add", {"driver": "vhost-vsock-pci", "id": "vs1", "bus": "rp0", "guest-cid": 7, **wrong}
        )
        look(vm)
    leave(vm)


@story
def nvdimm(stage):
    """An NVDIMM is plugged and stays: QEMU takes none back, running or paused, and a reset changes nothing."""
    vm = stage.machine("-M", "nvdimm=on", "-m", "256,slots=2,maxmem=2G")
    vm.boot()
    vm.console.run("modprobe nfit; modprobe nd_pmem")
    vm.qmp.ok("object-add", {"qom-type": "memory-backend-ram", "id": "m1", "size": 128 << 20})
    vm.qmp.ok("device_add", {"driver": "nvdimm", "id": "nv1", "memdev": "m1"})
    look(vm)
    vm.qmp.ok("query-memory-devices")
    vm.qmp.refused("device_del", {"id": "nv1"})
    vm.qmp.ok("stop")
    vm.qmp.refused("device_del", {"id": "nv1"})
    vm.qmp.ok("system_reset")
    look(vm)
    vm.qmp.refused("object-del", {"id": "m1"})
    leave(vm)


HERE = "/machine/peripheral-anon"


def nameless(vm):
    """Ask for the devices without an id."""
    return vm.qmp.ok("qom-list", {"path": HERE})


@story
def no_id(stage):
    """Devices without an id, from the command line and plugged: numbered by QEMU, told by their path, asked back by it."""
    vm = stage.machine(
        "-device", '{"driver": "virtio-balloon-pci"}', *PORTS, "-device", "virtio-rng-pci,bus=rp0", "-device", "qemu-xhci",
    )  # fmt: skip
    nameless(vm)
    vm.boot()
    vm.qmp.ok("device_add", {"driver": "usb-tablet"})
    vm.qmp.refused("device_add", {"driver": "virtio-blk-pci", "bus": "rp1", "drive": "nosuch"})
    vm.qmp.refused("device_add", {"driver": "usb-kbd", "bus": "nosuch"})
    plug_nameless(vm)
    nameless(vm)
    look(vm)
    time.sleep(1)
    for number in (3, 5, 0):
        vm.qmp.ok("device_del", {"id": f"{HERE}/device[{number}]"})
        vm.qmp.event("DEVICE_DELETED", path=f"{HERE}/device[{number}]")
    nameless(vm)
    vm.qmp.refused("device_del", {"id": f"{HERE}/device[3]"})
    plug_nameless(vm)
    vm.console.settles("grep -q virtio /sys/class/misc/hw_random/rng_available")
    vm.qmp.ok("stop")
    vm.qmp.ok("device_del", {"id": f"{HERE}/device[6]"})
    nameless(vm)
    vm.qmp.ok("system_reset")
    vm.qmp.event("DEVICE_DELETED", path=f"{HERE}/device[6]")
    nameless(vm)
    leave(vm)


def plug_nameless(vm):
    """Plug a random number generator."""
    vm.qmp.ok("device_add", {"driver": "virtio-rng-pci", "bus": "rp1"})
