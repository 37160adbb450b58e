"""Bytes and file descriptors carried between two UNIX sockets, unchanged, while somebody looks on.

Descriptors leave with the very byte they came with. The kernel joins a piece without descriptors and one
with them into one read and does not say where the second began (Linux ``net/unix/af_unix.c``
``unix_stream_read_generic``). So every read is preceded by a look (``MSG_PEEK``), and where that shows
descriptors the bytes are read one by one, as QEMU itself reads them.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import select
import socket
from typing import TYPE_CHECKING, Final

from qemustate.qmp.sockets import Outbox

if TYPE_CHECKING:
    from collections.abc import Callable

#: How many bytes wait for a slow reader before nothing more is read for it.
HIGH_WATER: Final = 256 * 1024
_CHUNK: Final = 64 * 1024
#: Linux's SCM_MAX_FD: so many descriptors go with one message at most.
_MAX_FDS: Final = 253
_ITEM: Final = array.array("i").itemsize


def receive(sock: socket.socket, size: int = _CHUNK) -> list[tuple[bytes, list[int]]]:
    """Read what has arrived, about ``size`` bytes; descriptors belong to the first byte of their piece.

    No pieces at all are the end of the stream. Raises BlockingIOError where nothing has arrived.
    """
    seen, fds, cut = _receive(sock, size, socket.MSG_PEEK)
    close_all(fds)
    if not seen:
        return []
    if not fds and not cut:
        return [(sock.recv(len(seen)), [])]
    return _byte_by_byte(sock, len(seen))


def _byte_by_byte(sock: socket.socket, count: int) -> list[tuple[bytes, list[int]]]:
    pieces: list[tuple[bytearray, list[int]]] = []
    for _ in range(count):
        byte, fds, _ = _receive(sock, 1, 0)
        if fds or not pieces:
            pieces.append((bytearray(), fds))
        pieces[-1][0].extend(byte)
    return [(bytes(data), fds) for data, fds in pieces]


def _receive(sock: socket.socket, size: int, flags: int) -> tuple[bytes, list[int], bool]:
    room = socket.CMSG_LEN(_MAX_FDS * _ITEM)
    data, ancillary, answered, _ = sock.recvmsg(
        size, room, flags | socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
    )
    fds = array.array("i")
    for level, kind, held in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(held[: len(held) - len(held) % _ITEM])
    return data, list(fds), bool(answered & socket.MSG_CTRUNC)


def close_all(fds: list[int]) -> None:
    """Close descriptors that have been passed on, or were only looked at."""
    for fd in fds:
        os.close(fd)


class Way:
    """One direction: what ``source`` sends goes to ``sink``, and so does its end.

    ``look(data, fds)`` is called before any of these bytes go on; ``fds`` counts the descriptors that
    belong to the first of them. ``ended`` is done once the source has ended and all it sent is delivered.
    When the sink's other side is gone, what comes is still read and looked at, and then dropped.
    """

    def __init__(self, source: socket.socket, look: Callable[[bytes, int], None]) -> None:
        """Begin to read; without a sink, what comes is kept, up to a limit."""
        source.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._source, self._look = source, look
        self._sink: socket.socket | None = None
        self._outbox: Outbox | None = None
        self._early: list[tuple[bytes, list[int]]] = []  # came while there was no sink
        self._reading = True
        #: The source's end has been seen; True also says that it cannot be written to any more.
        self.source_ended: asyncio.Future[bool] = self._loop.create_future()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(source.fileno(), self._readable)

    def deliver_to(self, sink: socket.socket) -> None:
        """Set the sink, and send it what has come so far."""
        sink.setblocking(False)
        self._sink, self._outbox = sink, Outbox(sink)
        early, self._early = self._early, []
        for data, fds in early:
            self._forward(data, fds)
        self._settle()

    def stop(self) -> None:
        """Do no more, whatever is left."""
        self._loop.remove_reader(self._source.fileno())
        if self._sink is not None:
            self._loop.remove_writer(self._sink.fileno())
        if self._outbox is not None:
            self._outbox.drop()
        for _, fds in self._early:
            close_all(fds)
        self._early = []

    @property
    def _kept(self) -> int:
        return len(self._outbox) if self._outbox is not None else sum(len(data) for data, _ in self._early)

    def _readable(self) -> None:
        try:
            pieces = receive(self._source)
        except BlockingIOError:
            return
        except OSError:  # reset: as good as an end
            pieces = []
        for data, fds in pieces:
            try:
                self._look(data, len(fds))
            except Exception as error:  # noqa: BLE001  (whoever looks on must not stop what passes)
                self._loop.call_exception_handler(
                    {"message": "looking at relayed bytes failed", "exception": error}
                )
            self._forward(data, fds)
        if not pieces:
            self.source_ended.set_result(_is_gone(self._source))
        self._settle()

    def _forward(self, data: bytes, fds: list[int]) -> None:
        if self._outbox is None:
            self._early.append((data, fds))
            return
        self._outbox.send(data, fds)
        close_all(fds)

    def _writable(self) -> None:
        assert self._outbox is not None
        self._outbox.flush()
        self._settle()

    def _settle(self) -> None:
        """Read only while there is room, write only what is there, and pass on the end when all is out."""
        reading = not self.source_ended.done() and self._kept <= HIGH_WATER
        if reading != self._reading:
            self._reading = reading
            if reading:
                self._loop.add_reader(self._source.fileno(), self._readable)
            else:
                self._loop.remove_reader(self._source.fileno())
        if self._sink is None:
            return
        if self._kept:
            self._loop.add_writer(self._sink.fileno(), self._writable)
            return
        self._loop.remove_writer(self._sink.fileno())
        if self.source_ended.done() and not self.ended.done():
            # Half closed stays half closed: QEMU drops a client that has gone sooner than one that only stopped sending.
            how = socket.SHUT_RDWR if self.source_ended.result() else socket.SHUT_WR
            with contextlib.suppress(OSError):
                self._sink.shutdown(how)
            self.ended.set_result(None)


def _is_gone(sock: socket.socket) -> bool:
    """Say whether the other side has closed altogether, and not only stopped sending."""
    poller = select.poll()
    poller.register(sock, 0)
    return any(events & (select.POLLHUP | select.POLLERR) for _, events in poller.poll(0))
