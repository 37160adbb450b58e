"""Timelines as lines: what each record changed."""

from __future__ import annotations

from typing import Any

from qemustate.replay.answers import Answers
from qemustate.replay.subject import Subject
from qemustate.statemachine import describe
from qemustate.statemachine.state import VM


class Changes:
    """Prints a line for each record that changed something, of a subject where one is given; counts the others."""

    def __init__(self, only: Subject | None = None) -> None:
        self._answers, self._only = Answers(), only or Subject.read("")
        self.records = self.shown = 0

    def see(self, vm: VM, seq: int, time: int, kind: str, body: dict[str, Any]) -> None:
        """Look at a record that was just folded."""
        self.records += 1
        only = self._only
        if vm.changed or vm.violations:
            told = self._answers.describe(seq, kind, body)
            changes = only.changes(vm)
            changes += [
                f"{rule}: {message}"
                for rule, name, message in vm.violations
                if only.name is None or only.covers(rule.rpartition("-")[0], name)
            ]
            if changes:
                print(describe.line(seq, time, told, changes))
                self.shown += 1
        elif kind != "event":
            self._answers.see((seq, time, kind, body))
