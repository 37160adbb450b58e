"""``key=value`` says what it was given, and is read as QEMU reads it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qemustate.errors import BadInput
from qemustate.hardware.keyval import read, write
from qemustate.hardware.properties import Fd, Text

KEYS = st.text("abz-_09", min_size=1, max_size=6)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12) | st.text(
    "ab,= {\"'\\.:\n", max_size=8
)
FLAT = st.dictionaries(KEYS, TEXTS, max_size=5)
# A map with the keys 0, 1, 2, ... is a list to keyval.
NAMES = st.text("abz-_", min_size=1, max_size=6)
TREES = st.dictionaries(
    NAMES,
    st.recursive(
        TEXTS,
        lambda inner: (
            st.dictionaries(NAMES, inner, min_size=1, max_size=3) | st.lists(inner, min_size=1, max_size=3)
        ),
        max_leaves=6,
    ),
    max_size=4,
)


@given(FLAT, st.sampled_from(["", "a", "first"]))
def test_a_flat_map_comes_back(values, first):
    """Any text under any key is read as it was written: commas, =, quotes, nothing at all."""
    assert read(write(values, first), first) == values


@given(TREES)
def test_a_tree_comes_back(values):
    """Maps and lists of any depth are read as they were written where keys are paths."""
    assert read(write(values, nested=True), nested=True) == values


@given(st.dictionaries(KEYS, st.lists(TEXTS, min_size=2, max_size=4) | TEXTS, max_size=4))
def test_a_key_may_come_more_than_once(values):
    """A list in the flat dialect is a key given again."""
    assert read(write(values), lists=True) == values


@given(st.text(max_size=40), st.booleans(), st.booleans())
def test_any_text_is_read(text, nested, lists):
    """Foreign text is never an error."""
    read(text, "first", nested=nested, lists=lists)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("q35", {"type": "q35"}),
        ("q35,accel=tcg", {"type": "q35", "accel": "tcg"}),
        ("q35,usb", {"type": "q35", "usb": "on"}),
        ("a,,b=c", {"type": "a,b=c"}),
        ("a=1,a=2", {"a": "2"}),
        ("a=b=c", {"a": "b=c"}),
        ("id=a,id=b", {"id": "a"}),
        ("a=x,,,b=1", {"a": "x,", "b": "1"}),
        ("a=,b=,,", {"a": "", "b": ","}),
        ("a=1,", {"a": "1"}),
    ],
)
def test_read_as_qemu_reads(text, found):
    """Commas, bare words and empty values, as get_opt_value() of QEMU's qemu-option.c takes them."""
    assert read(text, "type") == found
    assert all(type(value) is Text for value in read(text, "type").values())


def test_paths_that_contradict_each_other_stay_as_they_are():
    """A key that is a value and a map at once is left flat: -drive file=x,file.locking=off."""
    assert read("file=x,file.locking=off", nested=True) == {"file": "x", "file.locking": "off"}
    assert read("file.locking=off,file=x", nested=True) == {"file.locking": "off", "file": "x"}


def test_what_has_a_type_is_written_as_qemu_reads_it():
    """Booleans are on and off, descriptors of one list are joined by colons."""
    values = {"type": "tap", "fds": [Fd(3), Fd(4)], "vhost": True, "queues": 2, "x": False}

    assert write(values, "type") == "tap,fds=3:4,vhost=on,queues=2,x=off"


@pytest.mark.parametrize("value", [None, {}, [], {"a": {}}, {"a": 1}, [None]])
def test_what_cannot_be_said_is_bad_input(value):
    """None, nothing and a map within a flat map have no text."""
    with pytest.raises(BadInput):
        write({"a": value})


@pytest.mark.parametrize("key", ["", "a=b", "a,b"])
def test_a_key_cannot_be_escaped(key):
    """A key that would end the key is refused."""
    with pytest.raises(BadInput, match="without = and ,"):
        write({key: "x"})
