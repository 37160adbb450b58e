"""Foreign files: compressed or not, read in pieces of bounded size, cut into numbered lines.

What a file is stands in its first bytes, not in its name: gzip begins ``1f 8b`` (RFC 1952), xz
``fd 37 7a 58 5a 00`` (the .xz file format, 2.1.1.1). Nothing here keeps more than one line in memory.
"""

from __future__ import annotations

import gzip
import lzma
import zlib
from contextlib import contextmanager
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

_PIECE: Final = 64 << 10
_ENDINGS: Final = (".gz", ".xz", ".jsonl", ".json", ".log", ".txt", ".out", ".trace", ".qmp", ".qlog")


class TraceFile(msgspec.Struct, frozen=True):
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

    @property
    def name(self) -> str:
        """The last part of the shown name, for the ``origin`` of records."""
        return Path(self.shown).name

    @property
    def stem(self) -> str:
        """The name without its endings for compression and format: the name of the VM in it."""
        name = self.name
        while (ending := Path(name).suffix) in _ENDINGS:
            name = name.removesuffix(ending)
        return name if name not in ("", "-") else "vm"

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


def pieces(file: TraceFile) -> Iterator[bytes]:
    """Yield the content, expanded where it is compressed, in pieces of at most 64 KiB.

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


def _expanding(raw: IO[bytes], magic: bytes) -> IO[bytes]:
    if magic.startswith(b"\x1f\x8b"):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=raw))
    if magic == b"\xfd7zXZ\x00":
        return cast("IO[bytes]", lzma.LZMAFile(raw))
    return raw


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


def read_beside(file: TraceFile, ending: str, limit: int = 16 << 20) -> tuple[str, Any] | None:
    """Return ``(name, value)`` of the JSON file that lies beside a trace under another ending, or None.

    ``NAME.jsonl.xz`` has ``NAME.meta.json`` beside it. Raises BadInput when that file is there and is no JSON.
    """
    name = file.path.name
    for compression in (".gz", ".xz"):
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
