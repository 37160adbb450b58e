"""Timelines as lines: what each record changed, and what was asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from qemustate.replay.answers import Answers
from qemustate.replay.subject import Subject
from qemustate.statemachine import describe
from qemustate.statemachine.state import VM

#: Facts of our own that people want to see, whether or not they change what QEMU is.
_OURS: Final = frozenset({"begun", "ended", "deadline", "helper"})


class Changes:
    """Shows a line for each record that changed something, or began or ended an operation, of a subject where one is given; counts the others."""

    def __init__(self, only: Subject | None = None, show: Callable[[str], object] = print) -> None:
        self._answers, self._only, self._show = Answers(), only or Subject.read(""), show
        self.records = self.shown = 0

    def see(self, vm: VM, seq: int, time: int, kind: str, body: dict[str, Any]) -> None:
        """Look at a record that was just folded."""
        self.records += 1
        only = self._only
        about_us = kind in _OURS and ("correlation" in body or kind == "helper")
        if about_us and only.name in (None, body.get("subject")) and not vm.changed:
            self._show(describe.line(seq, time, describe.record(kind, body), []))
            self.shown += 1
        elif vm.changed or vm.violations:
            told = self._answers.describe(seq, kind, body)
            changes = only.changes(vm)
            changes += [
                f"{rule}: {message}"
                for rule, name, message in vm.violations
                if only.name is None or only.covers(rule.rpartition("-")[0], name)
            ]
            if changes:
                self._show(describe.line(seq, time, told, changes))
                self.shown += 1
        elif kind != "event":
            self._answers.see((seq, time, kind, body))
