"""What govmm does to a VM, done to a real one: each test is named in docs/govmm.md."""

import asyncio
import fcntl
import os
import socket
import struct
import threading

import pytest
from support.vhost_user import VhostUser

from qemustate import VirtualMachine
from qemustate.errors import CommandRefused, OperationRefused
from qemustate.hardware import bridges, characters, devices, memory, network, platform, sharing, storage
from qemustate.hardware.cmdline import set_of
from qemustate.hardware.config import Config
from qemustate.hardware.properties import Blockdev, Device, Fd
from qemustate.qmp.blocking import Client
from qemustate.qmp.messages import Event

pytestmark = pytest.mark.usefixtures("no_leaks")

MIB = 1 << 20
PERIPHERAL = "/machine/peripheral/"


@pytest.fixture
def config(qemu):
    """Return the Config of a q35 with ports, room for memory and processors, and SCSI."""
    ports = [bridges.root_port(f"rp{number}", chassis=number) for number in (1, 2, 3)]
    return Config.from_argv([qemu.binary, *qemu.args]).add(
        {"nodefaults": True, "S": True, "display": "none", "machine": {"type": "q35", "accel": "tcg", "nvdimm": True}},
        platform.memory(128 * MIB, slots=4, maximum=1024 * MIB),
        platform.smp(1, maxcpus=4, sockets=1, cores=4, threads=1),
        storage.scsi_controller("scsi0"),
        *ports,
    )  # fmt: skip


def run(scenario):
    """Run a scenario for at most a minute."""

    async def main():
        async with asyncio.timeout(60):
            return await scenario()

    return asyncio.run(main())


async def get(vm, name, property_):
    """Return a property of a device."""
    return await vm.execute("qom-get", {"path": PERIPHERAL + name, "property": property_})


async def unplugged(vm, name):
    """Unplug a PCI device from a VM without a guest: the reset frees it."""
    leaving = vm.unplug(name)
    await vm.until(lambda state: state.device(name) == "unplugging")
    await vm.reset()
    await leaving


def test_the_life_of_a_vm(config, tmp_path):
    """Resume, pause and power button; the run state is kept, and quit is done when the process has ended."""

    async def scenario():
        async with VirtualMachine.launch(config, log=tmp_path / "log") as vm:
            assert await vm.resume() == "running"
            assert await vm.pause() == "paused"
            assert (await vm.execute("query-status"))["status"] == vm.state.runstate == "paused"
            await vm.execute("system_powerdown")  # nobody is there to press back
            await vm.quit()
            assert await vm.wait() == {"status": 0}

    run(scenario)


def test_it_tells_of_itself(config, tmp_path):
    """The whole schema comes through, and QOM properties are read and set with their types."""

    async def scenario():
        async with VirtualMachine.launch(config, log=tmp_path / "log") as vm:
            schema = await vm.execute("query-qmp-schema")
            assert len(str(schema)) > 64 * 1024
            await vm.plug(
                *memory.virtio_mem("vm0", memory.ram("m0", 256 * MIB), bus="rp1", **{"block-size": 2 * MIB})
            )
            await vm.execute(
                "qom-set", {"path": PERIPHERAL + "vm0", "property": "requested-size", "value": 64 * MIB}
            )
            assert await get(vm, "vm0", "requested-size") == 64 * MIB
            assert await get(vm, "vm0", "prealloc") is False

    run(scenario)


