"""What only a command line can say is what a real QEMU then has: commas, several of one option, and all."""

import contextlib
import os
import pwd
import re
import socket
import struct
from pathlib import Path

import pytest

from qemustate.hardware import bridges, characters, devices, memory, platform, sharing, storage
from qemustate.hardware.properties import Chardev, Device, Fd

MIB = 1 << 20


class Bus:
    """The VM's ports and memory, read from outside while no processor runs (QEMU docs/devel/testing/qtest)."""

    def __init__(self):
        self._ours, self._theirs = socket.socketpair()
        self._file = self._ours.makefile("rw")
        self.options = {
            "chardev": {"backend": "socket", "id": "qtest", "fd": Fd(self._theirs.fileno())},
            "qtest": "chardev:qtest",
            "qtest-log": "none",
        }

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for opened in (self._file, self._ours, self._theirs):
            opened.close()

    def say(self, line):
        """Send a command; return the words that answer it."""
        self._file.write(line + "\n")
        self._file.flush()
        status, *words = self._file.readline().split()
        assert status == "OK", line
        return words

    def memory(self, address, size):
        """Return bytes of the VM's memory."""
        return bytes.fromhex(self.say(f"read {address:#x} {size:#x}")[0][2:])

    def firmware_item(self, key, size):
        """Return bytes of one item of fw_cfg, by its number (QEMU docs/specs/fw_cfg.rst)."""
        self.say(f"outw 0x510 {key:#x}")
        return bytes(int(self.say("inb 0x511")[0], 16) for _ in range(size))

    def firmware_files(self):
        """Return every named blob of fw_cfg that a user gave."""
        [count] = struct.unpack(">I", self.firmware_item(0x19, 4))
        entries = self.firmware_item(0x19, 4 + 64 * count)[4:]
        files = (struct.unpack(">IHH56s", entries[64 * n : 64 * n + 64]) for n in range(count))
        return {
            name.rstrip(b"\0").decode(): self.firmware_item(key, size)
            for size, key, _, name in files
            if name.startswith(b"opt/qemustate/")
        }


@pytest.fixture
def bus():
    """Return a Bus."""
    with Bus() as bus:
        yield bus


def get(client, path, name):
    """Return a QOM property."""
    return client.execute("qom-get", {"path": path, "property": name})


def hmp(client, line):
    """Return what the human monitor says."""
    return client.execute("human-monitor-command", {"command-line": line})


def status(client, name):
    """Return a line of the process's status in /proc."""
    return re.search(rf"^{name}:\s*(\S+)", Path(f"/proc/{client.pid}/status").read_text(), re.MULTILINE)[1]


def test_two_fw_cfg_entries_are_two_blobs(base, start, bus, tmp_path):
    """Two fw_cfg entries, one from a file with a comma in its path and one with commas in its text, are what the guest reads."""
    (tmp_path / "a,b").write_bytes(b"from a file")
    config = base.add(
        bus.options,
        platform.fw_cfg("opt/qemustate/file", file=str(tmp_path / "a,b")),
        platform.fw_cfg("opt/qemustate/text", string="a,b=c,,d"),
    )
    with start(config):
        assert bus.firmware_files() == {
            "opt/qemustate/file": b"from a file",
            "opt/qemustate/text": b"a,b=c,,d",
        }


def test_commas_in_paths_reach_qemu(base, start, tmp_path):
    """Images, chardevs, folders and names with commas and = in them are used as they are."""
    path = tmp_path / "a,b=c,server=on"
    path.mkdir()
    (path / "d,1").write_bytes(bytes(MIB))
    config = base.add(
        {"name": {"guest": "a,b=c"}},
        *storage.disk("d0", storage.node("n0", str(path / "d,1")), serial="a,b"),
        *sharing.ninep("fs0", str(path), "a,b", multidevs="remap"),
        characters.virtio_serial("vs0"),
        *characters.port("p0", Chardev(backend="file", id="c0", path=str(path / "out,1")), "vs0.0", "a,b"),
    )
    with start(config) as client:
        assert client.execute("query-name") == {"name": "a,b=c"}
        assert get(client, "/machine/peripheral/d0", "serial") == "a,b"
        assert get(client, "/machine/peripheral/fs0", "mount_tag") == "a,b"
        assert get(client, "/machine/peripheral/p0", "name") == "a,b"
        [node] = [n for n in client.execute("query-named-block-nodes") if n["node-name"] == "n0"]
        assert str(path / "d,1") in node["file"]
        assert (path / "out,1").exists()


