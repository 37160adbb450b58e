"""What a damaged log still holds: verify tells, repair keeps it."""

from __future__ import annotations

import enum
import os
from typing import TYPE_CHECKING, Any, Final

import msgspec

from qemustate.errors import BadInput
from qemustate.events import heads
from qemustate.events.codec import Item, encode
from qemustate.events.format import (
    FORMAT_NAME,
    FORMAT_VERSION,
    Damage,
    Fault,
    is_torn_tail,
    segment_numbers,
    segment_path,
)
from qemustate.events.segment import Segment
from qemustate.events.writer import LogWriter

if TYPE_CHECKING:
    from collections.abc import Iterator

#: More numbers missing in a row than any log of ours could have held: then the numbers are wrong.
_TOO_MANY: Final = 10_000_000


class Mode(enum.Enum):
    """How to repair."""

    #: Cut what a crash left behind the last whole record, in place. Nothing else may be wrong.
    CUT_TAIL = "cut-tail"
    #: Write a new log of all records that verify; each number that was lost becomes a ``gap``.
    SKIP_DAMAGE = "skip-damage"


class Report(msgspec.Struct):
    """What a log holds. ``records`` are those that verify, ``lost`` the numbers missing between them."""

    path: str
    vm: str = ""
    first_seq: int = 0
    last_seq: int = 0
    records: int = 0
    segments: int = 0
    bytes: int = 0
    closed: bool = False
    lost: int = 0
    faults: list[Fault] = []

    @property
    def sound(self) -> bool:
        """Nothing is wrong. A log that is not closed may well be sound."""
        return not self.faults

    @property
    def torn(self) -> bool:
        """Nothing is wrong but what a crash explains: ``cut-tail`` repairs it."""
        return len(self.faults) == 1 and is_torn_tail(self.faults[0].damage)


def verify(path: str | os.PathLike[str]) -> Report:
    """Read the whole log, going on behind every damage. Raises BadInput where there is none, or no log."""
    report = Report(str(path))
    ended = ""
    for found in _survey(path):
        if isinstance(found, Fault):
            report.faults.append(found)
            ended = ""
            continue
        report.records += len(found)
        report.first_seq = report.first_seq or found[0][0]
        report.lost += max(0, found[0][0] - report.last_seq - 1) if report.last_seq else 0
        report.last_seq = max(report.last_seq, found[-1][0])
        if found[0][2] == "segment" and not report.vm:
            report.vm = str(found[0][3].get("vm", ""))
        ended = found[-1][2]
    numbers = segment_numbers(path)
    report.segments = len(numbers)
    report.bytes = sum(segment_path(path, number).stat().st_size for number in numbers)
    report.closed = ended == "closed"
    return report


def repair(path: str | os.PathLike[str], mode: Mode, output: str | os.PathLike[str] | None = None) -> Report:
    """Repair a log in the way of ``mode``; return the report of how it was before.

    ``cut-tail`` changes the log, and adds a ``gap`` that says what was cut. ``skip-damage`` leaves it, and
    writes another, named ``output``, which must not exist. Raises LogDamaged when cutting the tail would
    not do, LogBusy when a writer is at work, BadInput as verify does.
    """
    report = verify(path)
    if mode is Mode.CUT_TAIL:
        if report.sound:
            return report
        if not report.torn:
            raise heads.damaged(report.faults[0])
        LogWriter(path, durability="each").abandon()
        return report
    if output is None or segment_numbers(output):
        raise BadInput(
            str(output or path), expected="a new file for the repaired log", seen="none or one that exists"
        )
    copy = _Copy(output, report.vm)
    for found in _survey(path):
        if isinstance(found, Fault):
            copy.why = copy.why or str(found)
        else:
            copy.add(found)
    copy.finish()
    return report


