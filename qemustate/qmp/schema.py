"""What a QEMU understands, by its own account: the reply of ``query-qmp-schema``.

A schema looks up commands, events and types, and checks a command before it is sent. Shapes from QEMU's
``qapi/introspect.json`` (SchemaInfo). The schema does not say all: the properties of ``device_add`` are asked
of ``device-list-properties`` instead, and what that says is loose enough that a doubt is only a warning.
"""

from __future__ import annotations

import difflib
from typing import Any, Final

import msgspec

from qemustate.errors import BadInput
from qemustate.qmp.jsontext import print_compact

#: Commands that take members their schema does not list: marked ``'gen': false`` in QEMU's qapi/qdev.json.
UNCHECKED_MEMBERS: Final = frozenset({"device_add"})

#: Arguments of ``device_add`` that are no properties of the device (qapi/qdev.json, softmmu/qdev-monitor.c).
_NO_PROPERTIES: Final = frozenset({"driver", "bus", "id"})

_INTEGERS: Final = range(-(1 << 63), 1 << 64)
_INTEGER_PROPERTIES: Final = frozenset(
    {"int8", "int16", "int64", "uint8", "uint16", "uint32", "uint64", "size", "int"}
)


class Problem(msgspec.Struct, frozen=True):
    """One thing wrong with a command: ``path`` of the member (``"capabilities[0].state"``), expected, seen."""

    path: str
    expected: str
    seen: str

    def __str__(self) -> str:
        return f"{self.path}: expected {self.expected}, saw {self.seen}"


class Schema:
    """The commands, events and types of one QEMU, by name, as ``query-qmp-schema`` gives them."""

    def __init__(self, reply: Any) -> None:
        """Take the value that ``query-qmp-schema`` returned. Raises BadInput when it is something else."""
        try:
            entries: dict[str, dict[str, Any]] = {entry["name"]: entry for entry in reply}
            kinds = [(entry["meta-type"], entry) for entry in entries.values()]
        except (TypeError, KeyError) as error:
            raise BadInput("query-qmp-schema", expected="a list of named types", seen=_show(reply)) from error
        self.commands = {entry["name"]: entry for kind, entry in kinds if kind == "command"}
        self.events = {entry["name"]: entry for kind, entry in kinds if kind == "event"}
        self.types = {entry["name"]: entry for kind, entry in kinds if kind not in ("command", "event")}

    def allows_oob(self, command: str) -> bool:
        """Say whether a command may be executed out of band."""
        return bool(self.commands.get(command, {}).get("allow-oob"))

    def check_command(self, name: str, arguments: dict[str, Any] | None = None) -> list[Problem]:
        """Return what is wrong with a command and its arguments, nothing when QEMU will understand it."""
        command = self.commands.get(name)
        if command is None:
            return [Problem(name, f"a command, {_one_of(name, self.commands)}", "no such command")]
        return self._check_object(
            self.types[command["arg-type"]], arguments or {}, "", open_ended=name in UNCHECKED_MEMBERS
        )

    def _check(self, type_name: str, value: Any, path: str) -> list[Problem]:
        kind = self.types[type_name]
        match kind["meta-type"]:
            case "builtin":
                return (
                    []
                    if _is_json_type(value, kind["json-type"])
                    else [_wrong(path, kind["json-type"], value)]
                )
            case "enum":
                return _check_enum(kind, value, path)
            case "array":
                if not isinstance(value, list):
                    return [_wrong(path, "array", value)]
                parts = (
                    self._check(kind["element-type"], part, f"{path}[{i}]") for i, part in enumerate(value)
                )
                return [problem for part in parts for problem in part]
            case "alternate":
                return self._check_alternate(kind, value, path)
            case _:
                return self._check_object(kind, value, path)

    def _check_object(
        self, kind: dict[str, Any], value: Any, path: str, *, open_ended: bool = False
    ) -> list[Problem]:
        if not isinstance(value, dict):
            return [_wrong(path, "object", value)]
        members = {member["name"]: member for member in self.members(kind, value)}
        problems = []
        for name, member in members.items():
            if name in value:
                problems += self._check(member["type"], value[name], _join(path, name))
            elif "default" not in member:
                problems.append(Problem(_join(path, name), self._describe(member["type"]), "nothing"))
        if not open_ended:
            unknown = (name for name in value if name not in members)
            problems += (
                Problem(_join(path, name), _one_of(name, members), "no such member") for name in unknown
            )
        return problems

    def members(self, kind: dict[str, Any], value: dict[str, Any]) -> list[dict[str, Any]]:
        """Return an object type's members, with those of the variant that the value's tag selects."""
        members: list[dict[str, Any]] = list(kind["members"])
        if "tag" in kind:
            chosen = value.get(kind["tag"])
            for variant in kind["variants"]:
                if variant["case"] == chosen:
                    members += self.members(self.types[variant["type"]], value)
        return members

    def _check_alternate(self, kind: dict[str, Any], value: Any, path: str) -> list[Problem]:
        """Check against the alternative of the value's JSON type; there is at most one for each."""
        for member in kind["members"]:
            if _is_json_type(value, self._json_type(member["type"])):
                return self._check(member["type"], value, path)
        return [_wrong(path, self._describe(kind["name"]), value)]

    def _json_type(self, type_name: str) -> str:
        kind = self.types[type_name]
        json_types = {"enum": "string", "array": "array", "object": "object"}
        return json_types.get(kind["meta-type"]) or str(kind["json-type"])

    def _describe(self, type_name: str) -> str:
        kind = self.types[type_name]
        if kind["meta-type"] == "alternate":
            return " or ".join(self._json_type(member["type"]) for member in kind["members"])
        return self._json_type(type_name)


