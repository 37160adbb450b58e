"""Records as lines, with the name of the command that an answer belongs to."""

from __future__ import annotations

from typing import Any

from qemustate.events.observe import parsed
from qemustate.statemachine import describe
from qemustate.statemachine.state import VM, key_of


class Answers:
    """Remembers commands until they are answered."""

    def __init__(self) -> None:
        self._asked: dict[Any, str] = {}

    def describe(self, seq: int, kind: str, body: dict[str, Any]) -> str:
        """Return the line of a record; to be called for every record, in order."""
        if kind == "command":
            qmp = body.get("qmp") or parsed(body)
            self._asked[key_of(qmp.get("id"), seq)] = str(qmp.get("execute") or qmp.get("exec-oob"))
        elif kind in ("reply", "failure"):
            return describe.record(kind, body, self._answered((body.get("qmp") or parsed(body)).get("id")))
        return describe.record(kind, body)

    def _answered(self, identifier: Any) -> str | None:
        if identifier is not None:
            return self._asked.pop(key_of(identifier, 0), None)
        # QEMU answers commands without an id in their order.
        oldest = next((key for key in self._asked if isinstance(key, tuple) and key[0] == "#"), None)
        return self._asked.pop(oldest) if oldest is not None else None


class Changes:
    """Prints a line for each record that changed something; counts the others."""

    def __init__(self) -> None:
        self._answers = Answers()
        self.records = self.shown = 0

    def see(self, vm: VM, seq: int, time: int, kind: str, body: dict[str, Any]) -> None:
        """Look at a record that was just folded."""
        self.records += 1
        if vm.changed or vm.violations:
            changes = [describe.change(vm, it) for it in vm.changed]
            changes += [f"{rule}: {message}" for rule, _, message in vm.violations]
            print(describe.line(seq, time, self._answers.describe(seq, kind, body), changes))
            self.shown += 1
        elif kind in ("command", "reply", "failure"):
            self._answers.describe(seq, kind, body)
