"""A plug of several steps is whole or leaves nothing: each step made to fail, by refusal, by a cut monitor, by QEMU's end."""

import asyncio
import contextlib
import os
import signal
import socket
from pathlib import Path

import pytest
from support import embedder

from qemustate import VirtualMachine
from qemustate.errors import OperationRefused, OutcomeUnknown
from qemustate.events.reader import LogReader
from qemustate.hardware.properties import Blockdev, Chardev, Device, Fd, Netdev, Object
from qemustate.qmp.sockets import Outbox
from qemustate.vm import sending

pytestmark = pytest.mark.usefixtures("no_leaks")

#: Kind -> the commands of its plug, in order.
SAGAS = {
    "disk": ("blockdev-add", "blockdev-add", "device_add"),
    "disk by descriptor": ("add-fd", "blockdev-add", "device_add"),
    "card": ("getfd", "netdev_add", "device_add"),
    "port": ("getfd", "chardev-add", "device_add"),
    "rng": ("object-add", "device_add"),
    "memory": ("object-add", "device_add"),
}
#: Every step of every kind.
STEPS = [
    pytest.param(kind, step, id=f"{kind}-{step}")
    for kind, commands in SAGAS.items()
    for step in range(len(commands))
]
#: Kind -> descriptors whose number the guest's firmware decides, where it runs meanwhile.
APART = {"disk by descriptor": "anon_inode:"}
#: A number that is no open descriptor of ours.
CLOSED = 9999
#: What makes something of the name that a backend is to have, so that QEMU refuses it.
TAKERS = {
    "blockdev-add": {"driver": "null-co"},
    "netdev_add": {"type": "user"},
    "chardev-add": {"backend": {"type": "null", "data": {}}},
    "object-add": {"qom-type": "memory-backend-ram", "size": 4096},
}


class Lent:
    """A descriptor of each kind to plug with: a file's, and a socket's whose other end stays open."""

    def __init__(self, folder):
        (folder / "image").write_bytes(bytes(embedder.MIB))
        self.file = os.open(folder / "image", os.O_RDWR)
        self.ours, self.theirs = socket.socketpair()

    def close(self):
        os.close(self.file)
        self.ours.close()
        self.theirs.close()

    def parts(self, kind, *, bad=False):
        """Return the parts of a kind; ``bad``: with a device that QEMU refuses."""
        more = {"bus": "nobus"} if bad else {}
        match kind:
            case "disk":
                file = Blockdev({"driver": "null-co", "read-zeroes": True, "node-name": "x-file"})
                node = Blockdev({"driver": "raw", "file": "x-file", "node-name": "x-node"})
                return (
                    file,
                    node,
                    Device({"driver": "scsi-hd", "id": "x", "drive": "x-node", "bus": "scsi0.0"} | more),
                )
            case "disk by descriptor":
                node = Blockdev({"driver": "file", "filename": Fd(self.file), "node-name": "x-node"})
                return node, Device(
                    {"driver": "scsi-hd", "id": "x", "drive": "x-node", "bus": "scsi0.0"} | more
                )
            case "card":
                card = {"driver": "virtio-net-pci", "id": "x", "netdev": "x", "bus": "rp0"}
                return Netdev(type="socket", id="x", fd=Fd(self.ours.fileno())), Device(card | more)
            case "port":
                address = {"backend": "socket", "id": "x", "fd": Fd(self.ours.fileno()), "server": False}
                port = {"driver": "virtserialport", "id": "x", "chardev": "x", "bus": "serial0.0"}
                return Chardev(address), Device(port | more)
            case "rng":
                source = {"qom-type": "rng-random", "id": "x-source", "filename": "/dev/urandom"}
                rng = {"driver": "virtio-rng-pci", "id": "x", "rng": "x-source", "bus": "rp1"}
                return Object(source), Device(rng | more)
            case "memory":
                memory = {"qom-type": "memory-backend-ram", "id": "x-memory", "size": 64 * embedder.MIB}
                dimm = {"driver": "pc-dimm", "id": "x", "memdev": "x-memory"}
                return Object(memory), Device(dimm | ({"nonesuch": 1} if bad else {}))
        raise AssertionError(kind)


@pytest.fixture
def lent(tmp_path):
    """Lend descriptors."""
    lent = Lent(tmp_path)
    yield lent
    lent.close()


@pytest.fixture
def argv(qemu):
    """Return the command line of a PC with a place for each kind."""
    return [qemu.binary, *qemu.args, *embedder.MACHINE]


