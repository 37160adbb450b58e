"""The same parts, at launch in JSON or key=value, and plugged, become the same devices in a real QEMU."""

import fcntl
import os
import re
import struct
from pathlib import Path

import pytest
from support.vhost_user import VhostUser

from qemustate.errors import CommandRefused
from qemustate.hardware import (
    bridges,
    characters,
    devices,
    memory,
    network,
    platform,
    sharing,
    storage,
)
from qemustate.hardware.config import Config
from qemustate.hardware.hotplug import plug_steps
from qemustate.hardware.properties import Blockdev, Chardev, Device, Fd, Netdev, Object

MIB = 1 << 20

#: What both VMs have from the start: ports to plug into, and what makes other cases possible.
PORTS = tuple(bridges.root_port(f"rp{number}", chassis=number, slot=number) for number in range(1, 5))
ROOM = platform.memory(128 * MIB, slots=4, maximum=2048 * MIB)


class Lab:
    """What a case may use: a folder, and tap devices that are closed at the end."""

    def __init__(self, folder):
        self.folder, self.fds, self.peers = folder, [], []

    def image(self, name="disk,1.img", size=MIB):
        """Return the path of an empty image, with a comma in it."""
        path = self.folder / name
        path.write_bytes(bytes(size))
        return str(path)

    def tap(self, name, *, keep):
        """Return a descriptor of a tap device with several queues; without `keep` the device stays for its name."""
        fd = os.open("/dev/net/tun", os.O_RDWR)
        self.fds.append(fd)
        # TUNSETIFF; IFF_TAP, IFF_NO_PI, IFF_VNET_HDR, IFF_MULTI_QUEUE (linux/if_tun.h)
        fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", name, 0x5102))
        return fd

    def peer(self, name):
        """Return a chardev to a process that serves a vhost-user device."""
        path = self.folder / name
        if not path.exists():
            self.peers.append(VhostUser(path).__enter__())
        return characters.socket(f"{name}-c", str(path), server=False)

    def close(self):
        """Close what was opened."""
        for fd in self.fds:
            os.close(fd)
        for peer in self.peers:
            peer.__exit__()
        self.fds, self.peers = [], []


@pytest.fixture
def lab(tmp_path):
    """Return a Lab."""
    lab = Lab(tmp_path)
    yield lab
    lab.close()


@pytest.fixture
def net_admin():
    """Skip where no tap device can be made."""
    if not os.access("/dev/net/tun", os.W_OK) or os.geteuid():
        pytest.skip("no /dev/net/tun that root may use")


def disk(lab):
    """A virtio disk with a cache policy, on a thread of its own."""
    drive = storage.node(
        "n0", lab.image(), aio="threads", discard="unmap", cache={"direct": False, "no-flush": True}
    )
    properties = {"share-rw": True, "config-wce": False, "num-queues": 2}
    properties |= {"logical_block_size": 4096, "physical_block_size": 4096}
    return (
        platform.iothread("io0"),
        *storage.disk("d0", drive, bus="rp1", serial="a,b=c", iothread="io0", **properties),
    )


def read_only_disk(lab):
    """A disk that cannot be written."""
    return storage.disk("d0", storage.node("n0", lab.image(), **{"read-only": True}), bus="rp1", addr="0x0")


def scsi(lab):
    """A SCSI controller with a disk and a CD, each at its place."""
    controller = storage.scsi_controller("scsi0", bus="rp1")
    hard = storage.scsi_disk(
        "sd0", storage.node("n0", lab.image()), "scsi0.0", **{"scsi-id": 3, "lun": 1, "rotation_rate": 1}
    )
    cd = storage.scsi_disk(
        "cd0", storage.node("n1", lab.image("b"), **{"read-only": True}), "scsi0.0", driver="scsi-cd"
    )
    return (controller, *hard, *cd)


def inherited_image(lab):
    """A disk whose image is a descriptor, not a path."""
    fd = os.open(lab.image(), os.O_RDWR)
    lab.fds.append(fd)
    return storage.disk("d0", storage.node("n0", Fd(fd)), bus="rp1")


def user_network(lab):
    """A network card on QEMU's own network."""
    backend = Netdev({"type": "user", "id": "u0", "restrict": True, "hostname": "a,b"})
    return network.nic("net0", backend, mac="52:54:00:12:34:56", bus="rp1", romfile="")


def tap_by_name(lab):
    """A network card over a tap device that QEMU opens by its name."""
    return network.nic(
        "net0", network.tap("t0", ifname="qemustate0"), mac="52:54:00:12:34:57", bus="rp1", romfile=""
    )


def tap_by_descriptors(lab):
    """A network card of two queues over descriptors of a tap device."""
    fds = [lab.tap(b"qemustate1", keep=True) for _ in range(2)]
    return network.nic("net0", network.tap_by_fds("t0", fds), queues=2, bus="rp1", romfile="")


