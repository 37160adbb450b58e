"""The few meanings that a row of evidence cannot say: each a function named in its row.

Every function takes the VM, the event's data or the command's arguments, and what there is besides: the whole event, or
the answer (the reply's ``return``, or the error object). It sets guards and steps machines, no more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from qemustate.statemachine.effects import (
    backend,
    device,
    disk,
    display,
    fd,
    inventory,
    job,
    memory,
    migration,
    runstate,
)
from qemustate.statemachine.state import VM

Effect = Callable[[VM, dict[str, Any], Any], None]

#: Every effect by its name: the public functions of this package.
EFFECTS: Final[dict[str, Effect]] = {
    name: function
    for module in (runstate, migration, backend, device, disk, display, fd, inventory, job, memory)
    for name, function in vars(module).items()
    if getattr(function, "__module__", "") == module.__name__ and not name.startswith("_")
}
