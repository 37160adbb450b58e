"""Changing a recording in one place, as data: what is dropped, doubled, exchanged, moved, put in or altered.

Records are named by their number in the recording, from 1. Where records change places their times and QEMU's
time stamps stay where they were, so that only the order is wrong.

    {"drop": [3, 4]}                     {"duplicate": 7}
    {"swap": [10, 11]}                   {"move": [18, 20]}       record 18 comes right after record 20
    {"insert": {"after": 9, "kind": "event", "qmp": {...}}}       stamped as the event before it, if any
    {"change": {"record": 20, "at": ["qmp", "return", "status"], "to": "running"}}    or "add": number
    {"replace": {"record": 15, "kind": "reply", "qmp": {...}}}
"""

from __future__ import annotations

import copy
from typing import Any

from qemustate.events.records import Record

Entry = tuple[int, Record]


def mutated(found: list[Record], mutation: dict[str, Any]) -> list[Entry]:
    """Return the recording after the mutation: (number of the record it was, 0 for a new one; the record)."""
    [(name, what)] = mutation.items()
    entries = [(r.seq, r) for r in found]
    changed = _OPERATIONS[name](entries, what)
    return [(was, Record(seq, r.time, r.kind, r.body)) for seq, (was, r) in enumerate(changed, 1)]


def _drop(entries: list[Entry], what: Any) -> list[Entry]:
    gone = set(what if isinstance(what, list) else [what])
    return [e for e in entries if e[0] not in gone]


def _duplicate(entries: list[Entry], what: int) -> list[Entry]:
    return [e for entry in entries for e in ([entry, (0, entry[1])] if entry[0] == what else [entry])]


def _swap(entries: list[Entry], what: list[int]) -> list[Entry]:
    a, b = (number - 1 for number in what)
    order = list(range(len(entries)))
    order[a], order[b] = order[b], order[a]
    return _reordered(entries, order)


def _move(entries: list[Entry], what: list[int]) -> list[Entry]:
    source, after = (number - 1 for number in what)
    order = [i for i in range(len(entries)) if i != source]
    order.insert(order.index(after) + 1, source)
    return _reordered(entries, order)


def _reordered(entries: list[Entry], order: list[int]) -> list[Entry]:
    touched = [place for place, i in enumerate(order) if place != i]
    stamps = [entries[i][1].body["qmp"]["timestamp"] for i in touched if entries[i][1].kind == "event"]
    result = []
    for place, i in enumerate(order):
        was, record = entries[i]
        body = record.body
        if place != i and record.kind == "event":
            body = {**body, "qmp": {**body["qmp"], "timestamp": stamps.pop(0)}}
        result.append((was, Record(record.seq, entries[place][1].time, record.kind, body)))
    return result


def _insert(entries: list[Entry], what: dict[str, Any]) -> list[Entry]:
    place = what["after"]
    time = entries[place - 1][1].time
    qmp = dict(what["qmp"])
    if what["kind"] == "event":
        earlier = [r.body["qmp"]["timestamp"] for _, r in entries[:place] if r.kind == "event"]
        now = {"seconds": time // 1_000_000, "microseconds": time % 1_000_000}
        qmp["timestamp"] = earlier[-1] if earlier else now
    return [*entries[:place], (0, Record(0, time, what["kind"], {"qmp": qmp})), *entries[place:]]


def _change(entries: list[Entry], what: dict[str, Any]) -> list[Entry]:
    number = what["record"]
    record = entries[number - 1][1]
    body = copy.deepcopy(record.body)
    *path, last = what["at"]
    inner: Any = body
    for key in path:
        inner = inner[key]
    inner[last] = inner[last] + what["add"] if "add" in what else what["to"]
    return [
        *entries[: number - 1],
        (number, Record(number, record.time, record.kind, body)),
        *entries[number:],
    ]


def _replace(entries: list[Entry], what: dict[str, Any]) -> list[Entry]:
    number = what["record"]
    record = entries[number - 1][1]
    new = Record(number, record.time, what["kind"], {"qmp": what["qmp"]})
    return [*entries[: number - 1], (number, new), *entries[number:]]


_OPERATIONS = {
    "drop": _drop, "duplicate": _duplicate, "swap": _swap, "move": _move,
    "insert": _insert, "change": _change, "replace": _replace,
}  # fmt: skip
