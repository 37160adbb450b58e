r"""Bytes to JSON texts: where one text on the wire ends and the next begins.

QMP is a stream of JSON texts. Line ends mean nothing, although QEMU ends each of its texts with ``\r\n``:
several texts may share a line, one may spread over many, none needs a line end. The rules for damage are
those of QEMU's lexer (``qobject/json-lexer.c``, ``json-streamer.c``, ``docs/interop/qmp-spec.rst``):

- a control character other than tab, CR and LF, or a byte 0xFE or 0xFF, ends whatever text is open and
  puts the reader back into a known state; in a string so does any control character;
- another byte that belongs to no token ends the open text too;
- after damage reading resumes at the next ``{ } [ ] : ,``, line end, control character, 0xFE or 0xFF; after
  a reset byte outside a string, at once;
- a ``}`` or ``]`` too many, or a ``:`` or ``,`` outside any text, is a damaged text of its own.

A text longer than the limit is reported as soon as it is too long, and reading resumes after the next line
end. Damage is reported in its place among the documents; nothing around it is lost or moved. What is found
does not depend on how the stream is cut into chunks.
"""

from __future__ import annotations

import re
import sys
from typing import Any, Final

import msgspec

from qemustate.qmp.jsontext import MAX_NESTING, JsonError, decode, reproduces
from qemustate.qmp.scanner import RESET, Scanner

#: The longest text in bytes, as QEMU's own MAX_TOKEN_SIZE (json-streamer.c).
LIMIT: Final = 64 * 1024 * 1024

#: How many bytes of a text that is too long are kept in the report, at most.
KEPT: Final = 1024


class Document(msgspec.Struct, frozen=True, gc=False):
    """One JSON text: its ``value``, its exact ``text`` without white space around it, its stream ``offset``."""

    value: Any
    text: bytes
    offset: int


class Malformed(msgspec.Struct, frozen=True, gc=False):
    """Bytes that are no message: ``data``, its stream ``offset``, and ``error``, in QEMU's words where it has some.

    ``value`` is the parsed text where it is JSON but not QMP, else None.
    """

    data: bytes
    offset: int
    error: str
    value: Any = None


_fast_decode = msgspec.json.Decoder().decode
_REFUSED: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)

_WHITE: Final = re.compile(rb"[ \t\r\n]*+")
#: In a line without its end: a } that may have ended a text.
_MAY_END: Final = re.compile(rb"\}[ \t\r]*+(?:[^ \t\r,}\]]|\Z)")


