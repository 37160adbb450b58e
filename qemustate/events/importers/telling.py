"""Formats that a scan of their lines reads: what it finds becomes the entries of one VM or of several."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

from qemustate.events.importers.conversation import Conversation, Entry, Found, Skipped, sane
from qemustate.events.importers.files import LINE_LIMIT, TraceFile
from qemustate.qmp.classify import from_client, from_qemu
from qemustate.qmp.framing import Document, Malformed
from qemustate.qmp.jsontext import JsonError, decode
from qemustate.qmp.messages import Event


class Said(NamedTuple):
    """One QMP text: of which VM ("" where there is one only), in which line, when, by whom.

    ``client`` is None where only its shape tells. ``own`` says that the text is exactly as sent, or else printed
    anew by whoever wrote the trace.
    """

    vm: str
    line: int
    time: int
    client: bool | None
    text: bytes
    own: bool = True


class Fact(NamedTuple):
    """Something else that a trace tells: ``spawned``, ``exited`` or ``lost``, with its body."""

    vm: str
    line: int
    time: int
    kind: str
    body: dict[str, Any]


#: Yields what a file tells, and counts the lines it should understand and does not.
Scan: TypeAlias = Callable[[TraceFile, Skipped], Iterator[Said | Fact]]

_COMMAND: Final = re.compile(rb"""["'](?:execute|exec-oob)["']\s*:""")
_ANSWER: Final = re.compile(rb"""["'](?:return|error)["']\s*:""")


def finder(scan: Scan) -> Callable[[Sequence[TraceFile]], list[Found]]:
    """Return what finds the VMs in files of a format that ``scan`` reads."""
    return partial(_find, scan)


def _find(scan: Scan, files: Sequence[TraceFile]) -> list[Found]:
    seen: dict[str, set[str]] = {}
    for file in files:
        for it in scan(file, Skipped()):
            signs = seen.setdefault(it.vm, set())
            if it.time:
                signs.add("times")
            if isinstance(it, Fact):
                signs.add("beginning" if it.kind == "spawned" else "process" if it.kind == "exited" else "")
            elif it.client or (it.client is None and _COMMAND.search(it.text)):
                signs.add("commands")
            elif _ANSWER.search(it.text):
                signs.add("replies")
    found = []
    for vm, signs in (seen or {"": set()}).items():
        lacks = tuple(
            it for it in ("commands", "replies", "times", "beginning", "process") if it not in signs
        )
        found.append(Found(vm or files[0].stem, lacks, partial(_read, scan, files, vm)))
    return found


def _read(scan: Scan, files: Sequence[TraceFile], vm: str, skipped: Skipped) -> Iterator[Entry]:
    conversation = Conversation(ungreeted=True)
    for file in files:
        for it in scan(file, skipped):
            if it.vm != vm:
                continue
            origin = (file.name, it.line)
            if isinstance(it, Said):
                yield from _entries(conversation, it, origin, skipped)
            elif it.kind != "lost":
                yield it.kind, it.time, {**it.body, "origin": [*origin]}
            elif conversation.is_open:
                yield conversation.lost(it.time, origin, by_us=it.body.get("by") == "us")


def _entries(conversation: Conversation, it: Said, origin: tuple[str, int], skipped: Skipped) -> list[Entry]:
    if len(it.text) > LINE_LIMIT:
        skipped.add(*origin, f"longer than {LINE_LIMIT} bytes")
        return []
    text = it.text.strip()
    try:
        document = Document(decode(text), text, 0)
    except JsonError as error:
        skipped.add(*origin, str(error))
        return []
    client = is_command(document.value) if it.client is None else it.client
    message = from_client(document, oob=True) if client else from_qemu(document)
    if isinstance(message, Malformed):
        skipped.add(*origin, message.error)
        return []
    time = it.time or (sane(message.time) if isinstance(message, Event) else 0)
    return conversation.said(message, time, origin, own=it.own)


def is_command(value: Any) -> bool:
    """Say whether a JSON value is shaped as a command."""
    return isinstance(value, dict) and ("execute" in value or "exec-oob" in value)
