"""Text from a command line as values of the types that QEMU's schema has.

What was written as ``key=value`` is text throughout (:class:`~qemustate.hardware.properties.Text`), which QMP and JSON do not
take for a number. Here it becomes one, as QEMU's own readers have it: ``on`` and ``yes`` are true, ``0x10`` is 16, ``1G`` is a
size, ``0-3`` in the place of a list of numbers is four of them. Text that does not fit stays text, for a check to name.

Source: QEMU ``qapi/qobject-input-visitor.c`` (the keyval flavour), ``qapi/opts-visitor.c``, ``util/cutils.c`` (qemu_strtosz).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from qemustate.hardware.properties import Text

if TYPE_CHECKING:
    from qemustate.qmp.schema import Schema

_SWITCHES: Final = {"on": True, "yes": True, "true": True, "y": True,
                    "off": False, "no": False, "false": False, "n": False}  # fmt: skip
_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)([BKMGTPE])", re.IGNORECASE)
_POWERS: Final = "BKMGTPE"
_RANGE: Final = re.compile(r"([0-9]+)-([0-9]+)")

#: The longest range of numbers that is written out.
_LONGEST: Final = 4096


def boolean(text: str) -> bool | str:
    """Return what the text says of a switch; itself when it says nothing of one."""
    return _SWITCHES.get(text, text)


def integer(text: str) -> int | str:
    """Return the number that the text is, decimal, hexadecimal, or a size with its unit; itself when it is none."""
    if found := _SIZE.fullmatch(text):
        return int(float(found[1]) * (1 << 10 * _POWERS.index(found[2].upper())))
    try:
        return int(text, 0)
    except ValueError:
        return int(text) if re.fullmatch(r"-?[0-9]{1,20}", text) else text


def settle(schema: Schema, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a command with each Text in them as a value of its type; unknown members stay as they are."""
    known = schema.commands.get(command)
    if known is None:
        return arguments
    settled: dict[str, Any] = _settle(schema, known["arg-type"], arguments)
    return settled


def _settle(schema: Schema, name: str, value: Any) -> Any:
    kind = schema.types[name]
    match kind["meta-type"]:
        case "builtin" if isinstance(value, Text):
            return _scalar(kind["json-type"], value)
        case "array" if isinstance(value, list):
            return [_settle(schema, kind["element-type"], item) for item in value]
        case "array" if isinstance(value, Text):
            return _listed(schema, kind["element-type"], value)
        case "object" if isinstance(value, dict):
            types = {member["name"]: member["type"] for member in schema.members(kind, value)}
            return {
                key: _settle(schema, types[key], item) if key in types else item
                for key, item in value.items()
            }
        case "object" if isinstance(value, Text) and [it["name"] for it in kind["members"]] == ["str"]:
            return {"str": str(value)}  # qapi/common.json String: a list of them is a key given again
        case "alternate":
            return _either(schema, [member["type"] for member in kind["members"]], value)
    return str(value) if isinstance(value, Text) else value


def _scalar(json_type: str, text: Text) -> Any:
    match json_type:
        case "int":
            value: Any = integer(text)
        case "boolean":
            value = boolean(text)
        case "number":
            value = float(text) if re.fullmatch(r"-?[0-9.]+", text) else text
        case _:
            value = text
    return str(value) if isinstance(value, str) else value


def _listed(schema: Schema, element: str, text: Text) -> list[Any]:
    """Return a list of one, or all numbers of a range."""
    span = _RANGE.fullmatch(text)
    if span and int(span[1]) <= int(span[2]) < int(span[1]) + _LONGEST:
        return list(range(int(span[1]), int(span[2]) + 1))
    return [_settle(schema, element, text)]


def _either(schema: Schema, types: list[str], value: Any) -> Any:
    """Return a value as the one of several types that it fits."""
    if not isinstance(value, Text):
        wanted = "object" if isinstance(value, dict) else "array"
        fitting = [name for name in types if schema.types[name]["meta-type"] == wanted]
        return _settle(schema, fitting[0], value) if fitting else value
    settled = [_settle(schema, name, value) for name in types if schema.types[name]["meta-type"] == "builtin"]
    return next((item for item in settled if not isinstance(item, str)), str(value))