def console_and_port(lab):
    """A virtio controller with a console and a named port."""
    return (
        characters.virtio_serial("vs0", bus="rp1", max_ports=4),
        *characters.console("con0", characters.socket("c0", str(lab.folder / "c,0")), "vs0.0"),
        *characters.port("port0", Chardev(backend="null", id="c1"), "vs0.0", "org.qemu.guest_agent.0", nr=3),
    )


def character_files(lab):
    """Chardevs of several kinds, each behind a port."""
    kinds = [
        Chardev(backend="file", id="c0", path=str(lab.folder / "o,1"), append=True),
        Chardev(backend="ringbuf", id="c1", size=4096),
        Chardev(backend="socket", id="c2", host="127.0.0.1", port="0", server=True, wait=False, ipv4=True),
        Chardev(backend="pty", id="c3"),
    ]
    ports = [
        part for kind in kinds for part in characters.port(f"p-{kind.id}", kind, "vs0.0", f"name.{kind.id}")
    ]
    return (characters.virtio_serial("vs0", bus="rp1"), *ports)


def random_numbers(lab):
    """Random numbers, so many in a while, by way of an IOMMU."""
    return devices.rng("rng0", bus="rp1", iommu_platform=True, **{"max-bytes": 1024, "period": 1000})


def balloon(lab):
    """A balloon that gives way before a guest runs out of memory."""
    return (devices.balloon("balloon0", bus="rp1", **{"deflate-on-oom": True, "free-page-reporting": True}),)


def dimm(lab):
    """A module of memory over anonymous memory."""
    return memory.dimm("dimm0", memory.ram("m0", 128 * MIB, prealloc=False))


def shared_dimm(lab):
    """A module of memory that other processes can share, from memfd and from a file."""
    return (
        *memory.dimm("dimm0", memory.memfd("m0", 128 * MIB)),
        *memory.dimm("dimm1", memory.file("m1", 128 * MIB, lab.image("mem,file", 128 * MIB)), slot=2),
    )


def nvdimm(lab):
    """A module that keeps its contents."""
    return memory.nvdimm("nv0", memory.file("m0", 128 * MIB, lab.image("nv", 128 * MIB)))


def read_only_nvdimm(lab):
    """A module over a file that must not change."""
    backend = memory.file("m0", 128 * MIB, lab.image("nv", 128 * MIB), readonly=True)
    return memory.nvdimm("nv0", backend, unarmed=True)


def virtio_mem(lab):
    """Memory that grows up to a size."""
    return memory.virtio_mem(
        "vm0", memory.ram("m0", 256 * MIB), requested=64 * MIB, bus="rp1", **{"block-size": 2 * MIB}
    )


def bridge(lab):
    """A PCI bridge behind a port, and another behind it."""
    return (
        bridges.pcie_pci_bridge("pb0", "rp1"),
        bridges.pci_bridge("pb1", chassis_nr=9, bus="pb0", addr="0x1f"),
        devices.balloon("balloon0", bus="pb1", addr="0x10"),
    )


def vhost_user_disk(lab):
    """A disk that another process serves."""
    return sharing.vhost_user_disk("d0", lab.peer("vu"), bus="rp1", **{"num-queues": 2})


def vhost_user_scsi(lab):
    """A SCSI controller that another process serves."""
    return sharing.vhost_user_scsi("s0", lab.peer("vu"), bus="rp1")


def vhost_user_folder(lab):
    """A folder that another process serves, with a cache policy of queues."""
    return sharing.virtio_fs("fs0", lab.peer("vu"), "share", bus="rp1", **{"queue-size": 1024})


def vhost_user_network(lab):
    """A network card of two queues that another process serves."""
    return sharing.vhost_user_nic("net0", lab.peer("vu"), queues=2, bus="rp1", romfile="")


PLUGGED = [
    disk, read_only_disk, scsi, inherited_image, user_network, console_and_port, character_files, random_numbers,
    balloon, dimm, shared_dimm, nvdimm, read_only_nvdimm, virtio_mem, bridge, vhost_user_disk, vhost_user_scsi,
    vhost_user_folder, vhost_user_network,
]  # fmt: skip


def facts(client, parts):
    """Return what QEMU has of each part: type, bus, every property that was set, block nodes, chardevs."""
    chardevs = {it["label"]: it for it in client.execute("query-chardev")}
    nodes = {it["node-name"]: it for it in client.execute("query-named-block-nodes")}
    networks = client.execute("human-monitor-command", {"command-line": "info network"})
    found = {}
    for part in parts:
        match part:
            case Device():
                found[part.id] = of_device(client, part)
            case Object():
                found[part.id] = properties(client, f"/objects/{part.id}", part)
            case Blockdev():
                found[part.id] = of_node(nodes[part.id])
            case Chardev():
                found[part.id] = re.sub(r"(?<=:)\d{4,5}(?=,|$)|pty:\S+", "...", chardevs[part.id]["filename"])
            case Netdev():
                found[part.id] = re.search(rf"{part.id}: index=0,(.*)", networks)[1]
    return found


