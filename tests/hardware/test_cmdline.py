"""An option's value and its argument are the same thing in two spellings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qemustate.errors import BadInput
from qemustate.hardware.cmdline import argument, plain, read, words, write
from qemustate.hardware.options import JSON_SINCE
from qemustate.hardware.properties import (
    Blockdev,
    Chardev,
    Device,
    Fd,
    Fsdev,
    Netdev,
    Object,
    Text,
)

NAMES = st.text("abz-_", min_size=1, max_size=8)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
SCALARS = TEXTS | st.booleans() | st.integers(-(2**63), 2**64 - 1)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
PARTS = st.sampled_from([Device, Blockdev, Netdev, Object])


def texts(value):
    """Return a map as key=value has it: everything is text."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


@given(PARTS, st.dictionaries(NAMES, JSON, max_size=5))
def test_a_part_in_json_comes_back(kind, values):
    """Any value that QAPI has is read as it was written: nested, big, empty, with commas and quotes."""
    part = kind(values)
    text = argument(part.option, part)

    assert text.startswith("{")
    assert read(part.option, text) == part
    assert type(read(part.option, text)) is kind


@given(
    st.sampled_from([Device, Blockdev, Netdev, Object, Chardev, Fsdev]),
    st.dictionaries(NAMES, SCALARS, min_size=1),
)
def test_a_part_in_key_value_comes_back_as_text(kind, values):
    """To an old QEMU a flat part goes as key=value; what is read is the same, as text, and is written the same."""
    part = kind(values)
    text = argument(part.option, part, (2, 8))
    found = read(part.option, text)

    assert found == {key: texts(value) for key, value in values.items()}
    assert argument(part.option, found) == text


@pytest.mark.parametrize(
    ("option", "argument"),
    [
        ("device", "virtio-blk-pci,id=vd0,bootindex=1"),
        ("blockdev", "qcow2,node-name=n,file.driver=file,file.filename=a,,b"),
        ("netdev", "user,id=n,hostfwd=tcp::1-:2,hostfwd=tcp::3-:4"),
        ("netdev", "stream,id=n,server=on,addr.type=unix,addr.path=/a"),
        ("object", "memory-backend-ram,id=m,size=1G,host-nodes=0,host-nodes=1"),
        ("chardev", "socket,id=c,path=/a,,b,server=on,wait=off"),
        ("fsdev", "local,id=f,path=/a,security_model=none"),
        ("numa", "node,nodeid=0,cpus=0,cpus=2"),
        ("machine", "q35,accel=tcg,smp.cpus=2"),
        ("drive", "file=/a,file.locking=off,if=none"),
        ("cpu", "max,+avx,-sse4a,pmu=off"),
        ("smbios", "type=11,value=a,value=b"),
        ("kernel", "/a,b"),
        ("m", "256"),
    ],
)
def test_a_foreign_argument_is_written_as_it_was(option, argument):
    """What somebody wrote is read and written again without a change, whatever its types would be."""
    assert write(option, read(option, argument)) == [f"-{option}", argument]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("virtio-blk-pci.serial=a,b", ("virtio-blk-pci", "serial", "a,b")),
        ("driver=virtio-blk-pci,property=serial,value=a,,b", ("virtio-blk-pci", "serial", "a,b")),
    ],
)
def test_global_has_two_spellings(text, found):
    """-global reads `driver.property=value`, whose value is not escaped, and key=value."""
    assert tuple(read("global", text).values()) == found


@pytest.mark.parametrize(
    ("argv", "found"),
    [
        ([], []),
        (["-S", "disk.img"], [("S", None), ("hda", "disk.img")]),
        (["-append", "-S"], [("append", "-S")]),
        (["-nographic", "-m", "1"], [("nographic", None), ("m", "1")]),
        (["-nosuch", "x", "-nosuch", "-S"], [("nosuch", "x"), ("nosuch", None), ("S", None)]),
        (["--M", "q35", "-device"], [("machine", "q35"), ("device", None)]),
        (["disk.img", "-s"], [("hda", "disk.img"), ("s", None)]),
    ],
)
def test_which_word_is_whose(argv, found):
    """An option without an argument swallows nothing; a lone word is a disk image, as QEMU has it."""
    assert list(words(["qemu", *argv])) == found


def test_json_goes_to_a_qemu_that_takes_it():
    """Each option is JSON from its own version on; -device only where such a device can be unplugged again."""
    part = {"device": Device, "object": Object, "netdev": Netdev, "blockdev": Blockdev}

    for option, since in JSON_SINCE.items():
        before = (since[0], since[1] - 1)
        assert argument(option, part[option](a=1), since) == '{"a":1}'
        assert argument(option, part[option](a=1), before) == "a=1"
    assert JSON_SINCE["device"] == (7, 0)


def test_descriptors_are_strings_to_qemu():
    """One descriptor is its number as a string, several for one property are joined by colons; in both forms."""
    part = Netdev(type="tap", id="n", fds=[Fd(3), Fd(4)], vhostfds=[Fd(5)])

    assert argument("netdev", part) == '{"type":"tap","id":"n","fds":"3:4","vhostfds":"5"}'
    assert argument("netdev", part, (7, 1)) == "tap,id=n,fds=3:4,vhostfds=5"
    assert argument("incoming", Fd(7)) == "fd:7"
    assert argument("chardev", Chardev(backend="socket", id="c", fd=Fd(9))) == "socket,id=c,fd=9"


def test_plain_has_no_type_of_ours():
    """Only QAPI's own types are left, at any depth."""
    value = plain(Device(driver=Text("x"), a=[{"b": Fd(3)}], c=True))

    assert value == {"driver": "x", "a": [{"b": "3"}], "c": True}
    assert {type(value), type(value["driver"]), type(value["a"][0]["b"])} == {dict, str}


@pytest.mark.parametrize(
    ("option", "value", "seen"),
    [
        ("device", "x", "saw 'x'"),
        ("device", Netdev(id="n"), "saw a Netdev"),
        ("rtc", "utc", "saw 'utc'"),
        ("cpu", {"model": "max", "vendor": "a,b"}, "cannot escape"),
        ("kernel", ["a"], "saw ['a']"),
        ("blockdev", Blockdev(driver="\udcff"), "what JSON can say"),
    ],
)
def test_what_an_option_cannot_say_is_bad_input(option, value, seen):
    """The error names the option, what it takes and what it was given."""
    with pytest.raises(BadInput) as caught:
        write(option, value)

    assert option in str(caught.value)
    assert seen in str(caught.value)


@pytest.mark.parametrize("depth", [99, 5000])
def test_an_endless_argument_ends(depth):
    """Maps in maps are read up to a depth that no QEMU has; what is deeper is left as it is, or bad input."""
    path = ".".join(["a"] * depth)
    assert argument("blockdev", read("blockdev", f"driver=x,{path}=1")) == f"x,{path}=1"
    text = '{"a":' * depth + "1" + "}" * depth
    if depth > 100:
        with pytest.raises(BadInput, match="at most 100 levels"):
            read("device", text)
    else:
        assert argument("device", read("device", text)) == text


@pytest.mark.parametrize("text", ["{", '{"a":1}}', "{a}"])
def test_broken_json_is_named(text):
    """Where an argument begins as JSON and is none, the option is named."""
    with pytest.raises(BadInput, match="-device: expected JSON"):
        read("device", text)
