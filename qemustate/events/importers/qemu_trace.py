"""QEMU's own trace, as its ``log`` backend writes it (scripts/tracetool/backend/log.py).

Two trace points show a whole QMP session (monitor/trace-events)::

    handle_qmp_command mon 0x55e697e304e0 req: {"execute": "query-status", "id": 2}
    monitor_qmp_respond mon 0x55e697e304e0 resp: {"return": {...}, "id": 2}

With ``-msg timestamp=on`` each line begins ``TID@SECONDS.MICROSECONDS:``. Answers, events and greetings
stand as they were sent; commands are printed anew by QEMU, and those it could not parse are not there.
All other trace points, and what else went to the same file, are passed over.

An event is sent to every monitor, and so stands once for each. One monitor is read: the one with most
commands. What another monitor asked for that may change the VM leaves a ``gap``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from qemustate.events.importers.conversation import Conversation, Entry, Skipped, sane
from qemustate.events.importers.files import LINE_LIMIT, TraceFile, lines
from qemustate.qmp.classify import from_client, from_qemu
from qemustate.qmp.framing import Document, Malformed
from qemustate.qmp.jsontext import JsonError, decode
from qemustate.qmp.messages import Command, Event

_LINE: Final = re.compile(
    rb"(?:(?P<tid>\d+)@(?P<s>\d{1,18})\.(?P<us>\d{6}):)?"
    rb"(?:handle_qmp_command mon (?P<from>\S+) req: |monitor_qmp_respond mon (?P<to>\S+) resp: )(?P<text>.*)",
    re.DOTALL,
)
_SOME: Final = re.compile(
    rb"^(?:\d+@\d+\.\d{6}:)?(?:handle_qmp_command|monitor_qmp_respond) mon ", re.MULTILINE
)
_STAMPED: Final = re.compile(
    rb"^\d+@\d+\.\d{6}:(?:handle_qmp_command|monitor_qmp_respond) mon ", re.MULTILINE
)

#: Commands of other monitors that change nothing.
_ONLY_ASKS: Final = ("query-", "qom-list", "qom-get", "qmp_capabilities", "device-list-properties")


def sniff(head: bytes) -> bool:
    """Say whether one of the two trace points stands at the beginning of a line."""
    return _SOME.search(head) is not None


def lacks(_files: Sequence[TraceFile], head: bytes) -> tuple[str, ...]:
    """Return what such a trace cannot show."""
    return ("beginning", "process") if _STAMPED.search(head) else ("beginning", "process", "times")


def read(files: Sequence[TraceFile], skipped: Skipped) -> Iterator[Entry]:
    """Yield the entries of a VM's files. Raises BadInput where a file cannot be read at all."""
    main = _busiest(files)
    conversation = Conversation()
    asked: dict[str, str] = {}
    for file in files:
        for number, line in lines(file):
            found = _LINE.match(line)
            if found is None:
                continue
            origin = (file.name, number)
            time = sane(int(found["s"]) * 1_000_000 + int(found["us"])) if found["tid"] else 0
            document = _document(found["text"], len(line))
            if isinstance(document, str):
                skipped.add(file.name, number, document)
            elif (found["from"] or found["to"]) == main:
                client = found["from"] is not None
                yield from conversation.entries(
                    document, time or _own(document), origin, client=client, own=not client
                )
            else:
                yield from _elsewhere(document, asked, time, origin, client=found["from"] is not None)


def _busiest(files: Sequence[TraceFile]) -> bytes:
    """Return the monitor with most commands; where there are none, the one with most messages."""
    commands: Counter[bytes] = Counter()
    messages: Counter[bytes] = Counter()
    for file in files:
        for _, line in lines(file):
            if (found := _LINE.match(line)) is not None:
                messages[found["from"] or found["to"]] += 1
                if found["from"]:
                    commands[found["from"]] += 1
    most = (commands or messages).most_common(1)
    return most[0][0] if most else b""


def _document(text: bytes, length: int) -> Document | str:
    """Return the JSON text of a line, or why there is none."""
    if length > LINE_LIMIT:
        return f"longer than {LINE_LIMIT} bytes"
    text = text.strip()
    try:
        return Document(decode(text), text, 0)
    except JsonError as error:
        return str(error)


def _own(document: Document) -> int:
    """Return the time that an event bears itself."""
    message = from_qemu(document)
    return sane(message.time) if isinstance(message, Event) else 0


def _elsewhere(
    document: Document, asked: dict[str, str], time: int, origin: tuple[str, int], *, client: bool
) -> Iterator[Entry]:
    """Yield a gap where another monitor asks for a change, and where it is answered."""
    message = from_client(document, oob=True) if client else from_qemu(document)
    if isinstance(message, Malformed | Event):
        return
    key = repr(message.body.get("id"))
    if isinstance(message, Command):
        if message.name.startswith(_ONLY_ASKS):
            return
        asked[key] = name = message.name
    else:
        name = asked.pop(key, "")
    if name:
        yield "gap", time, {"why": f"another monitor, {name}", "origin": [*origin]}
