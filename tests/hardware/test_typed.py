"""Text from a command line becomes what QEMU makes of it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qemustate.hardware.properties import Text
from qemustate.hardware.typed import boolean, integer, settle
from qemustate.qmp.schema import Schema

#: As query-qmp-schema has it: the command `do` with a member of each kind.
SCHEMA = Schema(
    [
        {"name": "do", "meta-type": "command", "arg-type": "args", "ret-type": "args"},
        {
            "name": "args",
            "meta-type": "object",
            "members": [
                {"name": name, "type": kind, "default": None}
                for name, kind in {
                    "number": "int", "switch": "bool", "text": "str", "kind": "kind", "numbers": "[int]", "inner": "inner",
                    "either": "either", "strings": "[String]", "real": "number",
                }.items()
            ],
        },
        {"name": "inner", "meta-type": "object", "members": [{"name": "size", "type": "int"}]},
        {"name": "String", "meta-type": "object", "members": [{"name": "str", "type": "str"}]},
        {"name": "kind", "meta-type": "enum", "values": ["a", "b"]},
        {"name": "[int]", "meta-type": "array", "element-type": "int"},
        {"name": "[String]", "meta-type": "array", "element-type": "String"},
        {"name": "either", "meta-type": "alternate", "members": [{"type": "str"}, {"type": "inner"}]},
        {"name": "int", "meta-type": "builtin", "json-type": "int"},
        {"name": "bool", "meta-type": "builtin", "json-type": "boolean"},
        {"name": "str", "meta-type": "builtin", "json-type": "string"},
        {"name": "number", "meta-type": "builtin", "json-type": "number"},
    ]
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("number", "12", 12),
        ("number", "-1", -1),
        ("number", "0x10", 16),
        ("number", "007", 7),
        ("number", "2M", 2 << 20),
        ("number", "1.5G", 3 << 29),
        ("number", "4096B", 4096),
        ("number", "18446744073709551615", 2**64 - 1),
        ("number", "many", "many"),
        ("switch", "on", True),
        ("switch", "off", False),
        ("switch", "maybe", "maybe"),
        ("text", "12", "12"),
        ("text", "on", "on"),
        ("kind", "a", "a"),
        ("numbers", "3", [3]),
        ("numbers", "0-2", [0, 1, 2]),
        ("numbers", [Text("1"), Text("5")], [1, 5]),
        ("inner", {"size": Text("1k")}, {"size": 1024}),
        ("either", "x", "x"),
        ("either", {"size": Text("2")}, {"size": 2}),
        ("strings", "a", [{"str": "a"}]),
        ("strings", [Text("a"), Text("b")], [{"str": "a"}, {"str": "b"}]),
        ("real", "1.5", 1.5),
        ("unknown", "1", "1"),
    ],
)
def test_text_has_the_type_of_its_member(name, text, value):
    """A member's text becomes a value of its type, and stays text where it is none."""
    settled = settle(SCHEMA, "do", {name: Text(text) if isinstance(text, str) else text})

    assert settled == {name: value}
    assert type(settled[name]) is type(value) or name == "unknown"


@given(
    st.dictionaries(
        st.sampled_from(["number", "switch", "text", "inner"]), st.none() | st.integers() | st.text()
    )
)
def test_what_has_a_type_already_stays(values):
    """Nothing but Text is touched."""
    assert settle(SCHEMA, "do", values) == values


@given(st.text())
def test_any_text_is_a_value_or_itself(text):
    """No text is an error."""
    assert integer(text) == text or isinstance(integer(text), int)
    assert boolean(text) == text or isinstance(boolean(text), bool)


def test_an_unknown_command_changes_nothing():
    """What a QEMU has no command for stays as it is."""
    assert settle(SCHEMA, "undo", {"a": Text("1")}) == {"a": "1"}
    assert json.dumps(settle(SCHEMA, "do", {})) == "{}"
