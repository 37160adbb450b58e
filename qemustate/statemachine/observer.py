"""What may be: rows compiled to a set of possible states, as one integer.

The belief about a machine is the set of states that every record so far allows: the subset construction
over a partially observed transition system. Bit *i* of a belief stands for ``table.states[i]``.

``image(trigger, belief, profile)``: the states after that trigger, closed under the silent rows whose
guards are possible. Where no row allows the trigger, the trace is impossible: the image from *all* states
is taken instead, and the step says so. Steps are computed once and kept: replay costs a dictionary look-up.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

from qemustate.statemachine import guards
from qemustate.statemachine.rows import SILENT, Row, Table
from qemustate.statemachine.tables import TABLES


class Step(NamedTuple):
    """What one trigger makes of a belief."""

    belief: int
    #: Why, where every row that led here names the same cause; empty otherwise.
    cause: str
    #: Assumptions of the rows that were taken.
    assumptions: tuple[str, ...]
    #: No row allowed this trigger in any of the believed states.
    impossible: bool


class _Compiled(NamedTuple):
    """The rows of one trigger: (source bit, dest bit, guard mask, row), and the profile bits that matter."""

    moves: tuple[tuple[int, int, int, Row], ...]
    relevant: int


class Observer:
    """One table, compiled for one QEMU version (None: the union of all)."""

    def __init__(self, table: Table, version: tuple[int, ...] | None) -> None:
        self.table: Final = table
        self.version: Final = version
        self.bit: Final = {state: 1 << i for i, state in enumerate(table.states)}
        self.all: Final = (1 << len(table.states)) - 1
        self.initial: Final = self.bit[table.initial]
        taken: dict[str, list[Row]] = {}
        for row in table.rows:
            triggers = taken.setdefault(row.trigger, [])
            if row.in_version(version):
                triggers.append(row)
        self._silent = self._compile(taken.pop(SILENT, []))
        self.silent_relevant: Final = self._silent.relevant
        self._rows = {trigger: self._compile(found) for trigger, found in taken.items()}
        self._steps: dict[str, dict[tuple[int, int], Step]] = {trigger: {} for trigger in self._rows}
        self._relevant = {t: c.relevant | self.silent_relevant for t, c in self._rows.items()}
        self._closures: dict[tuple[int, int], int] = {}
        self._names: dict[int, tuple[str, ...]] = {}

    def _compile(self, found: list[Row]) -> _Compiled:
        moves = tuple((self.bit[r.source], self.bit[r.dest], guards.mask(r.when), r) for r in found)
        relevant = 0
        for _, _, needed, _ in moves:
            relevant |= needed
        return _Compiled(moves, relevant)

    @property
    def triggers(self) -> Iterable[str]:
        """The triggers this table knows, silent rows aside."""
        return self._rows.keys()

    def image(self, trigger: str, belief: int, profile: int) -> Step:
        """Return the belief after ``trigger``. A trigger the table does not know raises KeyError."""
        key = (belief, profile & self._relevant[trigger])
        steps = self._steps[trigger]
        step = steps.get(key)
        if step is None:
            step = steps[key] = self._image(trigger, belief, profile)
        return step

    def _image(self, trigger: str, belief: int, profile: int) -> Step:
        step = self._apply(trigger, belief, profile)
        if step.belief:
            closed = self.closure(step.belief, profile)
            leaned_on = {
                row.assumption for _, dest, _, row in self._silent.moves if closed & ~step.belief & dest
            }
            leaned_on.discard("")
            return step._replace(belief=closed, assumptions=tuple(sorted(leaned_on.union(step.assumptions))))
        # Impossible: believe whatever this trigger can lead to, from anywhere, guards or no guards.
        anywhere = self._apply(trigger, self.all, profile).belief or self._apply(trigger, self.all, ~0).belief
        return Step(self.closure(anywhere or belief, profile), "", (), impossible=True)

    def _apply(self, trigger: str, belief: int, profile: int) -> Step:
        after = 0
        causes: set[str] = set()
        assumptions: set[str] = set()
        for source, dest, needed, row in self._rows[trigger].moves:
            if belief & source and profile & needed == needed:
                after |= dest
                if source != dest:
                    causes.add(row.cause)
                if row.assumption:
                    assumptions.add(row.assumption)
        cause = causes.pop() if len(causes) == 1 else ""
        return Step(after, cause, tuple(sorted(assumptions)), impossible=False)

    def closure(self, belief: int, profile: int) -> int:
        """Return ``belief`` and all that the possible silent rows lead to from there."""
        key = (belief, profile & self.silent_relevant)
        closed = self._closures.get(key)
        if closed is None:
            closed, before = belief, 0
            while closed != before:
                before = closed
                for source, dest, needed, _ in self._silent.moves:
                    if closed & source and profile & needed == needed:
                        closed |= dest
            self._closures[key] = closed
        return closed

    def reach(self, belief: int) -> int:
        """Return all that any rows at all lead to from there: what a gap makes of a belief."""
        before = 0
        while belief != before:
            before = belief
            for compiled in (self._silent, *self._rows.values()):
                for source, dest, _, _ in compiled.moves:
                    if belief & source:
                        belief |= dest
        return belief

    def showing(self, shown: str) -> int:
        """Return the states that show as this name; 0 where the table has none."""
        return sum(bit for state, bit in self.bit.items() if self.table.shown(state) == shown)

    def names(self, belief: int) -> tuple[str, ...]:
        """Return the names a belief shows as: sorted, each once."""
        found = self._names.get(belief)
        if found is None:
            shown = {self.table.shown(s) for s, bit in self.bit.items() if belief & bit}
            found = self._names[belief] = tuple(sorted(shown))
        return found

    def inner_names(self, belief: int) -> tuple[str, ...]:
        """Return the internal names in a belief, in the table's order."""
        return tuple(s for s, bit in self.bit.items() if belief & bit)

    def of(self, states: Iterable[str]) -> int:
        """Return the belief that holds these internal states."""
        belief = 0
        for state in states:
            belief |= self.bit[state]
        return belief


@lru_cache(maxsize=64)
def observer(table_name: str, version: tuple[int, ...] | None) -> Observer:
    """Return the shared observer of a table for a QEMU version ``(major, minor, micro)``."""
    return Observer(TABLES[table_name], version)
