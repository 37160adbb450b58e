"""A QMP session without I/O: bytes in, messages out, and the other way round.

One class plays both sides. A *client* Connection is for a program that speaks to QEMU::

    connection = Connection("client")
    for message in connection.receive_data(socket.recv(65536)):
        if isinstance(message, Greeting):
            command, data = connection.negotiate()
            socket.send(data)
    ...
    command, data = connection.command("query-status")

A *server* Connection is for a program that poses as QEMU. Neither reads a clock, opens a socket or waits.

A *tap* stands between a client and QEMU and is neither. It uses one client Connection: what QEMU sends goes
through ``receive_data``, what the client sends through ``relay``, which only looks. Both then share one
table of unanswered commands, and replies are matched as for commands of our own.

Sources: QEMU's ``docs/interop/qmp-spec.rst``, ``monitor/qmp.c``, ``monitor/qmp-cmds-control.c``.
"""

from __future__ import annotations

import enum
from typing import Any, Final, Literal

import msgspec

from qemustate.errors import LocalProtocolError
from qemustate.qmp.classify import from_client, from_qemu
from qemustate.qmp.framing import LIMIT, Document, Framer, Malformed
from qemustate.qmp.jsontext import JsonError, decode, print_compact, print_qemu
from qemustate.qmp.messages import Command, Event, Failure, Greeting, Reply
from qemustate.qmp.pending import Pending

__all__ = ["MAX_FDS", "Connection", "Ended", "Incoming", "Malformed", "Phase"]

#: How many file descriptors one command may carry: TCP_MAX_FDS in QEMU's chardev/char-socket.c.
MAX_FDS: Final = 16

_NEGOTIATE: Final = "qmp_capabilities"

#: What receive_data returns.
Incoming = Greeting | Command | Reply | Failure | Event | Malformed


class Phase(enum.Enum):
    """How far a session has come."""

    CONNECTING = "connecting"  #: no greeting yet; it never comes while QEMU serves another client
    NEGOTIATING = "negotiating"  #: greeted: only ``qmp_capabilities`` is taken, and no events come
    READY = "ready"  #: commands are taken
    CLOSED = "closed"  #: the stream has ended


class Ended(msgspec.Struct, frozen=True):
    """The end of a stream: ``malformed``, what it broke off in; ``unknown``, the commands it left unanswered.

    Those may or may not have been executed.
    """

    malformed: list[Malformed]
    unknown: list[Command]


