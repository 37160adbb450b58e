"""Rules over a trace, each named, and what they find.

A rule says what it *needs*: a trace that lacks commands, replies, events, times, its beginning or the process's
end cannot break a rule that is about them. Such a rule is *not checked*: never passed, never violated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final

import msgspec

from qemustate.events.observe import parsed
from qemustate.statemachine import guards
from qemustate.statemachine.evidence import EVENTS
from qemustate.statemachine.fold import apply
from qemustate.statemachine.state import VM, key_of


class Finding(msgspec.Struct, frozen=True):
    """One thing a rule says about a trace, with the record it rests on."""

    seq: int
    severity: str
    rule: str
    subject: str
    message: str


class Rule(msgspec.Struct, frozen=True):
    """A rule: its name, how bad a breach is (``violation``, ``warning``, ``note``), its sentence, what it needs."""

    name: str
    severity: str
    sentence: str
    needs: tuple[str, ...] = ()


RULES: Final = {
    rule.name: rule
    for rule in (
        Rule("impossible-transition", "violation", "QEMU cannot do this from any state the facts allow"),
        Rule(
            "contradicted-by-query",
            "violation",
            "QEMU's answer to a query is not among the states the facts allow",
        ),
        Rule("unreadable", "violation", "a QMP message whose members are not what the schema says they are"),
        Rule("malformed", "violation", "what was received is no QMP message"),
        Rule(
            "reply-without-command",
            "warning",
            "an answer to a command that is not in the trace",
            ("commands", "beginning"),
        ),
        Rule("command-without-reply", "note", "a command that nothing answers", ("commands", "replies")),
        Rule(
            "duplicate-id",
            "warning",
            "a device was added under an id whose bearer is still there",
            ("commands",),
        ),
        Rule(
            "stop-unexplained",
            "warning",
            "a STOP that nobody in this trace asked for and no event explains",
            ("commands",),
        ),
        Rule("unplug-refused", "warning", "the guest refused to give a device up"),
        Rule("unplug-lost", "warning", "a device left the machine, and DEVICE_DELETED never named it"),
        Rule(
            "unplug-pending",
            "note",
            "an unplug was asked for and the guest has not answered it",
            ("commands",),
        ),
        Rule("exit-unannounced", "warning", "QEMU went away with no SHUTDOWN before it", ("events",)),
        Rule("event-unknown", "warning", "an event that no QEMU from 7.2 to 10.0 sends"),
        Rule(
            "clock-backwards",
            "note",
            "an event is older than the one before it, and its kind is not rate-limited",
            ("times",),
        ),
        Rule("monitor-stalled", "warning", "a command was overdue: QEMU did not serve its monitor"),
        Rule("gap", "note", "facts may be missing here"),
    )
}

#: Events that QEMU limits to one a second, so that they come late (monitor/monitor.c, QEMU 10.0).
RATE_LIMITED: Final = frozenset(
    [
        "RTC_CHANGE",
        "WATCHDOG",
        "BALLOON_CHANGE",
        "QUORUM_REPORT_BAD",
        "QUORUM_FAILURE",
        "VSERPORT_CHANGE",
        "MEMORY_DEVICE_SIZE_CHANGE",
        "HV_BALLOON_STATUS_REPORT",
        "BLOCK_IO_ERROR",
    ]
)

#: What can be behind a STOP, as guards.
_CAUSES: Final = sum(
    guards.may(name)
    for name in (
        "stop-sent", "anything-sent", "io-error", "watchdog", "panic", "shutdown-pauses", "saving", "loading",
        "outgoing", "colo",
    )
)  # fmt: skip


#: What the fold noted -> the rule it breaks.
_BREACH: Final = {"transition": "impossible-transition", "contradicted": "contradicted-by-query"}


class Checker:
    """Folds a trace and applies the rules: :meth:`see` every record, then :meth:`close`; read ``findings``."""

    def __init__(self, vm: VM | None = None, lacks: Iterable[str] = ()) -> None:
        self.vm = vm or VM()
        self.lacks: Final = frozenset(lacks)
        self.findings: list[Finding] = []
        self._checked: Final = {r.name for r in RULES.values() if not self.lacks.intersection(r.needs)}
        self._clock = 0
        self._ending = False
        self._fresh = True
        self._look: Final[dict[str, Callable[[dict[str, Any]], None]]] = {
            "event": self._event, "reply": self._answer, "failure": self._answer, "greeting": self._greeting,
            "malformed": self._malformed, "lost": self._lost, "deadline": self._deadline, "gap": self._gap,
            "spawned": self._spawned,
        }  # fmt: skip

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
        look = self._look.get(kind)
        if look is not None:
            self.vm.seq = seq
            with suppress(
                TypeError, LookupError, AttributeError, ValueError
            ):  # the fold says that it is unreadable
                look(body)
        apply(self.vm, seq, time, kind, body)
        if kind == "event" and (body.get("qmp") or parsed(body)).get("event") == "STOP":
            self._stopped()
        for rule, subject, message in self.vm.violations:
            self._found(
                _BREACH.get(rule.rpartition("-")[2], rule), subject or rule.rpartition("-")[0], message
            )

    def close(self) -> None:
        """Apply the rules about how a trace ends."""
        vm = self.vm
        for seq, name, _, _ in sorted([*vm.pending.values(), *vm.unanswered.values()], key=lambda p: p[0]):
            if name != "quit":
                self._found("command-without-reply", name, "no answer in this trace", seq)
        leaving = vm.watch.device.bit["leaving"]
        exited = vm.names("process", vm.process) == ("exited",)
        for name, cell in vm.devices.items():
            possible = vm.names("device", cell)
            if possible == ("unplugging",) and not exited:
                self._found("unplug-pending", name, "asked for, and not answered by the guest", cell.since)
            elif cell.belief == leaving and cell.cause == "DEVICE_DELETED" and "cpu" not in cell.driver:
                self._found("unplug-lost", name, "only a child's DEVICE_DELETED was seen", cell.since)

    def _found(self, rule: str, subject: str, message: str, seq: int | None = None) -> None:
        if rule in self._checked:
            self.findings.append(
                Finding(self.vm.seq if seq is None else seq, RULES[rule].severity, rule, subject, message)
            )

    # --- one look per kind

    def _event(self, body: dict[str, Any]) -> None:
        qmp = body.get("qmp") or parsed(body)
        name = qmp["event"]
        if name not in EVENTS:
            self._found("event-unknown", str(name), "not in the schema")
        if name == "SHUTDOWN":
            self._ending = True
        if name in ("DEVICE_UNPLUG_GUEST_ERROR", "MEM_UNPLUG_ERROR"):
            data = qmp.get("data", {})
            self._found(
                "unplug-refused", str(data.get("device", data.get("path", ""))), str(data.get("msg", name))
            )
        stamp = qmp.get("timestamp")
        if (
            isinstance(stamp, dict)
            and isinstance(stamp.get("seconds"), int)
            and isinstance(stamp.get("microseconds"), int)
        ):
            clock = stamp["seconds"] * 1_000_000 + stamp["microseconds"]
            if name not in RATE_LIMITED:
                if clock < self._clock:
                    self._found(
                        "clock-backwards",
                        str(name),
                        f"{(self._clock - clock) / 1e6:.6f} s older than the event before",
                    )
                self._clock = clock

    def _stopped(self) -> None:
        if not self.vm.profile & _CAUSES:
            self._found(
                "stop-unexplained",
                "",
                f"the run state is {' or '.join(self.vm.names('runstate', self.vm.runstate))}",
            )

    def _answer(self, body: dict[str, Any]) -> None:
        qmp = body.get("qmp") or parsed(body)
        identifier = qmp.get("id")
        key = key_of(identifier, 0)
        known = identifier is None or key in self.vm.pending or key in self.vm.unanswered
        if not known and not self._fresh:
            self._found("reply-without-command", str(identifier), "no command in this trace bears this id")
        if known:
            self._fresh = False
        desc = str(qmp["error"].get("desc", "")) if isinstance(qmp.get("error"), dict) else ""
        if desc.startswith("Duplicate device ID"):
            self._found("duplicate-id", desc.partition("'")[2].rstrip("'"), desc)

    def _greeting(self, _body: dict[str, Any]) -> None:
        # The answer to a client that left goes to the next one, right after its greeting (monitor/qmp.c).
        self._fresh = True

    def _malformed(self, body: dict[str, Any]) -> None:
        self._found("malformed", str(body.get("from", "")), str(body.get("error", "")))

    def _lost(self, body: dict[str, Any]) -> None:
        if not self._ending and body.get("by") != "us":
            self._found("exit-unannounced", "", "the monitor's stream ended with no SHUTDOWN")

    def _spawned(self, _body: dict[str, Any]) -> None:
        self._ending = False

    def _deadline(self, body: dict[str, Any]) -> None:
        self._found(
            "monitor-stalled",
            str(body.get("waiting", "")),
            f"overdue after {body.get('after', 0) / 1e6:.3f} s",
        )

    def _gap(self, body: dict[str, Any]) -> None:
        self._found("gap", "", str(body.get("why", "")))
