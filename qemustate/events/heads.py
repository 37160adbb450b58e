"""The head of a segment: what its first items must say, and the errors where they do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from qemustate.errors import LogDamaged
from qemustate.events.format import FORMAT_NAME, FORMAT_VERSION, Damage, Fault, is_torn_tail, segment_path
from qemustate.events.segment import Segment

if TYPE_CHECKING:
    import os

    from qemustate.events.codec import Item

#: What is seen where a segment is missing.
NO_SNAPSHOT: Final = "segment {} as the first, without a snapshot"
NOT_NEXT: Final = "segment {} as the next"


def damaged(fault: Fault) -> LogDamaged:
    """Return the exception for a fault; ``seen`` begins with the damage's name."""
    seen = f"{fault.damage.value}: {fault.seen}"
    return LogDamaged(fault.path, fault.offset, expected=fault.expected, seen=seen)


def not_at_the_end(fault: Fault) -> Fault:
    """Return what a cut-off end is where another segment follows: no crash of a writer explains it."""
    return msgspec.structs.replace(fault, damage=Damage.BAD_ITEM) if is_torn_tail(fault.damage) else fault


def missing_segment(path: str | os.PathLike[str], number: int, seen: str) -> Fault:
    """Return the fault of a segment that should be there, and is not."""
    file = str(segment_path(path, number))
    return Fault(Damage.MISSING_SEGMENT, file, 0, 0, f"segment {number}", seen)


def read_head(path: str | os.PathLike[str], number: int) -> list[Item]:
    """Return the first items of a segment, at most two; fewer where the file ends before.

    Raises BadInput where there is no such file, LogDamaged where it is no segment or damaged there.
    """
    file = segment_path(path, number)
    with Segment(file) as segment:
        if not segment.claims_to_be_log():
            raise damaged(
                Fault(Damage.NOT_A_LOG, str(file), 0, segment.size(), "a segment of a log", "other bytes")
            )
        head: list[Item] = []
        for items in segment.blocks():
            head = (head + items)[:2]
            if len(head) == 2:
                break
        if segment.fault is not None and not is_torn_tail(segment.fault.damage) and not head:
            raise damaged(segment.fault)
    if head:
        fault = check_segment_item(head[0], str(file), number, None)
        if fault is not None:
            raise damaged(fault)
    return head


def check_segment_item(item: Item, file: str, number: int, chain: int | None) -> Fault | None:
    """Say what is wrong with the item at the head of segment ``number``; ``chain`` None is not compared."""
    kind, body = item[2], item[3]
    name = f"{FORMAT_NAME} version {FORMAT_VERSION}"
    if kind != "segment" or (body.get("format"), body.get("version")) != (FORMAT_NAME, FORMAT_VERSION):
        seen = f"kind {kind}, {body.get('format')} version {body.get('version')}"
        return Fault(Damage.NOT_A_LOG, file, 0, 0, f"a segment of {name}", seen)
    if body.get("segment") != number:
        seen = f"segment {body.get('segment')}"
        return Fault(Damage.MISSING_SEGMENT, file, 0, 0, f"segment {number}", seen)
    if chain is not None and body.get("chain") != chain:
        return Fault(Damage.CHAIN_BROKEN, file, 0, 0, f"chain {chain}", f"{body.get('chain')}")
    return None
