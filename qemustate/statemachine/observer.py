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

import msgspec

from qemustate.statemachine import guards
from qemustate.statemachine.rows import SILENT, Coupling, Row, Table, is_commanded
from qemustate.statemachine.tables import TABLES


class Step(msgspec.Struct, frozen=True, gc=False):
    """What one trigger makes of a belief."""

    belief: int
    #: Why, where every row that led here names the same cause; empty otherwise.
    cause: str
    #: Assumptions of the rows that were taken.
    assumptions: tuple[str, ...]
    #: No row allowed this trigger in any of the believed states.
    impossible: bool
    #: What the belief showed as before, where it shows as something else now; None where nobody sees a change.
    before: tuple[str, ...] | None
    #: Nothing at all is to be done.
    quiet: bool
    #: It leaned on an assumption, or is impossible.
    special: bool


class Moves(msgspec.Struct, frozen=True, gc=False):
    """The rows of one trigger, and the steps worked out so far.

    ``known`` is keyed by belief and relevant profile bits, or by the belief alone where no guard matters.
    """

    rows: tuple[tuple[int, int, int, Row], ...]
    relevant: int
    known: dict[tuple[int, int] | int, Step]


class Observer:
    """One table, compiled for one QEMU version (None: the union of all)."""

    def __init__(self, table: Table, version: tuple[int, ...] | None) -> None:
        self.table: Final = table
        self.version: Final = version
        self.bit: Final = {state: 1 << i for i, state in enumerate(table.states)}
        self.all: Final = (1 << len(table.states)) - 1
        self.initial: Final = self.bit[table.initial]
        self._of: dict[tuple[str, ...], int] = {}
        taken: dict[str, list[Row]] = {}
        for row in table.rows:
            triggers = taken.setdefault(row.trigger, [])
            if row.in_version(version):
                triggers.append(row)
        self._silent = self._compiled(taken.pop(SILENT, []))
        self.silent_relevant: Final = _relevant(self._silent)
        self.moves: Final = {trigger: self._moves(found) for trigger, found in taken.items()}
        self._shown: dict[str, int] = {}
        for state, bit in self.bit.items():
            shown = table.shown(state)
            self._shown[shown] = self._shown.get(shown, 0) | bit
        self.couplings: Final = tuple(self._coupled())
        self.couples: Final = bool(self.couplings)
        #: The profile bits that the couplings' own conditions look at.
        self.conditions: Final = _relevant_to(self.couplings)
        self._coupled_bits: dict[tuple[int, int], tuple[int, int]] = {}
        self._closures: dict[tuple[int, int], int] = {}
        self._names: dict[int, tuple[str, ...]] = {}

    def _compiled(self, found: list[Row]) -> tuple[tuple[int, int, int, Row], ...]:
        return tuple((self.bit[r.source], self.bit[r.dest], guards.mask(r.when), r) for r in found)

    def _moves(self, found: list[Row]) -> Moves:
        compiled = self._compiled(found)
        return Moves(compiled, _relevant(compiled) | self.silent_relevant, {})

    @property
    def triggers(self) -> Iterable[str]:
        """The triggers this table knows, silent rows aside."""
        return self.moves.keys()

    def image(self, trigger: str, belief: int, profile: int) -> Step:
        """Return what ``trigger`` makes of a belief. A trigger the table does not know raises KeyError."""
        moves = self.moves[trigger]
        key = (belief, profile & moves.relevant) if moves.relevant else belief
        return moves.known.get(key) or self.learn(moves, belief, profile)

    def learn(self, moves: Moves, belief: int, profile: int) -> Step:
        """Work out a step that is not among the known ones, and keep it."""
        after, cause, assumptions = self._apply(moves, belief, profile)
        impossible = not after
        if impossible:
            # Believe whatever this trigger can lead to, from anywhere, guards or no guards.
            after = self._apply(moves, self.all, profile)[0] or self._apply(moves, self.all, ~0)[0] or belief
            cause, assumptions = "", set()
        closed = self.closure(after, profile)
        assumptions |= {row.assumption for _, dest, _, row in self._silent if closed & ~after & dest}
        assumptions.discard("")
        before = self.names(belief)
        quiet = closed == belief and not assumptions and not impossible
        shown = None if self.names(closed) == before else before
        special = impossible or bool(assumptions)
        step = Step(closed, cause, tuple(sorted(assumptions)), impossible, shown, quiet, special)
        moves.known[(belief, profile & moves.relevant) if moves.relevant else belief] = step
        return step

    def _apply(self, moves: Moves, belief: int, profile: int) -> tuple[int, str, set[str]]:
        after = 0
        causes: set[str] = set()
        assumptions: set[str] = set()
        for source, dest, needed, row in moves.rows:
            if belief & source and profile & needed == needed:
                after |= dest
                if source != dest:
                    causes.add(row.cause)
                assumptions.add(row.assumption)
        return after, causes.pop() if len(causes) == 1 else "", assumptions

    def closure(self, belief: int, profile: int) -> int:
        """Return ``belief`` and all that the possible silent rows lead to from there."""
        key = (belief, profile & self.silent_relevant)
        closed = self._closures.get(key)
        if closed is None:
            closed, before = belief, 0
            while closed != before:
                before = closed
                for source, dest, needed, _ in self._silent:
                    if closed & source and profile & needed == needed:
                        closed |= dest
            self._closures[key] = closed
        return closed

    def reach(self, belief: int, *, uncommanded: bool = False) -> int:
        """Return all that any rows lead to from there: what a gap makes of a belief; ``uncommanded``: one without commands."""
        unseen = [
            moves.rows
            for trigger, moves in self.moves.items()
            if not (uncommanded and (trigger in self.table.commanded or is_commanded(trigger)))
        ]
        before = 0
        while belief != before:
            before = belief
            for rows in (self._silent, *unseen):
                for source, dest, _, _ in rows:
                    if belief & source:
                        belief |= dest
        return belief

    def _coupled(self) -> Iterable[tuple[int, int, Coupling]]:
        for it in self.table.couplings:
            if self.version is None or (
                (not it.since or self.version >= it.since) and (not it.until or self.version < it.until)
            ):
                yield self.of(it.states), guards.mask(it.when), it

    def coupled(self, belief: int, profile: int) -> tuple[int, int]:
        """Return the *and* and *or* masks by which a belief sets the guards of other machines."""
        key = (belief, profile)
        masks = self._coupled_bits.get(key)
        if masks is None:
            masks = self._coupled_bits[key] = self._work_out(belief, profile)
        return masks

    def _work_out(self, belief: int, profile: int) -> tuple[int, int]:
        may: set[str] = set()
        certain: set[str] = set()
        for states, needed, it in self.couplings:
            possible = profile & needed == needed
            if belief & states and possible:
                may.add(it.guard)
                unconditional = not profile & guards.opposite(needed)
                if not it.opens and not belief & ~states and unconditional:
                    certain.add(it.guard)
        told = sorted({it.guard for _, _, it in self.couplings})
        added = sum(guards.may(g) * (g in may) | guards.maynot(g) * (g not in certain) for g in told)
        return guards.clear_mask(told), added

    def showing(self, shown: str) -> int:
        """Return the states that show as this name; 0 where the table has none."""
        return self._shown.get(shown, 0)

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

    def of(self, states: tuple[str, ...]) -> int:
        """Return the belief that holds these internal states."""
        belief = self._of.get(states)
        if belief is None:
            belief = self._of[states] = sum(self.bit[state] for state in states)
        return belief


def _relevant_to(couplings: tuple[tuple[int, int, Coupling], ...]) -> int:
    relevant = 0
    for _, needed, _ in couplings:
        relevant |= needed | guards.opposite(needed)
    return relevant


def _relevant(compiled: tuple[tuple[int, int, int, Row], ...]) -> int:
    relevant = 0
    for _, _, needed, _ in compiled:
        relevant |= needed
    return relevant


@lru_cache(maxsize=64)
def observer(table_name: str, version: tuple[int, ...] | None) -> Observer:
    """Return the shared observer of a table for a QEMU version ``(major, minor, micro)``."""
    return Observer(TABLES[table_name], version)


class Watchers(NamedTuple):
    """The observers of all tables, for one QEMU version."""

    process: Observer
    monitor: Observer
    runstate: Observer
    migration: Observer
    device: Observer
    job: Observer
    backend: Observer
    export: Observer
    fd: Observer
    dump: Observer
    display: Observer


@lru_cache(maxsize=16)
def watchers(version: tuple[int, ...] | None) -> Watchers:
    """Return the shared observers for a QEMU version ``(major, minor, micro)``."""
    return Watchers(*(observer(name, version) for name in Watchers._fields))
