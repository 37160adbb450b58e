"""Foreign files: compressed or not, read in pieces of bounded size, cut into numbered lines.

What a file is stands in its first bytes, not in its name: gzip begins ``1f 8b`` (RFC 1952), xz
``fd 37 7a 58 5a 00`` (the .xz file format, 2.1.1.1), Zstandard ``28 b5 2f fd`` (RFC 8878). Nothing here keeps
more than one line in memory.
"""

from __future__ import annotations

import gzip
import importlib
import lzma
import re
import zlib
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, cast

import msgspec

from qemustate.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterator

#: How much of a file is looked at to find out what it is.
HEAD_BYTES: Final = 256 << 10

#: The longest line taken: a message of QMP's 64 MiB, with room for its escapes.
LINE_LIMIT: Final = 128 << 20

#: A compressed file may grow to this much, and beyond that to EXPANSION_RATIO times what was read of it.
EXPANSION_FREE: Final = 256 << 20
EXPANSION_RATIO: Final = 200

#: Bytes read at once: so few that what comes of them is still in the cache when it is written.
_PIECE: Final = 64 << 10
_COMPRESSED: Final = (".gz", ".xz", ".zst")
_GZIP, _XZ, _ZSTD = b"\x1f\x8b", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"
_ENDINGS: Final = (
    *_COMPRESSED, ".jsonl", ".json", ".log", ".txt", ".out", ".trace", ".qmp", ".qlog", ".stdout", ".replies",
)  # fmt: skip
#: How logrotate names the older parts of a log: a number, or a date (``dateext``).
_ROTATED: Final = re.compile(r"(?P<base>.+)(?:\.(?P<age>\d{1,5})|-(?P<date>\d{8}(?:\d\d)?))")


class TraceFile(msgspec.Struct, frozen=True, dict=True):
    """A file to import: where it is, and the name it is shown by (``-`` for standard input).

    ``held`` is whatever must live as long as this does, such as a temporary file.
    """

    path: Path
    shown: str
    held: Any = None

    @classmethod
    def at(cls, path: Path | str) -> TraceFile:
        """Return the file at a path, shown as that path."""
        return cls(Path(path), str(path))

    @cached_property
    def name(self) -> str:
        """The last part of the shown name, for the ``origin`` of records."""
        return Path(self.shown).name

    @cached_property
    def stem(self) -> str:
        """The name without rotation and endings for compression and format: the name of the VM in it."""
        name = _rotated(self.name)[0]
        while (ending := Path(name).suffix) in _ENDINGS:
            name = name.removesuffix(ending)
        return name if name not in ("", "-") else "vm"

    @cached_property
    def part(self) -> tuple[str, tuple[int, int]]:
        """The log of which this is a part, and its place: older parts sort first."""
        base, place = _rotated(self.name)
        return str(self.path.parent / base), place

    def head(self) -> bytes:
        """Return the first HEAD_BYTES of the (expanded) content. Raises BadInput where there are none."""
        found = b""
        for piece in pieces(self):
            found += piece
            if len(found) >= HEAD_BYTES:
                break
        if not found:
            raise BadInput(self.shown, expected="a trace", seen="an empty file")
        return found[:HEAD_BYTES]


def _rotated(name: str) -> tuple[str, tuple[int, int]]:
    """Return the name that a log had before it was rotated, and its place: older parts sort first."""
    plain = name
    while (ending := Path(plain).suffix) in _COMPRESSED:
        plain = plain.removesuffix(ending)
    found = _ROTATED.fullmatch(plain)
    if found is None or (found["age"] and Path(found["base"]).suffix not in _ENDINGS):
        return plain, (1, 0)
    return found["base"], (0, int(found["date"] or -int(found["age"])))


def pieces(file: TraceFile) -> Iterator[bytes]:
    """Yield the content, expanded where it is compressed, in pieces of at most 256 KiB.

    Raises BadInput when the file cannot be read, is a directory, is cut short or damaged in its
    compression, or expands beyond the limit.
    """
    with _reading(file), file.path.open("rb") as raw:
        magic = raw.read(6)
        raw.seek(0)
        opened = _expanding(raw, magic)
        total = 0
        while piece := opened.read(_PIECE):
            total += len(piece)
            if opened is not raw and total > max(EXPANSION_FREE, EXPANSION_RATIO * raw.tell()):
                seen = f"{raw.tell()} bytes that expand to more than {total}"
                raise BadInput(file.shown, expected=f"at most {EXPANSION_RATIO} times its size", seen=seen)
            yield piece


def is_compressed(head: bytes) -> bool:
    """Say whether a file that begins with ``head`` (6 bytes are enough) is expanded when it is read."""
    return head.startswith((_GZIP, _XZ, _ZSTD))


def _expanding(raw: IO[bytes], magic: bytes) -> IO[bytes]:
    if magic.startswith(_GZIP):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=raw))
    if magic.startswith(_XZ):
        return cast("IO[bytes]", lzma.LZMAFile(raw))
    if magic.startswith(_ZSTD):
        return cast("IO[bytes]", _Zstandard(raw))
    return raw