def check_properties(driver: str, arguments: dict[str, Any], reply: Any) -> list[Problem]:
    """Return doubts about the arguments of ``device_add``: warnings, for QEMU may take them all the same.

    ``reply`` is what ``device-list-properties`` returned for ``driver``. Names are checked, and values where
    the property's type is plain; QEMU before 9.2 takes strings for any. Raises BadInput for another reply.
    """
    try:
        types: dict[str, str] = {entry["name"]: entry["type"] for entry in reply}
    except (TypeError, KeyError) as error:
        raise BadInput(
            "device-list-properties", expected="a list of properties", seen=_show(reply)
        ) from error
    doubts = []
    for name, value in arguments.items():
        if name in _NO_PROPERTIES:
            continue
        if name not in types:
            doubts.append(
                Problem(name, f"a property of {driver}, {_one_of(name, types)}", "no such property")
            )
        elif not _fits_property(types[name], value):
            doubts.append(_wrong(name, types[name], value))
    return doubts


def _fits_property(kind: str, value: Any) -> bool:
    if kind == "bool":
        return isinstance(value, bool)
    if kind in _INTEGER_PROPERTIES:
        return _is_json_type(value, "int")
    if kind in ("str", "string"):
        return isinstance(value, str)
    return True


def _check_enum(kind: dict[str, Any], value: Any, path: str) -> list[Problem]:
    # ``members`` came with 6.2; ``values`` is there to this day.
    values = [member["name"] for member in kind["members"]] if "members" in kind else kind["values"]
    if value in values:
        return []
    return [_wrong(path, _one_of(value if isinstance(value, str) else "", values), value)]


def _is_json_type(value: Any, json_type: str) -> bool:
    match json_type:
        case "string":
            return isinstance(value, str)
        case "int":
            return isinstance(value, int) and not isinstance(value, bool) and value in _INTEGERS
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "boolean":
            return isinstance(value, bool)
        case "null":
            return value is None
        case "array":
            return isinstance(value, list)
        case "object":
            return isinstance(value, dict)
        case _:
            return True


def _wrong(path: str, expected: str, value: Any) -> Problem:
    return Problem(path, expected, _show(value))


def _show(value: Any) -> str:
    """Return a value as JSON, shortened."""
    try:
        text = print_compact(value).decode("utf-8", "backslashreplace")
    except TypeError:
        text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _one_of(name: str, names: Any) -> str:
    """Return the names to choose from, the closest to ``name`` where there are many."""
    offered = (
        sorted(names) if len(names) <= 8 else difflib.get_close_matches(name, names, 5) or sorted(names)[:8]
    )
    return ("one of " + ", ".join(offered)) if offered else "no members"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
