r"""The bytes of a log: all that is needed to write a reader in another language.

**A segment** is a file that holds msgpack objects one after another, nothing before, between or behind
them. Each object is an *item*, an array of five::

    +------+---------+----------+---------+---------+------+----+----+----+----+
    | 0x95 |   seq   |   time   |  kind   |  body   | 0xce |    crc, 4 bytes   |
    +------+---------+----------+---------+---------+------+----+----+----+----+
    array   unsigned   integer    string     map      uint32    big-endian
    of 5    integer    >= 0       (UTF-8)    keys: strings

    |<------------- covered by crc ---------------->|

``seq``   1, 2, 3, ... one more than the item before, also across segments. Every item counts. Only what
          is left of a truncated log, and a repaired copy of one, begin with another number than 1
``time``  microseconds since 1970, UTC; 0 where nobody knows. It may run backwards: ``seq`` is the order
``kind``  what the item is, see :mod:`qemustate.events.records`. Version 1 of a kind is its plain name,
          version 2 is ``name/2``. A kind a reader does not know is an item like any other
``body``  a map; nested at most 500 deep, an item has at most 256 MiB
``crc``   CRC-32 (as in zlib, gzip and PNG) of **all bytes of the segment before the byte 0xce**, the
          checksums of earlier items included. It is always written as 0xce and four bytes, however small

So the checksums chain: the one of the last item in any stretch of the file verifies the whole stretch, and
an item that was taken out, put in or moved shows in all items behind it. To verify item after item, keep
``crc = crc32(bytes of the item but its last 5, crc)``, compare, then ``crc = crc32(those 5 bytes, crc)``.

**A log** is named by a path P. Its segments are the files ``P`` (number 1), ``P.000002``, ``P.000003``,
... Files are never renamed. Only the last one grows::

    P          [1, ..., "segment", {"format": "qemustate", "version": 1, "vm": "a", "segment": 1, "chain": 0}, crc]
               [2, ..., "spawned", {...}, crc]
               ...
    P.000002   [90, ..., "segment", {..., "segment": 2, "chain": CRC-32 of the whole file P}, crc]
               [91, ..., "snapshot", {"state": ..., "tables": ...}, crc]
               [92, ..., "event", {...}, crc]
               ...
               [99, ..., "closed", {}, crc]

The first item of every segment has the kind ``segment``. The second of a later segment may be a
``snapshot``; all segments before such a one may be deleted, so a log may begin with a segment other than
the first. A ``closed`` item at the very end says that the writer ended on purpose. The log may be opened
again, and then ``closed`` stands in the middle. Without it at the end, the log is *not closed*: its
writer still runs, or died.

``P.lock`` exists while a writer runs, which holds an exclusive ``flock`` on it.

**What a crash leaves.** Items are appended with one ``write`` for one or more items, so a crash leaves a
prefix of what was being written (``torn-tail``), or, where the host went down, zero bytes where data had
not reached the disk (``zero-tail``). Both are cut at the end of the last whole item before anything is
appended. All other damage is damage, see :class:`Damage`.
"""

from __future__ import annotations

import enum
import os
import re
from pathlib import Path
from typing import Final

import msgspec

# Everything down to the next comment is part of the format and may not change.

FORMAT_NAME: Final = "qemustate"
FORMAT_VERSION: Final = 1

#: First byte of every item: a msgpack array of five.
ITEM_BYTE: Final = 0x95
#: The byte before the checksum: a msgpack uint32.
CRC_BYTE: Final = 0xCE
#: The checksum with its byte.
CRC_BYTES: Final = 5
#: Levels of arrays and maps in a body, the body itself included.
MAX_DEPTH: Final = 500
#: The longest item.
MAX_ITEM_BYTES: Final = 256 << 20

# From here on: what this implementation makes of it.

#: Any item begins like this after a checksum; the look-ahead finds overlapping ones too.
BOUNDARY: Final = re.compile(rb"(?=\xce....\x95)", re.DOTALL)

_HEAD = re.compile(rb"\x95(?:[\x00-\x7f]|\xcc.|\xcd..|\xce.{4}|\xcf.{8})(?:[\x00-\x7f]|\xcc.|\xcd..|\xce.{4}|\xcf.{8})\xa7segment", re.DOTALL)  # fmt: skip


class Damage(enum.Enum):
    """What can be wrong with a log."""

    #: The last segment ends inside an item, and nothing that verifies comes after its beginning.
    TORN_TAIL = "torn-tail"
    #: The last segment ends in zero bytes, after a whole item or inside one.
    ZERO_TAIL = "zero-tail"
    #: An item whose checksum is not that of the bytes before it.
    BAD_CHECKSUM = "bad-checksum"
    #: Bytes that are no item: no msgpack, not five fields, fields of other types, or too long.
    BAD_ITEM = "bad-item"
    #: An item that verifies, with a number other than the one that follows.
    WRONG_SEQUENCE = "wrong-sequence"
    #: A segment's number is absent between others, or absent before one without a snapshot.
    MISSING_SEGMENT = "missing-segment"
    #: A segment whose ``chain`` is not the checksum of the segment before it.
    CHAIN_BROKEN = "chain-broken"
    #: The file does not begin with a ``segment`` item of this format, in a version that is known.
    NOT_A_LOG = "not-a-log"
    #: The file has no bytes at all.
    EMPTY = "empty"


class Fault(msgspec.Struct, frozen=True):
    """One damage: in file ``path`` from byte ``offset`` on; ``size`` bytes there cannot be read as items."""

    damage: Damage
    path: str
    offset: int
    size: int
    expected: str
    seen: str

    def __str__(self) -> str:
        return (
            f"{self.path}, byte {self.offset}: {self.damage.value}: expected {self.expected}, saw {self.seen}"
        )


def is_torn_tail(damage: Damage) -> bool:
    """Say whether a crash alone explains this damage, so that cutting it at its offset repairs the log."""
    return damage in {Damage.TORN_TAIL, Damage.ZERO_TAIL}


def looks_like_log(head: bytes) -> bool:
    """Say whether a file that begins with ``head`` (32 bytes are enough) claims to be a segment."""
    return _HEAD.match(head) is not None


def segment_path(path: str | os.PathLike[str], number: int) -> Path:
    """Return the file of segment ``number`` (from 1) of the log ``path``."""
    return Path(path) if number == 1 else Path(f"{os.fspath(path)}.{number:06d}")


def segment_numbers(path: str | os.PathLike[str]) -> list[int]:
    """Return the numbers of the segments that exist, in order; empty where there is no log."""
    path = Path(path)
    numbers = [1] if path.exists() else []
    named = re.compile(re.escape(path.name) + r"\.([0-9]{6,})\Z")
    try:
        later = [int(found[1]) for file in path.parent.iterdir() if (found := named.match(file.name))]
    except OSError:
        return numbers
    return sorted({*numbers, *(number for number in later if number > 1)})


def lock_path(path: str | os.PathLike[str]) -> Path:
    """Return the file that a writer of the log ``path`` holds locked."""
    return Path(f"{os.fspath(path)}.lock")