class _Zstandard:
    """Expands Zstandard, of which the library's own file object does not tell where it is cut short."""

    #: An RLE block makes 128 KiB of 4 bytes (RFC 8878, 3.1.1.2): so much is held at most 8,192 times.
    _FED: Final = 1 << 10

    def __init__(self, raw: IO[bytes]) -> None:
        try:
            self._library = importlib.import_module("zstandard")
        except ImportError as error:
            why = "Zstandard, for which the package zstandard is needed (pip install 'qemustate[zst]')"
            raise OSError(None, why) from error
        self._raw = raw
        self._frame = self._library.ZstdDecompressor().decompressobj()
        self._begun = False
        self._data = memoryview(b"")

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes, none at the end. Raises EOFError where a frame is cut short."""
        unused = b""
        while not self._data:
            fed = unused or self._raw.read(self._FED)
            if not fed:
                if self._begun:
                    raise EOFError
                return b""
            self._begun = True
            try:
                self._data = memoryview(self._frame.decompress(fed))
            except self._library.ZstdError as error:
                raise zlib.error(str(error)) from error
            unused = b""
            if self._frame.eof:
                unused = self._frame.unused_data
                self._frame = self._library.ZstdDecompressor().decompressobj()
                self._begun = False
                if unused and self._data:
                    self._raw.seek(-len(unused), 1)
                    unused = b""
        piece, self._data = bytes(self._data[:size]), self._data[size:]
        return piece


@contextmanager
def _reading(file: TraceFile) -> Iterator[None]:
    """Turn what may go wrong while reading into BadInput."""
    try:
        yield
    except EOFError as error:
        raise BadInput(
            file.shown, expected="a whole compressed file", seen="one that is cut short"
        ) from error
    except (zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise BadInput(file.shown, expected="a whole compressed file", seen=f"damage: {error}") from error
    except OSError as error:
        raise BadInput(
            file.shown, expected="a file that can be read", seen=error.strerror or str(error)
        ) from error


def lines(file: TraceFile) -> Iterator[tuple[int, bytes]]:
    r"""Yield ``(number from 1, line)``; the line with its ``\n``, the last one perhaps without.

    Of a line longer than LINE_LIMIT only the first LINE_LIMIT + 1 bytes come. Raises BadInput as
    :func:`pieces` does.
    """
    number, rest = 1, bytearray()
    for piece in pieces(file):
        start = 0
        while end := piece.find(b"\n", start) + 1:
            if rest:
                rest += piece[start:end]
                yield number, bytes(memoryview(rest)[: LINE_LIMIT + 1])
                rest = bytearray()
            else:
                yield number, piece[start:end]
            number, start = number + 1, end
        if len(rest) <= LINE_LIMIT:
            rest += piece[start:]
    if rest:
        yield number, bytes(memoryview(rest)[: LINE_LIMIT + 1])


def blocks(file: TraceFile, *, together: bool = True) -> Iterator[tuple[int, bytes]]:
    r"""Yield ``(number of its first line, whole lines)``, some hundred KiB at a time, or what a growing file has.

    With ``together``, a line that begins with white space stays with the one before it, which so has to wait for it. Of a line longer than LINE_LIMIT only the
    first LINE_LIMIT + 1 bytes come. Raises BadInput as :func:`pieces` does.
    """
    number, rest = 1, bytearray()
    longest = False
    for piece in pieces(file):
        if longest:
            end = piece.find(b"\n")
            if end < 0:
                continue
            piece, longest = piece[end:], False
        rest += piece
        cut = whole_lines(rest, len(rest) - len(piece)) if together else rest.rfind(b"\n") + 1
        if cut:
            block = bytes(memoryview(rest)[:cut])
            del rest[:cut]
            yield number, block
            number += block.count(b"\n")
        elif len(rest) > LINE_LIMIT and rest.find(b"\n") < 0:
            del rest[LINE_LIMIT + 1 :]
            longest = True
    if rest:
        yield number, bytes(rest)


def whole_lines(data: bytes | bytearray, start: int = 0) -> int:
    """Return where the last line begins that may go on in another, or 0; ``data`` before ``start`` is known.

    What libvirt says that it received stands in one line, so that whoever follows its log need not wait for the next.
    """
    end = len(data)
    if data.endswith(b"\n") and data.find(_RECEIVED, data.rfind(b"\n", 0, end - 1) + 1) >= 0:
        return end
    while (at := data.rfind(b"\n", max(start - 2, 0), end)) >= 0:
        if at + 1 < len(data) and data[at + 1] not in b" \t":
            return at + 1
        end = at
    return 0


_RECEIVED: Final = b"QEMU_MONITOR_RECV_"


def read_beside(file: TraceFile, ending: str, limit: int = 16 << 20) -> tuple[str, Any] | None:
    """Return ``(name, value)`` of the JSON file that lies beside a trace under another ending, or None.

    ``NAME.jsonl.xz`` has ``NAME.meta.json`` beside it. Raises BadInput when that file is there and is no JSON.
    """
    name = file.path.name
    for compression in _COMPRESSED:
        name = name.removesuffix(compression)
    beside = file.path.with_name(name.removesuffix(".jsonl") + ending)
    if file.shown == "-" or beside == file.path or not beside.is_file():
        return None
    with _reading(TraceFile.at(beside)), beside.open("rb") as opened:
        text = opened.read(limit + 1)
    try:
        return beside.name, msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise BadInput(str(beside), expected="a JSON text", seen=str(error)) from error