def test_addr_is_hexadecimal(base, start):
    """A slot written as text is hexadecimal to QEMU: "10" is the sixteenth; "20" does not exist."""
    config = base.add(
        Device(driver="virtio-rng-pci", id="r0", addr="10"),
        Device(driver="virtio-rng-pci", id="r1", addr="1e.1", multifunction=True),
    )
    with start(config) as client:
        slots = [
            (d["qdev_id"], d["slot"], d["function"])
            for b in client.execute("query-pci")
            for d in b["devices"]
        ]
    assert ("r0", 16, 0) in slots
    assert ("r1", 30, 1) in slots
    with (
        pytest.raises(AssertionError, match="addr"),
        start(base.add(Device(driver="virtio-rng-pci", addr="20"))),
    ):
        pass


def test_bridges_of_every_kind(base, start):
    """Ports, switches, bridges and another root, with what they reserve, are where they were put."""
    reserve = {"bus-reserve": 1, "io-reserve": 4096, "mem-reserve": MIB, "pref64-reserve": MIB}
    parts = (
        bridges.root_port("rp0", chassis=1, slot=1, addr="0x5.0", multifunction=True, **reserve),
        bridges.root_port("rp1", chassis=2, slot=2, addr="0x5.1", **{"pref32-reserve": MIB}),
        bridges.switch_upstream("up0", "rp0"),
        bridges.switch_downstream("down0", "up0", chassis=3, slot=0),
        bridges.switch_downstream("down1", "up0", chassis=3, slot=1),
        bridges.pcie_pci_bridge("pb0", "rp1"),
        bridges.pci_bridge("pb1", chassis_nr=9, bus="pb0", addr="0x2", shpc=False),
        bridges.pxb_pcie("pxb0", 0x80, numa_node=0),
        bridges.root_port("rp2", chassis=4, bus="pxb0"),
        devices.balloon("b0", bus="down1"),
        Device(driver="virtio-rng-pci", id="r0", bus="pb1", addr="0x1f"),
    )
    node = memory.numa_node(0, memory.ram("m0", 128 * MIB))
    with start(base.add(*node, *parts)) as client:
        for part in parts:
            path = f"/machine/peripheral/{part.id}"
            assert get(client, path, "type") == part.kind
            assert get(client, path, "parent_bus").endswith("/" + part["bus"])
            for name in part.keys() - {"driver", "id", "bus", "addr"}:
                assert get(client, path, name) == part[name], name
        assert get(client, "/machine/peripheral/rp1", "addr") == 5 << 3 | 1


def test_devices_that_are_there_from_the_start(base, start, tmp_path):
    """The IOMMU, the panic's bell and a loader are there with what was set."""
    (tmp_path / "blob").write_bytes(b"\x90" * 16)
    iommu = devices.intel_iommu()
    iommu["id"] = "iommu0"
    config = base.add(
        {"machine": {"kernel-irqchip": "split"}},
        iommu,
        devices.pvpanic("panic0"),
        devices.loader("loader0", str(tmp_path / "blob"), addr=0x100000, **{"force-raw": True}),
    )
    with start(config) as client:
        path = "/machine/peripheral"
        assert [
            get(client, f"{path}/iommu0", name) for name in ("intremap", "device-iotlb", "caching-mode")
        ] == ["on", True, True]
        assert get(client, f"{path}/panic0", "type") == "pvpanic"
        assert get(client, f"{path}/loader0", "addr") == 0x100000


def test_processors_are_laid_out(base, start):
    """-smp says how many processors there are and how they are grouped."""
    with start(base.add(platform.smp(2, maxcpus=8, sockets=2, dies=2, cores=2, threads=1))) as client:
        assert len(client.execute("query-cpus-fast")) == 2
        cpus = client.execute("query-hotpluggable-cpus")
    assert len(cpus) == 8
    assert {(it["props"]["socket-id"], it["props"]["die-id"], it["props"]["core-id"]) for it in cpus} == {
        (socket_, die, core) for socket_ in (0, 1) for die in (0, 1) for core in (0, 1)
    }


