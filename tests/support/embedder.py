"""A process that runs a VM through everything, killed at a point of its log; and what QEMU has, to compare with.

The process is a fork of the test's, so it is not the parent of who adopts the VM later; QEMU is nobody's child then.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import traceback
from collections import Counter
from pathlib import Path

from qemustate.errors import CommandRefused, OperationRefused, OutcomeUnknown
from qemustate.events.writer import LogWriter
from qemustate.hardware.properties import Blockdev, Chardev, Device, Fd, Netdev, Object
from qemustate.qmp.sockets import Outbox
from qemustate.vm.job import Job
from qemustate.vm.process import start_time
from qemustate.vm.virtual_machine import VirtualMachine

MIB = 1 << 20
#: A PC with a place for each kind of device; its ports tell native hotplug, so that an unplug needs no guest while the vCPUs stand still.
MACHINE = [
    "-machine", "q35,accel=tcg", "-m", "128M,slots=4,maxmem=1G", "-S", "-display", "none", "-nodefaults", "-no-user-config",
    "-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off",
    "-device", "pcie-root-port,id=rp0,chassis=1", "-device", "pcie-root-port,id=rp1,chassis=2",
    "-device", "virtio-scsi-pci,id=scsi0", "-device", "virtio-serial-pci,id=serial0",
    "-object", "memory-backend-ram,id=vmem,size=256M", "-device", "virtio-mem-pci,id=vm0,memdev=vmem,requested-size=0",
]  # fmt: skip
#: What stays under way in this machine whoever owns it, since no guest answers.
NEVER = {("resize", "vm0"), ("unplug", "dimm0")}


# --- the scenario


def parts(name, sockets=()):
    """Return the parts of a device of the scenario; ``sockets`` are the descriptors for those that need some."""
    match name:
        case "d0":
            tree = {
                "driver": "raw",
                "file": {"driver": "null-co", "node-name": "d0-file", "read-zeroes": True},
            }
            return Blockdev(tree, **{"node-name": "d0-node"}), Device(
                driver="scsi-hd", id="d0", drive="d0-node", bus="scsi0.0"
            )
        case "n0":
            return Netdev(type="socket", id="n0", fd=Fd(sockets[0])), Device(
                driver="virtio-net-pci", id="n0", netdev="n0", bus="rp0"
            )
        case "c0":
            address = {"backend": "socket", "id": "c0-chardev", "fd": Fd(sockets[0]), "server": False}
            return Chardev(address), Device(
                driver="virtserialport", id="c0", chardev="c0-chardev", bus="serial0.0"
            )
        case "r0":
            rng = {"qom-type": "rng-random", "id": "r0-source", "filename": "/dev/urandom"}
            return Object(rng), Device(driver="virtio-rng-pci", id="r0", rng="r0-source", bus="rp1")
        case "dimm0":
            memory = {"qom-type": "memory-backend-ram", "id": "dimm0-memory", "size": 64 * MIB}
            return Object(memory), Device(driver="pc-dimm", id="dimm0", memdev="dimm0-memory")
    raise AssertionError(name)


#: Devices that the scenario plugs and unplugs, in this order.
DEVICES = ("d0", "n0", "c0", "r0")
#: A node defined inside another: whether it goes with that, the answer to a blockdev-del does not say.
LOOSE = ("d0-file",)
#: Nodes without a device.
NODES = ("a", "b")


#: What QEMU holds open for each thing that it has, besides what the bare machine does.
HOLDS = {
    "n0": "socket:",
    "c0-chardev": "socket:",
    "r0-source": "/dev/urandom",
    **{node: f"{{folder}}/{node}" for node in NODES},
}


class Peers:
    """The other ends of what devices are plugged with: held by whoever made this, whatever becomes of the VM's owner."""

    def __init__(self):
        self.ends = {name: socket.socketpair() for name in ("n0", "c0")}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pair in self.ends.values():
            for end in pair:
                end.close()

    async def plug(self, vm, name):
        """Plug a device of the scenario."""
        await vm.plug(*parts(name, [end.fileno() for end in self.ends.get(name, ())[:1]]))