def of_device(client, part):
    """Return a device's type, its bus, and the properties that were set."""
    path = f"/machine/peripheral/{part.id}"
    bus = client.execute("qom-get", {"path": path, "property": "parent_bus"}) if "bus" in part else None
    return {
        "driver": client.execute("qom-get", {"path": path, "property": "type"}),
        "bus": bus,
        "slot": slot(client, path),
        **properties(client, path, part),
    }


def slot(client, path):
    """Return where a PCI device is on its bus, None for other devices."""
    try:
        return client.execute("qom-get", {"path": path, "property": "addr"})
    except CommandRefused:
        return None


def properties(client, path, part):
    """Return the values of the properties that a part sets."""
    names = set(part) - {"driver", "bus", "id", "qom-type"}
    return {name: client.execute("qom-get", {"path": path, "property": name}) for name in sorted(names)}


def of_node(node):
    """Return a block node without the names that QEMU makes up."""
    if isinstance(node, dict):
        return {key: of_node(value) for key, value in node.items()}
    if isinstance(node, list):
        return [of_node(value) for value in node]
    return re.sub(r"#block\d+|/dev/fdset/\d+", "...", node) if isinstance(node, str) else node


def as_asked(asked, seen):
    """Tell whether a property has the value that it was given."""
    if isinstance(asked, Fd | list):
        return True
    if isinstance(asked, str) and isinstance(seen, int):
        return int(asked, 16) << 3 == seen  # a slot of PCI
    return seen == asked or (isinstance(seen, str) and seen.endswith(f"/{asked}"))


def plug(client, parts):
    """Plug parts as hotplug says."""
    for step in plug_steps(parts):
        client.execute(step.command, step.arguments, fds=step.fds)


#: A QEMU that takes no JSON at all.
OLD = (2, 8)


def every_way(base, start, lab, case):
    """Return what a QEMU has that got the parts in JSON, one that got them as key=value, one that got them plugged; and the parts."""
    base = base.add({"machine": {"nvdimm": True}}, ROOM, *PORTS)
    parts = case(lab)
    with start(base.add(*parts)) as client:
        cold = facts(client, parts)
    # A tap's queues are not what they were once a QEMU had them, so the next VM gets descriptors of its own.
    lab.close()
    parts = case(lab)
    with start(base.add(*parts), OLD) as client:
        old = facts(client, parts)
    lab.close()
    parts = case(lab)
    with start(base) as client:
        plug(client, parts)
        hot = facts(client, parts)
    return cold, old, hot, parts


def check(base, start, lab, case):
    """Check a case: every way the same, and each property as it was asked for."""
    cold, old, hot, parts = every_way(base, start, lab, case)

    assert cold == hot
    assert cold == old
    for part in parts:
        if isinstance(part, Device):
            assert cold[part.id]["driver"] == part.kind
        if isinstance(part, Device | Object):
            assert not_as_asked(part, cold[part.id]) == {}


def not_as_asked(part, seen):
    """Return the properties whose value is not the one that was asked for."""
    names = seen.keys() - {"driver", "bus", "slot"}
    return {name: seen[name] for name in names if not as_asked(part[name], seen[name])}


@pytest.mark.parametrize("case", PLUGGED, ids=lambda case: case.__name__)
def test_cold_and_hot_plug_make_the_same_device(base, start, lab, case):
    """Id, driver, bus and slot, every property that was set, block nodes and chardevs: the same both ways."""
    check(base, start, lab, case)


@pytest.mark.parametrize("version", [None, OLD], ids=["json", "key-value"])
@pytest.mark.parametrize("case", [disk, user_network, character_files], ids=lambda case: case.__name__)
def test_a_command_line_from_proc_makes_the_same_vm(base, start, lab, case, version):
    """What /proc says of a running QEMU, in either form, becomes maps that make the same devices once more."""
    config = base.add({"machine": {"nvdimm": True}}, ROOM, *PORTS, *case(lab))
    with start(config, version) as client:
        first = facts(client, case(lab))
        words = Path(f"/proc/{client.pid}/cmdline").read_bytes().split(b"\0")[:-1]
    read = Config.from_argv([os.fsdecode(word) for word in words])
    ours = [part for part in read.parts() if part.id == "qmp"]
    again = Config(
        read.qemu,
        {name: [it for it in read.all(name) if it not in ours] for name in read.options if name != "mon"},
    )
    with start(again) as client:
        assert facts(client, case(lab)) == first


@pytest.mark.parametrize("case", [tap_by_name, tap_by_descriptors], ids=lambda case: case.__name__)
def test_a_tap_is_the_same_both_ways(base, start, lab, net_admin, case):
    """A tap device by name or by descriptors joined with colons becomes the same network card both ways."""
    check(base, start, lab, case)
