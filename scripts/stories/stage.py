"""Where a story is played: a folder, a QEMU version, the guest, and a list of the stories there are."""

import contextlib
import json
import re
import subprocess
import time

from support.machine import BASE, Machine, dies_with_us, monitor
from support.monitor import Monitor

#: name -> function, in the order of the modules.
STORIES = {}

#: Native PCIe hotplug; without it q35 plugs by ACPI (QEMU hw/i386/pc_q35.c, the default since 6.1).
NATIVE = ["-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"]

#: Two root ports to plug into.
PORTS = [
    "-device", "pcie-root-port,id=rp0,chassis=1,slot=1",
    "-device", "pcie-root-port,id=rp1,chassis=2,slot=2",
]  # fmt: skip


def story(function):
    """Add a function to STORIES; its docstring says what happens."""
    STORIES[function.__name__] = function
    return function


class Stage:
    """What a story gets. `machine` starts a VM; recordings are taken when the story is over."""

    def __init__(self, qemu, guest, run):
        self.qemu, self.guest, self.run = qemu, guest, run
        self._machines = []
        self._clients = []
        self._opened = contextlib.ExitStack()

    def machine(self, *arguments, append="", guest=True, name="", stopped=True):
        """Start a VM. `name` is the suffix of its recording; `stopped` is -S."""
        base = BASE if stopped else [word for word in BASE if word != "-S"]
        started = Machine(
            self.qemu,
            self.run,
            arguments,
            guest=self.guest if guest else None,
            append=append,
            name=name,
            base=base,
        )
        self._opened.callback(started.end)
        self._machines.append(started)
        return started

    def bare(self, *arguments, **options):
        """Start a VM with nothing but firmware in it."""
        return self.machine(*arguments, guest=False, **options)

    def client(self, vm, name, monitor_name="qmp"):
        """Connect another recorded client, as the recording with the suffix `name`."""
        client = Monitor(self.run / f"{monitor_name}.sock", alive=vm.alive)
        self._opened.callback(client.close)
        self._clients.append((vm, name, client))
        return client

    def helper(self, *command):
        """Start a program beside the VMs, in their folder; it ends with the story."""
        started = subprocess.Popen(
            [*dies_with_us(), *command], cwd=self.run, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._opened.callback(started.wait)
        self._opened.callback(started.kill)
        return started

    def image(self, name="disk.qcow2", size="64M", form="qcow2"):
        """Create an empty disk image and return its name."""
        command = [self.qemu.img, "create", "-q", "-f", form, name, size]
        subprocess.run(command, cwd=self.run, check=True)
        return name

    def end(self):
        """End everything that was started."""
        self._opened.close()

    def recordings(self):
        """Yield (suffix, wire, meta, truth) of each recorded client, after the end."""
        clients = [(vm, vm.name, vm.qmp) for vm in self._machines] + self._clients
        if self._clients:
            clients[0] = (clients[0][0], "c1", clients[0][2])
        for vm, name, client in clients:
            meta = {
                "qemu": self.qemu.full,
                "argv": vm.argv,
                "t_start": vm.t_start,
                "exit": vm.exit,
                "t_exit": vm.t_exit,
                "notes": vm.notes,
                "stderr": vm.stderr,
            }
            yield name, sorted(client.wire, key=lambda line: line["t"]), meta, vm.truth()


def another_monitor(name):
    """Return the arguments of one more QMP monitor on the socket NAME.sock."""
    return monitor(name, "")


def say(vm, *words):
    """Send commands without arguments, each when the one before is answered; a number among them is a pause in seconds."""
    for word in words:
        if isinstance(word, str):
            vm.qmp.ok(word)
        else:
            time.sleep(word)


def ends(vm, *events):
    """Wait for these events, for the end of the stream and for that of the process."""
    for event in events:
        vm.qmp.event(event)
    vm.qmp.closed()
    vm.wait()


def leave(vm):
    """End a VM with quit, and wait until it is gone."""
    vm.qmp.ok("quit")
    ends(vm)


def boot_and_plug(stage, bus, **options):
    """Boot, plug a disk, and wait until the guest has it."""
    stage.image()
    vm = stage.machine(*bus, *PORTS, **options)
    vm.boot()
    add_node(vm)
    add_disk(vm)
    vm.console.settles("test -e /sys/block/vda")
    return vm


def look(vm):
    """Ask for the run state and the devices, as a runtime does now and then."""
    devices = vm.qmp.ok("qom-list", {"path": "/machine/peripheral"})
    return vm.qmp.ok("query-status")["status"], sorted(
        item["name"] for item in devices if item["name"] != "type"
    )


def add_node(vm, name="n1", filename="disk.qcow2", **more):
    """Add a qcow2 block node."""
    vm.qmp.ok(
        "blockdev-add",
        {"driver": "qcow2", "node-name": name, "file": {"driver": "file", "filename": filename}, **more},
    )


def add_disk(vm, device="vd1", node="n1", bus="rp0"):
    """Plug a virtio-blk disk."""
    vm.qmp.ok("device_add", {"driver": "virtio-blk-pci", "id": device, "drive": node, "bus": bus})


def plug(vm, device, driver, bus="rp0", **more):
    """Plug a device of that driver."""
    vm.qmp.ok("device_add", {"driver": driver, "id": device, "bus": bus, **more})


def remove(vm, device="vd1"):
    """Ask for an unplug."""
    vm.qmp.ok("device_del", {"id": device})


def gone(vm, device="vd1", timeout=60):
    """Wait for the DEVICE_DELETED of this id."""
    vm.qmp.event("DEVICE_DELETED", timeout, device=device)


def shape(wire):
    """Return what happened in a recording, without times and figures: the commands, replies and events in order.

    Repeats in a row count once, and queries not at all, so that two recordings of one story compare equal.
    """
    sent = {}
    steps = []
    for line in wire:
        try:
            message = json.loads(line["raw"])
        except ValueError:
            step = "?"
        else:
            step = describe(message, sent)
        if step and (not steps or steps[-1] != step):
            steps.append(step)
    return steps


def describe(message, sent):
    """Return a message in a few words, or None for a query and its reply."""
    if "execute" in message:
        sent[message.get("id")] = message["execute"]
        return None if is_query(message["execute"]) else f"> {message['execute']}"
    if "event" in message:
        data = message.get("data", {})
        facts = [str(data[key]) for key in ("status", "action", "reason", "device", "id") if key in data]
        return " ".join([message["event"], *facts])
    name = sent.get(message.get("id"), "")
    if "QMP" in message:
        return "greeting"
    return None if is_query(name) else f"{'error' if 'error' in message else 'ok'} {name}"


def is_query(name):
    """Tell whether a command changes nothing."""
    return bool(re.match(r"query-|qom-list|qom-get", name))
