"""A part is held against what the QEMU at hand says of itself, and QEMU agrees."""

import pytest

from qemustate.errors import CommandRefused
from qemustate.hardware import (
    bridges,
    characters,
    confidential,
    devices,
    memory,
    network,
    passthrough,
    sharing,
    storage,
)
from qemustate.hardware.capabilities import Capabilities
from qemustate.hardware.config import Config
from qemustate.hardware.hotplug import plug_steps
from qemustate.hardware.properties import Blockdev, Chardev, Device, Fd, Fsdev, Netdev, Object
from qemustate.vm.probe import probe


@pytest.fixture
def known(qemu, tmp_path, monkeypatch):
    """Return the function that says what the QEMU at hand can do, for the devices of these parts."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return lambda *parts: probe(qemu.binary, [part.kind for part in parts if isinstance(part, Device)])


WRONG = [
    (Device(driver="virtio-rng-pci", id="a", **{"max-bytes": "many"}), 'max-bytes: expected uint64, saw "many"'),
    (Device(driver="virtio-rng-pci", id="a", nosuch=1), "nosuch: expected a property of virtio-rng-pci"),
    (Device(driver="virtio-rgn-pci", id="a"), "driver: expected a device that this QEMU has, saw virtio-rgn-pci"),
    (Device(driver="virtio-rng-pci", id="a", event_idx="on"), 'event_idx: expected bool, saw "on"'),
    (Blockdev({"driver": "null-co", "node-name": "n", "size": "1G"}), 'size: expected int, saw "1G"'),
    (Blockdev({"driver": "raw", "node-name": "n", "file": {"driver": "file"}}), "file.filename: expected string, saw nothing"),
    (Blockdev({"driver": "nosuch", "node-name": "n"}), "driver: expected one of"),
    (Netdev(type="tap", id="n", vhost="on"), 'vhost: expected boolean, saw "on"'),
    (Chardev(backend="ringbuf", id="c", size="4096"), 'backend.data.size: expected int, saw "4096"'),
    (Object({"qom-type": "memory-backend-ram", "id": "m", "size": "1G"}), 'size: expected int, saw "1G"'),
    (Object({"qom-type": "memory-backend-ram", "id": "m"}), "size: expected int, saw nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("part", "complaint"), WRONG, ids=[complaint for _, complaint in WRONG])
def test_what_is_wrong_is_named_before_qemu_refuses_it(known, base, start, part, complaint):
    """The problem names the property, the type expected and the value seen; QEMU refuses the part as well."""
    problems = [str(problem) for problem in known(part).check(part)]

    assert len(problems) == 1
    assert complaint in problems[0]
    if isinstance(part, Chardev):  # on the command line all of it is text
        [step] = plug_steps([part])
        with start(base) as client, pytest.raises(CommandRefused):
            client.execute(step.command, step.arguments)
    else:
        with pytest.raises(AssertionError, match="QEMU did not come up"), start(base.add(part)):
            pass


#: All that is made here for which no emulated machine has the hardware, and from which QEMU on it is there.
RENDERED = [
    (network.vsock("v0", 3), (7, 2)),
    (network.vsock("v0", 3, fd=5), (7, 2)),
    (
        passthrough.vfio_pci(
            "g0", "0000:3b:00.0", bus="rp0", **{"x-pci-vendor-id": 0x10DE, "x-pci-device-id": 1}
        ),
        (7, 2),
    ),
    (passthrough.vfio_pci("g0", "0000:3b:00.0", iommufd="iommufd0"), (9, 0)),
    (passthrough.vfio_mdev("g0", "/sys/bus/mdev/devices/u"), (7, 2)),
    (passthrough.iommufd("iommufd0"), (9, 0)),
    (passthrough.iommufd("iommufd0", fd=7), (9, 0)),
    (confidential.sev(cbitpos=51, reduced_phys_bits=1, policy=5, **{"kernel-hashes": True})[0], (7, 2)),
    (
        confidential.sev_snp(cbitpos=51, reduced_phys_bits=1, policy=0x30000, **{"host-data": "AA=="})[0],
        (9, 1),
    ),
    (confidential.s390_pv()[0], (7, 2)),
    (confidential.pef()[0], (7, 2)),
    (memory.epc("epc0", 1 << 20)[0], (7, 2)),
]


@pytest.mark.parametrize(
    ("part", "since"), RENDERED, ids=[part.kind + str(number) for number, (part, _) in enumerate(RENDERED)]
)
def test_what_cannot_be_run_here_is_what_qemu_describes(known, part, since):
    """Every property that is set exists in the QEMUs that have the part, with the type that it is set to."""
    capabilities = known(part)
    problems = capabilities.check(part)

    assert (not problems) is (capabilities.version[:2] >= since)


def test_text_becomes_what_qemu_takes(known, base, start):
    """A command line of key=value, as ps shows it, is plugged by QMP: its text has the types that QEMU wants."""
    argv = [
        "qemu",
        "-object", "memory-backend-ram,id=m0,size=16M,prealloc=off",
        "-netdev", "user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:0-:22",
        "-chardev", "socket,id=c0,host=127.0.0.1,port=0,server=on,wait=off",
        "-blockdev", "driver=null-co,node-name=d0,size=1M,read-only=on",
        "-device", "virtio-net-pci,id=net0,netdev=n0,bus=rp1,addr=0x0,mq=off,bootindex=3,romfile=",
    ]  # fmt: skip
    parts = Config.from_argv(argv).parts()
    capabilities = known(*parts)
    typed = [capabilities.typed(part) for part in parts]

    assert [problem for part in parts for problem in capabilities.check(part)] == []
    assert typed[-1] == {
        "driver": "virtio-net-pci", "id": "net0", "netdev": "n0", "bus": "rp1", "addr": "0x0", "mq": False, "bootindex": 3, "romfile": "",
    }  # fmt: skip
    with start(base.add(bridges.root_port("rp1", chassis=1))) as client:
        for step in plug_steps(typed):
            client.execute(step.command, step.arguments)
        assert client.execute("qom-get", {"path": "/machine/peripheral/net0", "property": "bootindex"}) == 3


def test_text_that_is_not_settled_is_refused_by_newer_qemus(known, base, start):
    """Why text must be settled: from 9.2 on device_add takes no text for a number."""
    part = Device(driver="virtio-rng-pci", id="r0", bus="rp1", **{"max-bytes": "1024"})
    with start(base.add(bridges.root_port("rp1", chassis=1))) as client:
        if known(part).version >= (9, 2):
            with pytest.raises(CommandRefused, match="max-bytes"):
                client.execute("device_add", dict(part))
        else:
            client.execute("device_add", dict(part))


def test_what_is_right_has_no_problem(known):
    """Parts of every kind as they are made here are what the QEMU at hand describes."""
    sockets = [characters.socket(f"c{number}", "/a") for number in range(3)]
    parts = [
        *storage.disk("d0", storage.node("n0", "/a", aio="native", cache={"direct": True}, discard="unmap"), **{"share-rw": True}),
        *storage.scsi_disk("d1", storage.node("n1", Fd(3)), "scsi0.0", lun=1),
        storage.scsi_controller("scsi0"),
        *network.nic("net0", network.tap_by_fds("t0", [3, 4], vhostfds=[5, 6]), queues=2, mac="52:54:00:00:00:01"),
        *network.nic("net1", network.tap("t1", ifname="tap1", queues=2, vhost=True), queues=2),
        *characters.port("p0", sockets[0], "vs0.0", "a"),
        *sharing.virtio_fs("fs0", sockets[1], "share"),
        *sharing.vhost_user_nic("net2", sockets[2], queues=4),
        *sharing.ninep("s0", "/a", "tag"),
        *memory.dimm("m0", memory.memfd("mem0", 1 << 27, hugetlb=True, hugetlbsize=1 << 21)),
        *memory.nvdimm("m1", memory.file("mem1", 1 << 27, "/a", pmem=True, readonly=True), unarmed=True),
        *memory.virtio_mem("m2", memory.ram("mem2", 1 << 30, policy="bind", **{"host-nodes": [0, 1]}), node=1),
        *devices.rng("rng0", period=1000),
        devices.balloon("b0", **{"deflate-on-oom": True}),
        devices.intel_iommu(),
        bridges.root_port("rp0", chassis=1, multifunction=True, addr="0x1.0"),
        bridges.pxb_pcie("pxb0", 128, numa_node=1),
        devices.loader("l0", "/a"),
    ]  # fmt: skip

    assert known(*parts).check_config(Config().add(*parts, {"machine": "q35"})) == []


def test_a_command_line_is_checked_whole(known):
    """Machine types, ids used twice, and each part under its option and id."""
    parts = [
        Device(driver="virtio-rng-pci", id="r0", period="x"),
        Device(driver="virtio-balloon-pci", id="r0"),
        Object({"qom-type": "iothread", "id": "r0"}),
        Fsdev(fsdriver="local", id="f"),
    ]
    config = Config().add({"machine": "q36"}, *parts)

    assert [str(problem) for problem in known(*parts).check_config(config)] == [
        "machine.type: expected a machine of this QEMU, q35, saw q36",
        'device r0: period: expected uint32, saw "x"',
        "device r0: id: expected an id of its own, saw that of another virtio-rng-pci",
    ]


def test_chardevs_of_the_command_line(known):
    """What only a command line can say of a chardev is no problem; a socket without an address is one."""
    mux, lost, two = Config.from_argv(
        ["qemu", "-chardev", "stdio,id=c0,mux=on,signal=off", "-chardev", "socket,id=c1", "-chardev", "socket,id=c2,path=/a,fd=3"]
    ).parts()  # fmt: skip

    assert known().check(mux) == []
    assert known().typed(mux) == {"backend": "stdio", "id": "c0", "mux": "on", "signal": False}
    assert [str(problem) for problem in known().check(lost)] == [
        "socket: expected one of path, fd, cid, host, saw none of them"
    ]
    assert [problem.seen for problem in known().check(two)] == ["unix and fd"]


def test_it_can_be_kept(known):
    """What is known goes to bytes and back."""
    capabilities = known(Device(driver="virtio-rng-pci"))
    back = Capabilities.from_bytes(capabilities.to_bytes())

    assert (back, back.version) == (capabilities, capabilities.version)
    assert back.properties["virtio-rng-pci"]["max-bytes"] == "uint64"


def test_a_machine_that_is_a_number_is_named(known):
    """What stands where a machine's name should is told, whatever it is."""
    config = Config(options={"machine": [1]})
    assert [str(problem) for problem in known().check_config(config)] == [
        "machine.type: expected a machine of this QEMU, saw 1"
    ]
