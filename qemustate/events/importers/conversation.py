"""What every importer does with what it has found: entries, and an account of what it could not read.

An *entry* is a record that has no number yet: ``(kind, time in microseconds or 0, body)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from qemustate.events.observe import observed
from qemustate.events.redact import redact_bytes
from qemustate.qmp.classify import from_client, from_qemu
from qemustate.qmp.framing import Document, Malformed
from qemustate.qmp.messages import Command, Failure, Message, Reply
from qemustate.qmp.pending import Pending

if TYPE_CHECKING:
    from collections.abc import Iterator

Entry: TypeAlias = tuple[str, int, dict[str, Any]]

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

    def add(self, file: str, line: int, why: str) -> None:
        """Count one line of a file, with a word why."""
        self.count += 1
        if len(self.first) < SHOWN:
            self.first.append((file, line, why))

    def lines(self) -> Iterator[str]:
        """Yield a line for a person about each of the first ten, and one for the rest."""
        for file, line, why in self.first:
            yield f"{file}, line {line}: not read: {why}"
        if self.count > len(self.first):
            yield f"... and {self.count - len(self.first)} more lines"


class Conversation:
    """Makes entries of what framers find, over the connections of one monitor.

    A greeting after other messages from QEMU is another connection: the old one was lost, and facts with it.
    """

    def __init__(self) -> None:
        self._spoken = False
        self._pending = Pending()
        self._asked = 0

    def entries(
        self,
        found: Document | Malformed,
        time: int,
        origin: tuple[str, int],
        *,
        client: bool,
        own: bool = True,
    ) -> Iterator[Entry]:
        """Yield the entries of one text from ``client`` or from QEMU.

        ``own`` says that the text is exactly as sent, or else printed anew by whoever wrote the trace.
        """
        message = from_client(found, oob=True) if client else from_qemu(found)
        if isinstance(message, Malformed):
            who, data = ("client" if client else "qemu"), redact_bytes(message.data)
            yield "malformed", time, {"data": data, "from": who, "error": message.error, "origin": [*origin]}
            return
        yield from self.said(message, time, origin, own=own)

    def said(
        self, message: Message, time: int, origin: tuple[str, int], *, own: bool = True
    ) -> Iterator[Entry]:
        """Yield the entries of one message."""
        if isinstance(message, Command):
            self._ask(message)
        elif isinstance(message, Reply | Failure):
            # What a reply may tell depends on what was asked: some properties are secrets.
            message = msgspec.structs.replace(message, command=self._pending.take(message))
        kind, body = observed(message)
        body = {**body, "origin": [*origin]}
        if not own and "qmp" in body:
            body.pop("text", None)
        if kind == "greeting" and self._spoken:
            yield "lost", time, {"by": "us", "why": "another connection was made", "origin": [*origin]}
            yield "opened", time, {"first": False, "origin": [*origin]}
        self._spoken |= kind != "command"
        yield kind, time, body

    def _ask(self, command: Command) -> None:
        self._asked += 1
        if self._asked % FORGOTTEN == 0 and len(self._pending) >= FORGOTTEN:
            self._pending = Pending()  # this trace has no replies
        self._pending.add(command)


def sane(time: int | None) -> int:
    """Return a time in microseconds that a date can name, else 0 (unknown)."""
    return time if time is not None and 0 < time < _NO_DATE else 0
