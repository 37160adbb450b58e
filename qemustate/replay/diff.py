"""Two traces side by side, by what they mean: where they first differ, and the states there."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import Any

import msgspec

from qemustate.errors import BadInput
from qemustate.replay.answers import line
from qemustate.replay.meaning import Meaning, meanings
from qemustate.replay.source import Source, Trace, records
from qemustate.replay.subject import Subject
from qemustate.replay.timeline import Timeline
from qemustate.statemachine import describe
from qemustate.statemachine.state import VM, Cell


class Side(msgspec.Struct, frozen=True):
    """One trace where two differ: record ``seq`` and its ``line``, None and empty where there is no such record any more.

    ``state`` is the VM's entry of the ``--json`` contract, findings left out, after that record or at the end;
    ``told`` its lines.
    """

    trace: str
    seq: int | None
    line: str
    state: dict[str, Any]
    told: list[str]


class Difference(msgspec.Struct, frozen=True):
    """Where two traces of a VM first differ: in which lane, after how many records alike, and both sides.

    ``states`` is a line for everything whose states there exclude each other. The lane ``states`` is for traces that
    say the same and yet lead to states that exclude each other.
    """

    vm: str
    lane: str
    alike: int
    a: Side
    b: Side
    states: list[str]


def diff(a: str | os.PathLike[str], b: str | os.PathLike[str]) -> list[Difference]:
    """Return the first difference of each VM of two traces; nothing where they are alike.

    VMs are the same by name, or where each trace has only one. Raises BadInput where a path is no trace or has a VM
    that the other has not, LogDamaged where a log is damaged.
    """
    first, second = Source(a), Source(b)
    pairs = _pairs(first, second)
    return [it for one, other in pairs if (it := _first_difference(one, other)) is not None]


def _pairs(a: Source, b: Source) -> list[tuple[Trace, Trace]]:
    if len(a.vms) == len(b.vms) == 1:
        return [(a.vms[0], b.vms[0])]
    ours, theirs = ({vm.name: vm for vm in source.vms} for source in (a, b))
    if ours.keys() != theirs.keys():
        only = sorted(ours.keys() ^ theirs.keys())
        raise BadInput(
            b.shown,
            expected=f"the VMs of {a.shown}: {', '.join(ours)}",
            seen=f"a difference in {', '.join(only)}",
        )
    return [(vm, theirs[name]) for name, vm in ours.items()]


class _Lane:
    """One lane of both traces: what one has said and the other not yet, until they differ."""

    def __init__(self) -> None:
        self.waiting: tuple[deque[tuple[int, Meaning]], ...] = deque(), deque()

    def put(self, side: int, number: int, meaning: Meaning) -> tuple[Any, Any] | None:
        """Take the next record of a side; return both records where they differ."""
        other = self.waiting[1 - side]
        if not other:
            self.waiting[side].append((number, meaning))
            return None
        theirs = other.popleft()
        if theirs[1].words == meaning.words:
            return None
        pair = (number, meaning), theirs
        return pair if side == 0 else pair[::-1]

    def left(self) -> tuple[Any, Any] | None:
        """Return the first record that only one side has, and None for the other."""
        for side, waiting in enumerate(self.waiting):
            if waiting:
                return (waiting[0], None) if side == 0 else (None, waiting[0])
        return None


def _first_difference(a: Trace, b: Trace) -> Difference | None:
    lacks = {*a.lacks, *b.lacks}
    lanes: dict[str, _Lane] = {}
    broken: dict[str, tuple[Any, Any]] = {}
    count = 0
    for side, number, meaning in _alternating(meanings(a.batches(), lacks), meanings(b.batches(), lacks)):
        count = max(count, number + 1)
        if meaning.lane in broken:
            continue
        pair = lanes.setdefault(meaning.lane, _Lane()).put(side, number, meaning)
        if pair is not None:
            broken[meaning.lane] = pair
    for name, lane in lanes.items():
        pair = None if name in broken else lane.left()
        if pair is not None:
            broken[name] = pair
    if broken:
        name = min(broken, key=lambda lane: min(it[0] for it in broken[lane] if it is not None))
        pair = broken[name]
        alike = min(it[0] for it in pair if it is not None)
        sides = [None if it is None else it[1] for it in pair]
        return _difference(a, b, name, alike, sides[0], sides[1])
    end = _difference(a, b, "states", count, None, None)
    return end if end.states else None


def _alternating(a: Iterator[Meaning], b: Iterator[Meaning]) -> Iterator[tuple[int, int, Meaning]]:
    """Yield (side, number on that side, meaning), one of each in turn as long as there are."""
    sides = [(0, enumerate(a)), (1, enumerate(b))]
    while sides:
        for it in list(sides):
            found = next(it[1], None)
            if found is None:
                sides.remove(it)
            else:
                yield it[0], *found


def _difference(
    a: Trace, b: Trace, lane: str, alike: int, one: Meaning | None, other: Meaning | None
) -> Difference:
    left, right = _there(a, one), _there(b, other)
    ignored = {"monitor", *(("process",) if "process" in (*a.lacks, *b.lacks) else ())}
    states = list(_exclusive(left, right, ignored))
    return Difference(a.name, lane, alike, _side(a, one, left), _side(b, other, right), states)


def _there(trace: Trace, meaning: Meaning | None) -> VM:
    """Return the state after a record, at the end where there is none."""
    timeline = Timeline(partial(records, trace), trace.start(), snapshot=trace.snapshot)
    return timeline.end() if meaning is None else timeline.at(meaning.told[0])


def _side(trace: Trace, meaning: Meaning | None, vm: VM) -> Side:
    seq, text = (None, "") if meaning is None else (meaning.told[0], line(meaning.told, meaning.command))
    return Side(trace.shown, seq, text, vm.to_json(), list(describe.state(vm)))


def _exclusive(a: VM, b: VM, ignored: set[str]) -> Iterator[str]:
    """Yield a line for each machine that cannot be in the same state on both sides."""
    everything = Subject.read("")
    cells = everything.cells(a), everything.cells(b)
    for machine, name in dict.fromkeys((*cells[0], *cells[1])):
        if machine in ignored:
            continue
        possible = [
            _possible(vm, machine, found.get((machine, name)))
            for vm, found in zip((a, b), cells, strict=True)
        ]
        if not set(possible[0]) & set(possible[1]):
            what = f"{machine} {name}" if name else machine
            yield f"{what}: {describe.names(possible[0])} in the first, {describe.names(possible[1])} in the second"


def _possible(vm: VM, machine: str, cell: Cell | None) -> tuple[str, ...]:
    """Return what a cell may be; what was never heard of is absent, or anything where the beginning was not seen."""
    watcher = vm.watcher(machine)
    if cell is None:
        return _settled(watcher.names(watcher.all if vm.late else watcher.initial))
    return _settled(vm.names(machine, cell))


def _settled(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names with one for jobs that are not there: never heard of, or gone."""
    return tuple(dict.fromkeys("null" if it == "undefined" else it for it in names))
