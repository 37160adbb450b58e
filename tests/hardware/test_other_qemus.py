"""Parts for machines that are not at hand, held against what QEMUs of other versions and targets said of themselves."""

import json
import lzma

import pytest

from qemustate.hardware import bridges, characters, confidential, devices, memory, network, platform, storage
from qemustate.hardware.capabilities import Capabilities
from qemustate.hardware.properties import Fd, Object


def said(path):
    """Return the Capabilities of a QEMU from libvirt's recording of what it asked one."""
    texts = lzma.decompress(path.read_bytes()).decode().split("\n\n")
    asked, version, schema, machines, properties = None, None, None, [], {}
    for text in texts:
        message = json.loads(text)
        if "execute" in message:
            asked = message
        elif asked["execute"] == "query-version":
            version = tuple(message["return"]["qemu"][part] for part in ("major", "minor", "micro"))
        elif asked["execute"] == "query-qmp-schema":
            schema = message["return"]
        elif asked["execute"] == "query-machines" and "return" in message:
            machines = [
                machine[name]
                for machine in message["return"]
                for name in ("name", "alias")
                if name in machine
            ]
        elif asked["execute"] == "device-list-properties":
            listed = message.get("return")
            properties[asked["arguments"]["typename"]] = listed and {it["name"]: it["type"] for it in listed}
    return Capabilities(version, schema, machines, properties)


@pytest.fixture
def of(shared):
    """Return the function that gives the Capabilities of a recording by its name."""
    return lambda name: said(shared / "libvirt-replies" / f"{name}.replies.xz")


def test_devices_of_channels_are_what_a_mainframe_has(of):
    """On s390x every device made here is one that QEMU for s390x described, with those properties."""
    mainframe = of("caps_8.1.0_s390x")
    machine = "s390-ccw-virtio"
    parts = [
        *storage.disk("d0", storage.node("n0", "/a"), machine=machine, devno="fe.0.0001", iommu_platform=True, **{"num-queues": 2}),
        storage.scsi_controller("s0", machine=machine, devno="fe.0.0002"),
        *network.nic("net0", network.tap_by_fds("t0", [3, 4]), queues=2, machine=machine, devno="fe.1.0000"),
        devices.balloon("b0", machine=machine, **{"deflate-on-oom": True}),
        platform.virtio("virtio-gpu", machine, id="g0"),
        confidential.s390_pv()[0],
    ]  # fmt: skip

    assert machine in mainframe.machines
    assert [mainframe.properties[it.kind] is not None for it in parts if it.option == "device"] == [True] * 5
    assert [str(problem) for part in parts for problem in mainframe.check(part)] == []
    [problem] = of("caps_10.0.0_x86_64").check(parts[4])
    assert (problem.path, problem.seen) == ("driver", "virtio-net-ccw")


@pytest.mark.parametrize(
    "name", ["caps_4.2.0.x86_64", "caps_6.0.0.aarch64", "caps_6.2.0_x86_64", "caps_8.2.0_x86_64", "caps_10.0.0_x86_64"]
)  # fmt: skip
def test_parts_are_what_older_and_newer_qemus_have(of, name):
    """Disks, cards, ports and chardevs have not changed from 4.2 to 10.0, on x86 and Arm."""
    qemu = of(name)
    parts = [
        *storage.disk("d0", storage.node("n0", Fd(3), discard="unmap", cache={"direct": True}), **{"share-rw": True}),
        storage.scsi_controller("s0"),
        *storage.scsi_disk("d1", storage.node("n1", "/a", aio="native"), "s0.0", lun=1),
        *network.nic("net0", network.tap_by_fds("t0", [3, 4], vhostfds=[5, 6]), queues=2, mac="52:54:00:00:00:01"),
        devices.balloon("b0", **{"deflate-on-oom": True}),
        bridges.root_port("rp0", chassis=1, addr="0x2.0", multifunction=True, **{"io-reserve": 4096}),
        characters.socket("c0", "/a"),
    ]  # fmt: skip
    if qemu.version >= (6, 0, 0):
        parts += [
            memory.ram("m0", 1 << 30, policy="bind", **{"host-nodes": [0]}),
            memory.memfd("m1", 1 << 30, hugetlb=True),
            memory.file("m2", 1 << 30, "/a", align=1 << 21),
            platform.iothread("io0"),
            Object({"qom-type": "rng-random", "id": "r0", "filename": "/dev/urandom"}),
        ]

    assert [str(problem) for part in parts for problem in qemu.check(part)] == []


def test_what_came_later_is_missed_before(of):
    """A part that a QEMU does not have yet is named."""
    parts = [
        (confidential.sev_snp(cbitpos=51, reduced_phys_bits=1)[0], (9, 1)),
        (Object({"qom-type": "iommufd", "id": "i"}), (9, 0)),
        (memory.epc("e", 1)[0], (6, 2)),
    ]
    for name in ("caps_6.2.0_x86_64", "caps_8.2.0_x86_64", "caps_10.0.0_x86_64"):
        qemu = of(name)
        for part, since in parts:
            assert bool(qemu.check(part)) is (qemu.version[:2] < since), (name, part.kind)
