"""Writing a log: append, rotate, close; how durable a record is; what happens when the disk refuses.

Durability
    ``os``        a record is in the page cache when ``append`` returns: it survives our crash
    ``interval``  besides that a thread of the writer calls ``fdatasync``, at most one second behind
    ``each``      ``append`` returns after ``fdatasync``

When the log cannot be written (no space, I/O error), the VM comes first: ``append`` does not raise. The
writer's state is *failed*, records are dropped and counted, and every later append tries again, after
cutting off what was written of an item. The first record that can be written again is a ``gap`` with the
reason and the number of records lost. Only a record that is ``required`` raises RecordingFailed: one that
must be in the log before something is done, and then that is not done. A failed ``fdatasync`` is such a
failure too, since nobody can say what of the file has reached the disk.
"""

from __future__ import annotations

import enum
import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from qemustate.errors import BadInput, RecordingFailed
from qemustate.events.codec import encode, encode_all
from qemustate.events.format import (
    FORMAT_NAME,
    FORMAT_VERSION,
    Damage,
    Fault,
    is_torn_tail,
    segment_numbers,
    segment_path,
)
from qemustate.events.heads import damaged
from qemustate.events.lock import Lock
from qemustate.events.segment import Segment
from qemustate.events.syncer import Syncer, sync_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Durability = Literal["os", "interval", "each"]

#: A record to be: kind, body, time in microseconds since 1970.
Entry = tuple[str, dict[str, Any], int]

_APPEND: Final = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC


class WriterState(enum.Enum):
    """What a writer does with the next record."""

    #: Writes it.
    OPEN = "open"
    #: Tries to; the one before was lost.
    FAILED = "failed"
    #: Refuses it.
    CLOSED = "closed"


