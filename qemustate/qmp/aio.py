"""QMP over asyncio: one socket, one loop reader, one future per command.

The reader always drains: what QEMU sends is read, whoever else is slow, because QEMU keeps what is not read
in memory without limit. Only commands wait: for room when more than 64 KiB are unsent, and for the answer
to an earlier command that carries descriptors.

``on_messages`` is called with every message, in wire order: with a command before its first byte is
written, with what was received before anything that waits for it wakes. It must not raise for what was
received; raising for a command keeps that command from being sent.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any, Final, Self

from qemustate.errors import CommandRefused, MonitorUnavailable, OutcomeUnknown
from qemustate.qmp.connection import Connection, Ended, Incoming
from qemustate.qmp.messages import Command, Event, Failure, Greeting, Reply
from qemustate.qmp.sockets import Outbox, check_descriptors, open_socket

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

#: How many unsent bytes make further commands wait.
HIGH_WATER: Final = 64 * 1024

#: How many bytes are read at once: below malloc's threshold for mapping memory anew each time.
_CHUNK: Final = 64 * 1024


def _pass(_: object) -> None:
    """Look away."""


class Client:
    """A monitor connection on the running loop; ``connect`` makes one that is ready for commands.

    ``connection`` is the session behind it: its phase, greeting, unanswered commands.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        on_messages: Callable[[Sequence[Incoming]], None] = _pass,
        on_end: Callable[[Ended], None] = _pass,
        first_id: int = 1,
    ) -> None:
        """Take over a connected stream socket and begin to read from it."""
        sock.setblocking(False)
        self.connection = Connection("client", first_id=first_id)
        self._socket = sock
        self._on_messages, self._on_end = on_messages, on_end
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[str, asyncio.Future[Reply]] = {}  # by the command's id
        self._outbox = Outbox(sock)
        self._stalled: list[asyncio.Future[None]] = []  # commands that wait for room or for descriptors
        self._greeted: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[Ended] = self._loop.create_future()
        self._loop.add_reader(sock.fileno(), self._readable)

    @classmethod
    async def connect(
        cls,
        address: str | Path | socket.socket,
        *,
        on_messages: Callable[[Sequence[Incoming]], None] = _pass,
        on_end: Callable[[Ended], None] = _pass,
        oob: bool = False,
        first_id: int = 1,
        timeout: float | None = None,  # noqa: ASYNC109 - says what was missing when it ran out
    ) -> Self:
        """Connect to a monitor's UNIX socket, or take a connected socket, and negotiate.

        ``oob`` enables out-of-band execution; ``timeout`` in seconds bounds the whole. Raises
        MonitorUnavailable: nobody listens, no greeting (another client holds the monitor), closed.
        """
        sock = address if isinstance(address, socket.socket) else open_socket(address)
        client = cls(sock, on_messages=on_messages, on_end=on_end, first_id=first_id)
        await client.negotiate(oob=oob, timeout=timeout)
        return client

    async def negotiate(
        self,
        *,
        oob: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109 - says what was missing when it ran out
    ) -> None:
        """Wait for the greeting and negotiate, as :meth:`connect` does; closes and raises where that fails."""
        try:
            async with asyncio.timeout(timeout):
                await self._negotiate(oob=oob)
        except BaseException as error:
            greeted = self.connection.greeting is not None
            self.close()
            if isinstance(error, TimeoutError):
                missing = (
                    "answer to qmp_capabilities"
                    if greeted
                    else "greeting: another client may hold the monitor"
                )
                raise MonitorUnavailable(f"no {missing}, after {timeout} s") from None
            raise

    async def execute(
        self,
        name: str,
        arguments: dict[str, Any] | None = None,
        *,
        oob: bool = False,
        fds: Sequence[int] = (),
        timeout: float | None = None,  # noqa: ASYNC109 - sent or not sent is a difference the caller must see
    ) -> Any:
        """Execute a command and return what it returned.

        ``fds`` go with its first byte and may be closed once this returns or raises. ``timeout`` in seconds.
        Raises CommandRefused; OutcomeUnknown when the monitor closed or the time ran out after it was sent,
        its late answer still goes to ``on_messages``; MonitorUnavailable or LocalProtocolError when it was
        not sent.
        """
        if self._must_wait(fds):
            try:
                async with asyncio.timeout(timeout):
                    while self._must_wait(fds):
                        await self._change()
            except TimeoutError:
                why = f"the monitor took no commands for {timeout} s"
                raise MonitorUnavailable(f"{name}: not sent, {why}") from None
        answer = self.submit(name, arguments, oob=oob, fds=fds)
        if timeout is None:
            return (await answer).value
        timer = self._loop.call_later(
            timeout, self._give_up, answer, name, arguments, f"no answer in {timeout} s"
        )
        try:
            return (await answer).value
        finally:
            timer.cancel()

    def submit(
        self,
        name: str,
        arguments: dict[str, Any] | None = None,
        *,
        oob: bool = False,
        fds: Sequence[int] = (),
    ) -> asyncio.Future[Reply]:
        """Send a command now, however much is unsent, and return the future of its reply.

        Raises MonitorUnavailable, LocalProtocolError; the future raises CommandRefused, OutcomeUnknown.
        """
        if self._ended.done():
            raise MonitorUnavailable(f"{name}: not sent, the monitor is closed")
        check_descriptors(name, fds)
        return self._send(*self.connection.command(name, arguments, oob=oob, fds=len(fds)), fds)

    async def wait_closed(self) -> Ended:
        """Wait for the end of the stream; return what it cut off."""
        return await asyncio.shield(self._ended)

    def close(self) -> None:
        """Read what has arrived, then close; commands without an answer stay unknown."""
        try:
            while not self._ended.done() and self._read():
                pass
        finally:
            self._end()

    # --- sending ---

    async def _negotiate(self, *, oob: bool) -> None:
        await asyncio.wait((self._greeted, self._ended), return_when=asyncio.FIRST_COMPLETED)
        if self._ended.done():
            raise MonitorUnavailable("the monitor closed before it greeted")
        try:
            await self._send(*self.connection.negotiate(oob=oob), ())
        except OutcomeUnknown:
            raise MonitorUnavailable("the monitor closed during negotiation") from None

    def _send(self, command: Command, data: bytes, fds: Sequence[int]) -> asyncio.Future[Reply]:
        try:
            self._on_messages((command,))
        except BaseException:
            self.connection.withdraw(command)
            raise
        answer: asyncio.Future[Reply] = self._loop.create_future()
        self._waiting[command.id] = answer
        self._outbox.send(data, fds)
        if self._outbox:
            self._loop.add_writer(self._socket.fileno(), self._writable)
        return answer

    def _writable(self) -> None:
        self._outbox.flush()
        if not self._outbox:
            self._loop.remove_writer(self._socket.fileno())
        self._wake_stalled()

    def _must_wait(self, fds: Sequence[int]) -> bool:
        return len(self._outbox) > HIGH_WATER or (bool(fds) and not self.connection.can_send_fds)

    async def _change(self) -> None:
        """Wait until something may have made room for another command."""
        change: asyncio.Future[None] = self._loop.create_future()
        self._stalled.append(change)
        await change

    def _wake_stalled(self) -> None:
        stalled, self._stalled = self._stalled, []
        for change in stalled:
            if not change.done():
                change.set_result(None)

    def _give_up(
        self, answer: asyncio.Future[Reply], name: str, arguments: dict[str, Any] | None, why: str
    ) -> None:
        if not answer.done():
            answer.set_exception(OutcomeUnknown(name, arguments, why))

    # --- receiving ---

    def _readable(self) -> None:
        self._read()

    def _read(self) -> bool:
        """Read once; say whether there was anything."""
        try:
            data = self._socket.recv(_CHUNK)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:  # reset by the peer: as good as an end
            data = b""
        if not data:
            self._end()
            return False
        messages = self.connection.receive_data(data)
        if messages:
            try:
                self._on_messages(messages)
            finally:
                for message in messages:
                    if type(message) is not Event:
                        self._deliver(message)
        return True

    def _deliver(self, message: Incoming) -> None:
        """Wake who waits for a message."""
        if isinstance(message, Greeting):
            if not self._greeted.done():
                self._greeted.set_result(None)
            return
        if not isinstance(message, Reply | Failure) or message.command is None:
            return
        command = message.command
        answer = self._waiting.pop(command.id, None)
        if answer is not None and not answer.done():
            if isinstance(message, Reply):
                answer.set_result(message)
            else:
                refusal = (command.name, command.arguments or None, message.error_class, message.desc)
                answer.set_exception(CommandRefused(*refusal))
        if self._stalled:
            self._wake_stalled()

    def _end(self) -> None:
        if self._ended.done():
            return
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._outbox.drop()
        self._socket.close()
        ended = self.connection.receive_eof()
        self._ended.set_result(ended)
        try:
            self._on_end(ended)
        finally:
            for command in ended.unknown:
                answer = self._waiting.pop(command.id, None)
                if answer is not None:
                    why = "the monitor closed before it answered"
                    self._give_up(answer, command.name, command.arguments or None, why)
            self._wake_stalled()