def run(work):
    """Do asynchronous work for at most a minute."""

    async def main():
        async with asyncio.timeout(60):
            await work()

    asyncio.run(main())


@contextlib.contextmanager
def at_command(vm, name, number, do):
    """Call ``do(socket)`` when the command of that name has been sent for that time, counted from 0, and QEMU stands still before it can answer."""
    send, count = Outbox.send, 0

    def counted(outbox, data, fds):
        nonlocal count
        count += b'"%s"' % name.encode() in data
        if count != number + 1 or b'"%s"' % name.encode() not in data:
            send(outbox, data, fds)
            return
        os.kill(vm.pid, signal.SIGSTOP)
        while b") T " not in Path(f"/proc/{vm.pid}/stat").read_bytes():
            pass
        send(outbox, data, fds)
        do(outbox._socket)
        os.kill(vm.pid, signal.SIGCONT)
        count += 1

    Outbox.send = counted
    try:
        yield
    finally:
        Outbox.send = send


def times_before(kind, step):
    """Return how many earlier steps have the same command."""
    return SAGAS[kind][:step].count(SAGAS[kind][step])


def last(log, kind):
    """Return the body of the last record of a kind."""
    return [it.body for it in LogReader(log) if it.kind == kind][-1]


def begun_of(log):
    """Return the steps and the number of the last plug."""
    return next(
        (it.body["steps"], it.seq)
        for it in reversed(list(LogReader(log)))
        if it.kind == "begun" and it.body["intent"] == "plug"
    )


async def plugged_and_back(vm, kind, lent, folder, before, bare):
    """Hold that a plug works now, and that an unplug takes everything away again."""
    await vm.plug(*lent.parts(kind))
    assert vm.state.device("x") == "present"
    if kind != "memory":  # whose unplug needs a guest
        await vm.unplug("x")
        await embedder.holds(vm, folder, bare, apart=APART.get(kind, ""))
        seen = await embedder.truth(vm)
        assert seen == before
    await embedder.agrees(vm)


@pytest.mark.parametrize(("kind", "step"), STEPS)
def test_a_refused_step_leaves_nothing(argv, tmp_path, lent, kind, step):
    """Whichever step is refused, those before it are taken back in reverse, on record; the same plug works afterwards."""
    command = SAGAS[kind][step]
    parts = lent.parts(kind, bad=command == "device_add")
    taken = None
    if command in ("getfd", "add-fd"):
        parts = tuple(
            type(part)({key: Fd(CLOSED) if isinstance(it, Fd) else it for key, it in part.items()})
            for part in parts
        )
    elif command in TAKERS:
        key = "node-name" if command == "blockdev-add" else "id"
        taken = (command, {key: parts[times_before(kind, step)].id, **TAKERS[command]})

    async def work():
        async with VirtualMachine.launch(argv, log=tmp_path / "log", deadline=30) as vm:
            if kind == "disk by descriptor":
                await vm.resume()  # QEMU 7.2 closes those of a set only while the vCPUs run (monitor/fds.c)
            if taken:
                await vm.execute(*taken)
            before, bare = await embedder.truth(vm), embedder.descriptors(vm.pid)

            with pytest.raises(OperationRefused) as refused:
                await vm.plug(*parts)

            assert refused.value.by == ("us" if command in ("getfd", "add-fd") else "qemu")
            assert refused.value.left == ()
            await embedder.agrees(vm)
            assert await embedder.truth(vm) == before
            await embedder.holds(vm, tmp_path, bare, apart=APART.get(kind, ""))
            steps, begun = begun_of(tmp_path / "log")
            names = [it[1]["fdname"] for it in steps if it[0] == "getfd"]
            sent = [
                [it.body["qmp"]["execute"], it.body["qmp"]["arguments"]]
                for it in LogReader(tmp_path / "log").records(begun)
                if it.kind == "command" and "arguments" in it.body["qmp"]
            ]
            undone = [undo for _, _, undo in reversed(steps[:step])]
            if step > 1:  # what has used the name has taken it away
                undone = [undo for undo in undone if undo[0] != "closefd"]
            taken_back = [it for it in sent if it in undone]
            assert taken_back == undone
            assert await embedder.names_left(vm, names) == []
            if taken:
                undo = {"blockdev-add": "blockdev-del", "netdev_add": "netdev_del"}.get(command)
                undo = undo or {"chardev-add": "chardev-remove", "object-add": "object-del"}[command]
                key = "node-name" if command == "blockdev-add" else "id"
                await vm.execute(undo, {key: taken[1][key]})
                before = await embedder.truth(vm)
            await plugged_and_back(vm, kind, lent, tmp_path, before, bare)

    run(work)


