"""A subscriber's place in a live log.

Nothing is queued for a subscriber: it reads back from the log what was written, when it gets to it. However
many there are, and however slow, the writer and its memory do not notice.
"""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Final, Self

from qemustate.events.reader import LogReader
from qemustate.events.writer import WriterState

if TYPE_CHECKING:
    from qemustate.events.records import Record
    from qemustate.vm.recorder import Recorder

#: How many records are read at once.
_BATCH: Final = 512


class Cursor:
    """Iterates with ``async for`` over the records numbered ``start_seq`` and above, as they are written.

    Without a number it begins with the next one. It ends when the recorder has closed the log.
    A context manager; the recorder remembers it until its end.
    """

    def __init__(self, recorder: Recorder, start_seq: int | None = None) -> None:
        self._recorder = recorder
        self._reader = LogReader(recorder.writer.path)
        self._next = recorder.writer.seq + 1 if start_seq is None else start_seq
        self._read: deque[Record] = deque()
        self._grown = asyncio.Event()
        recorder.on_growth.append(self._grown.set)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._recorder.on_growth.remove(self._grown.set)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Record:
        """Return the next record, once it is there."""
        while not self._read:
            self._grown.clear()
            self._read.extend(islice(self._reader.records(self._next), _BATCH))
            if not self._read:
                if self._recorder.writer.state is WriterState.CLOSED:
                    raise StopAsyncIteration
                await self._grown.wait()
        record = self._read.popleft()
        self._next = record.seq + 1
        return record
