r"""Recorded sockets: one line for each read or write, as JSON.

A line is ``{"t": seconds since 1970, "dir": "tx" or "rx", "raw": text}``: ``tx`` went to QEMU, ``rx`` came
from it, ``raw`` is the exact text with its line end (bytes that are no UTF-8 as lone surrogates U+DC80 to
U+DCFF). A line is not always a message: two may share one, one may spread over several.

Beside ``NAME.jsonl`` may lie ``NAME.meta.json``: ``argv``, ``t_start`` (seconds), and, once the process is
gone, ``exit`` (negative: the signal) and ``t_exit``. Several files of one process, in order, are its
successive connections.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec

from qemustate.errors import BadInput
from qemustate.events.importers.conversation import Conversation, Entry, Skipped, sane
from qemustate.events.importers.files import LINE_LIMIT, TraceFile, blocks, read_beside
from qemustate.events.redact import redact_argv
from qemustate.qmp.framing import LIMIT, Document, Framer
from qemustate.qmp.jsontext import JsonError, decode, reproduces

#: The trace began with its process when the first line came at most this many microseconds after it.
_PROMPT: Final = 500_000

_DIR: Final = re.compile(rb'"dir"\s*:\s*"(?:tx|rx)"')
_RAW: Final = re.compile(rb'"raw"\s*:\s*"')


def sniff(head: bytes) -> bool:
    """Say whether the first line that is not blank is one of this format."""
    first = head.lstrip().partition(b"\n")[0]
    return first.startswith(b"{") and _RAW.search(first) is not None and _DIR.search(head) is not None


def lacks(files: Sequence[TraceFile], _head: bytes) -> tuple[str, ...]:
    """Return what these files cannot show."""
    first, last = _meta(files[0])[1], _meta(files[-1])[1]
    missing = [] if "argv" in first else ["beginning"]
    if not isinstance(last.get("exit"), int):
        missing.append("process")
    return tuple(missing)


def read(files: Sequence[TraceFile], skipped: Skipped) -> Iterator[Entry]:
    """Yield the entries of a VM's files. Raises BadInput where a file cannot be read at all."""
    process: Any = None
    ends: Iterator[Entry] = iter(())
    for number, file in enumerate(files):
        name, meta = _meta(file)
        told = (meta.get("argv"), meta.get("t_start"))
        same = number > 0 and told == process
        if not same:
            yield from ends
        process = told
        last = ("", 0, 0)
        for kind, time, body in _one(file, name, meta, skipped, same=same):
            yield kind, time, body
            last = (*body["origin"], time)
        ends = _end(name, meta, *last)
    yield from ends


def _meta(file: TraceFile) -> tuple[str, dict[str, Any]]:
    """Return the name and the content of the file beside a trace; ``("", {})`` where there is none."""
    name, meta = read_beside(file, ".meta.json") or ("", {})
    if not isinstance(meta, dict):
        raise BadInput(name, expected="a JSON object", seen=type(meta).__name__)
    return name, meta


def _one(
    file: TraceFile, meta_name: str, meta: dict[str, Any], skipped: Skipped, *, same: bool
) -> Iterator[Entry]:
    """Yield the entries of one file, its beginning included."""
    conversation, begun = Conversation(), False
    framers = {"tx": Framer(strict=True), "rx": Framer()}
    time, origin = 0, (file.name, 1)
    name = file.name
    for number, told in _told(file, skipped):
        time, direction, raw = told
        client = direction == "tx"
        origin = (name, number)
        if not begun:
            begun = True
            yield from _begin(conversation, meta_name, meta, time, origin, same=same)
        framer = framers[direction]
        document = None if framer.pending else _whole(raw, client=client)
        if document is not None:
            yield from conversation.entries(document, time, origin, client=client)
            continue
        for found in framer.feed(raw):
            yield from conversation.entries(found, time, origin, client=client)
    for direction, framer in framers.items():
        for found in framer.eof():
            yield from conversation.entries(found, time, origin, client=direction == "tx")


