"""Following a trace as it grows: our log through its reader, a foreign file by waiting at its end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path, PosixPath
from typing import IO, Any, Final, Self, cast

from qemustate.errors import BadInput
from qemustate.events.format import FORMAT_NAME, FORMAT_VERSION
from qemustate.events.importers import formats
from qemustate.events.importers.conversation import Skipped
from qemustate.events.importers.files import TraceFile, is_compressed
from qemustate.events.records import Record
from qemustate.replay.source import ForeignTrace, LogTrace, Source, Trace

#: Seconds between two looks at a file that did not grow.
_POLL: Final = 0.1


def follow(path: str, vm: str | None, stop: threading.Event) -> tuple[Trace, Iterator[Record]]:
    """Return one VM's trace and its records: all there are, then those that come, until ``stop`` is set.

    Records of a log end too when its writer closes it. A foreign file is followed as the file it is: what is
    renamed away or cut is not noticed. Raises BadInput where the path is no file that can be followed, or tells of
    several VMs and ``vm`` names none of them.
    """
    chosen = _one(path, Source(path).vm(vm))
    if isinstance(chosen, LogTrace):
        if chosen.shown == "-" or is_compressed(_head(path)):
            raise BadInput(path, expected="a file that grows", seen="a pipe, or a compressed file")
        return chosen, chosen.follow(stop)
    if not Path(path).is_file() or is_compressed(_head(path)):
        raise BadInput(path, expected="a file that grows", seen="a pipe, a directory, or a compressed file")
    growing = _Growing(path)
    growing.growth = growth = _Growth(stop)
    file = TraceFile(growing, path)
    form = formats.recognise(file)
    traces = [ForeignTrace(form, found, path) for found in form.find([file])]
    trace = next(it for it in traces if it.name == chosen.name)
    return trace, _records(trace, growth)


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

    def __init__(self, stop: threading.Event) -> None:
        self.stop = stop
        self.opened = 0
        #: Which opening waits; 0: none.
        self.waits = 0

    def open(self, raw: IO[bytes]) -> IO[bytes]:
        """Return the file as it is to be read."""
        self.opened += 1
        return cast("IO[bytes]", _Waiting(raw, self.stop)) if self.opened == self.waits else raw


class _Growing(PosixPath):
    """The path of a file that may grow while it is read."""

    growth: _Growth | None = None

    def open(self, *args: Any, **named: Any) -> Any:
        """Open the file."""
        raw = super().open(*args, **named)
        return raw if self.growth is None else self.growth.open(cast("IO[bytes]", raw))


class _Waiting:
    """A file whose end is not the end."""

    def __init__(self, raw: IO[bytes], stop: threading.Event) -> None:
        self._raw, self._stop = raw, stop
        self.seek, self.tell = raw.seek, raw.tell

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes; wait for them at the end of the file."""
        while not (data := self._raw.read(size)) and not self._stop.wait(_POLL):
            pass
        return data

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
    head = {"format": FORMAT_NAME, "version": FORMAT_VERSION, "vm": trace.name, "segment": 1, "chain": 0}
    yield Record(1, 0, "segment", {**head, **trace.header_extra()})
    for seq, (kind, time, body) in enumerate(trace.entries(), 2):
        yield Record(seq, time, kind, body)
