r"""Plain QMP, as socat, a terminal or a document leaves it.

Messages follow each other in any layout, both directions mixed; the shape of each tells its direction.
Blank lines, CR LF, and ``->``, ``<-``, ``C:``, ``S:`` before a message mean nothing more. Nothing says when
a message was seen, but events bear QEMU's own time. A line that is no part of a message is counted.

Spreads over several lines are fine; a message that never ends gives way to the next line that is a message
of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from qemustate.events.importers.conversation import Conversation, Entry, Skipped, sane
from qemustate.events.importers.files import LINE_LIMIT, TraceFile, lines
from qemustate.events.importers.telling import is_command
from qemustate.qmp.classify import from_client, from_qemu
from qemustate.qmp.framing import Document, Framer, Malformed
from qemustate.qmp.jsontext import JsonError, decode
from qemustate.qmp.messages import Command, Event, Greeting, Message

_MEMBERS: Final = rb"QMP|execute|exec-oob|return|error|event|timestamp|arguments|data|id"
_MESSAGE: Final = re.compile(
    rb"""^[ \t]*(?:(?:->|<-|[CS]:)[ \t]*)?\{\s*(["'])(?:%b)\1\s*:""" % _MEMBERS, re.MULTILINE
)
_MARK: Final = re.compile(rb"[ \t]*(?:->|<-|[CS]:)[ \t]*(?=\{)")
_COMMAND: Final = re.compile(rb"""["'](?:execute|exec-oob)["']\s*:""")
_ANSWER: Final = re.compile(rb"""["'](?:return|error)["']\s*:""")
_GREETING: Final = re.compile(rb"""["']QMP["']\s*:""")


def sniff(head: bytes) -> bool:
    """Say whether a line begins as a message does."""
    return _MESSAGE.search(head) is not None


def lacks(_files: Sequence[TraceFile], head: bytes) -> tuple[str, ...]:
    """Return what such a text cannot show; ``head`` is its first bytes."""
    commands, answers = _COMMAND.search(head), _ANSWER.search(head)
    missing = ["times", "beginning", "process"]
    if answers and not commands:
        missing.append("commands")
    if commands and not answers:
        missing.append("replies")
    return tuple(missing)


def same(given: Any) -> Any:
    """Return what was given."""
    return given


class Dialect(msgspec.Struct, frozen=True):
    """A way of writing plain QMP.

    ``mark`` matches what may stand before a message; ``quiet`` says that other lines mean nothing, and are no
    messages that could not be read; ``repair`` makes JSON of a line that is none; ``split`` makes the object of
    each message from an object that was read. ``exact`` says that messages stand as they were sent. ``gap`` says why
    a command, and what comes while none waits for its answer, may come after facts that are not told, or told later;
    empty where all are told in order.
    """

    mark: re.Pattern[bytes] = _MARK
    quiet: bool = False
    repair: Callable[[bytes], bytes] = same
    split: Callable[[Document], Iterable[Document]] = lambda document: (document,)
    exact: bool = True
    gap: str = ""


PLAIN: Final = Dialect()


def read(files: Sequence[TraceFile], skipped: Skipped) -> Iterator[Entry]:
    """Yield the entries of a VM's files. Raises BadInput where a file cannot be read at all."""
    return read_dialect(PLAIN, files, skipped)


def read_dialect(dialect: Dialect, files: Sequence[TraceFile], skipped: Skipped) -> Iterator[Entry]:
    """Yield the entries of a VM's files that are written so. Raises BadInput where a file cannot be read at all."""
    conversation = Conversation(ungreeted=True)
    ids = _ids_match(files[0].head())
    for file in files:
        reader = _Reader(dialect, file, skipped)
        for document, number in reader.documents():
            message = _message(document)
            if isinstance(message, Malformed):
                if not dialect.quiet:
                    skipped.add(file.name, number, message.error)
                continue
            origin = (file.name, number)
            time = sane(message.time) if isinstance(message, Event) else 0
            if not ids and "id" in message.body:
                body = {name: value for name, value in message.body.items() if name != "id"}
                message = msgspec.structs.replace(message, body=body)
            if dialect.gap and _may_be_late(message, awaits=conversation.awaits):
                yield "gap", 0, {"why": dialect.gap, "origin": [*origin]}
            yield from conversation.said(message, time, origin, own=ids and dialect.exact)


def _may_be_late(message: Message, *, awaits: bool) -> bool:
    """Say whether facts may have been left out before a message, where events are told when somebody waited for them."""
    return isinstance(message, Command) or (not awaits and not isinstance(message, Greeting))


def _ids_match(head: bytes) -> bool:
    """Say whether ids tell which command a reply is to: in edited dialogues they do not, and the order does."""
    commands: list[Any] = []
    answers: list[Any] = []
    for it in Framer().feed(head):
        value = it.value if isinstance(it, Document) else None
        if isinstance(value, dict) and "id" in value:
            (commands if "execute" in value else answers).append(value["id"])
    return not commands or not answers or any(it in commands for it in answers)


def _message(document: Document) -> Any:
    return from_client(document, oob=True) if is_command(document.value) else from_qemu(document)


class _Reader:
    """Cuts one file into documents, each with the number of the line it began on."""

    def __init__(self, dialect: Dialect, file: TraceFile, skipped: Skipped) -> None:
        self._dialect, self._file, self._skipped = dialect, file, skipped
        self._framer = Framer()
        self._began = 1

    def documents(self) -> Iterator[tuple[Document, int]]:
        for number, line in lines(self._file):
            if len(line) > LINE_LIMIT:
                self._skipped.add(self._file.name, number, f"longer than {LINE_LIMIT} bytes")
                continue
            if self._framer.pending and _is_message(self._dialect.mark, line):
                yield from self._sorted(self._framer.eof())
            if not self._framer.pending:
                if mark := self._dialect.mark.match(line):
                    line = line[mark.end() :]
                line = self._dialect.repair(line)
                if not self._begins(line):
                    if line.strip() and not self._dialect.quiet:
                        self._skipped.add(self._file.name, number, "no part of a message")
                    continue
                self._began = number
            else:
                line = self._dialect.repair(line)
            yield from self._sorted(self._framer.feed(line))
        yield from self._sorted(self._framer.eof())

    def _begins(self, line: bytes) -> bool:
        """Say whether a message begins with this line: among other text it must look like one."""
        if self._dialect.quiet:
            return line.rstrip() == b"{" or _MESSAGE.match(line) is not None
        return line.lstrip().startswith(b"{")

    def _sorted(self, found: list[Document | Malformed]) -> Iterator[tuple[Document, int]]:
        for it in found:
            if isinstance(it, Malformed):
                self._skipped.add(self._file.name, self._began, it.error)
            else:
                for document in self._dialect.split(it):
                    yield document, self._began


def _is_message(mark: re.Pattern[bytes], line: bytes) -> bool:
    """Say whether a line is a whole message of its own, not a part of a pretty-printed one."""
    if found := mark.match(line):
        line = line[found.end() :]
    if not line.startswith(b"{") or _MESSAGE.match(line) is None:
        return False
    try:
        return isinstance(decode(line), dict)
    except JsonError:
        return False