def _survey(path: str | os.PathLike[str]) -> Iterator[list[Item] | Fault]:
    """Yield what is found: verified items, and faults between them."""
    numbers = segment_numbers(path)
    if not numbers:
        raise BadInput(str(path), expected="a log", seen="no such file")
    if numbers[0] > 1 and not _begins_with_snapshot(path, numbers[0]):
        yield heads.missing_segment(path, numbers[0] - 1, heads.NO_SNAPSHOT.format(numbers[0]))
    seq: int | None = None
    chain = 0 if numbers[0] == 1 else None
    before = numbers[0] - 1
    for number in numbers:
        if number != before + 1:
            yield heads.missing_segment(path, before + 1, heads.NOT_NEXT.format(number))
            seq = chain = None
        with Segment(segment_path(path, number), seq=seq) as segment:
            sound = True
            for found in _survey_segment(segment, number, chain, last=number == numbers[-1]):
                sound = not isinstance(found, Fault)
                yield found
            # Of a segment whose end is damaged, what follows cannot be known.
            seq, chain = (segment.seq, segment.running) if sound else (None, None)
        before = number


def _begins_with_snapshot(path: str | os.PathLike[str], number: int) -> bool:
    try:
        head = heads.read_head(path, number)
    except BadInput:
        return False
    return len(head) == 2 and head[1][2] == "snapshot"


def _survey_segment(
    segment: Segment, number: int, chain: int | None, *, last: bool
) -> Iterator[list[Item] | Fault]:
    size = segment.size()
    if size == 0 and number == 1:
        yield Fault(Damage.EMPTY, str(segment.path), 0, 0, "a log", "an empty file")
        return
    claims = segment.claims_to_be_log()
    at_head = True
    while True:
        for items in segment.blocks():
            if at_head:
                fault = heads.check_segment_item(items[0], str(segment.path), number, chain)
                if fault is not None:
                    yield fault
            at_head = False
            yield items
        fault = segment.fault
        if fault is None:
            return
        behind = fault.offset + fault.size < size
        if at_head and not claims and not behind:
            raise heads.damaged(
                Fault(Damage.NOT_A_LOG, str(segment.path), 0, size, "a segment of a log", "other bytes")
            )
        at_head = False
        yield fault if last and not behind else heads.not_at_the_end(fault)
        if not behind:
            return
        segment.skip(fault.size)


class _Copy:
    """Writes the items of a damaged log to a new one, under their old numbers.

    ``why`` is what was found wrong since the last item.
    """

    def __init__(self, path: str | os.PathLike[str], vm: str) -> None:
        self.why = ""
        self._path = path
        self._vm = vm
        self._number = 0
        self._seq = self._time = self._running = 0
        self._out = bytearray()

    def add(self, items: list[Item]) -> None:
        """Write items; what is missing before them as gaps, what is there twice not again."""
        for seq, time, kind, body, _ in items:
            if self._number and seq <= self._seq:
                continue
            self._time = time
            if self._number == 0:
                self._seq = seq - 1 if kind == "segment" else 0
                if kind != "segment":
                    self._begin_segment(
                        {"format": FORMAT_NAME, "version": FORMAT_VERSION, "vm": self._vm or "vm"}
                    )
            self._fill(seq)
            if kind == "segment":
                self._begin_segment(body)
            else:
                self._put(kind, body)
        self._flush()

    def finish(self) -> None:
        """Write a gap for damage at the end, and make all of it durable."""
        if self._number == 0:
            raise BadInput(str(self._path), expected="records to keep", seen="none")
        if self.why:
            self._put("gap", {"why": self.why})
        self._flush(sync=True)

    def _fill(self, seq: int) -> None:
        first, lost = self._seq + 1, seq - self._seq - 1
        if lost > _TOO_MANY:
            raise BadInput(str(self._path), expected=f"record {first}", seen=f"record {seq}")
        if lost:
            self._put("gap", {"why": self.why or "records are missing", "missing": lost})
            for _ in range(lost - 1):
                self._put("gap", {"why": f"lost with record {first}"})
        self.why = ""

    def _begin_segment(self, body: dict[str, Any]) -> None:
        self._flush(sync=True)
        chain, self._running = self._running, 0
        self._number += 1
        self._put("segment", {**body, "segment": self._number, "chain": chain})

    def _put(self, kind: str, body: dict[str, Any]) -> None:
        self._seq += 1
        data, self._running = encode(self._seq, self._time, kind, body, self._running)
        self._out += data

    def _flush(self, *, sync: bool = False) -> None:
        if not self._out:
            return
        with segment_path(self._path, self._number).open("ab") as file:
            file.write(self._out)
            file.flush()
            if sync:
                os.fdatasync(file.fileno())
        self._out.clear()