@pytest.mark.parametrize(("kind", "step"), STEPS)
def test_a_monitor_cut_at_a_step_is_gone_on_from(argv, tmp_path, lent, kind, step):
    """When the monitor is cut before the answer to a step comes, it is opened again, QEMU asked, and the plug brought to its end."""

    async def work():
        async with VirtualMachine.launch(argv, log=tmp_path / "log", deadline=30) as vm:
            if kind == "disk by descriptor":
                await vm.resume()
            before, bare = await embedder.truth(vm), embedder.descriptors(vm.pid)
            with at_command(
                vm, SAGAS[kind][step], times_before(kind, step), lambda it: it.shutdown(socket.SHUT_RDWR)
            ):
                await vm.plug(*lent.parts(kind))
            await embedder.agrees(vm)
            assert last(tmp_path / "log", "ended")["outcome"] == "done"
            names = [it[1]["fdname"] for it in begun_of(tmp_path / "log")[0] if it[0] == "getfd"]
            assert await embedder.names_left(vm, names) == []
            if kind != "memory":
                await vm.unplug("x")
                assert await embedder.truth(vm) == before
                await embedder.holds(vm, tmp_path, bare, apart=APART.get(kind, ""))

    run(work)
    assert sum(it.kind == "opened" for it in LogReader(tmp_path / "log")) == 2


@pytest.mark.parametrize(("kind", "step"), STEPS)
def test_a_qemu_that_ends_at_a_step(argv, tmp_path, lent, kind, step):
    """When QEMU is killed before the answer to a step comes, the plug is unknown, says why, and nothing of the VM is left."""

    async def work():
        async with VirtualMachine.launch(argv, log=tmp_path / "log", deadline=30) as vm:
            with (
                at_command(
                    vm, SAGAS[kind][step], times_before(kind, step), lambda _: os.kill(vm.pid, signal.SIGKILL)
                ),
                pytest.raises(OutcomeUnknown, match="QEMU has ended \\(signal 9\\)"),
            ):
                await vm.plug(*lent.parts(kind))

    run(work)
    assert last(tmp_path / "log", "ended")["outcome"] == "unknown"
    assert sorted(it.name for it in tmp_path.iterdir()) == ["image", "log"]


def test_a_request_that_must_not_be_sent_twice(argv, tmp_path):
    """A reset whose answer is lost may have been or not, and is unknown; a job is known by its name: whether it was begun can be asked."""

    async def work():
        async with VirtualMachine.launch(argv, log=tmp_path / "log", deadline=30) as vm:

            def cut(sock):
                sock.shutdown(socket.SHUT_RDWR)

            with (
                at_command(vm, "system_reset", 0, cut),
                pytest.raises(OutcomeUnknown, match="settled by QEMU's answer"),
            ):
                await vm.reset()
            for name in ("a", "b"):
                await vm.execute(
                    "blockdev-add", {"driver": "null-co", "size": embedder.MIB, "node-name": name}
                )
            with at_command(vm, "blockdev-mirror", 0, cut):
                job = vm.mirror("a", "b", job="j")
                await job.ready()
            await job.complete()
            assert vm.state.job("j") == "null"
            assert not vm.operations

    run(work)
    sent = [it.body["qmp"]["execute"] for it in LogReader(tmp_path / "log") if it.kind == "command"]
    assert sent.count("system_reset") == 1


def test_what_cannot_be_taken_back_is_named(argv, tmp_path, lent, monkeypatch):
    """When QEMU refuses an undo too, the refusal and the log name the command that would take back what is left."""
    monkeypatch.setattr(sending, "_PATIENCE", 0.1)

    async def work():
        async with VirtualMachine.launch(argv, log=tmp_path / "log", deadline=30) as vm:

            class Listener:
                async def on_enter_present(self, name):
                    if name == "x-node":
                        await vm.execute(
                            "blockdev-add", {"driver": "raw", "file": name, "node-name": "other"}
                        )

            vm.listen("node", Listener())
            await embedder.truth(vm)
            with pytest.raises(OperationRefused) as refused:
                await vm.plug(*lent.parts("disk", bad=True))
            left = [
                ("blockdev-del", {"node-name": "x-node"}),
                ("blockdev-del", {"node-name": "x-file"}),
            ]
            assert list(refused.value.left) == left
            assert last(tmp_path / "log", "ended")["left"] == [list(it) for it in left]
            await embedder.agrees(vm)

    run(work)
