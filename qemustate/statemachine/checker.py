"""Applying the rules: fold a trace, and let the looks see every record of it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

from qemustate.events.observe import parsed
from qemustate.events.records import MESSAGE_KINDS
from qemustate.statemachine import looks, progress
from qemustate.statemachine.fold import apply
from qemustate.statemachine.kinds import is_another
from qemustate.statemachine.looks.registry import AFTER, BEFORE, Asked, Look
from qemustate.statemachine.rules import RULES, Finding
from qemustate.statemachine.state import VM, key_of

assert looks.__all__  # importing the package registers the looks


def _about(kind: str, qmp: dict[str, Any], asked: Asked | None) -> str | None:
    """Return the name of a message: that of the event, or of the command, also where only the answer tells it."""
    if kind == "event":
        return qmp.get("event")
    return asked.name if asked else progress.asked_for(qmp.get("return"))


@lru_cache(maxsize=1024)
def _looks(kind: str, about: str) -> tuple[tuple[Look, ...], tuple[Look, ...]]:
    """Return who looks at a record of that kind, and of that message, before it is folded and after."""
    names = dict.fromkeys((kind, about))
    before, after = ([look for name in names for look in where.get(name, ())] for where in (BEFORE, AFTER))
    return tuple(before), tuple(after)


#: What comes of a message of the wrong shape.
_UNREADABLE: Final = (TypeError, LookupError, AttributeError, ValueError, ArithmeticError)

#: What the fold noted -> the rule it breaks.
_BREACH: Final = {"transition": "impossible-transition", "contradicted": "contradicted-by-query"}


class Checker:
    """Folds a trace and applies the rules: :meth:`see` every record, then :meth:`close`; read ``findings``."""

    def __init__(self, vm: VM | None = None, lacks: Iterable[str] = ()) -> None:
        self.vm = vm or VM()
        self.lacks: Final = frozenset(lacks)
        self.findings: list[Finding] = []
        self.memory: dict[str, Any] = {}
        self._checked: Final = {r.name for r in RULES.values() if not self.lacks.intersection(r.needs)}

    @property
    def not_checked(self) -> list[dict[str, Any]]:
        """The rules this trace cannot speak to, with what it lacks for them."""
        return [
            {"rule": r.name, "needs": sorted(self.lacks.intersection(r.needs))}
            for r in RULES.values()
            if r.name not in self._checked
        ]

    def see(self, seq: int, time: int, kind: str, body: dict[str, Any]) -> None:
        """Look at one record, and fold it."""
        vm = self.vm
        shown, asked = body, None
        about = kind
        if kind in MESSAGE_KINDS:
            shown = parsed(body)
            asked = self._asked(kind, shown, seq)
            about = f"{kind} {_about(kind, shown, asked)}"
        elif kind == "spawned" and is_another(vm, body):
            self.close()
            self.memory.clear()
        before, after = _looks(kind, about)
        if before:
            vm.seq, folded = seq, vm.seq
            self._look(before, shown, asked)
            vm.seq = folded
        apply(vm, seq, time, kind, body)
        if after:
            self._look(after, shown, asked)
        for rule, subject, message in vm.violations:
            self.found(
                _BREACH.get(rule.rpartition("-")[2], rule), subject or rule.rpartition("-")[0], message
            )

    def close(self) -> None:
        """Apply the rules about how a trace, or the life of one of its processes, ends."""
        self._look(AFTER["end"], {}, None)

    def found(self, rule: str, subject: str, message: str, seq: int | None = None) -> None:
        """Keep a finding, unless the trace lacks what the rule needs."""
        if rule in self._checked:
            at = self.vm.seq if seq is None else seq
            self.findings.append(Finding(at, RULES[rule].severity, rule, subject, message))

    def _look(self, those: Iterable[Look], shown: dict[str, Any], asked: Asked | None) -> None:
        for look in those:
            try:
                look(self, shown, asked)
            except _UNREADABLE:
                continue  # what has not the shape the schema gives it, which the fold says

    def _asked(self, kind: str, qmp: dict[str, Any], seq: int) -> Asked | None:
        if kind == "command":
            name, arguments = qmp.get("execute") or qmp.get("exec-oob"), qmp.get("arguments")
            return Asked(str(name), arguments if isinstance(arguments, dict) else {}, seq)
        if kind not in ("reply", "failure"):
            return None
        identifier = qmp.get("id")
        if identifier is None:
            found = next(
                (p for key, p in self.vm.pending.items() if key.__class__ is tuple and key[0] == "#"), None
            )
        else:
            key = key_of(identifier, 0)
            found = self.vm.pending.get(key) or self.vm.unanswered.get(key)
        if found is None:
            return None
        return Asked(str(found[1]), found[2] if isinstance(found[2], dict) else {}, found[0])