def test_a_processor_model_and_its_features(base, start):
    """Features are switched on and off, and threads are called by what they do."""
    model = {"model": "qemu64", "-svm": True, "+rdrand": True, "x2apic": False}
    with start(base.add({"cpu": model, "name": {"guest": "vm", "debug-threads": True}})) as client:
        [cpu] = client.execute("query-cpus-fast")
        assert get(client, cpu["qom-path"], "type") == "qemu64-x86_64-cpu"
        assert [get(client, cpu["qom-path"], name) for name in ("svm", "rdrand", "x2apic")] == [
            False,
            True,
            False,
        ]
        threads = []
        for path in Path(f"/proc/{client.pid}/task").glob("*/comm"):
            with contextlib.suppress(OSError):  # one of QEMU's workers that has just ended
                threads.append(path.read_text().strip())
    assert "CPU 0/TCG" in threads


def test_another_user(base, start, qemu, tmp_path):
    """QEMU gives up root for a user, in the words of its version."""
    if os.geteuid():
        pytest.skip("only root can become another user")
    option = {"runas": "nobody"} if qemu.version == "7.2" else {"run-with": {"user": "nobody"}}
    with start(base.add(option)) as client:
        assert status(client, "Uid") == str(pwd.getpwnam("nobody").pw_uid)


def test_memory_from_a_backend(base, start, tmp_path):
    """The VM's memory is that of a backend: of a file that others may map, of its size, there from the start."""
    backend = memory.file("ram0", 64 * MIB, str(tmp_path), prealloc=True)
    config = base.add(*memory.boot_memory(backend), {"overcommit": {"mem-lock": True}})
    with start(config) as client:
        [found] = client.execute("query-memdev")
        assert (found["id"], found["size"], found["share"], found["prealloc"]) == (
            "ram0",
            64 * MIB,
            True,
            True,
        )
        assert client.execute("query-memory-size-summary")["base-memory"] == 64 * MIB
        assert int(status(client, "VmLck")) >= 64 * 1024


def test_memory_that_can_grow(base, start):
    """-m says how much there is, and how much may be plugged in how many slots."""
    config = base.add(
        platform.memory(64 * MIB, slots=2, maximum=1024 * MIB),
        *memory.dimm("d0", memory.ram("m0", 128 * MIB)),
    )
    with start(config) as client:
        assert client.execute("query-memory-size-summary") == {
            "base-memory": 64 * MIB,
            "plugged-memory": 128 * MIB,
        }


def test_nodes_of_memory(base, start):
    """Processors and memory belong to their nodes, and nodes have distances."""
    config = base.add(
        platform.smp(4),
        {"m": "128M"},
        *memory.numa_node(0, memory.ram("m0", 64 * MIB, policy="bind", **{"host-nodes": [0]}), cpus="0-1"),
        *memory.numa_node(1, memory.memfd("m1", 64 * MIB), cpus="2-3"),
        memory.numa_distance(0, 1, 20),
    )
    with start(config) as client:
        told = hmp(client, "info numa")
        assert "node 0 cpus: 0 1\r\nnode 0 size: 64 MB" in told
        assert "node 1 cpus: 2 3\r\nnode 1 size: 64 MB" in told
        [bound] = [it for it in client.execute("query-memdev") if it["id"] == "m0"]
        assert (bound["policy"], bound["host-nodes"]) == ("bind", [0])
    with (
        pytest.raises(AssertionError, match="NUMA distance"),
        start(config.add(memory.numa_distance(1, 0, 5))),
    ):
        pass


def test_the_clock(base, start):
    """The clock starts where it was told to."""
    with start(base.add(platform.rtc(base="2001-02-03T04:05:06", clock="vm", driftfix="slew"))) as client:
        time = get(client, "/machine", "rtc-time")
    assert (time["tm_year"], time["tm_mon"], time["tm_mday"], time["tm_hour"]) == (101, 1, 3, 4)


def test_firmware_in_flash(base, start, bus, tmp_path):
    """Code and variables are flash of the machine, the code read-only; a bios is where a processor starts."""
    for name in ("code,1", "vars"):
        (tmp_path / name).write_bytes(name[:1].encode() * (64 * 1024))
    with start(
        base.add(bus.options, *platform.firmware(str(tmp_path / "code,1"), str(tmp_path / "vars")))
    ) as client:
        nodes = {it["node-name"]: it["ro"] for it in client.execute("query-named-block-nodes")}
        assert (nodes["pflash0"], nodes["pflash1"]) == (True, False)
        assert bus.memory(0xFFFFFFF0, 16) == b"c" * 16
        assert bus.memory(0xFFFEFFF0, 16) == b"v" * 16


