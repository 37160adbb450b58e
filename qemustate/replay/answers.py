"""Which command an answer belongs to, for whoever tells records one by one."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from qemustate.events.observe import qmp_of
from qemustate.statemachine import describe
from qemustate.statemachine.state import key_of

#: A record as its parts: seq, time, kind, body.
Told: TypeAlias = tuple[int, int, str, dict[str, Any]]

#: After these kinds no answer comes on the connection of earlier commands.
_BREAKS: Final = frozenset({"lost", "gap", "exited", "opened"})


class Answers:
    """Remembers commands until they are answered: to be shown every record once, in order."""

    def __init__(self) -> None:
        self._asked: dict[Any, Told] = {}
        #: Asked on a connection that has ended; QEMU may answer to the next one (monitor/qmp.c).
        self._left: dict[Any, Told] = {}

    def see(self, told: Told) -> Told | None:
        """Look at a record; return the command that it answers, if it is an answer to one that was seen."""
        seq, _, kind, body = told
        if kind == "command":
            self._asked[key_of(qmp_of(body).get("id"), seq)] = told
        elif kind in ("reply", "failure"):
            return self._answered(qmp_of(body).get("id"))
        elif kind in _BREAKS:
            self._left |= self._asked
            self._asked = {}
        return None

    def unanswered(self) -> dict[int, Told]:
        """Return the commands that were not answered, by number."""
        return {it[0]: it for it in (*self._left.values(), *self._asked.values())}

    def describe(self, seq: int, kind: str, body: dict[str, Any]) -> str:
        """Look at a record as :meth:`see` does; return its line, an answer with the name of its command."""
        return describe.record(kind, body, name_of(self.see((seq, 0, kind, body))))

    def _answered(self, identifier: Any) -> Told | None:
        if identifier is not None:
            key = key_of(identifier, 0)
            return self._asked.pop(key, None) or self._left.pop(key, None)
        # QEMU answers commands without an id in their order.
        oldest = next((key for key in self._asked if isinstance(key, tuple) and key[0] == "#"), None)
        return self._asked.pop(oldest) if oldest is not None else None


def name_of(command: Told | None) -> str | None:
    """Return the name of a command's record; None for None."""
    if command is None:
        return None
    qmp = qmp_of(command[3])
    return str(qmp.get("execute") or qmp.get("exec-oob"))


def line(told: Told, command: Told | None = None) -> str:
    """Return the timeline's line of a record; ``command`` is what it answers."""
    seq, time, kind, body = told
    return describe.line(seq, time, describe.record(kind, body, name_of(command)), [])
