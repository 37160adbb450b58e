"""The state of a VM at one moment, which does not change any more: what people and programs read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any

from qemustate.statemachine.state import VM


class State(Mapping[str, Any]):
    """A VM's entry of the ``--json`` contract, all of it immutable; and the questions asked most."""

    def __init__(self, vm: VM) -> None:
        self._plain: Mapping[str, Any] = _frozen(vm.to_json())

    def __getitem__(self, name: str) -> Any:
        return self._plain[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._plain)

    def __len__(self) -> int:
        return len(self._plain)

    def __repr__(self) -> str:
        return f"<{self['name']} after record {self['at']['seq']}: {'|'.join(self['runstate']['possible'])}>"

    @property
    def seq(self) -> int:
        """The number of the last record that it knows."""
        seq: int = self["at"]["seq"]
        return seq

    @property
    def runstate(self) -> str | None:
        """The run state (QAPI ``RunState``), None where the facts allow more than one."""
        return self._is("runstate")

    @property
    def process(self) -> str | None:
        """``running``, ``exited`` or ``not-started``; None where the facts allow more than one."""
        return self._is("process")

    @property
    def migration(self) -> str | None:
        """The migration's status (QAPI ``MigrationStatus``); None where the facts allow more than one."""
        return self._is("migration")

    def device(self, name: str) -> str | None:
        """Return what the device of that id is: ``present``, ``unplugging``, ``gone``, ...; gone too where there never was one."""
        return self._entry("devices", name, "gone")

    def node(self, name: str) -> str | None:
        """Return what the block node of that name is: ``present`` or ``gone``."""
        return self._entry("nodes", name, "gone")

    def job(self, name: str) -> str | None:
        """Return the status (QAPI ``JobStatus``) of the job of that id, ``null`` where there never was one."""
        return self._entry("jobs", name, "null")

    def _is(self, machine: str) -> str | None:
        is_: str | None = self[machine]["is"]
        return is_

    def _entry(self, collection: str, name: str, otherwise: str) -> str | None:
        entry = self[collection].get(name)
        is_: str | None = otherwise if entry is None else entry["is"]
        return is_


class Glimpse(State):
    """The state of a VM while it stands still, worked out as far as somebody looks: good until its next record, and cheap."""

    def __init__(self, vm: VM) -> None:
        self._vm = vm

    @cached_property
    def _plain(self) -> Mapping[str, Any]:  # type: ignore[override]
        frozen: Mapping[str, Any] = _frozen(self._vm.to_json())
        return frozen

    @property
    def seq(self) -> int:
        """The number of the last record that it knows."""
        return self._vm.seq

    def _is(self, machine: str) -> str | None:
        return _single(self._vm.names(machine, getattr(self._vm, machine)))

    def _entry(self, collection: str, name: str, otherwise: str) -> str | None:
        cell = getattr(self._vm, collection).get(name)
        return otherwise if cell is None else _single(self._vm.names(collection.removesuffix("s"), cell))


def _single(names: tuple[str, ...]) -> str | None:
    return names[0] if len(names) == 1 else None


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return MappingProxyType({name: _frozen(it) for name, it in value.items()})
    return tuple(_frozen(it) for it in value) if isinstance(value, list | tuple) else value