def test_disks(config, tmp_path):
    """Disks on PCI and SCSI, with caches, discards, block sizes and queues, and their nodes gone with them."""
    for name in "abcd":
        (tmp_path / name).write_bytes(bytes(MIB))

    async def scenario():
        async with VirtualMachine.launch(config, log=tmp_path / "log") as vm:
            cached = storage.node(
                "n-a", str(tmp_path / "a"), cache={"direct": False, "no-flush": True}, discard="unmap"
            )
            read_only = storage.node("n-b", str(tmp_path / "b"), aio="threads", **{"read-only": True})
            await vm.plug(*storage.disk("a", cached, bus="rp1", addr="00", **{"share-rw": True, "num-queues": 2, "logical_block_size": 4096, "physical_block_size": 4096}))  # fmt: skip
            await vm.plug(*storage.scsi_disk("b", read_only, "scsi0.0", **{"scsi-id": 1, "lun": 2}))
            await vm.plug(*storage.scsi_disk("c", storage.node("n-c", str(tmp_path / "c"), **{"read-only": True}), "scsi0.0", driver="scsi-cd"))  # fmt: skip
            await vm.plug(platform.iothread("io0"), *storage.disk("d", storage.node("n-d", str(tmp_path / "d")), bus="rp2", iothread="io0"))  # fmt: skip
            nodes = {it["node-name"]: it for it in await vm.execute("query-named-block-nodes")}
            assert nodes["n-a"]["cache"] == {"direct": False, "no-flush": True, "writeback": True}
            assert (nodes["n-a"]["ro"], nodes["n-b"]["ro"]) == (False, True)
            assert (await get(vm, "a", "num-queues"), await get(vm, "b", "lun")) == (2, 2)
            with pytest.raises(CommandRefused, match="in use"):
                await vm.execute("blockdev-del", {"node-name": "n-b"})
            for name in "bc":
                await vm.unplug(name)
            for name in "ad":
                await unplugged(vm, name)
            assert await vm.execute("query-named-block-nodes") == []

    run(scenario)


def test_a_second_node_of_a_name_is_refused_and_leaves_the_first(config, tmp_path):
    """A plug that fails at its device takes its node back, so that the next try finds the name free."""

    async def scenario():
        async with VirtualMachine.launch(config, log=tmp_path / "log") as vm:
            null = Blockdev({"driver": "null-co", "node-name": "n0", "read-zeroes": True})
            with pytest.raises(OperationRefused, match="Bus 'nosuch' not found"):
                await vm.plug(*storage.disk("d0", null, bus="nosuch"))
            await vm.plug(*storage.disk("d0", null, bus="rp1"))
            assert vm.state.node("n0") == "present"

    run(scenario)


@pytest.fixture
def tap():
    """Return the function that opens a queue of a tap device; closed at the end."""
    if not os.access("/dev/net/tun", os.W_OK) or os.geteuid():
        pytest.skip("no /dev/net/tun that root may use")
    fds = []

    def open_(name):
        fds.append(os.open("/dev/net/tun", os.O_RDWR))
        # TUNSETIFF; IFF_TAP, IFF_NO_PI, IFF_VNET_HDR, IFF_MULTI_QUEUE (linux/if_tun.h)
        fcntl.ioctl(fds[-1], 0x400454CA, struct.pack("16sH22x", name, 0x5102))
        return fds[-1]

    yield open_
    for fd in fds:
        os.close(fd)


def test_network_cards(config, tmp_path, tap):
    """Cards over a tap by its name and over descriptors of two queues, joined by colons, and gone with their backends."""

    async def scenario():
        async with VirtualMachine.launch(config, log=tmp_path / "log") as vm:
            fds = [tap(b"qemustate2") for _ in range(2)]
            await vm.plug(*network.nic("net0", network.tap_by_fds("t0", fds), mac="52:54:00:00:00:01", queues=2, bus="rp1", romfile=""))  # fmt: skip
            await vm.plug(*network.nic("net1", network.tap("t1", ifname="qemustate3"), bus="rp2", romfile=""))
            assert (await get(vm, "net0", "mq"), await get(vm, "net0", "vectors")) == (True, 6)
            assert await get(vm, "net0", "mac") == "52:54:00:00:00:01"
            told = await vm.execute("human-monitor-command", {"command-line": "info network"})
            assert "t0: index=1,type=tap,fd=" in told
            assert "t1: index=0,type=tap,ifname=qemustate3" in told
            for name in ("net0", "net1"):
                await unplugged(vm, name)
            told = await vm.execute("human-monitor-command", {"command-line": "info network"})
            assert told == ""

    run(scenario)


