"""Parts become QMP commands in an order that holds, with their way back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qemustate.errors import BadInput
from qemustate.hardware.cmdline import read
from qemustate.hardware.hotplug import Step, ordered, plug_steps, unplug_steps
from qemustate.hardware.properties import Blockdev, Chardev, Device, Fd, Fsdev, Netdev, Object

DISK = [
    Device(driver="scsi-hd", id="d", bus="s.0", drive="top"),
    Device(driver="virtio-scsi-pci", id="s", iothread="io"),
    Blockdev({"driver": "qcow2", "node-name": "top", "file": "f", "backing": None}),
    Blockdev({"driver": "throttle", "node-name": "f", "throttle-group": "g", "file": "base"}),
    Blockdev({"driver": "file", "node-name": "base", "filename": "top"}),
    Chardev(backend="socket", id="c", path="p", **{"tls-creds": "tls"}),
    Object({"qom-type": "rng-egd", "id": "r", "chardev": "c"}),
    Object({"qom-type": "tls-creds-x509", "id": "tls", "passwordid": "secret"}),
    Object({"qom-type": "secret", "id": "secret", "data": "x"}),
    Object({"qom-type": "iothread", "id": "io"}),
    Object({"qom-type": "throttle-group", "id": "g"}),
]


def test_what_a_part_refers_to_is_plugged_before_it():
    """Backends come before devices, children before parents, a controller before what is on its bus."""
    names = [part.id for part in ordered(DISK)]

    assert names == ["secret", "tls", "c", "r", "io", "g", "base", "f", "top", "s", "d"]


@given(st.permutations(DISK))
def test_the_order_holds_however_parts_are_given(parts):
    """In any order that they are given, no part comes before one that it refers to."""
    names = [part.id for part in ordered(parts)]
    before = ["secret tls", "tls c", "c r", "g f", "base f", "f top", "top d", "io s", "s d"]

    assert sorted(names) == sorted(part.id for part in DISK)
    assert [pair for pair in before if names.index(pair.split()[0]) > names.index(pair.split()[1])] == []


def test_parts_that_refer_to_nothing_stay_as_given():
    """Among equals the caller's order is kept."""
    parts = [Device(driver="usb-tablet", id=name) for name in "cab"]

    assert ordered(parts) == parts


def test_a_backend_may_have_the_id_of_its_device():
    """A netdev and its device of one name do not confuse what refers to the netdev."""
    device = Device(driver="e1000", id="n", netdev="n")
    dump = Object({"qom-type": "filter-dump", "id": "f", "netdev": "n", "file": "x"})
    netdev = Netdev(type="user", id="n")

    assert ordered([device, dump, netdev]) == [netdev, dump, device]


def test_each_step_knows_what_takes_it_back():
    """Every class of part has its command, and the undo names what that made."""
    parts = [
        Object({"qom-type": "iothread", "id": "o"}),
        Chardev(backend="null", id="c"),
        Blockdev({"driver": "null-co", "node-name": "n"}),
        Netdev(type="user", id="u", restrict=True),
        Device(driver="usb-tablet", id="d"),
    ]

    assert plug_steps(parts) == (
        Step("object-add", {"qom-type": "iothread", "id": "o"}, ("object-del", {"id": "o"})),
        Step(
            "chardev-add",
            {"id": "c", "backend": {"type": "null", "data": {}}},
            ("chardev-remove", {"id": "c"}),
        ),
        Step("blockdev-add", {"driver": "null-co", "node-name": "n"}, ("blockdev-del", {"node-name": "n"})),
        Step("netdev_add", {"type": "user", "id": "u", "restrict": True}, ("netdev_del", {"id": "u"})),
        Step("device_add", {"driver": "usb-tablet", "id": "d"}, ("device_del", {"id": "d"})),
    )
    assert [(step.command, step.arguments) for step in unplug_steps(parts)] == [
        step.undo for step in reversed(plug_steps(parts))
    ]


