"""Walkers over the tables: one machine, one state, one row at a time."""

from __future__ import annotations

import copy
from functools import lru_cache

from qemustate.statemachine import guards
from qemustate.statemachine.machine import Walker
from qemustate.statemachine.rows import Row
from qemustate.statemachine.tables import TABLES


@lru_cache(maxsize=32)
def _prototype(table: str, version: tuple[int, ...]) -> Walker:
    return Walker(TABLES[table], 0, version)


def walker(table: str, version: tuple[int, ...]) -> Walker:
    """Return a walker at the table's initial state; the machine itself is made once."""
    return copy.copy(_prototype(table, version))


def rows_from(it: Walker, trigger: str) -> list[Row]:
    """Return the rows that this trigger may take from where the walker is, under its profile."""
    event = it._machine.events.get(trigger or "(silent)")
    found = event.transitions.get(it.state, ()) if event else ()
    needed = [(t.row, guards.mask(t.row.when)) for t in found]
    return [row for row, mask in needed if it.profile & mask == mask]