class Connection:
    """One session over one stream.

    ``first_id`` is the number our ids start from. They must not repeat during the life of a QEMU process: a
    reply to a client that has gone is sent to the next one (``monitor/qmp.c``). ``limit`` is the longest
    message taken, in bytes.
    """

    def __init__(self, role: Literal["client", "server"], *, first_id: int = 1, limit: int = LIMIT) -> None:
        self.role = role
        self.phase = Phase.CONNECTING
        #: Whether the ``oob`` capability is enabled.
        self.oob = False
        #: The greeting, once there is one.
        self.greeting: Greeting | None = None
        #: The number of the next command we send.
        self.next_id = first_id
        self._incoming = Framer(limit, strict=role == "server")
        self._relayed = Framer(limit, strict=True)
        self._pending = Pending()
        self._fds = 0  # that arrived for a command not complete yet

    # --- both roles ---

    def receive_data(self, data: bytes, fds: int = 0) -> list[Incoming]:
        """Take bytes the peer sent, in chunks of any size; return the messages they complete.

        ``fds`` counts the descriptors that came with them (to a server). Damage comes as Malformed, and the
        session goes on. Raises LocalProtocolError after the end.
        """
        if self.phase is Phase.CLOSED:
            raise LocalProtocolError("data after the end of the stream")
        found = self._incoming.feed(data)
        if self.role == "server":
            return list(self._commands(self._incoming, found, fds, oob=self.oob))
        return [self._answer(item) for item in found]

    def receive_eof(self) -> Ended:
        """Take the end of the stream; return what it cut off and which commands are left without an answer."""
        last = self._incoming.eof() + self._relayed.eof()
        ended = Ended([_cut_off(item) for item in last], self.pending)
        self._pending = Pending()
        self.phase = Phase.CLOSED
        return ended

    @property
    def pending(self) -> list[Command]:
        """The commands that are not answered yet, oldest first as far as their ids differ."""
        return list(self._pending)

    # --- client ---

    def negotiate(self, *, oob: bool = False) -> tuple[Command, bytes]:
        """Return ``qmp_capabilities`` and its bytes; ``oob`` asks for out-of-band execution.

        Raises LocalProtocolError when there is no greeting, or none that offers ``oob``.
        """
        if oob and self.greeting and "oob" not in self.greeting.capabilities:
            raise LocalProtocolError("this QEMU does not offer oob")
        return self.command(_NEGOTIATE, {"enable": ["oob"]} if oob else None)

    def command(
        self,
        name: str,
        arguments: dict[str, Any] | None = None,
        *,
        oob: bool = False,
        fds: int = 0,
        id: Any = None,  # noqa: A002 - QMP's own word
    ) -> tuple[Command, bytes]:
        """Return a command, now awaiting its answer, and the bytes to send.

        ``oob`` executes it out of band; ``fds`` says how many descriptors will go with its first byte; ``id``
        replaces our own. Arguments are JSON values. Raises LocalProtocolError, and changes nothing, when QEMU
        would not take it: not greeted or negotiated, ``oob`` not enabled, no JSON, or another command with
        descriptors is unanswered, since QEMU would mix them up.
        """
        self._check_sendable(name, oob=oob, fds=fds)
        body: dict[str, Any] = {"exec-oob" if oob else "execute": name}
        if arguments:
            body["arguments"] = arguments
        body["id"] = str(self.next_id) if id is None else id
        try:
            text = print_compact(body)
            # Read back, so that the command holds what was sent, whatever the caller does to its arguments.
            sent = decode(text, strict=True) if arguments or id is not None or not name.isascii() else body
            command = Command(sent, text, fds)
        except (TypeError, JsonError) as error:
            raise LocalProtocolError(f"{name}: the arguments are no JSON: {error}") from error
        if id is None:
            self.next_id += 1
        self._pending.add(command)
        return command, text

    def withdraw(self, command: Command) -> None:
        """Forget a command none of whose bytes were sent. Raises ValueError when it is not pending."""
        self._pending.withdraw(command)

    @property
    def can_send_fds(self) -> bool:
        """Whether no command that carries descriptors is unanswered."""
        return not self._pending.bearing_fds

    def _check_sendable(self, name: str, *, oob: bool, fds: int) -> None:
        if self.role != "client":
            raise LocalProtocolError("a server sends no commands")
        if self.phase is Phase.CLOSED:
            raise LocalProtocolError(f"{name}: the stream has ended")
        if self.phase is Phase.CONNECTING:
            raise LocalProtocolError(f"{name}: there was no greeting yet")
        if self.phase is Phase.NEGOTIATING and name != _NEGOTIATE:
            raise LocalProtocolError(f"{name}: capabilities are not negotiated yet")
        if self.phase is Phase.READY and name == _NEGOTIATE:
            raise LocalProtocolError(f"{name}: capabilities are negotiated already")
        if oob and not self.oob:
            raise LocalProtocolError(f"{name}: oob is not enabled")
        if fds > MAX_FDS:
            raise LocalProtocolError(f"{name}: {fds} descriptors, QEMU takes {MAX_FDS}")
        if fds and not self.can_send_fds:
            raise LocalProtocolError(f"{name}: another command with descriptors is unanswered")

    def _answer(self, item: Document | Malformed) -> Incoming:
        """Classify what QEMU sent, and let it change the session."""
        message = from_qemu(item)
        kind = type(message)
        if kind is Event or kind is Malformed:
            return message
        if isinstance(message, Reply | Failure):
            command = self._pending.take(message)
            if command is None:
                return message
            if kind is Reply and command.name == _NEGOTIATE:
                self._negotiated(command)
            return type(message)(message.body, message.text, command)
        assert isinstance(message, Greeting)
        self.greeting, self.phase, self.oob = message, Phase.NEGOTIATING, False
        return message

    def _negotiated(self, command: Command) -> None:
        self.phase = Phase.READY
        enabled = command.arguments.get("enable")
        self.oob = isinstance(enabled, list) and "oob" in enabled

    # --- a tap ---

    def relay(self, data: bytes, fds: int = 0) -> list[Command | Malformed]:
        """Look at bytes that another client sends to this QEMU; return the commands they complete.

        Nothing is refused: Malformed is what QEMU will answer with an error of its own.
        """
        messages = self._commands(self._relayed, self._relayed.feed(data), fds, oob=True)
        for message in messages:
            if isinstance(message, Command):
                self._pending.add(message)
        return messages

    def _commands(
        self, framer: Framer, found: list[Document | Malformed], fds: int, *, oob: bool
    ) -> list[Command | Malformed]:
        """Classify what a client sent; descriptors belong to the last command that their bytes are part of.

        A stream socket hands out no bytes beyond those that descriptors were sent with.
        """
        messages = [from_client(item, oob=oob) for item in found]
        self._fds += fds
        if self._fds and not framer.pending:
            for index, message in reversed(list(enumerate(messages))):
                if isinstance(message, Command):
                    messages[index] = Command(message.body, message.text, self._fds)
                    self._fds = 0
                    break
        return messages

    # --- server ---

    def greet(
        self, version: tuple[int, int, int], *, package: str = "", capabilities: tuple[str, ...] = ("oob",)
    ) -> tuple[Greeting, bytes]:
        """Return the greeting of a QEMU of this version and its bytes; negotiation begins."""
        major, minor, micro = version
        qemu = {"micro": micro, "minor": minor, "major": major}
        body = {"QMP": {"version": {"qemu": qemu, "package": package}, "capabilities": list(capabilities)}}
        text = print_qemu(body)
        self.greeting, self.phase, self.oob = Greeting(body, text), Phase.NEGOTIATING, False
        return self.greeting, text + b"\r\n"

    def reply(self, command: Command, value: Any = None) -> tuple[Reply, bytes]:
        """Return the success of a command, ``{}`` without a value, and its bytes."""
        body: dict[str, Any] = {"return": {} if value is None else value}
        if "id" in command.body:
            body["id"] = command.id
        if command.name == _NEGOTIATE:
            self._negotiated(command)
        text = print_qemu(body)
        return Reply(body, text, command), text + b"\r\n"

    def fail(self, cause: Command | Malformed | None, error_class: str, desc: str) -> tuple[Failure, bytes]:
        """Return the refusal of a command, or of what was none, and its bytes."""
        source = cause.body if isinstance(cause, Command) else cause.value if cause else None
        body: dict[str, Any] = {}
        if isinstance(source, dict) and "id" in source:
            body["id"] = source["id"]
        body["error"] = {"class": error_class, "desc": desc}
        text = print_qemu(body)
        return Failure(body, text, cause if isinstance(cause, Command) else None), text + b"\r\n"

    def event(self, name: str, data: dict[str, Any] | None = None, *, time: int) -> tuple[Event, bytes]:
        """Return an event and its bytes; ``time`` in microseconds since 1970."""
        seconds, micro = divmod(time, 1_000_000)
        body: dict[str, Any] = {"timestamp": {"seconds": seconds, "microseconds": micro}, "event": name}
        if data is not None:
            body["data"] = data
        text = print_qemu(body)
        return Event(body, text), text + b"\r\n"

    def objection(self, message: Command | Malformed) -> tuple[str, str] | None:
        """Return the error class and desc that QEMU's monitor itself answers with; None where it takes it.

        What a command does, and whether it exists, is not looked at.
        """
        if isinstance(message, Malformed):
            return "GenericError", message.error
        if self.phase is Phase.READY and message.name == _NEGOTIATE:
            return "CommandNotFound", "Capabilities negotiation is already complete, command ignored"
        if self.phase is Phase.READY:
            return None
        if message.name != _NEGOTIATE:
            return "CommandNotFound", "Expecting capabilities negotiation with 'qmp_capabilities'"
        return self._objection_to_capabilities(message.arguments)

    def _objection_to_capabilities(self, arguments: dict[str, Any]) -> tuple[str, str] | None:
        for name in arguments:
            if name != "enable":
                return "GenericError", f"Parameter '{name}' is unexpected"
        wanted = arguments.get("enable", [])
        if not isinstance(wanted, list):
            return "GenericError", "Invalid parameter type for 'enable', expected: array"
        for capability in wanted:
            if capability != "oob":
                return "GenericError", f"Parameter 'null' does not accept value '{capability}'"
            if self.greeting and capability not in self.greeting.capabilities:
                return "GenericError", f"Capability {capability} not available"
        return None


def _cut_off(item: Document | Malformed) -> Malformed:
    """Return what the end of the stream ended: a bare word, or a text with damage right behind it, is a document."""
    if isinstance(item, Malformed):
        return item
    return Malformed(
        item.text, item.offset, "the stream ended before it was clear that this is all", item.value
    )
