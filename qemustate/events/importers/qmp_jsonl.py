r"""Recorded sockets: one line for each read or write, as JSON.

A line is ``{"t": seconds since 1970, "dir": "tx" or "rx", "raw": text}``: ``tx`` went to QEMU, ``rx`` came
from it, ``raw`` is the exact text with its line end (bytes that are no UTF-8 as lone surrogates U+DC80 to
U+DCFF). A line is not always a message: two may share one, one may spread over several.

Beside ``NAME.jsonl`` may lie ``NAME.meta.json``: ``argv``, ``t_start`` (seconds), ``late`` (true where
the connection is not the first of the process, however soon it came), and, once the process is
gone, ``exit`` (negative: the signal) and ``t_exit``. Several files of one process, in order, are its
successive connections. ``NAME.c2.jsonl`` and so on are those of its second client and of later ones.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any, Final, Literal, NamedTuple, cast

import msgspec

from qemustate.errors import BadInput
from qemustate.events.importers.conversation import Conversation, Entry, Skipped, sane
from qemustate.events.importers.files import LINE_LIMIT, TraceFile, blocks, read_beside
from qemustate.events.observe import prints_back
from qemustate.events.redact import redact_argv
from qemustate.qmp.classify import from_client, from_qemu
from qemustate.qmp.framing import LIMIT, Document, Framer, Malformed
from qemustate.qmp.jsontext import JsonError, Sender, decode, decode_objects
from qemustate.qmp.messages import Message

#: Seconds, in the year 5138, that are surely the time of a date.
_LONG: Final = 100_000_000_000

#: The trace began with its process when the first line came at most this many microseconds after it, and
#: its name does not say that it is a later client's.
_PROMPT: Final = 500_000
_LATER: Final = re.compile(r"\.c(?!1\.)\d+\.jsonl")

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
        for entries in _one(file, name, meta, skipped, same=same):
            yield from entries
            if entries:
                _, time, body = entries[-1]
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
) -> Iterator[list[Entry]]:
    """Yield the entries of one file, its beginning included."""
    connection, begun = _Connection(file.name), False
    for number, block in blocks(file, together=False):
        for told in _told(block, number, file.name, skipped):
            if not begun:
                begun = True
                origin = (file.name, told.lines[0])
                yield [*_begin(connection.conversation, meta_name, meta, told.times[0], origin, same=same)]
            yield connection.entries(told)
    yield connection.eof()


class _Told(NamedTuple):
    """What lines hold: their numbers, when, which way (``tx``, ``rx``), and the bytes; a column each."""

    lines: Sequence[int]
    times: Sequence[int]
    ways: Sequence[str]
    raws: Sequence[bytes]

    def part(self, first: int, end: int) -> _Told:
        """Return some of the lines."""
        return _Told(self.lines[first:end], self.times[first:end], self.ways[first:end], self.raws[first:end])


#: Fewer lines than so many are looked at one by one.
_FEW: Final = 4


class _Connection:
    """What one file tells: the conversation, and where the bytes of either side stand."""

    def __init__(self, name: str) -> None:
        self.conversation = Conversation()
        self._name, self._last = name, (0, 1)
        self._framers = {"tx": Framer(strict=True), "rx": Framer()}

    def entries(self, told: _Told) -> list[Entry]:
        """Return the entries of some lines: all at once where each is a message, or else of halves."""
        if not any(framer.pending for framer in self._framers.values()):
            messages = _messages(told)
            if messages is not None:
                self._last = told.times[-1], told.lines[-1]
                return self.conversation.all_said(self._name, told.lines, told.times, messages)
        if len(told.lines) < _FEW:
            return [entry for line in zip(*told, strict=True) for entry in self._framed(*line)]
        middle, end = len(told.lines) // 2, len(told.lines)
        return self.entries(told.part(0, middle)) + self.entries(told.part(middle, end))

    def eof(self) -> list[Entry]:
        """Return the entries of what was left unfinished."""
        left = [(way, framer.eof()) for way, framer in self._framers.items()]
        return [entry for way, found in left for entry in self._found(found, way)]

    def _framed(self, line: int, time: int, way: str, raw: bytes) -> list[Entry]:
        self._last = time, line
        return self._found(self._framers[way].feed(raw), way)

    def _found(self, found: list[Document | Malformed], way: str) -> list[Entry]:
        time, line = self._last
        origin, client = (self._name, line), way == "tx"
        return [entry for it in found for entry in self.conversation.entries(it, time, origin, client=client)]


def _messages(told: _Told) -> list[Message] | None:
    """Return the message that each line is; None where one is not, or a framer must look."""
    raws = told.raws
    if b"".join(raws).count(b"\n") != len(raws) or {*map(_last, raws)} != {0x0A}:
        return None
    texts = [raw.strip(b" \t\r\n") for raw in raws]
    values = decode_objects(texts) if max(map(len, texts)) <= LIMIT else None
    if values is None:
        return None
    documents = [Document(value, text, 0) for value, text in zip(values, texts, strict=True)]
    messages = [
        from_client(document, oob=True) if way == "tx" else from_qemu(document)
        for document, way in zip(documents, told.ways, strict=True)
    ]
    if Malformed in {*map(type, messages)}:
        return None
    commands = [document for document, way in zip(documents, told.ways, strict=True) if way == "tx"]
    return cast("list[Message]", messages) if _each_member_once(commands) else None


def _each_member_once(commands: list[Document]) -> bool:
    """Say whether no command surely has a member that came twice: QEMU refuses those, what decodes keeps the last."""
    values = [it.value for it in commands]
    return any(
        prints_back(values, b"[%b]" % separator.join([it.text for it in commands]), sender)
        for separator, sender in _PRINTED
    )


_PRINTED: Final[tuple[tuple[bytes, Sender], ...]] = ((b",", "client"), (b", ", "qemu"))
_last: Final = itemgetter(-1)


class _Line(msgspec.Struct):
    """A line as it stands."""

    dir: Literal["tx", "rx"]
    raw: str
    t: int | float | None = None


_lines: Final = msgspec.json.Decoder(_Line).decode_lines
_REFUSED: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)


def _told(block: bytes, number: int, name: str, skipped: Skipped) -> Iterator[_Told]:
    """Yield what the lines of a block hold that can be read: all at once where all can, or else of its halves."""
    count = block.count(b"\n") + (not block.endswith(b"\n"))
    try:
        lines = _lines(block)
        if len(lines) == count:
            # What is no text takes the closer look.
            raws = [it.raw.encode() for it in lines]
            times = _all_microseconds([it.t for it in lines])
            yield _Told(range(number, number + count), times, [it.dir for it in lines], raws)
            return
    except _REFUSED:
        pass
    middle = block.find(b"\n", len(block) // 2) + 1
    if count >= _FEW and 0 < middle < len(block):
        yield from _told(block[:middle], number, name, skipped)
        yield from _told(block[middle:], number + block.count(b"\n", 0, middle), name, skipped)
        return
    for at, line in enumerate(block.split(b"\n"), number):
        it = _line(line)
        if isinstance(it, tuple):
            time, way, raw = it
            yield _Told([at], [time], [way], [raw])
        elif it:
            skipped.add(name, at, it)


def _line(line: bytes) -> tuple[int, str, bytes] | str:
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


def _all_microseconds(seconds: list[Any]) -> list[int]:
    if {*map(type, seconds)} == {float} and min(seconds) > 0 and max(seconds) < _LONG:
        return list(map(round, [it * 1_000_000 for it in seconds]))
    return [_microseconds(it) for it in seconds]


def _microseconds(seconds: Any) -> int:
    if type(seconds) is float and 0 < seconds < _LONG:
        return round(seconds * 1_000_000)
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
    prompt = prompt and not _LATER.search(origin[0]) and meta.get("late") is not True
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
