"""What one QEMU can do, by its own account, and what is wrong with a part or a command line in its eyes.

Block nodes, netdevs, chardevs and objects are held against QEMU's schema, devices against ``device-list-properties``. All that is known is
plain data (:meth:`Capabilities.to_bytes`), so it can be kept; :mod:`qemustate.vm.probe` gets it from a QEMU.
"""

from __future__ import annotations

import difflib
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from qemustate.errors import BadInput
from qemustate.hardware import chardev
from qemustate.hardware.cmdline import plain
from qemustate.hardware.hotplug import COMMANDS
from qemustate.hardware.properties import Chardev, Device, Fsdev, Netdev, Object, Part, Text
from qemustate.hardware.typed import boolean, integer, settle
from qemustate.qmp.schema import Problem, Schema, check_properties

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from qemustate.hardware.config import Config

#: Before this version of QEMU its schema did not say what netdevs and objects have (qapi/net.json, qapi/qom.json).
_DESCRIBED = (6, 0, 0)

#: Members of every device that are no properties (qapi/qdev.json).
_EVERY_DEVICE = ("driver", "id", "bus")


class Capabilities(msgspec.Struct, dict=True):
    """What a QEMU told.

    ``version`` is (major, minor, micro); ``described`` the reply of ``query-qmp-schema``; ``machines`` the names of
    machine types, aliases with them. ``properties`` maps a driver to its properties and their types, for the drivers
    that were asked for, None for one that this QEMU does not have.
    """

    version: tuple[int, int, int]
    described: list[Any]
    machines: list[str]
    properties: dict[str, dict[str, str] | None]

    @cached_property
    def schema(self) -> Schema:
        """The schema, ready to look things up in."""
        return Schema(self.described)

    def typed(self, part: Part) -> Part:
        """Return a part whose values have the types that QEMU has for them, where it was read from ``key=value``."""
        if isinstance(part, Device):
            types = self.properties.get(part.kind) or {}
            return Device({key: _typed(types.get(key, ""), key, value) for key, value in part.items()})
        if isinstance(part, Chardev):
            kept, rest = _only_cold(part)
            return Chardev(chardev.flat(settle(self.schema, "chardev-add", chardev.nested(rest))) | kept)
        if isinstance(part, Fsdev):
            return part
        return type(part)(settle(self.schema, COMMANDS[type(part)][0], dict(part)))

    def check(self, part: Part) -> list[Problem]:
        """Return what is wrong with a part: property, what is expected of it, what was seen. Nothing where all is well.

        A device's own checks (a bus that is not there, a CID in use) are QEMU's alone.
        """
        if isinstance(part, Fsdev):
            return []  # no command takes it, so the schema has nothing on it
        try:
            values = plain(self.typed(part))
        except BadInput as error:  # a chardev without an address, or with two
            return [Problem(part.kind, error.expected, error.seen)]
        if isinstance(part, Device):
            return list(self._check_device(values))
        if isinstance(part, Chardev):
            return self.schema.check_command("chardev-add", chardev.nested(_only_cold(Chardev(values))[1]))
        if isinstance(part, Netdev | Object) and self.version < _DESCRIBED:
            return []
        return self.schema.check_command(COMMANDS[type(part)][0], values)

    def _check_device(self, values: dict[str, Any]) -> Iterator[Problem]:
        driver = values.get("driver")
        if driver is None:
            yield Problem("driver", "the name of a device type", "nothing")
            return
        known = self.properties.get(driver, {})
        if known is None:
            yield Problem("driver", "a device that this QEMU has", str(driver))
        elif known:
            listed = [{"name": name, "type": kind} for name, kind in known.items()]
            for problem in check_properties(driver, values, listed):
                # Slot and function of a PCI device are text, in hexadecimal, though called a number before 10.0.
                if not (
                    problem.path == "addr" and problem.expected == "int32" and isinstance(values["addr"], str)
                ):
                    yield problem

    def check_config(self, config: Config) -> list[Problem]:
        """Return what is wrong with a command line: each part's problems under its option and id, machine types, ids used twice."""
        found = []
        for machine in config.all("machine"):
            name = str(machine.get("type", ""))
            if name and name not in self.machines:
                close = difflib.get_close_matches(name, self.machines, 3)
                expected = f"a machine of this QEMU{', ' if close else ''}{' or '.join(close)}"
                found.append(Problem("machine.type", expected, name))
        for part in config.parts():
            place = f"{part.option} {part.id or part.kind}"
            found += (Problem(f"{place}: {it.path}", it.expected, it.seen) for it in self.check(part))
        return found + list(_repeated(config.parts()))

    def to_bytes(self) -> bytes:
        """Return all of it as JSON."""
        return msgspec.json.encode(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> Capabilities:
        """Return what :meth:`to_bytes` wrote. Raises msgspec.MsgspecError for anything else."""
        return msgspec.json.decode(data, type=cls)


def _only_cold(part: Chardev) -> tuple[dict[str, Any], Chardev]:
    """Return what only a command line can say of a chardev, and the rest: ``mux=on`` is a chardev of its own in QMP."""
    kept = {key: part[key] for key in ("mux",) if key in part}
    return kept, Chardev({key: value for key, value in part.items() if key not in kept})


def _typed(kind: str, name: str, value: Any) -> Any:
    if not isinstance(value, Text):
        return value
    if kind == "bool":
        return boolean(value)
    if name not in _EVERY_DEVICE and kind in (
        "int",
        "size",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
    ):
        return str(value) if name == "addr" and kind == "int32" else integer(value)
    return str(value)


def _repeated(parts: Iterable[Part]) -> Iterator[Problem]:
    """Yield a problem for each id that two parts of one kind have."""
    seen: dict[tuple[str, str], Part] = {}
    for part in parts:
        first = seen.setdefault((part.option, part.id), part)
        if part.id and first is not part:
            yield Problem(
                f"{part.option} {part.id}: {part.named_by}",
                "an id of its own",
                f"that of another {first.kind}",
            )
