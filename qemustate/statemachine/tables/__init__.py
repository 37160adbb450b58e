"""The specification: one file of rows per machine, theory in prose above them."""

from __future__ import annotations

from typing import Final

from qemustate.statemachine.rows import Table
from qemustate.statemachine.tables import backend, device, job, migration, monitor, process, runstate

#: Every machine there is, by name.
TABLES: Final[dict[str, Table]] = {
    module.TABLE.name: module.TABLE
    for module in (process, monitor, runstate, device, backend, job, migration)
}
