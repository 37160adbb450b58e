"""Findings with the records they rest on, repeats of one finding as one.

A finding rests on the record at which it was found; an answer also on its command; and what no belief allows also on
the record that had brought the belief about.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, TypeAlias

import msgspec

from qemustate.replay.answers import Answers, Told, line
from qemustate.statemachine import describe
from qemustate.statemachine.rules import Finding
from qemustate.statemachine.state import VM

#: A record, and the command it answers.
Pair: TypeAlias = tuple[Told, Told | None]

#: Rules about what the belief did not allow.
_AGAINST_BELIEF: Final = ("impossible-transition", "contradicted-by-query")

_DIGITS: Final = re.compile(r"\d+")


class Group(msgspec.Struct):
    """One finding, made ``count`` times: at the records ``first`` to ``last``; the message is the first one's.

    Findings of one rule about one subject are the same finding where their messages differ in numbers only.
    """

    severity: str
    rule: str
    subject: str
    message: str
    first: int
    last: int
    count: int
    begins: list[Pair]
    ends: list[Pair]

    def line(self) -> str:
        """Return the line for a person."""
        where = f"{self.first}" if self.count == 1 else f"{self.first} to {self.last}, {self.count} times"
        told = {
            "severity": self.severity,
            "rule": self.rule,
            "subject": self.subject,
            "message": self.message,
        }
        return describe.finding({**told, "seq": where})

    def records(self) -> list[str]:
        """Return the lines of the records it rests on, the first and the last time it was made."""
        lines = {}
        for told, command in (*self.begins, *self.ends):
            if command is not None:
                lines[command[0]] = line(command)
            lines[told[0]] = line(told, command)
        return [lines[seq] for seq in sorted(lines)]


class Groups:
    """Groups findings while a trace is checked; ``answers`` is to see every record."""

    def __init__(self) -> None:
        self.answers = Answers()
        #: Machine or subject -> the record that last changed it.
        self._moved: dict[str, Pair] = {}
        self._groups: dict[tuple[str, str, str], Group] = {}

    def after(self, vm: VM, now: Pair, found: Iterable[Finding]) -> None:
        """Take what was found at a record that was just folded, and look at what that changed."""
        for finding in found:
            moved = self._moved.get(finding.subject) if finding.rule in _AGAINST_BELIEF else None
            self._add(finding, [now] if moved is None else [moved, now])
        for machine, name, _, _ in vm.changed:
            self._moved[name or machine] = now

    def close(self, found: Iterable[Finding]) -> None:
        """Take what was found at the end of the trace, about earlier records."""
        known: dict[int, Pair] = {seq: (it, None) for seq, it in self.answers.unanswered().items()}
        known |= {pair[0][0]: pair for pair in self._moved.values()}
        for finding in found:
            pair = known.get(finding.seq)
            self._add(finding, [] if pair is None else [pair])

    def all(self) -> list[Group]:
        """Return the groups, by the record of their first finding."""
        return sorted(self._groups.values(), key=lambda it: it.first)

    def _add(self, finding: Finding, rests_on: list[Pair]) -> None:
        key = (finding.rule, finding.subject, _DIGITS.sub("#", finding.message))
        group = self._groups.get(key)
        if group is None:
            it = finding
            self._groups[key] = Group(
                it.severity, it.rule, it.subject, it.message, it.seq, it.seq, 1, rests_on, []
            )
        else:
            group.last, group.count, group.ends = finding.seq, group.count + 1, rests_on
