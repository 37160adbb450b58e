"""A tap: stands between a runtime and QEMU's monitor, changes nothing, records everything.

The place where clients connect appears once QEMU's own socket takes a connection, and goes when QEMU goes, so
a client meets what it would meet without us. QEMU serves one client at a time and so do we: the next one
waits, connected and not greeted, until the first has left.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import TYPE_CHECKING

from qemustate.errors import MonitorUnavailable
from qemustate.events.redact import redact_argv
from qemustate.qmp.connection import Connection
from qemustate.qmp.messages import Command
from qemustate.qmp.sockets import open_socket
from qemustate.vm.listening import check_socket, listening
from qemustate.vm.peer import Peer, find
from qemustate.vm.process import ended
from qemustate.vm.relay import Way

if TYPE_CHECKING:
    from collections.abc import Callable

    from qemustate.vm.recorder import Scribe

#: Seconds between two looks whether QEMU's socket is there.
_RETRY = 0.05
#: How long (seconds) a QEMU that closed its monitor may take to end before it is taken for alive.
_LEAVING = 5.0


class _Link:
    """One connection to QEMU, from before a client comes until it has left."""

    def __init__(self, qemu: socket.socket, scribe: Scribe) -> None:
        self._qemu, self._scribe = qemu, scribe
        self._client: socket.socket | None = None
        self._session = Connection("client")
        self._fds = 0  # that came for a command not complete yet
        #: Who left first.
        self.left = "the tap"
        self.from_qemu = Way(qemu, self._saw_qemu)
        self.from_qemu.source_ended.add_done_callback(lambda _: self._note("QEMU"))
        self._from_client: Way | None = None

    def join(self, client: socket.socket) -> None:
        """Let a client in."""
        self._client = client
        self._from_client = Way(client, self._saw_client)
        self._from_client.source_ended.add_done_callback(lambda _: self._note("the client"))
        self._from_client.deliver_to(self._qemu)
        self.from_qemu.deliver_to(client)

    async def wait(self) -> None:
        """Wait until both directions have ended."""
        assert self._from_client is not None
        await asyncio.wait((self.from_qemu.ended, self._from_client.ended))

    def _note(self, who: str) -> None:
        if self.left == "the tap":
            self.left = who

    def close(self) -> None:
        """Close both sockets, and record what the end of the streams cut off."""
        for way in (self.from_qemu, self._from_client):
            if way is not None:
                way.stop()
        self._qemu.close()
        if self._client is not None:
            self._client.close()
        self._scribe.relayed(self._session.receive_eof().malformed, sender="qemu")

    def _saw_qemu(self, data: bytes, _fds: int) -> None:
        self._scribe.relayed(self._session.receive_data(data), sender="qemu")

    def _saw_client(self, data: bytes, fds: int) -> None:
        self._fds += fds
        messages = self._session.relay(data)
        if self._fds:
            # Descriptors came with the first byte of some piece: the first command complete since then is theirs.
            for index, message in enumerate(messages):
                if isinstance(message, Command):
                    messages[index] = Command(message.body, message.text, self._fds)
                    self._fds = 0
                    break
        self._scribe.relayed(messages, sender="client")


async def tap(
    listen_at: str | os.PathLike[str],
    connect_to: str | os.PathLike[str],
    scribe: Scribe,
    tell: Callable[[str], None],
    stop: asyncio.Event,
) -> None:
    """Serve clients at ``listen_at`` with the monitor at ``connect_to`` until QEMU goes or ``stop`` is set.

    ``tell`` is given sentences about what happens, for a person. Raises BadInput where nothing can listen.
    """
    at_work = asyncio.ensure_future(_serve(listen_at, connect_to, scribe, tell))
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait((at_work, stopping), return_when=asyncio.FIRST_COMPLETED)
    for task in (at_work, stopping):
        task.cancel()
    await asyncio.wait((at_work, stopping))
    if not at_work.cancelled():
        at_work.result()


async def _serve(
    listen_at: str | os.PathLike[str],
    connect_to: str | os.PathLike[str],
    scribe: Scribe,
    tell: Callable[[str], None],
) -> None:
    with listening(listen_at):
        pass  # found out now, not when QEMU is there
    qemu: socket.socket | None = await _first_connection(connect_to, tell)
    assert qemu is not None
    peer = find(qemu)
    if peer is not None:
        scribe.record("spawned", {**peer.spawned(), "argv": redact_argv(peer.argv)})
    try:
        with listening(listen_at) as listener:
            listener.setblocking(False)
            tell(f"clients of {os.fspath(listen_at)} are served by QEMU at {os.fspath(connect_to)}")
            while qemu is not None:
                scribe.record("opened", {"address": os.fspath(connect_to)})
                left = await _one_client(listener, qemu, scribe)
                qemu = None if await _is_over(left, peer, scribe) else await _again(connect_to)
            tell(f"QEMU at {os.fspath(connect_to)} has gone")
    finally:
        if qemu is not None:
            qemu.close()
        if peer is not None:
            os.close(peer.pidfd)


async def _first_connection(connect_to: str | os.PathLike[str], tell: Callable[[str], None]) -> socket.socket:
    told = False
    while True:
        with contextlib.suppress(MonitorUnavailable):
            return open_socket(os.fspath(connect_to))
        check_socket(connect_to)
        if not told:
            told = True
            tell(f"waiting for QEMU at {os.fspath(connect_to)}")
        await asyncio.sleep(_RETRY)


async def _one_client(listener: socket.socket, qemu: socket.socket, scribe: Scribe) -> str:
    """Serve the next client until it or QEMU leaves; return who did."""
    link = _Link(qemu, scribe)
    loop = asyncio.get_running_loop()
    accepting = asyncio.ensure_future(loop.sock_accept(listener))
    try:
        await asyncio.wait((accepting, link.from_qemu.source_ended), return_when=asyncio.FIRST_COMPLETED)
        if accepting.done():
            link.join(accepting.result()[0])
            await link.wait()
    finally:
        accepting.cancel()
        link.close()
        why = {"why": f"{link.left} closed the connection"}
        scribe.record("lost", why if link.left == "QEMU" else {**why, "by": "us"})
    return link.left


async def _is_over(left: str, peer: Peer | None, scribe: Scribe) -> bool:
    """Find out whether QEMU ended, where it closed the connection and its process can be watched."""
    if peer is None:
        await asyncio.sleep(_RETRY)
        return False
    waited = 0.0
    while not ended(peer.pidfd, 0):
        if waited >= (_LEAVING if left == "QEMU" else 0):
            return False
        await asyncio.sleep(_RETRY)
        waited += _RETRY
    scribe.record("exited", {})
    return True


async def _again(connect_to: str | os.PathLike[str]) -> socket.socket | None:
    """Connect for the next client; None when nobody listens any more."""
    while True:
        try:
            return open_socket(os.fspath(connect_to))
        except MonitorUnavailable as error:
            if not isinstance(error.__context__, BlockingIOError):  # others wait in the queue
                return None
        await asyncio.sleep(_RETRY)
