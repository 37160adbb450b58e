"""What Go prints."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qemustate.events.importers.golang import fields, read_map, unquote


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b'time="2019" level=info msg="a \\"b\\" c=d" pid=3', {"time": "2019", "level": "info", "msg": 'a "b" c=d', "pid": "3"}),
        (b"", {}),
        (b"no fields here", {}),
        (b'msg="never ends', {"msg": ""}),
        (b"a= b=1", {"a": "", "b": "1"}),
    ],
)  # fmt: skip
def test_fields(line, found):
    """The fields of a line are found, quoted or not; what stands in quotes is no field."""
    assert fields(line) == found


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"a\nb\t\"\\", 'a\nb\t"\\'),
        (r"\x41\u00e9\U0001f600\101", "A\u00e9\U0001f600A"),
        (r"\U99999999", "\ufffd"),
    ],
)
def test_unquote(text, value):
    """Each escape of Go's is undone."""
    assert unquote(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("map[]", {}),
        ("map[guest:false reason:host-qmp-quit]", {"guest": False, "reason": "host-qmp-quit"}),
        ("map[addr:02 id:7 n:7 path:/a b:c]", {"addr": "02", "id": "7", "n": 7, "path": "/a", "b": "c"}),
        ("map[drive:a disk with spaces id:x]", {"drive": "a disk with spaces", "id": "x"}),
        ("map[a:map[b:map[c:1] d:true] e:2]", {"a": {"b": {"c": 1}, "d": True}, "e": 2}),
        ("map[a:[1 2] b:[] c:<nil>]", {"a": [1, 2], "b": [], "c": None}),
        ("map[bus:pci.0 qom-path:/machine/unattached/device[8]]", {"bus": "pci.0", "qom-path": "/machine/unattached/device[8]"}),
    ],
)  # fmt: skip
def test_maps(text, value):
    """Maps are read to any depth, their strings with the spaces in them; ids stay strings."""
    assert read_map(text) == value


@given(st.text(alphabet="map[]: ab1.", max_size=60))
def test_any_text_gives_a_map(text):
    """Any text at all gives some map."""
    assert isinstance(read_map(text), dict)
