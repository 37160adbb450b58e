"""The thread behind durability ``interval``: what was written is on the disk within a second."""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds a write may wait for company; with the disk's own time it stays under a second.
_WAIT: Final = 0.5


class Syncer:
    """Calls ``fdatasync`` on a file some time after it was written to; its caller never waits.

    ``on_error`` is called in the thread when the disk refuses.
    """

    def __init__(self, fd: int, on_error: Callable[[OSError], None]) -> None:
        self._fd = fd
        self._on_error = on_error
        self._dirty = False
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._retired: deque[int] = deque()
        self._thread: threading.Thread | None = None

    def touch(self) -> None:
        """Note that something was written. Cheap after the first time."""
        if not self._dirty:
            self._dirty = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="qemustate-sync", daemon=True)
                self._thread.start()
            self._wake.set()

    def switch(self, fd: int) -> None:
        """Look after ``fd`` from now on; the file before it is synced once more, then closed."""
        self._retired.append(self._fd)
        self._fd = fd
        self._dirty = False
        self.touch()

    def stop(self) -> None:
        """Sync what is left, close what was retired, end the thread. The current file stays open."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        stopping = False
        while not stopping:
            self._wake.wait()
            self._stop.wait(_WAIT)
            # In this order: a write after the flag is cleared wakes us again, one before it is synced below; and
            # so with the end, which is asked for before we are woken for it.
            self._wake.clear()
            stopping = self._stop.is_set()
            self._dirty = False
            self._sync_all()

    def _sync_all(self) -> None:
        current = self._fd
        while self._retired:
            fd = self._retired.popleft()
            self._sync(fd)
            os.close(fd)
        if current == self._fd:
            self._sync(current)

    def _sync(self, fd: int) -> None:
        try:
            os.fdatasync(fd)
        except OSError as error:
            self._on_error(error)


def sync_directory(path: str | os.PathLike[str]) -> None:
    """Make a new file's name in directory ``path`` durable. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