async def scenario(vm, images, peers, checkpoint):
    """Do one of everything; ``checkpoint`` is awaited after each step."""
    for name in DEVICES:
        await peers.plug(vm, name)
        await checkpoint()
    await peers.plug(vm, "dimm0")
    await checkpoint()
    with contextlib.suppress(OutcomeUnknown):  # no guest gives an answer
        await vm.set_memory((128 + 64 + 128) * MIB, deadline=0.01)
    await checkpoint()
    for name in NODES:
        await vm.plug(Blockdev(driver="file", filename=str(images / name), **{"node-name": name}))
        await checkpoint()
    job = vm.mirror("a", "b", job="copy")
    await job.ready()
    await checkpoint()
    await job.complete()
    await checkpoint()
    await vm.set_memory((128 + 64) * MIB)
    for name in DEVICES:
        await vm.unplug(name)
        await checkpoint()
    for name in NODES:
        await vm.unplug(name)
        await checkpoint()
    await vm.resume()
    await checkpoint()
    await vm.pause()
    await vm.reset()
    await checkpoint()
    with contextlib.suppress(OutcomeUnknown):
        await vm.unplug("dimm0", deadline=0.01)
    await checkpoint()
    await peers.plug(vm, "d0")
    await checkpoint()


# --- the kill


def kill_after(record=0, sent=0, *, answered=False):
    """Have this process killed by SIGKILL, right after it has written record number ``record`` or sent its command number ``sent``.

    ``answered``: only once QEMU's answer to that has arrived, unread.
    """
    append, append_many, rotate, send = LogWriter.append, LogWriter.append_many, LogWriter.rotate, Outbox.send
    count = 0

    def look(writer, result):
        if record and writer.seq >= record:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    def many(writer, entries):
        entries = list(entries)
        while record and entries and writer.seq + len(entries) >= record:
            one(writer, *entries.pop(0))
        return append_many(writer, entries)

    def one(writer, *entry, **options):
        return look(writer, append(writer, *entry, **options))

    def counted(outbox, data, fds):
        nonlocal count
        send(outbox, data, fds)
        count += 1
        if count == sent:
            if answered:
                select.select([outbox._socket], [], [], 5)
            os.kill(os.getpid(), signal.SIGKILL)

    LogWriter.append, LogWriter.append_many = one, many
    LogWriter.rotate = lambda writer, *args, **options: look(writer, rotate(writer, *args, **options))
    Outbox.send = counted


