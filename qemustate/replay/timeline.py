"""Moving through a trace: the state after any record, forth and back.

A state is the fold of all records before it. To go back without starting over, the timeline keeps
checkpoints: plain states, one every so many records, made on the way.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

import msgspec

from qemustate.events.records import Record
from qemustate.statemachine.fold import apply
from qemustate.statemachine.state import VM

#: Yields the records from a number on, again and again.
Records: TypeAlias = Callable[[int], Iterator[Record]]


class Moment(msgspec.Struct, frozen=True):
    """One change: at which record, of which machine and subject, from which states to which, and why."""

    seq: int
    time: int
    machine: str
    subject: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    cause: str


class Timeline:
    """A cursor over the records of one VM; ``state`` is the state after record ``seq``.

    ``records(start)`` yields the records numbered ``start`` and above; ``start`` is the state before the
    first. The state is the timeline's own: it is to be read, and changes when the cursor moves.
    """

    def __init__(self, records: Records, start: VM | None = None, *, every: int = 1024) -> None:
        self._records, self._every = records, every
        self._checkpoints: list[tuple[int, dict[str, Any]]] = []
        self._ahead: Iterator[Record] | None = None
        self.state: VM = start or VM()
        self._first: Final = self.state.seq
        self._checkpoints.append((self._first, self.state.to_plain()))

    @property
    def seq(self) -> int:
        """The number of the last record folded; before the first record, 0 or that of a snapshot."""
        return self.state.seq

    def step(self) -> Record | None:
        """Go one record on and return it; None at the end."""
        if self._ahead is None:
            self._ahead = self._records(self.seq + 1)
        record = next(self._ahead, None)
        if record is None:
            self._ahead = None
        else:
            self._take(record)
        return record

    def back(self) -> bool:
        """Go one record back; False at the beginning."""
        if self.seq <= self._first:
            return False
        self.at(self.seq - 1)
        return True

    def at(self, seq: int) -> VM:
        """Go to the state after record ``seq``: the first or last there is where that is out of range."""
        if seq < self.seq:
            self._restore(seq)
        while self.seq < seq and self.step():
            pass
        return self.state

    def at_time(self, time: int) -> VM:
        """Go to the state before the first record seen later than ``time`` (microseconds since 1970)."""
        self._restore(0)
        for record in self._records(self.seq + 1):
            if record.time > time:
                break
            self._take(record)
        self._ahead = None
        return self.state

    def end(self) -> VM:
        """Go to the state after the last record."""
        while self.step():
            pass
        return self.state

    def changes(self, subject: str = "") -> list[Moment]:
        """Return every change of a subject in order; the cursor stays where it is.

        A subject is a machine (``runstate``, ``migration``, ``process``, ``monitor``) or the id of a device,
        job or backend; without one, all changes are returned.
        """
        vm = VM.from_plain(self._checkpoints[0][1])
        found: list[Moment] = []
        for record in self._records(self._first + 1):
            apply(vm, record.seq, record.time, record.kind, record.body)
            for machine, name, before, cell in vm.changed:
                if subject in ("", name or machine):
                    after = vm.names(machine, cell)
                    found.append(Moment(record.seq, record.time, machine, name, before, after, cell.cause))
        return found

    def _take(self, record: Record) -> None:
        apply(self.state, record.seq, record.time, record.kind, record.body)
        if record.seq - self._checkpoints[-1][0] >= self._every:
            self._checkpoints.append((record.seq, self.state.to_plain()))

    def _restore(self, seq: int) -> None:
        """Take the last checkpoint that is not behind ``seq``."""
        at = bisect_right(self._checkpoints, seq, key=lambda it: it[0])
        self.state = VM.from_plain(self._checkpoints[max(at - 1, 0)][1])
        self._ahead = None
