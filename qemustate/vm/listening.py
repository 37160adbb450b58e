"""A listening UNIX socket of ours: never somebody else's, never a leftover."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from qemustate.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The longest path of a UNIX socket in bytes: sun_path less its ending zero (Linux unix(7)).
LONGEST: Final = 107


def listen(path: str | os.PathLike[str], *, backlog: int = 1) -> socket.socket:
    """Return a socket that listens at ``path``, readable for its owner only.

    A socket file on which nobody listens any more is a leftover and is replaced. Raises BadInput where
    something else stands there, somebody listens, or no socket can be made.
    """
    path = Path(path)
    if len(os.fsencode(path)) > LONGEST:
        raise BadInput(
            str(path),
            expected=f"a socket path of at most {LONGEST} bytes",
            seen=f"{len(os.fsencode(path))} bytes",
        )
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _bind(sock, path)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


@contextlib.contextmanager
def listening(path: str | os.PathLike[str]) -> Iterator[socket.socket]:
    """Listen at ``path`` as :func:`listen` does; at the end nothing is left there."""
    with listen(path) as sock:
        try:
            yield sock
        finally:
            Path(path).unlink(missing_ok=True)


def check_socket(path: str | os.PathLike[str]) -> None:
    """Raise BadInput where ``path`` is there and is no socket."""
    path = Path(path)
    if path.exists() and not path.is_socket():
        raise BadInput(str(path), expected="a socket", seen="a file that is none")


def _bind(sock: socket.socket, path: Path) -> None:
    old = os.umask(0o177)
    try:
        try:
            sock.bind(str(path))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise BadInput(
                    str(path), expected="a place for a socket", seen=error.strerror or str(error)
                ) from error
            _remove_leftover(path)
            sock.bind(str(path))
    finally:
        os.umask(old)


def _remove_leftover(path: Path) -> None:
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise BadInput(str(path), expected="a place for a socket", seen="a file that is no socket")
    if is_served(path):
        raise BadInput(str(path), expected="a free socket path", seen="a socket in use")
    path.unlink()


def is_served(path: str | os.PathLike[str]) -> bool:
    """Say whether somebody listens at ``path``, as far as can be told: not where there is nothing, or a leftover."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # its queue is full, or it is not ours to use
    return True
