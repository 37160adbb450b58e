"""A command is checked against a schema in QEMU's form before it is sent."""

import pytest

from qemustate.errors import BadInput
from qemustate.qmp.schema import Problem, Schema, check_properties

#: A small schema with each kind of type that QEMU's has.
REPLY = [
    {"name": "str", "meta-type": "builtin", "json-type": "string"},
    {"name": "int", "meta-type": "builtin", "json-type": "int"},
    {"name": "bool", "meta-type": "builtin", "json-type": "boolean"},
    {"name": "null", "meta-type": "builtin", "json-type": "null"},
    {"name": "number", "meta-type": "builtin", "json-type": "number"},
    {"name": "any", "meta-type": "builtin", "json-type": "value"},
    {"name": "0", "meta-type": "object", "members": []},
    {
        "name": "1",
        "meta-type": "enum",
        "values": ["file", "qcow2"],
        "members": [{"name": "file"}, {"name": "qcow2"}],
    },
    {"name": "[str]", "meta-type": "array", "element-type": "str"},
    {
        "name": "2",
        "meta-type": "object",
        "members": [{"name": "driver", "type": "1"}, {"name": "node-name", "type": "str", "default": None}],
        "tag": "driver",
        "variants": [{"case": "file", "type": "3"}, {"case": "qcow2", "type": "4"}],
    },
    {"name": "3", "meta-type": "object", "members": [{"name": "filename", "type": "str"}]},
    {"name": "4", "meta-type": "object", "members": [{"name": "file", "type": "5"}]},
    {"name": "5", "meta-type": "alternate", "members": [{"type": "2"}, {"type": "str"}, {"type": "null"}]},
    {
        "name": "6",
        "meta-type": "object",
        "members": [
            {"name": "number", "type": "number", "default": None},
            {"name": "int", "type": "int", "default": None},
            {"name": "bool", "type": "bool", "default": None},
            {"name": "list", "type": "[str]", "default": None},
            {"name": "any", "type": "any", "default": None},
        ],
    },
    {"name": "7", "meta-type": "object", "members": [{"name": "driver", "type": "str"}]},
    {"name": "blockdev-add", "meta-type": "command", "arg-type": "2", "ret-type": "0"},
    {"name": "all-kinds", "meta-type": "command", "arg-type": "6", "ret-type": "0"},
    {"name": "device_add", "meta-type": "command", "arg-type": "7", "ret-type": "0"},
    {"name": "yank", "meta-type": "command", "arg-type": "0", "ret-type": "0", "allow-oob": True},
    {"name": "STOP", "meta-type": "event", "arg-type": "0"},
]


@pytest.fixture
def schema():
    """Return the small schema."""
    return Schema(REPLY)


def test_names_are_looked_up(schema):
    """Commands, events and types are told apart, and which commands run out of band is known."""
    assert set(schema.commands) == {"blockdev-add", "all-kinds", "device_add", "yank"}
    assert set(schema.events) == {"STOP"}
    assert "5" in schema.types
    assert schema.allows_oob("yank")
    assert not schema.allows_oob("all-kinds")
    assert not schema.allows_oob("unheard-of")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("yank", None),
        ("yank", {}),
        ("blockdev-add", {"driver": "file", "filename": "x", "node-name": "n"}),
        ("blockdev-add", {"driver": "qcow2", "file": "n"}),
        ("blockdev-add", {"driver": "qcow2", "file": None}),
        (
            "blockdev-add",
            {"driver": "qcow2", "file": {"driver": "qcow2", "file": {"driver": "file", "filename": "x"}}},
        ),
        ("all-kinds", {"number": 1.5, "int": -(2**63), "bool": False, "list": ["a"], "any": [{}]}),
        ("all-kinds", {"number": 1, "int": 2**64 - 1, "list": [], "any": None}),
        ("device_add", {"driver": "virtio-blk-pci", "bus": "rp0", "anything": [1]}),
    ],
)
def test_what_qemu_takes_has_no_problems(schema, name, arguments):
    """Commands that fit their types give no problem, members beyond device_add's schema included."""
    assert schema.check_command(name, arguments) == []


