"""``qemustate replay --follow``: the timeline of a trace as it grows."""

from __future__ import annotations

import sys
import threading
from contextlib import suppress

from qemustate.cli.lines import Changes
from qemustate.replay.subject import Subject
from qemustate.replay.tail import follow as records_of
from qemustate.statemachine import describe
from qemustate.statemachine.fold import apply


def follow(path: str, vm_name: str | None, only: Subject | None) -> int:
    """Print what changes until ^C, or until the log is closed; then the state. Raises BadInput."""
    trace, records = records_of(path, vm_name, threading.Event())
    vm, lines = trace.start(), Changes(only)
    with suppress(KeyboardInterrupt):
        for record in records:
            apply(vm, record.seq, record.time, record.kind, record.body)
            shown = lines.shown
            lines.see(vm, record.seq, record.time, record.kind, record.body)
            if lines.shown != shown:
                sys.stdout.flush()
    print()
    for line in describe.state(vm, None if only is None else only.covers):
        print(line)
    return 0
