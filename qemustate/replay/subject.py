"""What a person asks about: the VM itself, or one device, job or backend.

Written ``vm``, ``device=vd1``, ``job=copy``, ``node=disk0`` (or ``netdev``, ``chardev``, ``object``, ``export``, ``fd``), the
name of a machine of the VM (``runstate``), or a bare id, which stands for everything that bears it.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from qemustate.errors import BadInput
from qemustate.statemachine import describe
from qemustate.statemachine.state import BACKENDS, VM, Cell, Change
from qemustate.statemachine.stepping import device_name

#: The machines of which a VM has one.
OF_THE_VM: Final = ("process", "monitor", "runstate", "migration", "dump")

#: Machine -> the collection of :class:`~qemustate.statemachine.state.VM` that holds its cells, by id.
COLLECTIONS: Final = {
    "device": "devices",
    "job": "jobs",
    **BACKENDS,
    "export": "exports",
    "fd": "fds",
    "display": "displays",
}


class Subject(msgspec.Struct, frozen=True):
    """What is asked about: machines, and a name among them; "" is the VM itself, None any name."""

    machines: frozenset[str]
    name: str | None

    @classmethod
    def read(cls, text: str) -> Subject:
        """Return the subject that a text names; the empty text names everything.

        Raises BadInput for ``KIND=ID`` of a kind that does not exist, and for an empty id.
        """
        if not text:
            return cls(frozenset((*OF_THE_VM, *COLLECTIONS)), None)
        if text == "vm":
            return cls(frozenset(OF_THE_VM), "")
        if text in OF_THE_VM:
            return cls(frozenset((text,)), "")
        kind, equals, name = text.partition("=")
        if equals and kind in COLLECTIONS and name:
            return cls(frozenset((kind,)), device_name(name) if kind == "device" else name)
        if equals and (kind in COLLECTIONS or kind.isidentifier()):
            kinds = "|".join(COLLECTIONS)
            raise BadInput("subject", expected=f"vm, an id or {kinds}=ID", seen=text)
        return cls(frozenset(COLLECTIONS), device_name(text))

    def covers(self, machine: str, name: str) -> bool:
        """Say whether a machine's cell of that name (empty: the VM's own) is meant."""
        return machine in self.machines and self.name in (None, name)

    def concerns(self, name: str) -> bool:
        """Say whether a finding about ``name`` (a machine's, an id, or empty: the VM) is about what is meant."""
        return (
            self.name is None or name == self.name or (not self.name and (not name or name in self.machines))
        )

    def cells(self, vm: VM) -> dict[tuple[str, str], Cell]:
        """Return the cells that are meant and there: (machine, name) -> cell."""
        found: dict[tuple[str, str], Cell] = {}
        for machine in OF_THE_VM:
            if self.covers(machine, ""):
                found[machine, ""] = getattr(vm, machine)
        for machine, collection in COLLECTIONS.items():
            cells: dict[str, Cell] = getattr(vm, collection)
            found |= {(machine, name): cell for name, cell in cells.items() if self.covers(machine, name)}
        return found

    def changes(self, vm: VM) -> list[str]:
        """Return a line for each thing that is meant and that the last record changed, from before it to after it."""
        first: dict[tuple[str, str], Change] = {}
        for it in vm.changed:
            if self.covers(it[0], it[1]):
                first.setdefault((it[0], it[1]), it)
        return [describe.change(vm, it) for it in first.values()]

    def named_in(self, message: Any) -> bool:
        """Say whether a value, at any depth, is the name that is meant, or a QOM path below the device of that name."""
        if not self.name:
            return False
        level: list[Any] = [message]
        while level:
            inner: list[Any] = []
            for it in level:
                if isinstance(it, str):
                    if (
                        it == self.name
                        or it.startswith(f"/machine/peripheral/{self.name}/")
                        or device_name(it) == self.name
                    ):
                        return True
                elif isinstance(it, dict):
                    inner += it.values()
                elif isinstance(it, list):
                    inner += it
            level = inner
        return False

    def filtered(self, entry: dict[str, Any]) -> dict[str, Any]:
        """Return a VM's JSON entry with only those devices, jobs and backends that are meant."""
        kept = dict(entry)
        for machine, collection in COLLECTIONS.items():
            kept[collection] = {
                name: it for name, it in entry[collection].items() if self.covers(machine, name)
            }
        return kept
