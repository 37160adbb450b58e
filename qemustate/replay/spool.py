"""A foreign trace made fit for moving about in: its records in a temporary log, from the second reading on.

A foreign file can only be read from its beginning; a log of ours from anywhere. Who reads a trace once pays nothing.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import weakref
from collections.abc import Iterator
from itertools import islice, takewhile
from pathlib import Path
from typing import Final

from qemustate.events.reader import LogReader
from qemustate.events.records import Record
from qemustate.events.writer import LogWriter, WriterState
from qemustate.replay.source import ForeignTrace, records

_BATCH: Final = 512


class Spool:
    """Yields a foreign trace's records from a number on, again and again; the log is gone with this.

    Where the log cannot be written (no room, no rights), the file is read again each time.
    """

    def __init__(self, trace: ForeignTrace) -> None:
        self._trace = trace
        self._readings = 0
        self._log: LogReader | None = None
        self._last = 0

    def __call__(self, start: int) -> Iterator[Record]:
        """Yield the records numbered ``start`` and above. Raises BadInput where the file cannot be read on."""
        self._readings += 1
        if self._readings == 2:
            self._write()
        if self._log is None:
            return records(self._trace, start)
        return takewhile(lambda record: record.seq <= self._last, self._log.records(start))

    def _write(self) -> None:
        try:
            folder = tempfile.mkdtemp(prefix="qemustate-")
        except OSError:
            return
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        path = Path(folder) / "log"
        entries = ((kind, body, time) for kind, time, body in self._trace.entries())
        name, extra = self._trace.name, self._trace.header_extra()
        # One segment: another one's head would be a record more, and shift the numbers.
        with LogWriter(path, name, "os", segment_bytes=sys.maxsize, header_extra=extra) as writer:
            while (batch := list(islice(entries, _BATCH))) and writer.state is not WriterState.FAILED:
                writer.append_many(batch)
            failed, self._last = writer.state is WriterState.FAILED, writer.seq
        if not failed:
            self._log = LogReader(path)
            for _ in self._log.batches():
                pass  # the reader remembers places to start from