def test_devices_of_other_processes(config, tmp_path):
    """Disk, folder and card whose work another process does, plugged and unplugged with their sockets."""
    shared = config.add(memory.memfd("ram0", 128 * MIB), {"machine": {"memory-backend": "ram0"}})

    async def scenario():
        async with VirtualMachine.launch(shared, log=tmp_path / "log") as vm:
            await vm.plug(*sharing.vhost_user_disk("d0", characters.socket("c0", peer.path, server=False), bus="rp1"))  # fmt: skip
            await vm.plug(*sharing.virtio_fs("f0", characters.socket("c1", peer.path, server=False), "tag", bus="rp2"))  # fmt: skip
            await vm.plug(*sharing.vhost_user_nic("n0", characters.socket("c2", peer.path, server=False), bus="rp3", romfile=""))  # fmt: skip
            assert await get(vm, "f0", "tag") == "tag"
            for name in ("d0", "f0", "n0"):
                await unplugged(vm, name)
            assert [it["label"] for it in await vm.execute("query-chardev")] == ["qemustate"]

    with VhostUser(tmp_path / "vu") as peer:
        run(scenario)


def test_processors(config, tmp_path):
    """Processors are plugged where the machine says there is room, with numbers as numbers."""

    async def scenario():
        async with VirtualMachine.launch(config, log=tmp_path / "log") as vm:
            assert len(await vm.execute("query-hotpluggable-cpus")) == 4
            assert await vm.set_vcpus(3) == 3
            cpus = await vm.execute("query-cpus-fast")
            assert len(cpus) == 3
            threads = {int(name) for name in os.listdir(f"/proc/{vm.pid}/task")}  # noqa: PTH208
            assert {cpu["thread-id"] for cpu in cpus} <= threads

    run(scenario)


def test_memory(config, tmp_path):
    """Modules are plugged, one that keeps its contents too; what there is is told, and a failed one takes its memory back."""
    (tmp_path / "nv").write_bytes(bytes(128 * MIB))

    async def scenario():
        async with VirtualMachine.launch(config, log=tmp_path / "log") as vm:
            assert await vm.set_memory(256 * MIB) == 256 * MIB
            await vm.plug(*memory.nvdimm("nv0", memory.file("m0", 128 * MIB, str(tmp_path / "nv"))))
            kinds = {it["data"]["id"]: it["type"] for it in await vm.execute("query-memory-devices")}
            assert kinds == {"dimm0": "dimm", "nv0": "nvdimm"}
            with pytest.raises(OperationRefused):
                await vm.plug(*memory.dimm("d9", memory.ram("m9", 1024 * MIB)))
            assert {it["id"] for it in await vm.execute("query-memdev") if "id" in it} == {"dimm0-memory", "m0", "pc.ram"}  # fmt: skip

    run(scenario)


def test_the_balloon(config, tmp_path):
    """The balloon is told how much the guest is to have; what the guest says of it is asked."""

    async def scenario():
        async with VirtualMachine.launch(config.add(devices.balloon("b0")), log=tmp_path / "log") as vm:
            await vm.execute("balloon", {"value": 64 * MIB})
            assert (await vm.execute("query-balloon"))["actual"] == 128 * MIB  # no guest has given any back

    run(scenario)


def test_channels(config, tmp_path):
    """A socket that connects again, behind a named port, comes and goes."""

    async def scenario():
        async with VirtualMachine.launch(config.add(characters.virtio_serial("vs0")), log=tmp_path / "log") as vm:  # fmt: skip
            socket = characters.socket("c0", str(tmp_path / "agent"), server=False)
            socket["reconnect"] = 1
            await vm.plug(*characters.port("p0", socket, "vs0.0", "org.kata.agent"))
            assert await get(vm, "p0", "name") == "org.kata.agent"
            await vm.unplug("p0")
            assert [it["label"] for it in await vm.execute("query-chardev")] == ["qemustate"]

    run(scenario)


def test_descriptors(config, tmp_path):
    """A descriptor is handed over by name or in a set, used, and taken back."""
    (tmp_path / "d").write_bytes(bytes(MIB))

    async def scenario():
        async with VirtualMachine.launch(config, log=tmp_path / "log") as vm:
            await vm.resume()  # QEMU 7.2 closes no descriptor of a set while the VM stands still
            fd = os.open(tmp_path / "d", os.O_RDWR)
            try:
                await vm.getfd("mine", fd)
                await vm.execute("closefd", {"fdname": "mine"})
                with pytest.raises(CommandRefused):
                    await vm.execute("closefd", {"fdname": "mine"})
                path = await vm.add_fd(fd)
                assert path.startswith("/dev/fdset/")
                await vm.plug(*storage.scsi_disk("d0", storage.node("n0", Fd(fd)), "scsi0.0"))
            finally:
                os.close(fd)
            await vm.unplug("d0")
            sets = await vm.execute("query-fdsets")
            assert [f"/dev/fdset/{it['fdset-id']}" for it in sets] == [path]

    run(scenario)


