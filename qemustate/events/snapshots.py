"""Snapshots: states that stand at the head of a segment, and let what is before them go.

A snapshot is written by :meth:`qemustate.events.writer.LogWriter.rotate` and read by
:meth:`qemustate.events.reader.LogReader.nearest_snapshot`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from qemustate.events.format import segment_numbers, segment_path
from qemustate.events.heads import read_head

if TYPE_CHECKING:
    from pathlib import Path


class Snapshot(msgspec.Struct, frozen=True):
    """Where a snapshot stands: its record's number, its segment's, and the hash of the tables it was made by."""

    seq: int
    segment: int
    tables: str


def snapshots(path: str | os.PathLike[str]) -> list[Snapshot]:
    """Return the snapshots of a log, oldest first. Raises LogDamaged where the head of a segment is damaged."""
    found = []
    for number in segment_numbers(path):
        head = read_head(path, number)
        if len(head) == 2 and head[1][2] == "snapshot":
            found.append(Snapshot(head[1][0], number, str(head[1][3].get("tables", ""))))
    return found


def truncate(path: str | os.PathLike[str]) -> list[Path]:
    """Delete all segments before the newest snapshot, and return them; a writer may be at work meanwhile.

    Without a snapshot nothing is deleted; the snapshot is on the disk before anything is. When it is interrupted, the log begins with a segment that has
    no snapshot, which readers call ``missing-segment``; doing it again repairs that.
    """
    anchors = snapshots(path)
    if not anchors:
        return []
    _sync(segment_path(path, anchors[-1].segment))
    old = [segment_path(path, number) for number in segment_numbers(path) if number < anchors[-1].segment]
    for file in old:
        file.unlink()
    return old


def _sync(file: Path) -> None:
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fdatasync(fd)
    finally:
        os.close(fd)
