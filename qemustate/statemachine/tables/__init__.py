"""The specification: one file of rows per machine, theory in prose above them."""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from qemustate.statemachine.guards import GUARDS
from qemustate.statemachine.rows import Table
from qemustate.statemachine.tables import (
    backend,
    device,
    display,
    dump,
    export,
    fd,
    job,
    migration,
    monitor,
    process,
    runstate,
)

#: Every machine there is, by name.
TABLES: Final[dict[str, Table]] = {
    module.TABLE.name: module.TABLE
    for module in (process, monitor, runstate, device, backend, export, fd, job, migration, dump, display)
}

#: Names these tables: a snapshot made with others cannot be read with them.
HASH: Final = sha256(
    repr([list(GUARDS), *((t.name, t.states, t.initial, t.shows, t.rows) for t in TABLES.values())]).encode()
).hexdigest()[:16]