def test_text_from_a_command_line_is_plain_text_in_qmp():
    """What was read from key=value and never got a type is sent as a string."""
    [step] = plug_steps([read("device", "virtio-rng-pci,id=r0,max-bytes=1024")])

    assert step.arguments == {"driver": "virtio-rng-pci", "id": "r0", "max-bytes": "1024"}
    assert {type(value) for value in step.arguments.values()} == {str}


def test_a_descriptor_is_sent_under_a_name_before_its_part():
    """Each Fd becomes a `getfd`, and several under one member are joined with colons."""
    steps = plug_steps(
        [
            Device(driver="vhost-vsock-pci", id="v", vhostfd=Fd(9), **{"guest-cid": 3}),
            Netdev(type="dgram", id="s", local={"type": "fd", "str": Fd(4)}),
            Netdev(type="tap", id="t", fds=[Fd(5), Fd(6)], vhost=True, vhostfds=[Fd(7), Fd(8)]),
            Chardev(backend="socket", id="c", fd=Fd(3)),
        ],
        fd_prefix="p",
    )

    assert [(step.command, *step.fds) for step in steps if step.fds] == [("getfd", n) for n in range(3, 10)]
    assert [step.undo for step in steps if step.fds] == [("closefd", {"fdname": f"p-{n}"}) for n in range(7)]
    plugs = {step.arguments["id"]: step.arguments for step in steps if not step.fds}
    assert plugs["c"]["backend"]["data"]["addr"] == {"type": "fd", "data": {"str": "p-0"}}
    assert plugs["s"]["local"] == {"type": "fd", "str": "p-1"}
    assert (plugs["t"]["fds"], plugs["t"]["vhostfds"]) == ("p-2:p-3", "p-4:p-5")
    assert plugs["v"]["vhostfd"] == "p-6"


def test_a_descriptor_where_a_path_is_wanted_goes_into_a_set():
    """An Fd as a file name becomes `/dev/fdset/N`, also inside an inner node, and its set goes with the part."""
    inner = {"driver": "file", "filename": Fd(4)}
    add, plug = plug_steps([Blockdev({"driver": "raw", "node-name": "n", "file": inner})], fdset=7)

    assert add == Step("add-fd", {"fdset-id": 7}, ("remove-fd", {"fdset-id": 7}), (4,))
    assert plug.arguments["file"] == {"driver": "file", "filename": "/dev/fdset/7"}
    assert unplug_steps([Blockdev(plug.arguments)]) == (
        Step("blockdev-del", {"node-name": "n"}),
        Step("remove-fd", {"fdset-id": 7}),
    )


@pytest.mark.parametrize(
    ("part", "text"),
    [
        (Fsdev(fsdriver="local", id="f", path="/"), "fsdev f: expected a part that QMP can plug"),
        (Device(driver="usb-tablet"), "device usb-tablet: expected id, saw none"),
        (Blockdev(driver="null-co"), "blockdev null-co: expected node-name, saw none"),
    ],
)
def test_a_part_that_could_not_be_taken_back_is_bad_input(part, text):
    """What QMP cannot plug, or has no id to be unplugged by, is refused before anything is sent."""
    for steps in (plug_steps, unplug_steps):
        with pytest.raises(BadInput, match=text):
            steps([part])


@pytest.mark.parametrize(
    "part",
    [
        Object({"qom-type": "memory-backend-file", "id": "m", "mem-path": Fd(3)}),
        Netdev(type="stream", id="m", addr={"type": "fd", "str": Fd(3)}),
        Device(driver="virtio-rng-pci", id="m", rng=Fd(3)),
    ],
)
def test_a_descriptor_where_qemu_takes_none_is_bad_input(part):
    """What opens its files without QEMU's fd sets, or looks names up without a monitor, is refused."""
    with pytest.raises(BadInput, match=f"{part.option} m, .*: expected no descriptor"):
        plug_steps([part])


@pytest.mark.parametrize("prefix", ["", "1fd"])
def test_a_name_that_qemu_takes_for_a_number_is_bad_input(prefix):
    """QEMU reads a descriptor's name that begins with a digit as a number."""
    with pytest.raises(BadInput, match="fd_prefix"):
        plug_steps([], fd_prefix=prefix)
