"""What both drivers do with a socket: open a monitor's, and send bytes with file descriptors."""

from __future__ import annotations

import os
import socket
from collections import deque
from typing import TYPE_CHECKING

from qemustate.errors import LocalProtocolError, MonitorUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def open_socket(address: str | Path) -> socket.socket:
    """Connect to a UNIX socket, without waiting. Raises MonitorUnavailable when that is not possible at once.

    A monitor serves one client at a time: the next one gets a connection, but no greeting, and the one after
    that finds the queue full.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        sock.connect(str(address))
    except BlockingIOError:
        sock.close()
        raise MonitorUnavailable(f"{address}: held by another client, and others wait for it") from None
    except OSError as error:
        sock.close()
        raise MonitorUnavailable(f"{address}: {error.strerror or error}") from None
    return sock


def check_descriptors(command: str, fds: Sequence[int]) -> None:
    """Raise LocalProtocolError where one of these is no open descriptor of this process: no command could go with it."""
    for fd in fds:
        try:
            os.fstat(fd)
        except OSError as error:
            raise LocalProtocolError(f"{command}: not sent, descriptor {fd}: {error.strerror}") from None


class Outbox:
    """Sends in order, without blocking; what the socket does not take waits here. ``len`` counts its bytes.

    When the peer is gone everything is dropped: the reading side sees that end, and says so.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._queue: deque[tuple[memoryview, list[int]]] = deque()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def send(self, data: bytes, fds: Sequence[int]) -> None:
        """Send, or keep for ``flush``. Descriptors go with the first byte, and may be closed after this call."""
        sent = 0
        if not self._queue:
            try:
                sent = self._send(data, fds)
            except BlockingIOError:
                pass
            except OSError:
                return
        if sent < len(data):
            self._queue.append((memoryview(data)[sent:], [] if sent else [os.dup(fd) for fd in fds]))
            self._size += len(data) - sent

    def flush(self) -> None:
        """Send what the socket takes now."""
        try:
            while self._queue:
                data, fds = self._queue[0]
                sent = self._send(data, fds)
                _close(fds)
                self._size -= sent
                self._queue[0] = (data[sent:], [])
                if sent == len(data):
                    self._queue.popleft()
        except BlockingIOError:
            pass
        except OSError:
            self.drop()

    def _send(self, data: bytes | memoryview, fds: Sequence[int]) -> int:
        if fds:
            return socket.send_fds(self._socket, [data], fds, socket.MSG_DONTWAIT)
        return self._socket.send(data, socket.MSG_DONTWAIT)

    def drop(self) -> None:
        """Forget everything."""
        for _, fds in self._queue:
            _close(fds)
        self._queue.clear()
        self._size = 0


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
