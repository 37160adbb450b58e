"""Who is connected: one client after another, two at a time, HMP through QMP, commands in heaps."""

import json
import time

from support.monitor import Monitor

from stories.stage import PORTS, add_disk, add_node, another_monitor, gone, leave, look, story


@story
def reconnect(stage):
    """A client leaves with a command unanswered; things happen that nobody is told; a second client comes and asks nothing."""
    stage.image()
    vm = stage.machine(*PORTS, *another_monitor("other"))
    vm.boot()
    add_node(vm)
    add_disk(vm)
    vm.console.settles("test -e /sys/block/vda")
    other = Monitor(stage.run / "other.sock", alive=vm.alive)
    vm.qmp.post("stop")
    vm.qmp.close()
    time.sleep(0.3)
    other.ok("cont")
    other.ok("device_del", {"id": "vd1"})
    other.event("DEVICE_DELETED", device="vd1")
    second = stage.client(vm, "c2")
    time.sleep(0.5)
    second.ok("stop")
    second.ok("query-status")
    second.ok("qom-list", {"path": "/machine/peripheral"})
    second.ok("quit")
    second.closed()
    vm.wait()
    other.close()


@story
def reconnect_unasked(stage):
    """A client leaves a paused VM; another monitor resets it; the next client continues it without a question."""
    vm = stage.bare(*another_monitor("other"))
    vm.qmp.ok("cont")
    vm.qmp.ok("stop")
    vm.qmp.close()
    other = Monitor(stage.run / "other.sock", alive=vm.alive)
    other.ok("system_reset")
    second = stage.client(vm, "c2")
    time.sleep(0.3)
    second.ok("cont")
    time.sleep(0.3)
    second.ok("quit")
    second.closed()
    vm.wait()
    other.close()


@story
def multi_monitor(stage):
    """Another monitor stops, continues, resets, plugs and unplugs beside ours, which sees only the events."""
    stage.image()
    vm = stage.machine(*PORTS, *another_monitor("other"))
    vm.boot()
    other = Monitor(stage.run / "other.sock", alive=vm.alive)
    for command in ("stop", "cont", "stop", "system_reset", "cont"):
        other.ok(command)
        time.sleep(0.2)
    vm.qmp.ok("query-status")
    vm.console.ready()
    add_node(vm)
    other.ok("device_add", {"driver": "virtio-blk-pci", "id": "vd1", "drive": "n1", "bus": "rp0"})
    vm.console.settles("test -e /sys/block/vda")
    other.ok("device_del", {"id": "vd1"})
    gone(vm)
    look(vm)
    for command in ("stop", "cont") * 5:
        vm.qmp.post(command)
        other.post("cont" if command == "stop" else "stop")
    time.sleep(0.5)
    vm.qmp.ok("query-status")
    other.close()
    leave(vm)


@story
def hmp(stage):
    """The same commands as text for the human monitor, whose effects show only in events."""
    stage.image()
    vm = stage.machine(*PORTS)
    vm.boot()
    add_node(vm)
    for line in (
        "stop",
        "cont",
        "device_add virtio-blk-pci,id=vd1,drive=n1,bus=rp0",
        "device_add virtio-blk-pci,id=vd1,drive=n1,bus=rp1",
        "info status",
    ):
        human(vm, line)
    vm.console.settles("test -e /sys/block/vda")
    time.sleep(1)
    human(vm, "device_del vd1")
    gone(vm)
    human(vm, "system_reset")
    time.sleep(0.3)
    human(vm, "stop")
    look(vm)
    human(vm, "system_reset")
    time.sleep(0.3)
    vm.qmp.ok("query-status")
    leave(vm)


@story
def hmp_backends(stage):
    """The human monitor makes and removes backends, devices and migrations, refuses some, and pauses; queries tell what came of it."""
    vm = stage.bare("-m", "32", "-device", "qemu-xhci,id=xhci", *PORTS)
    human(vm, "cont")
    for line in (
        "object_add rng-builtin,id=rng0",
        "object_add rng-builtin,id=rng0",
        "netdev_add hubport,id=net0,hubid=0",
        "chardev-add null,id=char0",
        "device_add usb-tablet,id=tablet",
        "device_add usb-tablet,id=tablet",
        "device_add usb-mouse",
        "device_add nosuch,id=other",
        "device_add usb-storage,id=stick,drive=nosuch",
    ):
        human(vm, line)
    look(vm)
    vm.qmp.ok("qom-list", {"path": "/machine/peripheral-anon"})
    vm.qmp.ok("query-memdev")
    vm.qmp.ok("query-chardev")
    vm.qmp.ok("qom-list", {"path": "/objects"})
    for line in (
        "device_del tablet",
        "device_del tablet",
        "chardev-remove char0",
        "netdev_del net0",
        "object_del rng0",
        "object_del rng0",
        "stop",
        "migrate fd:nosuch",
    ):
        human(vm, line)
    look(vm)
    vm.qmp.ok("query-chardev")
    vm.qmp.ok("qom-list", {"path": "/objects"})
    vm.qmp.ok("query-migrate")
    for line in ("c", "migrate_set_capability events on", "migrate -d exec:cat>saved"):
        human(vm, line)
    vm.qmp.event("MIGRATION", status="completed")
    time.sleep(0.3)
    vm.qmp.ok("query-status")
    vm.qmp.ok("query-migrate")
    human(vm, "cont")
    vm.qmp.ok("query-status")
    leave(vm)


@story
def migrate_refused(stage):
    """migrate is refused before and after it has begun, running and paused; without events only a question tells the two apart."""
    vm = stage.bare("-m", "32")
    for command in ("cont", "stop", "system_reset"):
        vm.qmp.ok(command)
        for uri in ("fd:nosuch", "nosuch:"):
            vm.qmp.command("migrate", {"uri": uri})
            vm.qmp.ok("query-migrate")
            vm.qmp.ok("query-status")
    leave(vm)


def human(vm, line):
    """Run a line of the human monitor and return what it printed."""
    return vm.qmp.ok("human-monitor-command", {"command-line": line})


@story
def pipeline(stage):
    """Many commands in one write, some of them wrong, one on several lines, two on one."""
    vm = stage.bare()
    names = ["cont", "stop", "nosuch", "query-status", "system_reset"] * 8
    vm.qmp.send("".join(json.dumps({"execute": name, "id": f"p{n}"}) + "\n" for n, name in enumerate(names)))
    vm.qmp.reply(f"p{len(names) - 1}")
    vm.qmp.send(json.dumps({"execute": "cont", "id": "pretty"}, indent=2) + "\n")
    vm.qmp.reply("pretty")
    vm.qmp.send('{"execute": "stop", "id": "one"}{"execute": "query-status", "id": "two"}\n')
    vm.qmp.reply("two")
    vm.qmp.send('{"execute": "cont"}\n')
    vm.qmp.send("{'execute': 'query-status', 'id': 'single quotes'}\n")
    vm.qmp.reply("single quotes")
    vm.qmp.send("nonsense\n")
    vm.qmp.ok("query-status")
    leave(vm)