def _whole(raw: bytes, *, client: bool) -> Document | None:
    """Return the one text that nearly every line is; None where the framer must look."""
    text = raw.rstrip(b" \t\r\n")
    if len(text) == len(raw) or not text.startswith(b"{") or raw[-1] != 0x0A or len(text) > LIMIT:
        return None
    try:
        value = _decode(text)
    except _REFUSED:
        return None
    # A member that came twice is refused by QEMU, and kept by what decodes.
    if client and not (reproduces(value, text, "qemu") or reproduces(value, text, "client")):
        return None
    return Document(value, text, 0)


#: When, which way, and the bytes of a line.
_Told: TypeAlias = tuple[int, str, bytes]


class _Line(msgspec.Struct):
    """A line as it stands."""

    dir: Literal["tx", "rx"]
    raw: str
    t: int | float | None = None


_decode: Final = msgspec.json.Decoder().decode
_lines: Final = msgspec.json.Decoder(_Line).decode_lines
_REFUSED: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)


def _told(file: TraceFile, skipped: Skipped) -> Iterator[tuple[int, _Told]]:
    """Yield number and content of each line that can be read, many at a time where all can."""
    for number, block in blocks(file, together=False):
        try:
            # What is no number of ours, or no text, takes the closer look.
            together = [(_microseconds(it.t), it.dir, it.raw.encode()) for it in _lines(block)]
        except _REFUSED:
            together = []
        if len(together) == block.count(b"\n") + (not block.endswith(b"\n")):
            yield from enumerate(together, number)
            continue
        for at, line in enumerate(block.split(b"\n"), number):
            told = _line(line)
            if isinstance(told, tuple):
                yield at, told
            elif told:
                skipped.add(file.name, at, told)


def _line(line: bytes) -> _Told | str:
    """Return what a line holds, or why it cannot be read; "" for a blank one."""
    if not line.strip():
        return ""
    if len(line) > LINE_LIMIT:
        return f"longer than {LINE_LIMIT} bytes"
    try:
        it = decode(line)
    except JsonError as error:
        return str(error)
    if not isinstance(it, dict) or it.get("dir") not in ("tx", "rx") or not isinstance(it.get("raw"), str):
        return 'not {"t": ..., "dir": "tx" or "rx", "raw": text}'
    try:
        raw = it["raw"].encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        return f"raw is no text: {error.reason}"
    return _microseconds(it.get("t")), it["dir"], raw


def _microseconds(seconds: Any) -> int:
    if isinstance(seconds, int | float) and math.isfinite(seconds):
        return sane(round(seconds * 1_000_000))
    return 0


def _begin(
    conversation: Conversation,
    meta_name: str,
    meta: dict[str, Any],
    time: int,
    origin: tuple[str, int],
    *,
    same: bool,
) -> Iterator[Entry]:
    """Yield how a file's connection came about, and the start of its process where that is told."""
    if same:
        why = "the trace goes on with another connection"
        yield conversation.lost(time, origin, why, by_us=True)
        yield conversation.opened(time, origin, first=False)
        return
    argv = meta.get("argv")
    start = _microseconds(meta.get("t_start"))
    prompt = bool(start) and bool(argv) and time - start <= _PROMPT
    if isinstance(argv, list) and argv:
        words = redact_argv([str(word) for word in argv])
        yield "spawned", start, {"argv": words, "late": not prompt, "origin": [meta_name, 1]}
    yield conversation.opened(time, origin, first=prompt)


def _end(meta_name: str, meta: dict[str, Any], file: str, line: int, time: int) -> Iterator[Entry]:
    """Yield the end of the process, where it is told and anything was seen before it."""
    status = meta.get("exit")
    if not isinstance(status, int) or not file:
        return
    yield "lost", time, {"origin": [file, line]}
    how = {"signal": -status} if status < 0 else {"status": status}
    yield "exited", _microseconds(meta.get("t_exit")), {**how, "origin": [meta_name, 1]}