class LogWriter:
    """Appends to the log ``path``, which is created where it does not exist. For one thread at a time.

    ``vm`` names the VM of a new log ("vm" by default), ``header_extra`` is added to its ``segment`` items
    (``source``, ``lacks``). Of a log that exists, a torn tail is cut, and a ``gap`` says so. A segment that
    has reached ``segment_bytes`` is ``full``: the next append begins a new one, unless the caller has done
    so with a snapshot. ``on_state`` is called with the writer when it fails, when it works again,
    and when it cannot begin a new segment; always in the thread that appends.

    Raises LogBusy when the log has a writer, LogDamaged when it is damaged otherwise than by a crash,
    BadInput when it is that of another VM or the place is not writable, RecordingFailed when a new log
    cannot be begun.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        vm: str | None = None,
        durability: Durability = "interval",
        segment_bytes: int = 64 << 20,
        header_extra: dict[str, Any] | None = None,
        on_state: Callable[[LogWriter], None] | None = None,
    ) -> None:
        self.path = Path(path)
        self.missing = 0
        self.why = ""
        self.seq = 0
        self.segment = 1
        self._on_state = on_state
        self._segment_bytes = segment_bytes
        self._each = durability == "each"
        self._closed = self._failed = self._news = False
        # Set where the next append has more to do than to write: failed, full, closed.
        self._attention = False
        self._offset = self._running = self._time = 0
        self._fd = -1
        self._header: dict[str, Any] = {}
        self._lock = Lock(path)
        try:
            cut = self._open(vm, header_extra or {})
            self._syncer = Syncer(self._fd, self._sync_failed) if durability == "interval" else None
        except BaseException:
            self._lock.release()
            raise
        if cut is not None:
            self.append(
                "gap",
                {
                    "why": f"{cut.size} bytes cut at byte {cut.offset} of {Path(cut.path).name}: {cut.damage.value}"
                },
                self._time,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def state(self) -> WriterState:
        """Whether records are written; ``why`` and ``missing`` say more when they are not."""
        if self._closed:
            return WriterState.CLOSED
        return WriterState.FAILED if self._failed else WriterState.OPEN

    @property
    def full(self) -> bool:
        """The segment has reached its size: a good moment to rotate with a snapshot."""
        return self._offset >= self._limit

    def append(self, kind: str, body: dict[str, Any], time: int, *, required: bool = False) -> int:
        """Write one record and return its number; 0 when it was dropped.

        Raises RecordingFailed instead of dropping when ``required``, and when the writer is closed;
        BadInput when the body holds what cannot be kept, see :func:`qemustate.events.codec.encode`.
        """
        if self._attention:
            return self._append_slowly([(kind, body, time)], required=required)[-1]
        seq = self.seq + 1
        data, running = encode(seq, time, kind, body, self._running)
        if not self._write(data):
            self._lose(0 if required else 1)
            if required:
                raise self._refusal()
            return 0
        self.seq, self._running, self._time = seq, running, time
        return seq

    def append_many(self, entries: Iterable[Entry]) -> range:
        """Write records with one call to the system and return their numbers; empty when dropped."""
        entries = list(entries)
        if self._attention:
            numbers = self._append_slowly(entries, required=False)
            return range(numbers[0], numbers[-1] + 1) if numbers[-1] else range(0)
        first = self.seq + 1
        if not self._write_entries(entries):
            self._lose(len(entries))
            return range(0)
        return range(first, self.seq + 1)

    def sync(self) -> None:
        """Return when all records are on the disk. Raises RecordingFailed when they may not be."""
        if self._failed:
            raise self._refusal()
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            self._fail(error)
            raise self._refusal() from error

    def rotate(self, snapshot_state: Any = None, tables: str = "") -> bool:
        """Begin a new segment, headed by a snapshot when a state is given; say whether that was done.

        ``snapshot_state`` is plain data, the state after the last record; ``tables`` the tables' hash.
        When no new segment can be made, the old one is used for another ``segment_bytes``.
        """
        if self._failed or self._closed:
            return False
        header = {**self._header, "segment": self.segment + 1, "chain": self._running}
        head: list[Entry] = [("segment", header, self._time)]
        if snapshot_state is not None:
            head.append(("snapshot", {"state": snapshot_state, "tables": tables}, self._time))
        data, running = encode_all(head, self.seq, 0)
        try:
            fd = self._create(segment_path(self.path, self.segment + 1), data)
        except OSError as error:
            self._limit = self._offset + self._segment_bytes
            self.why = f"no new segment: {error.strerror}"
            self._report()
            return False
        self._leave_old(fd)
        self.segment += 1
        self.seq += len(head)
        self._running, self._offset = running, len(data)
        self._mind_size()
        return True

    def close(self) -> None:
        """Write ``closed``, sync (unless durability is ``os``), give up the lock. Does not raise."""
        if self._closed:
            return
        self.append("closed", {}, self._time)
        self.abandon()

    def abandon(self) -> None:
        """End without ``closed``, as a crash would, but for syncing and giving up the lock."""
        if self._closed:
            return
        self._closed = self._attention = True
        if self._syncer is not None:
            self._syncer.stop()
        os.close(self._fd)
        self._lock.release()

    # Opening

    def _open(self, vm: str | None, extra: dict[str, Any]) -> Fault | None:
        """Open the last segment, or begin the log; return what was cut off."""
        self._limit = self._segment_bytes
        numbers = segment_numbers(self.path)
        while numbers:
            file = segment_path(self.path, numbers[-1])
            with Segment(file) as segment:
                if not segment.claims_to_be_log():
                    raise damaged(
                        Fault(Damage.NOT_A_LOG, str(file), 0, segment.size(), "a log", "another file")
                    )
                first = last = None
                for items in segment.blocks():
                    first, last = first or items[0], items[-1]
            if segment.fault is not None and not is_torn_tail(segment.fault.damage):
                raise damaged(segment.fault)
            if first is not None and last is not None:
                self._check_vm(first[3], vm)
                self._header = first[3]
                self.segment, self.seq, self._time = numbers[-1], last[0], last[1]
                self._offset, self._running = segment.offset, segment.running
                self._fd = _reopen(file, segment.offset if segment.fault else None)
                self._mind_size()
                return segment.fault
            file.unlink()  # its writer died before its first item was whole
            numbers.pop()
        self._begin(vm or "vm", extra)
        return None

    def _check_vm(self, header: dict[str, Any], vm: str | None) -> None:
        if vm is not None and header.get("vm") != vm:
            raise BadInput(str(self.path), expected=f"the log of {vm}", seen=f"that of {header.get('vm')}")

    def _begin(self, vm: str, extra: dict[str, Any]) -> None:
        self._header = {
            "format": FORMAT_NAME,
            "version": FORMAT_VERSION,
            "vm": vm,
            "segment": 1,
            "chain": 0,
            **extra,
        }
        data, self._running = encode(1, 0, "segment", self._header, 0)
        try:
            self._fd = self._create(self.path, data)
        except OSError as error:
            raise RecordingFailed(f"{self.path}: {error.strerror}") from error
        self.seq, self._offset = 1, len(data)

    def _create(self, file: Path, data: bytes) -> int:
        """Make a file that begins with ``data``, never seen without it; leave none behind on failure. Raises OSError."""
        new = file.with_name(f"{file.name}.new")
        fd = os.open(new, _APPEND | os.O_CREAT | os.O_TRUNC, 0o640)
        try:
            _write_all(fd, data)
            if file.exists():  # only who holds the lock makes these
                raise FileExistsError(errno.EEXIST, "a file that is no part of this log")
            new.rename(file)
        except OSError:
            os.close(fd)
            new.unlink(missing_ok=True)
            raise
        try:
            if self._each:
                os.fdatasync(fd)
                sync_directory(file.parent)
        except OSError:
            os.close(fd)
            file.unlink()
            raise
        return fd

    def _leave_old(self, fd: int) -> None:
        if self._syncer is not None:
            self._syncer.switch(fd)
        else:
            os.close(self._fd)
        self._fd = fd

    # Writing

    def _write(self, data: bytes) -> bool:
        """Append whole items; on failure note it and return False."""
        try:
            written = os.write(self._fd, data)
            if written != len(data):
                _write_all(self._fd, data[written:])
            if self._each:
                os.fdatasync(self._fd)
        except OSError as error:
            self._fail(error)
            return False
        self._offset += len(data)
        if self._syncer is not None:
            self._syncer.touch()
        if self._offset >= self._limit:
            self._attention = True
        return True

    def _write_entries(self, entries: list[Entry]) -> bool:
        data, running = encode_all(entries, self.seq, self._running)
        if not self._write(data):
            return False
        self.seq += len(entries)
        self._running = running
        if entries:
            self._time = entries[-1][2]
        return True

    def _append_slowly(self, entries: list[Entry], *, required: bool) -> tuple[int, int]:
        """Append when there is more to do; return the first and last number, zeros when dropped."""
        if self._closed:
            raise RecordingFailed(f"{self.path}: the log is closed")
        if self._news:
            self._news = False
            self._report()
        if self._failed:
            return self._try_again(entries, required=required)
        if self.full:
            self.rotate()
        self._mind_size()
        first = self.seq + 1
        if self._write_entries(entries):
            return first, self.seq
        return self._drop(entries, required=required)

    def _try_again(self, entries: list[Entry], *, required: bool) -> tuple[int, int]:
        """Write a gap and the records behind it; failing that, drop them."""
        body: dict[str, Any] = {"why": self.why}
        if self.missing:
            body["missing"] = self.missing
        time = entries[0][2] if entries else self._time
        try:
            os.ftruncate(self._fd, self._offset)
        except OSError as error:
            self._fail(error)
            return self._drop(entries, required=required)
        first = self.seq + 2
        if not self._write_entries([("gap", body, time), *entries]):
            return self._drop(entries, required=required)
        self._failed, self.missing, self.why = False, 0, ""
        self._mind_size()
        self._report()
        return first, self.seq

    def _drop(self, entries: list[Entry], *, required: bool) -> tuple[int, int]:
        if required:
            raise self._refusal()
        self._lose(len(entries))
        return 0, 0

    # Failing

    def _fail(self, error: OSError) -> None:
        news = not self._failed
        self.why = f"the log could not be written: {error.strerror}"
        self._failed = self._attention = True
        if news:
            self._report()

    def _sync_failed(self, error: OSError) -> None:
        """Note, in the syncing thread, that nobody knows what is on the disk."""
        self.why = f"what was written before may not be on the disk: {error.strerror}"
        self._news = self._failed = self._attention = True

    def _lose(self, count: int) -> None:
        self.missing += count

    def _refusal(self) -> RecordingFailed:
        return RecordingFailed(f"{self.path}: {self.why}")

    def _report(self) -> None:
        if self._on_state is not None:
            self._on_state(self)

    def _mind_size(self) -> None:
        self._attention = self.full


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _reopen(file: Path, cut_at: int | None) -> int:
    """Open a segment for appending, cut where asked. Raises BadInput when that is not allowed."""
    try:
        fd = os.open(file, _APPEND)
        if cut_at is not None:
            os.ftruncate(fd, cut_at)
    except OSError as error:
        raise BadInput(str(file), expected="a log to append to", seen=str(error.strerror)) from error
    return fd
