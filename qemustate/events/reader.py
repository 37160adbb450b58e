"""Reading a log: in order, from a number or a time on, from a snapshot, and behind a live writer."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from qemustate.errors import BadInput
from qemustate.events import heads
from qemustate.events.codec import Item, to_record, upcast_items
from qemustate.events.format import Damage, Fault, is_torn_tail, lock_path, segment_numbers, segment_path
from qemustate.events.segment import Segment

if TYPE_CHECKING:
    import os
    import threading
    from collections.abc import Iterator

    from qemustate.events.records import Record

#: Seconds between two looks at a log that did not grow.
_POLL: Final = 0.05


class _Mark(NamedTuple):
    """A place between two items, from which reading can start."""

    seq: int | None
    number: int
    offset: int
    running: int
    #: Checksum of the segment before; None where it was not read.
    chain: int | None


class LogReader:
    """Reads the log ``path``.

    ``header`` is the body of the first ``segment`` item, ``first_seq`` its number. ``tail`` and ``closed``
    tell how the log ends, and are right once an iteration has reached the end: ``tail`` is what a crash
    left behind the last whole record, None where there is nothing; ``closed`` whether the last record says
    that the writer ended on purpose.

    Iterating yields every item as a record, ``segment``, ``snapshot`` and ``closed`` included. Damage
    raises LogDamaged, after every whole record before it was delivered. Raises BadInput where there is no
    log, LogDamaged where the file is none.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.tail: Fault | None = None
        self.closed = False
        self._marks: list[_Mark] = []
        self._times: list[tuple[int, int]] = []
        self._timed: _Mark | None = None
        numbers = segment_numbers(path)
        first = numbers[0] if numbers else 1
        head = heads.read_head(path, first)
        if not head:
            raise heads.damaged(_no_beginning(segment_path(path, first)))
        if first > 1 and (len(head) < 2 or head[1][2] != "snapshot"):
            raise heads.damaged(heads.missing_segment(path, first - 1, heads.NO_SNAPSHOT.format(first)))
        self.header: dict[str, Any] = head[0][3]
        self.first_seq = head[0][0]
        self._start = _Mark(self.first_seq, first, 0, 0, 0 if first == 1 else None)

    @property
    def vm(self) -> str:
        """The name of the VM whose log this is."""
        return str(self.header.get("vm", ""))

    def __iter__(self) -> Iterator[Record]:
        return self.records()

    def records(self, start_seq: int = 0) -> Iterator[Record]:
        """Yield the records numbered ``start_seq`` and above."""
        for items in self.batches(start_seq):
            yield from map(to_record, items)

    def batches(self, start_seq: int = 0) -> Iterator[list[Item]]:
        """Yield lists of items ``(seq, time, kind, body, crc)``, some hundred each, verified as blocks.

        The fast way through a log. Drop a list before asking for the next, or the garbage collector costs
        a third of the rate.
        """
        for items in self._walk(self._mark_for(start_seq)):
            yield items if items[0][0] >= start_seq else [item for item in items if item[0] >= start_seq]

    def follow(self, stop: threading.Event, start_seq: int = 0) -> Iterator[Record]:
        """Yield records as a writer appends them, across rotation, until ``stop`` is set or the log closed.

        A log that was opened again is not closed, though nothing may be written to it yet.
        """
        here, closed = self._mark_for(start_seq), False
        while not stop.is_set():
            held, grown = lock_path(self.path).exists(), False
            for items in self._walk(here):
                grown = True
                yield from (to_record(item) for item in items if item[0] >= start_seq)
            here = self._end
            closed = self.closed if grown else closed
            if closed and not held:
                return
            if not grown:
                stop.wait(_POLL)

    def seq_at(self, time: int) -> int:
        """Return the number of the first record seen at ``time`` (microseconds since 1970) or later.

        One more than the last record's number where all were seen before. Reads the log to its end once.
        """
        latest = self._times[-1][1] if self._times else 0
        for items in self._walk(self._timed or self._start):
            latest = max(latest, *(item[1] for item in items))
            self._times.append((items[0][0], latest))
        self._timed = self._end
        at = bisect_left(self._times, time, key=lambda entry: entry[1])
        if at < len(self._times):
            for record in self.records(self._times[at][0]):
                if record.time >= time:
                    return record.seq
        return self._end.seq or self.first_seq

    def nearest_snapshot(self, seq: int) -> Record | None:
        """Return the last snapshot numbered ``seq`` or below; its state is that after the record before it."""
        for number in reversed(segment_numbers(self.path)):
            head = heads.read_head(self.path, number)
            if len(head) == 2 and head[1][2] == "snapshot" and head[1][0] <= seq:
                return to_record(upcast_items([head[1]])[0])
        return None

    def _mark_for(self, seq: int) -> _Mark:
        """Return the last place known that is not behind record ``seq``."""
        at = bisect_right(self._marks, seq, key=attrgetter("seq"))
        known = self._marks[at - 1] if at else self._start
        if seq <= self.first_seq:
            return self._start
        for number in reversed(segment_numbers(self.path)):
            if number <= known.number:
                break
            try:
                head = heads.read_head(self.path, number)
            except BadInput:
                continue  # whoever reads on from an earlier place will meet it
            if head and head[0][0] <= seq:
                return _Mark(head[0][0], number, 0, 0, None)
        return known

    def _walk(self, here: _Mark) -> Iterator[list[Item]]:
        """Yield blocks from ``here`` to the end of the log; where that is stands in ``_end`` afterwards."""
        self.tail, self.closed = None, False
        last: Item | None = None
        while True:
            # Listed before reading: a writer completes a segment before it creates the next.
            later = [number for number in segment_numbers(self.path) if number > here.number]
            with Segment(
                segment_path(self.path, here.number), offset=here.offset, running=here.running, seq=here.seq
            ) as segment:
                for items in self._checked(segment, here):
                    last = items[-1]
                    yield upcast_items(items)
                fault = segment.fault
                self._end = _Mark(segment.seq, here.number, segment.offset, segment.running, here.chain)
            if fault is not None and (later or not is_torn_tail(fault.damage)):
                raise heads.damaged(heads.not_at_the_end(fault) if later else fault)
            if not later:
                self.tail = fault
                self.closed = fault is None and last is not None and last[2] == "closed"
                return
            here = _Mark(self._end.seq, here.number + 1, 0, 0, self._end.running)
            if later[0] != here.number:
                raise heads.damaged(
                    heads.missing_segment(self.path, here.number, heads.NOT_NEXT.format(later[0]))
                )

    def _checked(self, segment: Segment, here: _Mark) -> Iterator[list[Item]]:
        """Yield the blocks of one segment; remember where they begin, check its first item."""
        before = _Mark(segment.seq, here.number, segment.offset, segment.running, here.chain)
        for items in segment.blocks():
            if before.offset == 0:
                fault = heads.check_segment_item(items[0], str(segment.path), here.number, here.chain)
                if fault is not None:
                    raise heads.damaged(fault)
                before = before._replace(seq=items[0][0])
            self._remember(before)
            yield items
            before = _Mark(segment.seq, here.number, segment.offset, segment.running, here.chain)

    def _remember(self, mark: _Mark) -> None:
        marks, seq = self._marks, mark.seq or 0
        if not marks or (marks[-1].seq or 0) < seq:
            marks.append(mark)
            return
        at = bisect_left(marks, seq, key=attrgetter("seq"))
        if marks[at].seq != seq:
            marks.insert(at, mark)


def _no_beginning(file: Path) -> Fault:
    """Say what is wrong with a first segment that has no whole item."""
    size = file.stat().st_size
    damage = Damage.TORN_TAIL if size else Damage.EMPTY
    return Fault(damage, str(file), 0, size, "a segment item", f"{size} bytes")
