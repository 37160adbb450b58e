"""Places are read and said as QEMU does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qemustate.errors import BadInput
from qemustate.hardware.places import FAMILIES, Room, pci_address, read_pci, shown, size
from qemustate.hardware.properties import Device


@pytest.mark.parametrize(
    ("addr", "place"),
    [("1", (1, 0)), ("10", (16, 0)), ("0x1f", (31, 0)), ("1F.2", (31, 2)), ("06.0", (6, 0))],
)
def test_a_pci_address_is_hexadecimal(addr, place):
    """Slot 16 is "10", as QEMU reads it."""
    assert read_pci(Device(driver="e1000", addr=addr)) == place


@pytest.mark.parametrize("addr", ["20", "1.8", "g", "", "1.", "100", 16, True, "1.0.0"])
def test_what_is_no_pci_address_is_bad_input(addr):
    """A slot over 1f, a function over 7 and a number are refused: QEMU versions read a number differently."""
    with pytest.raises(BadInput, match="device n, addr: expected a slot"):
        read_pci(Device(driver="e1000", id="n", addr=addr))


@given(st.integers(0, 31), st.integers(0, 7))
def test_a_pci_address_comes_back(slot, function):
    """Every slot and function that is said is read as the same."""
    assert read_pci(Device(driver="e1000", addr=pci_address((slot, function)))) == (slot, function)


@pytest.mark.parametrize(
    ("family", "members", "place"),
    [
        ("scsi", {"scsi-id": 3, "lun": 2}, (0, 3, 2)),
        ("scsi", {"channel": 1, "scsi-id": "3", "lun": 0}, (1, 3, 0)),
        ("usb", {"port": "1.2"}, ("1.2",)),
        ("serial", {"nr": 4}, (4,)),
        ("ide", {"unit": 1}, (1,)),
        ("memory", {"slot": 2}, (2,)),
        ("ccw", {"devno": "fe.0.000a"}, (0xFE, 0, 10)),
        (
            "cpu",
            {"core-id": 1, "socket-id": 0, "thread-id": 0},
            (("socket-id", 0), ("core-id", 1), ("thread-id", 0)),
        ),
    ],
)
def test_a_place_is_read_and_said(family, members, place):
    """What a device's properties say of its place is a place, and saying that place gives them again."""
    read, say = FAMILIES[family].read, FAMILIES[family].say

    assert read(Device(driver="d", **members)) == place
    assert read(Device(driver="d", **say(place))) == place


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "only"])
def test_a_place_may_be_left_open(family):
    """A device that says nothing of its place leaves it open."""
    assert FAMILIES[family].read(Device(driver="d")) is None


@pytest.mark.parametrize(
    ("family", "members"),
    [
        ("scsi", {"scsi-id": "x"}),
        ("serial", {"nr": True}),
        ("ccw", {"devno": "1"}),
        ("memory", {"slot": 1.5}),
    ],
)
def test_what_is_no_place_is_bad_input(family, members):
    """A place that cannot be read is refused with the property and what was seen."""
    with pytest.raises(BadInput, match=f"device d, {next(iter(members))}: expected"):
        FAMILIES[family].read(Device(driver="d", **members))


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in ("cpu", "only")])
def test_every_place_of_a_room_is_in_it(family):
    """What is handed out exists, once each, and what is beyond the last does not."""
    room = Room(1, 5, units=2)
    places = list(FAMILIES[family].all(room))

    assert len(set(places)) == len(places) == (15 if family == "scsi" else 5)
    assert all(FAMILIES[family].within(place, room) for place in places)
    assert [FAMILIES[family].read(Device(driver="d", **FAMILIES[family].say(it))) for it in places] == places
    beyond = next(iter(FAMILIES[family].all(Room(6, 6))))
    assert not FAMILIES[family].within(beyond, room)


@pytest.mark.parametrize(
    ("value", "unit", "seen"),
    [
        (64, 1, 64),
        (64, 1 << 20, 64 << 20),
        ("64", 1 << 20, 64 << 20),
        ("2G", 1 << 20, 2 << 30),
        ("0.5k", 1, 512),
        ("1GiB", 1, 1 << 30),
    ],
)
def test_a_size_is_in_bytes(value, unit, seen):
    """Numbers count the option's own unit, suffixes count for themselves."""
    assert size(value, unit) == seen


def test_what_is_no_size_is_bad_input():
    """A size that cannot be read is refused."""
    with pytest.raises(BadInput, match="a size"):
        size("much")


def test_places_are_shown_as_people_read_them():
    """PCI in hexadecimal, others as numbers with colons."""
    assert [shown(it) for it in ((16, 2), (0, 3, 1), ("1.2",), (5,))] == ["10.2", "0:3:1", "1.2", "5"]
