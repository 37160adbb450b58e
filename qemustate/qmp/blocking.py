"""QMP over a socket, for a thread that waits.

Messages are read while a command waits for its answer, and by ``receive``. ``on_messages`` is called with
every one in wire order: with a command before its first byte is written, with what was received before
``execute`` returns. Without it, what comes unasked is kept until ``receive`` takes it.
"""

from __future__ import annotations

import select
import socket
import time
from typing import TYPE_CHECKING, Any, Final, Self

from qemustate.errors import CommandRefused, MonitorUnavailable, OutcomeUnknown
from qemustate.qmp.connection import Connection, Ended, Incoming, Phase
from qemustate.qmp.messages import Command, Event, Failure, Reply
from qemustate.qmp.sockets import Outbox, check_descriptors, open_socket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

_CHUNK: Final = 64 * 1024


class Client:
    """A monitor connection; ``connect`` makes one that is ready for commands.

    ``connection`` is the session behind it: its phase, greeting, unanswered commands. ``ended`` is what the
    end of the stream cut off, None while it has not ended.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        on_messages: Callable[[Sequence[Incoming]], None] | None = None,
        first_id: int = 1,
    ) -> None:
        """Take over a connected stream socket."""
        sock.setblocking(True)
        self.connection = Connection("client", first_id=first_id)
        self.ended: Ended | None = None
        self._socket = sock
        self._outbox = Outbox(sock)
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._on_messages = on_messages
        self._unasked: list[Incoming] = []
        self._awaited: Command | None = None

    @classmethod
    def connect(
        cls,
        address: str | Path | socket.socket,
        *,
        on_messages: Callable[[Sequence[Incoming]], None] | None = None,
        oob: bool = False,
        first_id: int = 1,
        timeout: float | None = None,
    ) -> Self:
        """Connect to a monitor's UNIX socket, or take a connected socket, and negotiate.

        ``oob`` enables out-of-band execution; ``timeout`` in seconds bounds the whole. Raises
        MonitorUnavailable: nobody listens, no greeting (another client holds the monitor), closed.
        """
        sock = address if isinstance(address, socket.socket) else open_socket(address)
        client = cls(sock, on_messages=on_messages, first_id=first_id)
        try:
            client._negotiate(oob=oob, deadline=_deadline(timeout))
        except BaseException:
            client.close()
            raise
        return client

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def execute(
        self,
        name: str,
        arguments: dict[str, Any] | None = None,
        *,
        oob: bool = False,
        fds: Sequence[int] = (),
        timeout: float | None = None,
    ) -> Any:
        """Execute a command and return what it returned.

        ``fds`` go with its first byte and may be closed once this returns or raises. ``timeout`` in seconds.
        Raises CommandRefused; OutcomeUnknown when the monitor closed or the time ran out after it was sent,
        a late answer is then received like any message; MonitorUnavailable or LocalProtocolError when it was
        not sent.
        """
        deadline = _deadline(timeout)
        while fds and not self.connection.can_send_fds and self.ended is None:
            if self._read(deadline) is None:
                raise MonitorUnavailable(
                    f"{name}: not sent, an earlier command with descriptors is unanswered"
                )
        if self.ended is not None:
            raise MonitorUnavailable(f"{name}: not sent, the monitor is closed")
        check_descriptors(name, fds)
        command, data = self.connection.command(name, arguments, oob=oob, fds=len(fds))
        return self._exchange(command, data, fds, deadline)

    def receive(self, timeout: float | None = None) -> list[Incoming]:
        """Return messages that came unasked, waiting for some up to ``timeout`` seconds; none when it is over.

        Raises MonitorUnavailable at the end of the stream.
        """
        deadline = _deadline(timeout)
        while not self._unasked:
            if self.ended is not None:
                raise MonitorUnavailable("the monitor is closed")
            messages = self._read(deadline)
            if messages is None:
                return []
            if messages and self._on_messages:
                return messages
        unasked, self._unasked = self._unasked, []
        return unasked

    def events(self, timeout: float | None = None) -> Iterator[Event]:
        """Iterate over events as they come, until none came for ``timeout`` seconds or the stream ended."""
        while True:
            try:
                messages = self.receive(timeout)
            except MonitorUnavailable:
                return
            if not messages:
                return
            yield from (message for message in messages if isinstance(message, Event))

    def close(self) -> None:
        """Read what has arrived, then close; commands without an answer stay unknown."""
        while self.ended is None and self._read(time.monotonic()) is not None:
            pass
        self._end()

    def _negotiate(self, *, oob: bool, deadline: float | None) -> None:
        while self.connection.phase is Phase.CONNECTING and self.ended is None:
            if self._read(deadline) is None:
                raise MonitorUnavailable("no greeting in time: another client may hold the monitor")
        if self.ended is not None:
            raise MonitorUnavailable("the monitor closed before it greeted")
        try:
            self._exchange(*self.connection.negotiate(oob=oob), (), deadline)
        except OutcomeUnknown as unknown:
            raise MonitorUnavailable(str(unknown)) from None

    def _exchange(self, command: Command, data: bytes, fds: Sequence[int], deadline: float | None) -> Any:
        if self._on_messages:
            try:
                self._on_messages((command,))
            except BaseException:
                self.connection.withdraw(command)
                raise
        self._awaited = command
        self._outbox.send(data, fds)
        while True:
            messages = self._read(deadline)
            if messages is None:
                self._awaited = None
                raise OutcomeUnknown(command.name, command.arguments or None, "no answer in time")
            answer = next(filter(self._is_awaited, messages), None)
            if isinstance(answer, Reply):
                return answer.value
            if isinstance(answer, Failure):
                refusal = (command.name, command.arguments or None, answer.error_class, answer.desc)
                raise CommandRefused(*refusal)
            if self.ended is not None:
                why = "the monitor closed before it answered"
                raise OutcomeUnknown(command.name, command.arguments or None, why)

    def _is_awaited(self, message: Incoming) -> bool:
        return (
            isinstance(message, Reply | Failure)
            and message.command is self._awaited
            and self._awaited is not None
        )

    def _read(self, deadline: float | None) -> list[Incoming] | None:
        """Wait for bytes and read once, sending what is unsent meanwhile; None when the time is over."""
        # With all sent and no deadline, recv does the waiting.
        while self._outbox or deadline is not None:
            if self._outbox:
                self._outbox.flush()
                self._poll.modify(self._socket, select.POLLIN | (select.POLLOUT if self._outbox else 0))
            wait = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
            ready = self._poll.poll(wait)
            if not ready:
                return None
            if ready[0][1] & ~select.POLLOUT:
                break
        try:
            data = self._socket.recv(_CHUNK)
        except OSError:  # reset by the peer: as good as an end
            data = b""
        if not data:
            self._end()
            return []
        messages = self.connection.receive_data(data)
        if self._on_messages:
            self._on_messages(messages)
        else:
            self._unasked += (message for message in messages if not self._is_awaited(message))
        return messages

    def _end(self) -> None:
        if self.ended is None:
            self._outbox.drop()
            self._socket.close()
            self.ended = self.connection.receive_eof()


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout
