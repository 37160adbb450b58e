"""Moving through a trace: the state after any record, forth and back.

A state is the fold of all records before it. To get anywhere without starting over, the timeline keeps a sparse
set of checkpoints, plain states made on its first way through, and takes a log's own snapshots where it has not
been yet. Random access then costs at most as many steps as lie between two checkpoints.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

import msgspec

from qemustate.events.records import Record
from qemustate.replay.subject import Subject
from qemustate.statemachine.fold import apply
from qemustate.statemachine.state import VM

#: Yields the records from a number on, again and again.
Records: TypeAlias = Callable[[int], Iterator[Record]]
#: Returns a state that the trace itself keeps, after record ``seq`` or an earlier one; None where there is none.
Snapshots: TypeAlias = Callable[[int], VM | None]

#: So many checkpoints at most: then every other one is dropped, and they stand twice as far apart.
_CHECKPOINTS: Final = 512


class Moment(msgspec.Struct, frozen=True):
    """One change: at which record and time (microseconds since 1970), of which machine and subject, from which states to which, and why."""

    seq: int
    time: int
    machine: str
    subject: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    cause: str


class _Checkpoint(msgspec.Struct, frozen=True):
    """A state after record ``seq``, and the latest time of any record up to there."""

    seq: int
    latest: int
    state: dict[str, Any]


class Timeline:
    """A cursor over the records of one VM; ``state`` is the state after record ``seq``.

    ``records(start)`` yields the records numbered ``start`` and above; ``start`` is the state before the
    first; ``snapshot(seq)`` gives the states that the trace keeps, if it keeps any. The state is the timeline's
    own: it is to be read, and changes when the cursor moves.
    """

    def __init__(
        self,
        records: Records,
        start: VM | None = None,
        *,
        snapshot: Snapshots | None = None,
        every: int = 1024,
    ) -> None:
        self._records, self._snapshot, self._every = records, snapshot, every
        self._ahead: Iterator[Record] | None = None
        self.state: VM = start or VM()
        self._first: Final = self.state.seq
        self._checkpoints = [_Checkpoint(self._first, 0, self.state.to_plain())]
        #: How far the first way through has come, and the latest time seen on it.
        self._walked, self._latest = self._first, 0

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
        self._jump(seq)
        while self.seq < seq and self.step():
            pass
        return self.state

    def at_time(self, time: int) -> VM:
        """Go to the state before the first record seen later than ``time`` (microseconds since 1970)."""
        at = bisect_right(self._checkpoints, time, key=lambda it: it.latest)
        self._restore(self._checkpoints[max(at - 1, 0)])
        for record in self._records(self.seq + 1):
            if record.time > time:
                break
            self._take(record)
        return self.state

    def end(self) -> VM:
        """Go to the state after the last record."""
        while self.step():
            pass
        return self.state

    def changes(self, subject: str = "") -> list[Moment]:
        """Return every change of a subject in order; the cursor stays where it is.

        A subject is written as in :mod:`qemustate.replay.subject`; without one, all changes are returned. Raises
        BadInput for what names no kind of subject.
        """
        wanted = Subject.read(subject)
        vm = VM.from_plain(self._checkpoints[0].state)
        found: list[Moment] = []
        for record in self._records(self._first + 1):
            apply(vm, record.seq, record.time, record.kind, record.body)
            later: dict[tuple[str, str], tuple[str, ...]] = {}
            moments = []
            for machine, name, before, cell in reversed(vm.changed):
                after = later.get((machine, name)) or vm.names(machine, cell)
                later[machine, name] = before
                if wanted.covers(machine, name):
                    moments.append(Moment(record.seq, record.time, machine, name, before, after, cell.cause))
            found += reversed(moments)
        return found

    def _take(self, record: Record) -> None:
        apply(self.state, record.seq, record.time, record.kind, record.body)
        if record.seq != self._walked + 1:
            return  # been here, or jumped over what lies between
        self._walked, self._latest = record.seq, max(self._latest, record.time)
        if record.seq - self._checkpoints[-1].seq >= self._every:
            self._checkpoints.append(_Checkpoint(record.seq, self._latest, self.state.to_plain()))
            if len(self._checkpoints) > _CHECKPOINTS:
                del self._checkpoints[1::2]
                self._every *= 2

    def _jump(self, seq: int) -> None:
        """Go to the nearest state that is known and not behind ``seq``, where stepping on would be further."""
        at = bisect_right(self._checkpoints, seq, key=lambda it: it.seq)
        known = self._checkpoints[max(at - 1, 0)]
        if seq < self.seq or known.seq > self.seq:
            self._restore(known)
        if self._snapshot is not None and seq > max(self._walked, self.seq):
            kept = self._snapshot(seq)
            if kept is not None and kept.seq > self.seq:
                self.state, self._ahead = kept, None

    def _restore(self, checkpoint: _Checkpoint) -> None:
        self.state, self._ahead = VM.from_plain(checkpoint.state), None