def test_a_bios_and_the_log(base, start, bus, tmp_path):
    """A bios, a pid file, a log and an identity are plain options, used as they are."""
    (tmp_path / "bios,1").write_bytes(b"b" * (64 * 1024))
    uuid = "01234567-89ab-cdef-0123-456789abcdef"
    config = base.add(
        bus.options,
        {
            "bios": str(tmp_path / "bios,1"),
            "pidfile": str(tmp_path / "pid,1"),
            "D": str(tmp_path / "log,1"),
            "d": "unimp",
            "uuid": uuid,
        },
        {"vga": "std", "global": {"driver": "VGA", "property": "vgamem_mb", "value": 32}},
    )
    with start(config) as client:
        assert bus.memory(0xFFFFFFF0, 16) == b"b" * 16
        assert int((tmp_path / "pid,1").read_text()) == client.pid
        assert (tmp_path / "log,1").exists()
        assert client.execute("query-uuid") == {"UUID": uuid}
        [vga] = [
            d for b in client.execute("query-pci") for d in b["devices"] if d["class_info"]["class"] == 0x300
        ]
        assert any(region["size"] == 32 * MIB for region in vga["regions"])


def test_a_kernel_and_its_words(base, start, bus, guest):
    """A kernel, an initrd and a command line with commas in it are what the firmware finds."""
    words = "console=ttyS0,115200 a=b,,c"
    config = base.add(bus.options, platform.kernel(str(guest.kernel), initrd=str(guest.initrd), append=words))
    with start(config):
        [size] = struct.unpack("<I", bus.firmware_item(0x14, 4))
        assert bus.firmware_item(0x15, size).rstrip(b"\0").decode() == words
        assert struct.unpack("<I", bus.firmware_item(0x0B, 4))[0] == guest.initrd.stat().st_size


def test_the_sandbox(base, start):
    """QEMU forbids itself the system calls that it was told to."""
    policies = {"obsolete": "deny", "elevateprivileges": "deny", "spawn": "deny", "resourcecontrol": "deny"}
    with start(base.add(platform.sandbox(**policies))) as client:
        assert status(client, "Seccomp") == "2"


@pytest.mark.parametrize("how", ["defer", "fd", "exec"])
def test_a_vm_that_comes_in(base, start, how):
    """A VM that is to be migrated here waits for that: for a command, a descriptor, or a program's output."""
    reader, writer = os.pipe()
    source = {"defer": "defer", "fd": Fd(reader), "exec": "exec:cat; sleep 60"}[how]
    try:
        with start(base.add(platform.incoming(source))) as client:
            assert client.execute("query-status")["status"] == "inmigrate"
    finally:
        os.close(reader)
        os.close(writer)


def test_serial_ports_and_monitors(base, start, tmp_path):
    """The machine's own serial port, a legacy port and a second monitor are over chardevs."""
    config = base.add(
        *characters.serial(characters.socket("c0", str(tmp_path / "s"))),
        *characters.monitor(characters.socket("c1", str(tmp_path / "m"))),
        *characters.monitor(Chardev(backend="null", id="c2"), mode="readline"),
    )
    with start(config) as client:
        chardevs = {it["label"]: it for it in client.execute("query-chardev")}
        assert chardevs["c0"]["filename"].endswith(f"{tmp_path}/s,server=on")
        assert chardevs["c0"]["frontend-open"]
        assert "dev: isa-serial" in hmp(client, "info qtree")
        with socket.socket(socket.AF_UNIX) as second:
            second.connect(str(tmp_path / "m"))
            assert second.recv(4096).startswith(b'{"QMP"')


def test_what_has_no_argument(base, start):
    """Options without an argument are taken: the VM does not start by itself and does not end when it is shut down."""
    flags = {"nographic": True, "no-shutdown": True, "no-reboot": True, "enable-kvm": False, "snapshot": True}
    config = base.without("display").add(flags)
    with start(config) as client:
        assert client.execute("query-status")["status"] == "prelaunch"
        client.execute("cont")
        client.execute("system_powerdown")
        client.execute("stop")
        assert client.execute("query-status")["status"] == "paused"
