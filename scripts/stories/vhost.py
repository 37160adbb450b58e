"""Devices that another process serves (vhost-user): plugged, given back, and left alone when that process dies."""

import time

from support import found

from stories.stage import PORTS, gone, leave, look, plug, remove, story

#: Memory that the other process can map.
SHARED = ["-object", "memory-backend-memfd,id=mem,size=256M,share=on", "-numa", "node,memdev=mem"]


def connect(vm, path):
    """Add the chardev to the other process."""
    address = {"type": "unix", "data": {"path": path}}
    vm.qmp.ok(
        "chardev-add", {"id": "c1", "backend": {"type": "socket", "data": {"addr": address, "server": False}}}
    )


def serve(stage, command, path):
    """Start the other process and wait until its socket is there."""
    started = stage.helper(*command)
    while not (stage.run / path).exists():
        assert started.poll() is None, f"{command[0]} ended"
        time.sleep(0.05)
    return started


def disk_daemon(stage):
    """Serve a disk as vhost-user-blk with QEMU's own storage daemon."""
    stage.image("disk.raw", form="raw")
    return serve(
        stage,
        [
            found.storage_daemon(), "--blockdev", "driver=file,node-name=d,filename=disk.raw",
            "--export", "type=vhost-user-blk,id=e,node-name=d,writable=on,addr.type=unix,addr.path=blk.sock",
        ],
        "blk.sock",
    )  # fmt: skip


@story
def vhost_user_blk(stage):
    """A disk served by another process: plugged, used, given back; taken by a reset while its unplug is pending."""
    disk_daemon(stage)
    vm = stage.machine(*SHARED, *PORTS)
    vm.boot()
    for paused in (False, True):
        connect(vm, "blk.sock")
        plug(vm, "vd1", "vhost-user-blk-pci", chardev="c1")
        vm.console.settles("test -e /sys/block/vda")
        vm.console.run("dd if=/dev/vda of=/dev/null bs=4096 count=1")
        vm.qmp.refused("chardev-remove", {"id": "c1"})
        look(vm)
        if paused:
            vm.qmp.ok("stop")
        remove(vm)
        if paused:
            vm.qmp.ok("system_reset")
        gone(vm)
        vm.qmp.ok("chardev-remove", {"id": "c1"})
        look(vm)
    leave(vm)


@story
def vhost_user_dies(stage):
    """The process that serves a disk is killed: no event says so, the device stays, and is given back all the same."""
    daemon = disk_daemon(stage)
    vm = stage.machine(*SHARED, *PORTS)
    vm.boot()
    connect(vm, "blk.sock")
    plug(vm, "vd1", "vhost-user-blk-pci", chardev="c1")
    vm.console.settles("test -e /sys/block/vda")
    daemon.kill()
    time.sleep(0.5)
    look(vm)
    vm.qmp.ok("query-chardev")
    remove(vm)
    gone(vm)
    vm.qmp.refused("device_add", {"driver": "vhost-user-blk-pci", "id": "vd1", "bus": "rp0", "chardev": "c1"})
    look(vm)
    leave(vm)


@story
def virtio_fs(stage):
    """A folder served by virtiofsd: plugged, mounted, given back."""
    (stage.run / "shared").mkdir()
    (stage.run / "shared" / "hello").write_text("hello")
    serve(
        stage,
        [
            found.virtiofsd(),
            "--socket-path=fs.sock",
            "-o",
            f"source={stage.run / 'shared'}",
            "-o",
            "sandbox=chroot",
        ],
        "fs.sock",
    )
    vm = stage.machine(*SHARED, *PORTS)
    vm.boot()
    vm.console.run("modprobe virtiofs")
    connect(vm, "fs.sock")
    plug(vm, "fs1", "vhost-user-fs-pci", chardev="c1", tag="shared")
    vm.console.settles("mkdir -p /mnt; mount -t virtiofs shared /mnt && grep hello /mnt/hello")
    look(vm)
    vm.console.run("umount /mnt")
    remove(vm, "fs1")
    gone(vm, "fs1")
    look(vm)
    leave(vm)
