"""A log of ours as ``qmp-jsonl``: what was said, a line for each message, for tools that know nothing of us.

The format is that of :mod:`qemustate.events.importers.qmp_jsonl`, with the process in ``NAME.meta.json`` beside
``NAME.jsonl``. Importing both gives the same states again, as far as the format can say what the log does: that a
monitor was lost and opened again shows only in the greeting that follows, and the other facts of our own (gaps,
deadlines, intents) have no place in it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from qemustate.errors import BadInput
from qemustate.events.observe import message
from qemustate.events.records import MESSAGE_KINDS, Record

#: Kinds that are of the log itself, or follow from the messages when they are imported.
_IMPLIED: Final = frozenset({"segment", "snapshot", "closed", "opened", "lost"})

#: The importer takes a trace to have begun with its process when the first message came at most so much later.
_PROMPT: Final = 500_000


def export(records: Iterable[Record], output: Path) -> Counter[str]:
    """Write a log's records as ``output`` and its ``.meta.json``; return how many of which kind have no place there.

    Raises BadInput where one of the files is there already.
    """
    beside = output.with_name(output.name.removesuffix(".jsonl") + ".meta.json")
    for path in (output, beside):
        if path.exists():
            raise BadInput(str(path), expected="no file there yet", seen="one")
    left: Counter[str] = Counter()
    process = _Process()
    with output.open("x", encoding="ascii") as file:
        for record in records:
            if record.kind in MESSAGE_KINDS or record.kind == "malformed":
                process.first = process.first or record.time
                file.write(json.dumps(_line(record)) + "\n")
            elif record.kind not in _IMPLIED and not process.takes(record):
                left[record.kind] += 1
    if meta := process.meta():
        beside.write_text(json.dumps(meta, indent=1) + "\n", encoding="ascii")
    return left


def _line(record: Record) -> dict[str, Any]:
    """Return the line of a message: QEMU ends its own with CR LF (monitor/qmp.c), we with LF."""
    client = record.kind == "command" or record.body.get("from") == "client"
    data = record.body.get("data", b"") if record.kind == "malformed" else message(record).text
    raw = data.encode() if isinstance(data, str) else bytes(data)
    end = b"\n" if client else b"\r\n"
    text = (raw if raw.endswith(b"\n") else raw + end).decode("utf-8", "surrogateescape")
    return {"t": record.time / 1_000_000, "dir": "tx" if client else "rx", "raw": text}


class _Process:
    """What a log says of the process: one start and one end, for which the format has a place."""

    def __init__(self) -> None:
        #: The time of the first message.
        self.first = 0
        self._spawned: Record | None = None
        self._exited: Record | None = None

    def takes(self, record: Record) -> bool:
        """Keep a record that there is a place for, and say whether there was."""
        if record.kind == "spawned" and self._spawned is None and not self.first:
            self._spawned = record
        elif record.kind == "exited" and self._exited is None:
            self._exited = record
        else:
            return False
        return True

    def meta(self) -> dict[str, Any]:
        """Return the content of the file beside the messages."""
        told: dict[str, Any] = {}
        if self._spawned is not None:
            told["argv"] = list(self._spawned.body.get("argv", ()))
            start, late = self._spawned.time, bool(self._spawned.body.get("late"))
            if not late:
                start = max(start, self.first - _PROMPT)
            told["t_start"] = start / 1_000_000
            if late and self.first - start <= _PROMPT:
                told["late"] = True
        if self._exited is not None:
            body = self._exited.body
            if "status" in body or "signal" in body:
                told |= {
                    "exit": body.get("status", -body.get("signal", 0)),
                    "t_exit": self._exited.time / 1_000_000,
                }
        return told