def run_apart(work):
    """Do ``work()`` in a process of its own; return what waitpid says of its end."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            null = os.open("/dev/null", os.O_RDWR)
            for fd in (0, 1):
                os.dup2(null, fd)
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1]


def embed(argv, folder, peers, *, told=None, segment_bytes=0, **point):
    """Run the scenario in a process of its own until it is killed, or ends; return how it ended.

    ``told`` is a file that gets the descriptors that the bare machine holds; what it holds after each step is compared.
    """

    def work():
        kill_after(**point)
        if segment_bytes:
            small_segments(segment_bytes)
        asyncio.run(main())

    async def main():
        async with VirtualMachine.launch(argv, log=folder / "log", deadline=30) as vm:
            bare = descriptors(vm.pid)
            await truth(vm)  # what the command line does not tell: sizes of memory

            async def checkpoint():
                if told is not None:
                    await agrees(vm)
                    await holds(vm, folder, bare)

            await scenario(vm, folder, peers, checkpoint)
        if told is not None:
            told.write_text(json.dumps(bare))

    return run_apart(work)


def small_segments(size):
    """Have logs begin a new segment every ``size`` bytes."""
    LogWriter.__init__.__kwdefaults__ = {}
    names = LogWriter.__init__.__code__.co_varnames
    defaults = list(LogWriter.__init__.__defaults__)
    defaults[names.index("segment_bytes") - 2] = size
    LogWriter.__init__.__defaults__ = tuple(defaults)


def adopt_apart(log, **point):
    """Adopt a VM in a process of its own until that is killed; where it is not, the VM is left again."""

    def work():
        kill_after(**point)
        asyncio.run(main())

    async def main():
        vm = await VirtualMachine.adopt(log, deadline=30)
        await settled(vm)
        vm.leave()

    return run_apart(work)


async def settled(vm, seconds=40):
    """Wait until nothing is under way but what no guest answers; a job waits for somebody to complete it."""
    try:
        async with asyncio.timeout(seconds):
            for operation in vm.operations.values():
                if (operation.intent, operation.subject) in NEVER:
                    await vm._operations.until(
                        lambda it, name=operation.id: name not in it.intents or it.intents[name]["answered"]
                    )
                else:
                    with contextlib.suppress(OperationRefused, OutcomeUnknown, CommandRefused):
                        if isinstance(operation, Job):
                            await operation.ready()
                            await operation.complete()
                        await operation.settled()
    except TimeoutError:
        raise AssertionError(f"still under way: {list(vm.operations.values())}") from None


# --- what is so


async def truth(vm):
    """Return what QEMU has, as it says itself: sorted names, statuses, sizes."""

    async def names(path):
        listed = await vm.execute("qom-list", {"path": path})
        return sorted(it["name"] for it in listed if it["type"].startswith("child<"))

    network = await vm.execute("human-monitor-command", {"command-line": "info network"})
    memory = await vm.execute("query-memory-devices")
    return {
        "devices": await names("/machine/peripheral"),
        "objects": [it for it in await names("/objects") if it != "pc.ram"],
        "nodes": sorted(
            it["node-name"]
            for it in await vm.execute("query-named-block-nodes", {"flat": True})
            if not it["node-name"].startswith("#")
        ),
        "chardevs": sorted(it["label"] for it in await vm.execute("query-chardev")),
        # A netdev stands at the margin where no device has it, else behind its device, with a backslash.
        "netdevs": sorted(
            {
                line.split(":")[0].removeprefix(" \\ ")
                for line in network.splitlines()
                if "type=nic" not in line
            }
        ),
        "jobs": {it["id"]: it["status"] for it in await vm.execute("query-jobs")},
        "runstate": (await vm.execute("query-status"))["status"],
        "memory": {
            it["data"]["id"]: it["data"].get("requested-size") for it in memory if it["type"] == "virtio-mem"
        },
    }


def believed(state, seen):
    """Return the same as :func:`truth` from the folded state; what the facts leave open is as it is ``seen``.

    That may be :data:`LOOSE` and, after a gap, netdevs, of which no query tells.
    """

    def names(collection):
        entries = {name: it["is"] for name, it in state[collection].items()}
        opened = {
            name for name, it in entries.items() if it is None and (name in LOOSE or collection == "netdevs")
        }
        there = {name for name, it in entries.items() if it not in ("gone", "planned", "adding")}
        return sorted(there - opened | opened & set(seen[collection]))

    found = {kind: names(kind) for kind in ("devices", "objects", "nodes", "chardevs", "netdevs")}
    found["jobs"] = {
        name: it["is"] for name, it in state["jobs"].items() if not {"null", "undefined"} >= {*it["possible"]}
    }
    found["runstate"] = state.runstate
    found["memory"] = {name: it["requested"] for name, it in state["memory"]["devices"].items()}
    return found


async def agrees(vm):
    """Hold that what is believed is what QEMU says."""
    before = vm.state
    seen = await truth(vm)
    before = believed(before, seen)
    differs = {key: (before[key], it) for key, it in seen.items() if before[key] != it}
    if differs:
        raise AssertionError(f"believed and seen differ: {differs}")


def descriptors(pid):
    """Return what a process has open: targets of its descriptors without their numbers, and how often each."""
    found = Counter()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found[fd.readlink().as_posix().split("[")[0]] += 1
    return dict(found)


async def holds(vm, folder, bare, seconds=30, apart=""):
    """Wait until QEMU holds what the bare machine does and what its parts need, and nothing else; RCU closes a little later.

    Of the kind ``apart`` it may hold any number.
    """
    wanted = Counter(bare)
    wanted.pop(apart, None)
    seen = await truth(vm)
    for name in {*seen["netdevs"], *seen["chardevs"], *seen["objects"], *seen["nodes"]}:
        if name in HOLDS:
            wanted[HOLDS[name].format(folder=folder)] += 1
    for _ in range(int(seconds / 0.02)):
        held = descriptors(vm.pid)
        held.pop(apart, None)
        if held == wanted:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"QEMU holds {held}, wanted {dict(wanted)}")


async def names_left(vm, names):
    """Return those of the descriptor names that QEMU still knows; they are closed."""
    left = []
    for name in names:
        with contextlib.suppress(CommandRefused):
            await vm.execute("closefd", {"fdname": name})
            left.append(name)
    return left


# --- processes


@contextlib.contextmanager
def adopting_orphans():
    """Have the orphans of what we start become ours, so that each can be seen to end (Linux prctl(2) PR_SET_CHILD_SUBREAPER)."""
    prctl = ctypes.CDLL(None).prctl
    prctl(36, 1, 0, 0, 0)
    try:
        yield
    finally:
        prctl(36, 0, 0, 0, 0)


def ended(pid):
    """Say whether a process has ended; one of ours is reaped then."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    return start_time(pid) is None
