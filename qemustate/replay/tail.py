"""Following a trace as it grows: our log through its reader, a foreign file by waiting at its end."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path, PosixPath
from typing import IO, Any, Final, NamedTuple, Self, cast

from qemustate.errors import BadInput
from qemustate.events.format import FORMAT_NAME, FORMAT_VERSION, looks_like_log
from qemustate.events.importers import formats
from qemustate.events.importers.conversation import Entry, Skipped
from qemustate.events.importers.files import TraceFile, is_compressed
from qemustate.events.records import Record
from qemustate.replay.source import ForeignTrace, LogTrace, Source, Trace
from qemustate.statemachine.state import VM

#: Seconds between two looks at a file that did not grow.
_POLL: Final = 0.1


class Followed(NamedTuple):
    """A trace that grows: the state of a VM before its first record, and the records with their VM's name."""

    start: Callable[[str], VM]
    records: Iterator[tuple[str, Record]]


def follow(path: str, vm: str | None, stop: threading.Event) -> Followed:
    """Return the records of a trace, or of its VM of that name: all there are, then those that come, until ``stop`` is set.

    Records of a log end too when its writer closes it. A foreign file that is renamed, as logrotate does, is read to
    its end, and on in the file that takes its name. Raises BadInput where the path is no file that can be followed,
    or tells of several VMs, ``vm`` names none of them, and in this format more can't be told apart as they come; and
    while following, where the file was cut (logrotate's ``copytruncate``): what stood there may not have been read.
    """
    grows = Path(path).is_file() and not is_compressed(_head(path))
    if grows and not looks_like_log(TraceFile.at(path).head()):
        growth = _Growth(path, stop)
        growing = _Growing(path)
        growing.growth = growth
        file = TraceFile(growing, path)
        form = formats.recognise(file)
        entries = None if form.follow is None else form.follow(file, Skipped())
        if entries is not None:
            growth.waits = growth.opened + 1
            return Followed(VM, _numbered(form.name, entries, vm))
        traces = [ForeignTrace(form, found, path) for found in form.find([file])]
        trace = _one(path, [it for it in traces if vm in (None, it.name)] or [*Source(path).vm(vm)])
        assert isinstance(trace, ForeignTrace)
        records = _records(trace, growth)
    else:
        chosen = _one(path, Source(path).vm(vm))
        if not grows or not isinstance(chosen, LogTrace):
            raise BadInput(
                path, expected="a file that grows", seen="a pipe, a directory, or a compressed file"
            )
        trace, records = chosen, chosen.follow(stop)
    name = trace.name
    return Followed(lambda _: trace.start(), ((name, record) for record in records))


def _numbered(
    form: str, entries: Iterator[tuple[str, Entry]], vm: str | None
) -> Iterator[tuple[str, Record]]:
    """Yield the records that entries become, those of each VM with their own numbers."""
    last: dict[str, int] = {}
    for name, (kind, time, body) in entries:
        if vm not in (None, name):
            continue
        if name not in last:
            last[name] = 1
            yield name, Record(1, 0, "segment", _head_of(name, {"source": form, "lacks": []}))
        last[name] += 1
        yield name, Record(last[name], time, kind, body)


def _one(path: str, traces: list[Trace]) -> Trace:
    if len(traces) != 1:
        raise BadInput(path, expected="one VM to follow (--vm)", seen=", ".join(it.name for it in traces))
    return traces[0]


def _head(path: str) -> bytes:
    if not Path(path).is_file():
        return b""
    with Path(path).open("rb") as file:
        return file.read(6)


class _Growth:
    """Counts how often a file is opened, so that the last pass of a reading, and only that, waits at the end."""

    def __init__(self, path: str, stop: threading.Event) -> None:
        self._path, self._stop = path, stop
        self.opened = 0
        #: Which opening waits; 0: none.
        self.waits = 0

    def open(self, raw: IO[bytes]) -> IO[bytes]:
        """Return the file as it is to be read."""
        self.opened += 1
        return cast("IO[bytes]", _Waiting(self._path, raw, self._stop)) if self.opened == self.waits else raw


class _Growing(PosixPath):
    """The path of a file that may grow while it is read."""

    growth: _Growth | None = None

    def open(self, *args: Any, **named: Any) -> Any:
        """Open the file."""
        raw = super().open(*args, **named)
        return raw if self.growth is None else self.growth.open(cast("IO[bytes]", raw))


class _Waiting:
    """A file whose end is not the end."""

    def __init__(self, path: str, raw: IO[bytes], stop: threading.Event) -> None:
        self._path, self._raw, self._stop = path, raw, stop
        self.seek, self.tell = raw.seek, raw.tell

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes; wait for them at the end of the file. Raises BadInput where it was cut."""
        while not (data := self._raw.read(size)) and not self._stop.wait(_POLL):
            self._turn()
        return data

    def _turn(self) -> None:
        """Go on in the file that has taken this one's name, once somebody writes there."""
        here = os.fstat(self._raw.fileno())
        if here.st_size < self._raw.tell():
            seen = f"it was cut to {here.st_size} bytes, which may have lost lines: follow it anew"
            raise BadInput(self._path, expected="a file that grows", seen=seen)
        with contextlib.suppress(FileNotFoundError):
            there = Path(self._path).stat()
            # What was written before the writer turned is in the old file by now.
            if there.st_size and not os.path.samestat(here, there) and here.st_size == self._raw.tell():
                self._raw.close()
                self._raw = Path(self._path).open("rb")  # noqa: SIM115 (closed with this)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._raw.close()


def _records(trace: ForeignTrace, growth: _Growth) -> Iterator[Record]:
    """Read once to learn in how many passes this format reads a file, then again with the last one waiting."""
    growth.opened = 0
    try:
        for _ in trace.entries():
            pass
    except BadInput:
        if growth.opened == 0:
            raise  # it cannot be read; that there is no message yet is no fault
    growth.opened, growth.waits = 0, growth.opened
    trace.skipped = Skipped()
    yield Record(1, 0, "segment", _head_of(trace.name, trace.header_extra()))
    for seq, (kind, time, body) in enumerate(trace.entries(), 2):
        yield Record(seq, time, kind, body)


def _head_of(name: str, extra: dict[str, Any]) -> dict[str, Any]:
    return {"format": FORMAT_NAME, "version": FORMAT_VERSION, "vm": name, "segment": 1, "chain": 0, **extra}
