"""Records to msgpack and back; the versions of kinds, and how old ones are brought up to date.

msgspec writes, and reads whole blocks that have been verified, at twice msgpack's rate. It refuses some
legal items (deep ones, far down a call stack); msgpack writes those, and reads items one by one.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias
from zlib import crc32

import msgpack
import msgspec

from qemustate.errors import BadInput
from qemustate.events.format import CRC_BYTE, CRC_BYTES, ITEM_BYTE, MAX_DEPTH, MAX_ITEM_BYTES
from qemustate.events.records import Record

#: One item as it stands in a log: ``(seq, time, kind, body, crc)``.
Item: TypeAlias = tuple[int, int, str, dict[str, Any], int]

#: Brings the body of an older version to the next one. Pure: makes a new body where anything differs.
Upcast: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]

#: Kind as written -> the next version's kind, and the function that makes its body. There is none yet.
UPCASTS: Final[dict[str, tuple[str, Upcast]]] = {}

# Containers of more elements than a 64 MiB message can hold are damage, and would be allocated at once.
_MAX_ELEMENTS = 1 << 25

# Stands where the checksum will, in as many bytes.
_ROOM = 0xFFFFFFFF
_ROOM_BYTES = bytes([CRC_BYTE]) + _ROOM.to_bytes(4, "big")

# So many items make a list whose length msgpack writes in two bytes behind a first one.
_FEW, _MANY, _LIST_BYTES = 16, 1 << 16, 3

# What msgspec raises where it cannot or will not write.
_REFUSED = (ValueError, TypeError, OverflowError, RecursionError)

# First bytes of msgpack's maps and arrays.
_CONTAINERS = bytes([*range(0x80, 0xA0), *range(0xDC, 0xE0)])

_encode = msgspec.msgpack.Encoder().encode
_pack = msgpack.Packer().pack
_tail = struct.Struct(">BI").pack
_decode_block = msgspec.msgpack.Decoder(list[tuple[int, int, str, dict[str, Any], int]]).decode


class NotAnItemError(ValueError):
    """Bytes that are complete, and no item; the text says why."""


def encode(seq: int, time: int, kind: str, body: dict[str, Any], running: int) -> tuple[bytes, int]:
    """Return the item's bytes, and the checksum of the segment up to and including them.

    ``running`` is the checksum of the segment before this item. Raises BadInput when the body holds what
    msgpack cannot: integers beyond 64 bits, lone surrogates, other types than JSON's and bytes, nesting
    deeper than 500; or when the item would be longer than 256 MiB.
    """
    covered = _covered((seq, time, kind, body, _ROOM))
    if len(covered) > MAX_DEPTH:
        _check(seq, kind, body, covered)
    crc = crc32(covered, running)
    tail = _tail(CRC_BYTE, crc)
    return covered + tail, crc32(tail, crc)


def encode_all(
    entries: Iterable[tuple[str, dict[str, Any], int]], seq: int, running: int
) -> tuple[bytes, int]:
    """Return the bytes of items made of ``(kind, body, time)``, and the checksum up to and including them.

    The first has the number ``seq + 1``; otherwise as :func:`encode` one by one, at a lower price each.
    """
    items = [(number, time, kind, body, _ROOM) for number, (kind, body, time) in enumerate(entries, seq + 1)]
    parts: list[bytes] = []
    for item, covered in zip(items, _covered_together(items) or map(_covered, items), strict=True):
        if len(covered) > MAX_DEPTH:
            _check(item[0], item[2], item[3], covered)
        crc = crc32(covered, running)
        tail = _tail(CRC_BYTE, crc)
        running = crc32(tail, crc)
        parts += (covered, tail)
    return b"".join(parts), running


def _covered_together(items: list[Item]) -> list[bytes] | None:
    """Return the bytes of each item before its checksum, or None when they must be written one by one."""
    if not _FEW <= len(items) < _MANY:
        return None
    try:
        together = _encode(items)
    except _REFUSED:
        return None
    # What has the room's bytes in its body too is cut into too many parts.
    parts = together[_LIST_BYTES:-CRC_BYTES].split(_ROOM_BYTES)
    return parts if len(parts) == len(items) else None


def _covered(item: Item) -> bytes:
    """Return the bytes of an item before its checksum. Raises BadInput."""
    try:
        return _encode(item)[:-CRC_BYTES]
    except _REFUSED as refusal:
        seq, time, kind, body, _ = item
        return _pack_item(seq, time, kind, body, refusal)


def _check(seq: int, kind: str, body: dict[str, Any], covered: bytes) -> None:
    if len(covered) > MAX_ITEM_BYTES - CRC_BYTES:
        raise _cannot_keep(seq, kind, f"{len(covered)} bytes")
    if _too_deep(body, covered):
        raise _cannot_keep(seq, kind, "deeper nesting")


def _pack_item(seq: int, time: int, kind: str, body: dict[str, Any], refusal: Exception) -> bytes:
    """Return, by msgpack, what msgspec refused for its depth. Raises BadInput where that is not why."""
    try:
        if not isinstance(refusal, RecursionError):
            raise refusal
        packed: bytes = _pack((seq, time, kind, body, _ROOM))
    except (ValueError, TypeError, OverflowError) as error:
        raise _cannot_keep(seq, kind, str(error)) from error
    return packed[:-CRC_BYTES]


def _cannot_keep(seq: int, kind: str, seen: str) -> BadInput:
    expected = f"plain values, integers of 64 bits, text that is UTF-8, {MAX_DEPTH} levels, 256 MiB"
    return BadInput(f"record {seq} ({kind})", "body", expected=expected, seen=seen)


def _too_deep(body: dict[str, Any], covered: bytes) -> bool:
    """Count levels, breadth first, but only where there are bytes enough that may begin a container."""
    if len(covered) - len(covered.translate(None, _CONTAINERS)) <= MAX_DEPTH:
        return False
    level: list[Any] = [body]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for value in level
            for inner in (value.values() if isinstance(value, dict) else value)
            if type(inner) in _NESTED
        ]
        if not level:
            return False
    return True


_NESTED: Final = (dict, list, tuple)


def decode_block(data: bytes, count: int) -> list[Item] | None:
    """Return the ``count`` items that ``data`` consists of, or None when they must be read one by one."""
    try:
        return _decode_block(b"\xdd" + count.to_bytes(4, "big") + data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def decode_item(data: bytes | memoryview) -> tuple[Item, int] | None:
    """Return the first item of ``data`` and its length in bytes; None when ``data`` ends inside it.

    Raises NotAnItemError. Checksum and number are not looked at.
    """
    if data and data[0] != ITEM_BYTE:
        raise NotAnItemError(f"byte 0x{data[0]:02x} where an item begins with 0x95")
    unpacker = msgpack.Unpacker(
        max_buffer_size=len(data) or 1, max_str_len=MAX_ITEM_BYTES, max_bin_len=MAX_ITEM_BYTES,
        max_ext_len=MAX_ITEM_BYTES, max_array_len=_MAX_ELEMENTS, max_map_len=_MAX_ELEMENTS,
        strict_map_key=False,
    )  # fmt: skip
    unpacker.feed(data)
    try:
        fields = unpacker.unpack()
    except msgpack.OutOfData:
        if len(data) > MAX_ITEM_BYTES:
            raise NotAnItemError(f"an item longer than {MAX_ITEM_BYTES} bytes") from None
        return None
    except (ValueError, TypeError, OverflowError) as error:
        raise NotAnItemError(f"no msgpack: {error or type(error).__name__}") from error
    length = unpacker.tell()
    if [type(field) for field in fields] != [int, int, str, dict, int] or fields[0] < 0 or fields[1] < 0:
        raise NotAnItemError("fields that are not number, time, kind, body, checksum")
    if data[length - CRC_BYTES] != CRC_BYTE:
        raise NotAnItemError("a checksum that is not written as 0xce and four bytes")
    return tuple(fields), length


def leading_seq(data: bytes, at: int) -> int | None:
    """Return the number of the item that begins at ``at``; None where there is no whole number."""
    form = data[at + 1 : at + 2]
    if form < b"\x80":
        return form[0] if form else None
    width = 1 << (form[0] - 0xCC) if b"\xcc" <= form <= b"\xcf" else 0
    digits = data[at + 2 : at + 2 + width]
    return int.from_bytes(digits, "big") if width and len(digits) == width else None


def upcast(kind: str, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return kind and body in the newest version known; what is not known stays as it is."""
    while (newer := UPCASTS.get(kind)) is not None:
        kind, body = newer[0], newer[1](body)
    return kind, body


def upcast_items(items: list[Item]) -> list[Item]:
    """Return the items in their newest versions; the same list where there is nothing to do."""
    if not UPCASTS:
        return items
    return [(seq, time, *upcast(kind, body), crc) for seq, time, kind, body, crc in items]


def to_record(item: Item) -> Record:
    """Return the record that an item holds, its kind and body as they are."""
    return Record(item[0], item[1], item[2], item[3])
