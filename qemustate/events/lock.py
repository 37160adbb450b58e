"""One writer a log: an exclusive ``flock`` on a file beside it, which exists only while it is held."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

from qemustate.errors import BadInput, LogBusy
from qemustate.events.format import lock_path

if TYPE_CHECKING:
    from pathlib import Path


class Lock:
    """Holds the lock of the log ``path`` until released. Raises LogBusy when another writer does."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = lock_path(path)
        while True:
            self._fd = _open(self.path)
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip() or "not known"
                os.close(self._fd)
                raise LogBusy(str(path), expected="no other writer", seen=f"one, process {holder}") from None
            if _is_same_file(self._fd, self.path):
                break
            os.close(self._fd)  # its holder has removed it between our open and our lock
        with contextlib.suppress(OSError):  # who holds it is a courtesy; a full disk must not stop us
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, b"%d\n" % os.getpid(), 0)

    def release(self) -> None:
        """Give the lock up; the file goes first, while no one else can hold it."""
        self.path.unlink(missing_ok=True)
        os.close(self._fd)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise BadInput(str(path), expected="a place for a log", seen=str(error.strerror)) from error


def _is_same_file(fd: int, path: Path) -> bool:
    try:
        named = path.stat()
    except FileNotFoundError:
        return False
    ours = os.fstat(fd)
    return (named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino)