def test_descriptors_at_launch(config, tmp_path):
    """A descriptor in the Config is inherited, under its number, and stands for a path."""
    (tmp_path / "d").write_bytes(bytes(MIB))
    fd = os.open(tmp_path / "d", os.O_RDWR)

    async def scenario():
        parts = storage.disk("d0", storage.node("n0", Fd(fd)))
        async with VirtualMachine.launch(config.add(*parts), log=tmp_path / "log") as vm:
            [node] = [it for it in await vm.execute("query-named-block-nodes") if it["node-name"] == "n0"]
            assert node["file"] == f"/dev/fdset/{set_of(fd)}"

    try:
        run(scenario)
    finally:
        os.close(fd)


def test_migration(config, tmp_path):
    """A VM is saved to a file with its capabilities set, and another one takes it in."""
    file = tmp_path / "state"
    settings = {"capabilities": {"events": True}}

    async def scenario():
        async with VirtualMachine.launch(config, log=tmp_path / "a") as vm:
            await vm.migrate(f"exec:cat > {file}", **settings)
            assert (await vm.execute("query-migrate"))["status"] == "completed"
            # The status is told a moment before the run state has followed.
            assert (await vm.execute("query-status"))["status"] in ("finish-migrate", "postmigrate")
        target = config.add(platform.incoming())
        async with VirtualMachine.launch(target, log=tmp_path / "b") as vm:
            assert vm.state.runstate == "inmigrate"
            await vm.incoming(f"exec:cat {file}", **settings)
            assert (await vm.execute("query-status"))["status"] == vm.state.runstate == "prelaunch"

    run(scenario)


def test_a_migration_that_fails_is_refused(config, tmp_path):
    """A status of failed ends the operation at once, with the reason."""

    async def scenario():
        async with VirtualMachine.launch(config, log=tmp_path / "log") as vm:
            with pytest.raises(OperationRefused):
                await vm.migrate("exec:false")

    run(scenario)


def test_a_dump(config, tmp_path):
    """The guest's memory is dumped in the background, and the end of it is waited for."""

    async def scenario():
        async with VirtualMachine.launch(config, log=tmp_path / "log") as vm:
            await vm.dump(str(tmp_path / "core"))

    run(scenario)
    assert (tmp_path / "core").read_bytes()[:4] == b"\x7fELF"


def test_an_error_has_its_class_and_its_words(config, tmp_path):
    """A refusal carries command, arguments, class and description of QEMU."""

    async def scenario():
        async with VirtualMachine.launch(config, log=tmp_path / "log") as vm:
            with pytest.raises(CommandRefused) as caught:
                await vm.execute("device_del", {"id": "nosuch"})
            error = caught.value
            assert (error.command, error.arguments) == ("device_del", {"id": "nosuch"})
            assert (error.error_class, error.desc) == ("DeviceNotFound", "Device 'nosuch' not found")
            with pytest.raises(CommandRefused, match="addr"):
                await vm.execute("device_add", dict(Device(driver="virtio-rng-pci", id="r0", bus="rp1", addr="20")))  # fmt: skip

    run(scenario)


def test_an_event_before_the_greeting():
    """What a QEMU says before it greets is an event like any other, and the greeting is waited for."""
    event = b'{"timestamp": {"seconds": 1, "microseconds": 454749}, "event": "STOP"}\r\n'
    greeting = b'{"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 4}}, "capabilities": []}}\r\n'
    ours, theirs = socket.socketpair()
    seen = []

    def answer():
        theirs.recv(4096)
        theirs.sendall(b'{"return": {}, "id": "1"}\r\n')

    with theirs:
        theirs.sendall(event + greeting)
        server = threading.Thread(target=answer)
        server.start()
        with Client.connect(ours, timeout=10, on_messages=seen.extend) as client:
            assert client.connection.greeting.version == (4, 0, 0)
        server.join()
    [stop] = [it for it in seen if isinstance(it, Event)]
    assert (stop.name, stop.time) == ("STOP", 1_454_749)
