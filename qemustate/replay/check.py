"""The rules over a trace: what they find, and what they could not look at."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from qemustate.errors import BadInput
from qemustate.replay.groups import Group, Groups
from qemustate.replay.source import Trace
from qemustate.statemachine.checker import Checker
from qemustate.statemachine.rules import Finding
from qemustate.statemachine.state import VM


class Report(msgspec.Struct, frozen=True):
    """The final state of a trace, what the rules found on the way, and what they could not check."""

    vm: VM
    findings: list[Finding]
    #: The findings, repeats as one, with the records they rest on.
    groups: list[Group]
    not_checked: list[dict[str, Any]]

    @property
    def violated(self) -> bool:
        """Whether a finding is a violation."""
        return any(it.severity == "violation" for it in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Return the VM's entry of the ``--json`` contract."""
        return {
            **self.vm.to_json(),
            "findings": [plain(it) for it in self.findings],
            "not_checked": self.not_checked,
        }


def plain(finding: Finding) -> dict[str, Any]:
    """Return a finding as a map."""
    told: dict[str, Any] = msgspec.to_builtins(finding)
    return told


#: Called with the state and a record's seq, time, kind and body.
Watcher = Callable[[VM, int, int, str, dict[str, Any]], None]


class Until(msgspec.Struct, frozen=True):
    """Where to stop: after record ``seq``, or before the first record later than ``time`` (microseconds)."""

    seq: int | None = None
    time: int | None = None

    def passed(self, seq: int, time: int) -> bool:
        """Say whether a record is behind the end."""
        if self.seq is not None:
            return seq > self.seq
        return self.time is not None and time > self.time

    @classmethod
    def read(cls, text: str | None, named: str = "at") -> Until:
        """Return where to stop: a record's number, or a time in ISO 8601 (UTC where it does not say); None: at the end.

        Raises BadInput, which calls the text ``named``, for what is neither.
        """
        if text is None:
            return cls()
        try:
            if text.isascii() and text.isdigit():
                return cls(seq=int(text))
            when = datetime.fromisoformat(text)
            when = when if when.tzinfo else when.replace(tzinfo=UTC)
            # Times are shown to the millisecond: one that was copied from there means all of it.
            rest = 999 if when.microsecond % 1000 == 0 and _FRACTION.search(text) else 0
            return cls(time=round(when.timestamp() * 1_000_000) + rest)
        except (ValueError, OverflowError) as error:
            raise BadInput(named, expected="a record's number or a time in ISO 8601", seen=text) from error


_FRACTION: Final = re.compile(r"[.,]\d{3}(?!\d)")


def check(
    trace: Trace,
    until: Until | None = None,
    *,
    after: Watcher | None = None,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Fold a trace and apply the rules.

    ``after`` is called after each record, ``progress`` now and then with the number of the next one.

    The rules about how a trace ends apply only when it is read to its end. Raises BadInput or LogDamaged
    where it cannot be read on.
    """
    checker, groups = Checker(trace.start(), trace.lacks), Groups()
    whole = _run(checker, groups, trace, until or Until(), after, progress)
    if whole:
        found = len(checker.findings)
        checker.close()
        groups.close(checker.findings[found:])
    findings = sorted(checker.findings, key=lambda it: it.seq)
    return Report(checker.vm, findings, groups.all(), checker.not_checked)


def _run(
    checker: Checker,
    groups: Groups,
    trace: Trace,
    until: Until,
    after: Watcher | None,
    progress: Callable[[int], None] | None,
) -> bool:
    """Fold up to the end; say whether that was the trace's own."""
    findings, found, answers = checker.findings, 0, groups.answers
    for items in trace.batches():
        if progress is not None:
            progress(items[0][0])
        for seq, time, kind, body, _ in items:
            if until.passed(seq, time):
                return False
            try:
                told = (seq, time, kind, body)
                command = None if kind == "event" else answers.see(told)
                checker.see(seq, time, kind, body)
            except BadInput as error:
                raise _unfoldable(trace, seq, kind, body, error) from error
            if checker.vm.changed or len(findings) > found:
                groups.after(checker.vm, (told, command), findings[found:])
                found = len(findings)
            if after is not None:
                after(checker.vm, seq, time, kind, body)
    return True


def _unfoldable(trace: Trace, seq: int, kind: str, body: dict[str, Any], error: BadInput) -> BadInput:
    """Return the error for a record that the fold cannot read; it names the line it was imported from."""
    origin = body.get("origin")
    line = f" (line {origin[1]})" if isinstance(origin, list) and len(origin) == 2 else ""
    return BadInput(
        trace.shown, f"record {seq}{line}", expected=f"a sound record of kind {kind}", seen=error.seen
    )