@pytest.mark.parametrize(
    ("name", "arguments", "problems"),
    [
        ("yonk", {}, ["yonk: expected a command, one of all-kinds, blockdev-add, device_add, yank, saw no such command"]),
        ("yank", {"x": 1}, ["x: expected no members, saw no such member"]),
        ("device_add", {"bus": "rp0"}, ["driver: expected string, saw nothing"]),
        ("all-kinds", {"number": "1"}, ['number: expected number, saw "1"']),
        ("all-kinds", {"number": True}, ["number: expected number, saw true"]),
        ("all-kinds", {"int": 1.0}, ["int: expected int, saw 1.0"]),
        ("all-kinds", {"int": 2**64}, ["int: expected int, saw 18446744073709551616"]),
        ("all-kinds", {"bool": 0}, ["bool: expected boolean, saw 0"]),
        ("all-kinds", {"list": {"a": 1}}, ['list: expected array, saw {"a":1}']),
        ("all-kinds", {"list": ["a", None, 2]}, ["list[1]: expected string, saw null", "list[2]: expected string, saw 2"]),
        ("blockdev-add", {"driver": "raw"}, ['driver: expected one of file, qcow2, saw "raw"']),
        ("blockdev-add", {"driver": ["file"]}, ['driver: expected one of file, qcow2, saw ["file"]']),
        ("blockdev-add", {"filename": "x"}, ["driver: expected string, saw nothing", "filename: expected one of driver, node-name, saw no such member"]),
        ("blockdev-add", {"driver": "qcow2", "file": 3}, ["file: expected object or string or null, saw 3"]),
        ("blockdev-add", {"driver": "qcow2", "file": {"driver": "file"}}, ["file.filename: expected string, saw nothing"]),
        ("blockdev-add", {"driver": "file", "filename": "x" * 99}, []),
        ("blockdev-add", {"driver": "file", "filename": ["x" * 99]}, ['filename: expected string, saw ["' + "x" * 55 + "..."]),
    ],
    ids=lambda part: ascii(part)[:40],
)  # fmt: skip
def test_what_qemu_refuses_is_named(schema, name, arguments, problems):
    """Each problem names the member's path, what was expected there and what was seen."""
    assert [str(problem) for problem in schema.check_command(name, arguments)] == problems


PROPERTIES = [
    {"name": "drive", "type": "str"},
    {"name": "addr", "type": "int32"},
    {"name": "share-rw", "type": "bool"},
    {"name": "queue-size", "type": "uint16"},
]


def test_doubts_about_properties_are_told():
    """Unknown properties and values of plainly another type are doubted; device_add's own arguments are not."""
    sound = {
        "driver": "d",
        "id": "a",
        "bus": "rp0",
        "drive": "n",
        "addr": "06.0",
        "share-rw": True,
        "queue-size": 8,
    }
    assert check_properties("d", sound, PROPERTIES) == []
    doubtful = {"share_rw": True, "share-rw": "on", "queue-size": "8", "drive": 1}
    assert check_properties("d", doubtful, PROPERTIES) == [
        Problem("share_rw", "a property of d, one of addr, drive, queue-size, share-rw", "no such property"),
        Problem("share-rw", "bool", '"on"'),
        Problem("queue-size", "uint16", '"8"'),
        Problem("drive", "str", "1"),
    ]


@pytest.mark.parametrize("reply", [{}, {"a": 1}, None, [{"name": "x"}], [1], "text"], ids=ascii)
def test_another_reply_is_bad_input(reply):
    """A reply that is no schema, or no list of properties, is refused and shown."""
    if reply != {}:
        with pytest.raises(BadInput, match="query-qmp-schema"):
            Schema(reply)
    if reply not in ({}, [{"name": "x"}]):
        with pytest.raises(BadInput, match="device-list-properties"):
            check_properties("d", {"x": 1}, reply)
