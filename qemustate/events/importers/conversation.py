"""What every importer does with what it has found: entries, and an account of what it could not read.

An *entry* is a record that has no number yet: ``(kind, time in microseconds or 0, body)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeAlias, cast

import msgspec

from qemustate.events.redact import READS_SECRETS, redact_bytes
from qemustate.events.together import observed_all
from qemustate.qmp.classify import from_client, from_qemu
from qemustate.qmp.framing import Document, Malformed
from qemustate.qmp.messages import Command, Event, Failure, Greeting, Message, Reply
from qemustate.qmp.pending import Pending

Entry: TypeAlias = tuple[str, int, dict[str, Any]]
Origin: TypeAlias = tuple[str, int]

#: How many lines that could not be read are kept by number.
SHOWN: Final = 10

#: So many commands without an answer are forgotten.
FORGOTTEN: Final = 10_000

#: Microseconds from 1970 to the year 10000, which no date can name.
_NO_DATE: Final = 253_402_300_800_000_000


class Skipped:
    """Lines that should have been read and could not be: how many, and the first ten."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[tuple[str, int, str]] = []
        self._last = ("", 0)

    def add(self, file: str, line: int, why: str) -> None:
        """Count one line of a file, with a word why; the next thing that is wrong with it does not count."""
        if (file, line) == self._last:
            return
        self._last = file, line
        self.count += 1
        if len(self.first) < SHOWN:
            self.first.append((file, line, why))

    def lines(self) -> Iterator[str]:
        """Yield a line for a person about each of the first ten, and one for the rest."""
        for file, line, why in self.first:
            yield f"{file}, line {line}: not read: {why}"
        if self.count > len(self.first):
            yield f"... and {self.count - len(self.first)} more lines"


class Found(msgspec.Struct, frozen=True):
    """A VM that some files tell of: its name, what they cannot show of it, and how to read its entries.

    ``together``, where it is there, reads those of all VMs that were found with this one, in one go: with the number
    of the VM, as they were found. It takes a ``Skipped`` for each.
    """

    name: str
    lacks: tuple[str, ...]
    read: Callable[[Skipped], Iterator[Entry]]
    together: Callable[[Sequence[Skipped]], Iterator[tuple[int, Entry]]] | None = None


class Conversation:
    """Makes entries of what formats find, over the connections of one monitor.

    A greeting opens a connection, unless it was :meth:`opened` already. One after other messages from QEMU opens
    another: the old one was lost, and facts with it. ``ungreeted`` is a trace that need not show greetings: there
    qmp_capabilities, asked for after it was granted, begins another connection too.
    """

    def __init__(self, *, ungreeted: bool = False) -> None:
        self._ungreeted = ungreeted
        self._opened = self._spoken = self._negotiated = False
        self._pending = Pending()
        self._asked = 0

    def entries(
        self,
        found: Document | Malformed,
        time: int,
        origin: Origin,
        *,
        client: bool,
        own: bool = True,
        fds: int = 0,
    ) -> list[Entry]:
        """Return the entries of one text from ``client`` or from QEMU, with which ``fds`` descriptors went.

        ``own`` says that the text is exactly as sent, or else printed anew by whoever wrote the trace.
        """
        message = from_client(found, oob=True) if client else from_qemu(found)
        if type(message) is Malformed:
            return [malformed(message, time, origin, client=client)]
        if fds:
            message = msgspec.structs.replace(message, fds=fds)
        return self.said(cast("Message", message), time, origin, own=own)

    def said(self, message: Message, time: int, origin: Origin, *, own: bool = True) -> list[Entry]:
        """Return the entries of one message."""
        name, line = origin
        return self.all_said(name, [line], [time], [message], own=own)

    def all_said(
        self,
        name: str,
        lines: Sequence[int],
        times: Sequence[int],
        messages: list[Message],
        *,
        own: bool = True,
    ) -> list[Entry]:
        """Return the entries of messages that follow each other in the file ``name``, each with its line and time."""
        before: list[tuple[int, Entry]] = []
        for at, message in enumerate(messages):
            cls = type(message)
            if cls is Event:
                pass
            elif cls is Command:
                if again := self._ask(cast("Command", message), times[at], (name, lines[at])):
                    before.append((at, again))
                continue
            if cls is Reply or cls is Failure:
                messages[at] = self._answer(cast("Reply", message))
            elif cls is Greeting:
                before += [(at, it) for it in self._greeted(times[at], (name, lines[at]))]
            self._spoken = True
        entries: list[Entry] = []
        for (kind, body), time, line in zip(observed_all(messages), times, lines, strict=True):
            body["origin"] = [name, line]
            if not own and "qmp" in body:
                body.pop("text", None)
            entries.append((kind, time, body))
        for at, entry in reversed(before):
            entries.insert(at, entry)
        return entries

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as the trace tells."""
        return self._opened or self._spoken

    @property
    def awaits(self) -> bool:
        """Whether there are commands without an answer."""
        return len(self._pending) > 0

    def opened(self, time: int, origin: Origin, *, first: bool) -> Entry:
        """Return the entry of a connection that was made; see ``opened`` in the vocabulary of records."""
        self._opened = True
        return "opened", time, {"first": first, "origin": [*origin]}

    def lost(self, time: int, origin: Origin, why: str = "", *, by_us: bool) -> Entry:
        """Return the entry of a connection that ended: by the client that the trace follows, or by QEMU."""
        self._opened = self._spoken = self._negotiated = False
        self._pending = Pending()
        by = {"by": "us"} if by_us else {}
        return "lost", time, {**by, **({"why": why} if why else {}), "origin": [*origin]}

    def _greeted(self, time: int, origin: Origin) -> list[Entry]:
        """Return how the connection of a greeting came about."""
        entries = []
        if self._spoken:
            entries.append(self.lost(time, origin, "another connection was made", by_us=True))
        if not self._opened:
            entries.append(self.opened(time, origin, first=False))
        return entries

    def _ask(self, command: Command, time: int, origin: Origin) -> Entry | None:
        """Await an answer to a command; return the end of the connection before, where this begins another."""
        self._asked += 1
        if self._asked % FORGOTTEN == 0 and len(self._pending) >= FORGOTTEN:
            self._pending = Pending()  # this trace has no replies
        again = self._ungreeted and self._negotiated and command.name == _NEGOTIATE
        lost = self.lost(time, origin, "another connection was made", by_us=True) if again else None
        self._pending.add(command)
        return lost

    def _answer(self, message: Reply | Failure) -> Reply | Failure:
        """Return an answer; with its command, where that decides what the answer may tell: some properties are secrets."""
        asked = self._pending.take(message)
        if asked is None:
            return message
        if asked.name in READS_SECRETS:
            return msgspec.structs.replace(message, command=asked)
        if asked.name == _NEGOTIATE:
            self._negotiated |= type(message) is Reply
        return message


_NEGOTIATE: Final = "qmp_capabilities"


def malformed(found: Malformed, time: int, origin: Origin, *, client: bool) -> Entry:
    """Return the entry of bytes that are no message."""
    who, data = ("client" if client else "qemu"), redact_bytes(found.data)
    return "malformed", time, {"data": data, "from": who, "error": found.error, "origin": [*origin]}


def sane(time: int | None) -> int:
    """Return a time in microseconds that a date can name, else 0 (unknown)."""
    return time if time is not None and 0 < time < _NO_DATE else 0
