"""What a machine's type decides, and options that are a map each."""

import pytest

from qemustate.hardware import characters, devices, memory, network, platform, sharing, storage
from qemustate.hardware.config import Config
from qemustate.hardware.properties import Chardev, Fd, Netdev

SOCKET = Chardev(backend="socket", id="c0", path="/a")


def every_virtio_device(machine):
    """Return a device of each kind that is attached as the machine has it."""
    drive = storage.node("n0", "/a")
    return [
        storage.disk("a", drive, machine=machine)[-1],
        storage.scsi_controller("b", machine=machine),
        network.nic("c", Netdev(type="user", id="u0"), machine=machine)[-1],
        network.vsock("d", 3, machine=machine),
        characters.virtio_serial("e", machine=machine),
        sharing.ninep("f", "/a", "t", machine=machine)[-1],
        sharing.virtio_fs("g", SOCKET, "t", machine=machine)[-1],
        sharing.vhost_user_disk("h", SOCKET, machine=machine)[-1],
        sharing.vhost_user_scsi("i", SOCKET, machine=machine)[-1],
        sharing.vhost_user_nic("j", SOCKET, machine=machine)[-1],
        devices.rng("k", machine=machine)[-1],
        devices.balloon("l", machine=machine),
        memory.virtio_mem("m", memory.ram("m0", 1), machine=machine)[-1],
    ]


@pytest.mark.parametrize(
    ("machine", "suffix"),
    [
        ("q35", "pci"),
        ("pc-i440fx-7.2", "pci"),
        ("virt", "pci"),
        ("pseries", "pci"),
        ("s390-ccw-virtio", "ccw"),
        ("s390-ccw-virtio-9.0", "ccw"),
        ("microvm", "device"),
        ({"type": "microvm", "pcie": True}, "pci"),
        ({"type": "s390-ccw-virtio", "accel": "tcg"}, "ccw"),
    ],
)
def test_the_machine_decides_how_virtio_is_attached(machine, suffix):
    """PCI, channels or memory: the same on whatever host this runs."""
    assert {device.kind.rpartition("-")[2] for device in every_virtio_device(machine)} == {suffix}


def test_interrupts_are_counted_on_pci_only():
    """A card of several queues has a number of interrupts on PCI, and none to give on channels."""
    backend = Netdev(type="user", id="u0")
    several = network.nic("a", backend, queues=4)[-1]

    assert (several["mq"], several["vectors"]) == (True, 10)
    assert "vectors" not in network.nic("a", backend, queues=4, machine="s390-ccw-virtio")[-1]
    assert "mq" not in network.nic("a", backend)[-1]


def test_channels_have_an_address_of_their_own():
    """On s390x a device is placed by its devno."""
    [_, disk] = storage.disk("d0", storage.node("n0", "/a"), machine="s390-ccw-virtio", devno="fe.0.0001")

    assert disk == {"driver": "virtio-blk-ccw", "id": "d0", "drive": "n0", "devno": "fe.0.0001"}


@pytest.mark.parametrize(
    ("options", "argv"),
    [
        (platform.kernel("/k", initrd="/i", append="a b"), ["-kernel", "/k", "-initrd", "/i", "-append", "a b"]),
        (platform.kernel("/k"), ["-kernel", "/k"]),
        (platform.smp(2, maxcpus=4, sockets=4), ["-smp", "2,maxcpus=4,sockets=4"]),
        (platform.memory(1 << 30), ["-m", "1073741824B"]),
        (platform.memory(1 << 20, slots=2, maximum=1 << 30), ["-m", "1048576B,slots=2,maxmem=1073741824B"]),
        (platform.rtc(base="utc", driftfix="slew"), ["-rtc", "base=utc,clock=host,driftfix=slew"]),
        (platform.fw_cfg("opt/a", string="x,y"), ["-fw_cfg", "opt/a,string=x,,y"]),
        (platform.fw_cfg("opt/a", file="/x"), ["-fw_cfg", "opt/a,file=/x"]),
        (platform.sandbox(spawn="deny"), ["-sandbox", "on,spawn=deny"]),
        (platform.incoming(Fd(5)), ["-incoming", "fd:5"]),
        (platform.incoming(), ["-incoming", "defer"]),
    ],
)  # fmt: skip
def test_options_of_the_machine(options, argv):
    """Each is the option that QEMU has for it."""
    assert Config("qemu", options).argv()[1:] == argv


def test_firmware_without_variables_is_one_flash():
    """Flash is a block node for each part, and the machine names them."""
    *nodes, machine = platform.firmware("/code")

    assert [node.id for node in nodes] == ["pflash0"]
    assert machine == {"machine": {"pflash0": "pflash0"}}