class Framer:
    """Cuts a stream into documents.

    ``limit`` is the longest text taken, in bytes. ``strict`` reads as QEMU's parser reads, for text on its
    way to QEMU; otherwise all that QEMU may print is taken. See jsontext.decode.
    """

    def __init__(self, limit: int = LIMIT, *, strict: bool = False) -> None:
        self._limit = limit
        self._strict = strict
        # QEMU refuses deep nesting; what it prints has no such limit.
        self._max_nesting = MAX_NESTING if strict else sys.maxsize
        self._pending = bytearray()  # the open text, from its first byte
        self._one_line = True  # it begins with { and has no line end so far
        self._scanner = Scanner(self._max_nesting)
        self._offset = 0  # of the open text in the stream, or of the next byte where none is open
        self._skipping = False  # over the rest of a line whose text was too long

    @property
    def pending(self) -> int:
        """How many bytes of an unfinished text are held."""
        return len(self._pending)

    def feed(self, data: bytes) -> list[Document | Malformed]:
        """Take the next bytes; return what they completed, in order."""
        found: list[Document | Malformed] = []
        if self._skipping:
            data = self._skip(data)
        if self._pending:
            data = self._go_on(data, found)
        if data:
            self._read(data, found)
        return found

    def eof(self) -> list[Document | Malformed]:
        """Say that no more bytes will come; return what the last ones were."""
        found: list[Document | Malformed] = []
        while self._pending:
            text = bytes(self._pending)
            end = self._scanner.find_end(text, 0, final=True)
            if end < 0:
                self._scanner.error, end = "the stream ended inside this text", len(text)
            end = self._take(text, 0, end, found)
            self._read(text[end:], found)
        return found

    def _read(self, data: bytes, found: list[Document | Malformed]) -> None:
        """Read from outside any text; what is left unfinished becomes pending."""
        at, size, find = 0, len(data), data.find
        while True:
            line_end = find(b"\n", at)
            # Nearly always a line is one text; then it need not be looked at byte by byte.
            if line_end >= 0 and data[at] == 0x7B:
                document = self._whole(data[at:line_end])
                if document:
                    found.append(document)
                    self._offset += line_end + 1 - at
                    at = line_end + 1
                    if at == size:
                        return
                    continue
            start = _white_end(data, at)
            self._offset += start - at
            if start == size:
                return
            lazy = line_end < 0 and data[start] == 0x7B and not _may_end(data, start)
            # What is too long to wait for is looked at: its text may end within the limit.
            lazy = lazy and size - start <= self._limit
            end = -1 if lazy else self._scanner.find_end(data, start)
            if end < 0 and size - start <= self._limit:
                self._pending += data[start:]
                self._one_line = data[start] == 0x7B and find(b"\n", start) < 0
                return
            at = self._take(data, start, end, found)

    def _go_on(self, data: bytes, found: list[Document | Malformed]) -> bytes:
        """Go on with the pending text; return the bytes after it, none while it is open."""
        pending = self._pending
        if self._one_line:
            line_end = data.find(b"\n")
            if line_end >= 0:
                self._one_line = False
                document = self._whole(bytes(pending) + data[:line_end])
                if document:
                    found.append(document)
                    self._offset += len(pending) + line_end + 1
                    self._begin()
                    return data[line_end + 1 :]
            elif len(pending) + len(data) <= self._limit and not _may_end(data, 0):
                pending += data
                return b""
        pending += data
        end = self._scanner.find_end(pending, 0)
        if end < 0 and len(pending) <= self._limit:
            return b""
        end = self._take(pending, 0, end, found)
        return bytes(memoryview(pending)[end:])

    def _whole(self, line: bytes) -> Document | None:
        """Return a line that is one text, or None where it takes a closer look."""
        text = line.rstrip(b" \t\r")
        try:
            value = _fast_decode(text)
        except _REFUSED:
            return None
        if len(text) > self._limit or (self._strict and not _is_exact(value, text)):
            return None
        return Document(value, text, self._offset)

    def _take(self, data: bytes | bytearray, start: int, end: int, found: list[Document | Malformed]) -> int:
        """Report the open text, data[start:end], or that it is too long; return where to read on."""
        error = self._scanner.error
        if end < 0 or end - start > self._limit:
            error = f"a text longer than {self._limit} bytes"
            found.append(Malformed(bytes(data[start : start + min(KEPT, self._limit)]), self._offset, error))
            end = data.find(b"\n", start + self._limit) + 1
            if not end:
                self._skipping, end = True, len(data)
        else:
            found.append(self._judge(bytes(data[start:end]), error))
        self._offset += end - start
        self._begin()
        return end

    def _judge(self, text: bytes, error: str) -> Document | Malformed:
        if error:
            return Malformed(text, self._offset, error)
        try:
            return Document(decode(text, strict=self._strict), text, self._offset)
        except JsonError as refusal:
            return Malformed(text, self._offset, f"JSON parse error, {refusal.reason}")

    def _begin(self) -> None:
        """Forget the open text."""
        if self._pending:
            self._pending = bytearray()
        self._scanner = Scanner(self._max_nesting)

    def _skip(self, data: bytes) -> bytes:
        end = data.find(b"\n") + 1
        self._skipping = not end
        self._offset += end or len(data)
        return data[end:] if end else b""


def _is_exact(value: Any, text: bytes) -> bool:
    """Say whether the value prints as the text; then no member came twice."""
    return reproduces(value, text, "client") or reproduces(value, text, "qemu")


def _may_end(data: bytes, start: int) -> bool:
    """Say whether a text that was open at ``start`` may end in data that has no line end."""
    part = data[start:] if start else data
    return len(part.translate(None, RESET)) != len(part) or _MAY_END.search(part) is not None


def _white_end(data: bytes, at: int) -> int:
    match = _WHITE.match(data, at)
    return match.end() if match else at
