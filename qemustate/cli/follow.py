"""``qemustate replay --follow``: the timeline of a trace as it grows."""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import partial

from qemustate.cli.common import say
from qemustate.cli.lines import Changes
from qemustate.replay.subject import Subject
from qemustate.replay.tail import follow as records_of
from qemustate.statemachine import describe
from qemustate.statemachine.fold import apply
from qemustate.statemachine.state import VM


def follow(path: str, vm_name: str | None, only: Subject | None) -> int:
    """Print what changes until ^C, or until the log is closed; then the state of each VM. Raises BadInput."""
    start, records = records_of(path, vm_name, threading.Event())
    told: dict[str, tuple[VM, Changes]] = {}
    output = _Output()
    with suppress(KeyboardInterrupt):
        for name, record in records:
            if name not in told:
                told[name] = (start(name), Changes(only, partial(output.line, name)))
            vm, lines = told[name]
            apply(vm, record.seq, record.time, record.kind, record.body)
            lines.see(vm, record.seq, record.time, record.kind, record.body)
    for vm, _ in told.values():
        print()
        for line in describe.state(vm, None if only is None else only.covers):
            print(line)
    return 0


class _Output:
    """Prints lines at once; where there are several VMs, which one stands above them."""

    def __init__(self) -> None:
        self._last = ""

    def line(self, name: str, line: str) -> None:
        """Print a line about the VM of that name."""
        if self._last not in ("", name):
            say(f"vm {name}:")
        self._last = name
        print(line, flush=True)
