"""What is wrong at a place in a segment, and where its items go on behind it. The slow path only."""

from __future__ import annotations

from typing import Final, NamedTuple
from zlib import crc32

from qemustate.events.codec import Item, NotAnItemError, decode_item
from qemustate.events.format import BOUNDARY, CRC_BYTES, Damage

#: A record cut by a lost disk write ends in at least this many zeros; fewer may be a checksum's own.
_ZEROS: Final = 4

#: Bytes tried at a place where an item may begin, before all that is left is tried.
_WINDOWS: Final = (1 << 12, 1 << 20)
#: How often all that is left is tried, so that hostile bytes cost no more than a few passes.
_FULL_TRIES: Final = 16


class Verdict(NamedTuple):
    """A damage at the first of the bytes looked at; ``size`` of them cannot be read as items."""

    damage: Damage
    size: int
    expected: str
    seen: str


class Resumption(NamedTuple):
    """Where items go on: offset in the bytes looked at, checksum of the segment before it, number."""

    offset: int
    running: int
    seq: int


def covered_crc(data: bytes, start: int, end: int, running: int) -> int:
    """Return the checksum that the item ``data[start:end]`` should carry."""
    with memoryview(data) as view:
        return crc32(view[start : end - CRC_BYTES], running)


def next_running(data: bytes, end: int, crc: int) -> int:
    """Return the checksum of the segment up to ``end``, where an item with checksum ``crc`` ends."""
    return crc32(data[end - CRC_BYTES : end], crc)


def judge(rest: bytes, running: int, seq: int | None) -> Verdict | None:
    """Name what is wrong with the first item of ``rest``, all bytes of a segment from a place on.

    ``running`` is the checksum of the segment before, ``seq`` the number expected (None: any).
    None when that item is sound after all, as when a live writer has completed it meanwhile.
    """
    if not rest.strip(b"\0"):
        return Verdict(Damage.ZERO_TAIL, len(rest), "an item or the end", f"{len(rest)} zero bytes")
    verdict = _first_item(rest, running, seq)
    if verdict is None:
        return None
    going_on = resume(rest)
    if going_on is not None:
        if verdict.damage is Damage.TORN_TAIL:
            seen = "a length that runs over items that verify"
            verdict = verdict._replace(damage=Damage.BAD_ITEM, seen=seen)
        return verdict._replace(size=going_on.offset)
    kept = rest.rstrip(b"\0")
    if verdict.damage is not Damage.WRONG_SEQUENCE and len(rest) - len(kept) >= _ZEROS and _is_cut_off(kept):
        return Verdict(Damage.ZERO_TAIL, len(rest), "a whole item", f"{len(kept)} bytes of one, then zeros")
    return verdict


def _first_item(rest: bytes, running: int, seq: int | None) -> Verdict | None:
    try:
        found = decode_item(rest)
    except NotAnItemError as error:
        return Verdict(Damage.BAD_ITEM, len(rest), "an item", str(error))
    if found is None:
        return Verdict(
            Damage.TORN_TAIL, len(rest), "a whole item", f"the end of the file after {len(rest)} bytes"
        )
    item, length = found
    crc = covered_crc(rest, 0, length, running)
    if item[4] != crc:
        return Verdict(Damage.BAD_CHECKSUM, len(rest), f"checksum {crc:08x}", f"{item[4]:08x}")
    if seq is not None and item[0] != seq:
        return Verdict(Damage.WRONG_SEQUENCE, length, f"record {seq}", f"record {item[0]}")
    return None


def _is_cut_off(data: bytes) -> bool:
    try:
        return decode_item(data) is None
    except NotAnItemError:
        return False


def resume(rest: bytes) -> Resumption | None:
    """Find the first item behind the start of ``rest`` that verifies against the checksum before it."""
    tries = _FULL_TRIES
    for found in BOUNDARY.finditer(rest):
        start = found.start() + CRC_BYTES
        before = int.from_bytes(rest[start - 4 : start], "big")
        running = next_running(rest, start, before)
        for window in _WINDOWS:
            decoded = _verified(rest, start, window, running)
            if decoded is not None or start + window >= len(rest):
                break
        else:
            if tries:
                tries -= 1
                decoded = _verified(rest, start, len(rest), running)
        if decoded is not None:
            return Resumption(start, running, decoded[0])
    return None


def _verified(rest: bytes, start: int, window: int, running: int) -> Item | None:
    try:
        found = decode_item(rest[start : start + window])
    except NotAnItemError:
        return None
    if found is None:
        return None
    item, length = found
    return item if item[4] == covered_crc(rest, start, start + length, running) else None
