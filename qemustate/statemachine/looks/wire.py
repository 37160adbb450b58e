"""Looks at the wire: who answers whom, what is no QMP, what does not fit the schema."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from qemustate.qmp.jsontext import JsonError, decode
from qemustate.qmp.messages import Event
from qemustate.qmp.schema import Schema
from qemustate.statemachine.evidence import EVENTS
from qemustate.statemachine.looks.registry import Asked, Sight, after, before
from qemustate.statemachine.rules import RATE_LIMITED
from qemustate.statemachine.state import key_of


@before("event")
def known(it: Sight, qmp: dict[str, Any], _asked: Asked | None) -> None:
    """An event that no schema names, or that is older than the one before it."""
    name = qmp["event"]
    if name not in EVENTS:
        it.found("event-unknown", str(name), "not in the schema")
    # A stamp that is no number, as in outputs with masks, says nothing.
    clock = Event(qmp, b"").time
    if name in RATE_LIMITED or clock is None:
        return
    last = it.memory.get("clock", 0)
    if clock < last:
        it.found("clock-backwards", str(name), f"{(last - clock) / 1e6:.6f} s older than the event before")
    it.memory["clock"] = clock


@before("command")
def in_flight(it: Sight, qmp: dict[str, Any], asked: Asked | None) -> None:
    """An id that an unanswered command bears; QEMU echoes ids and does not compare them (monitor/qmp.c)."""
    identifier = qmp.get("id")
    if asked is not None and identifier is not None and (old := it.vm.pending.get(key_of(identifier, 0))):
        it.found("id-in-flight", str(identifier), f"{old[1]} of record {old[0]} is not answered yet")


@before("reply", "failure")
def answers(it: Sight, qmp: dict[str, Any], asked: Asked | None) -> None:
    """An answer that nobody in the trace asked for; the first after a greeting may be an earlier client's."""
    identifier = qmp.get("id")
    if asked is not None or identifier is None:
        it.memory.pop("greeted", None)
    elif key_of(identifier, 0) in it.memory.get("spoilt", ()):
        pass  # QEMU answers a command that it could not take, and echoes its id
    elif "greeted" not in it.memory:
        it.found("reply-without-command", str(identifier), "no command in this trace bears this id")


@before("greeting")
def greeted(it: Sight, _qmp: dict[str, Any], _asked: Asked | None) -> None:
    """The answer to a client that left goes to the next one, right after its greeting (monitor/qmp.c)."""
    it.memory["greeted"] = True


@before("failure")
def no_such_command(it: Sight, qmp: dict[str, Any], asked: Asked | None) -> None:
    """QEMU does not have the command."""
    error = qmp["error"]
    if error.get("class") == "CommandNotFound" and asked and "negotiation" not in str(error.get("desc")):
        it.found("command-unknown", asked.name, str(error.get("desc")), asked.seq)


@before("reply query-qmp-schema")
def schema(it: Sight, qmp: dict[str, Any], _asked: Asked | None) -> None:
    """From here on commands can be held against what this QEMU says it takes."""
    it.memory["schema"] = Schema(qmp["return"])


@before("command")
def fits(it: Sight, qmp: dict[str, Any], asked: Asked | None) -> None:
    """A command against the schema, where the trace has one."""
    known_schema: Schema | None = it.memory.get("schema")
    if known_schema is None or asked is None:
        return
    for problem in known_schema.check_command(asked.name, qmp.get("arguments")):
        it.found("schema-mismatch", asked.name, str(problem))


@before("malformed")
def malformed(it: Sight, body: dict[str, Any], _asked: Asked | None) -> None:
    """Bytes that are no message; QEMU echoes the id of a command that it could read and not take."""
    it.found("malformed", str(body.get("from", "")), str(body.get("error", "")))
    with suppress(JsonError, TypeError, LookupError, AttributeError):
        it.memory.setdefault("spoilt", set()).add(key_of(decode(body["data"])["id"], 0))


@before("deadline")
def stalled(it: Sight, body: dict[str, Any], _asked: Asked | None) -> None:
    """A command was overdue."""
    if "correlation" in body:
        return  # an operation was, see intents
    it.found(
        "monitor-stalled", str(body.get("waiting", "")), f"overdue after {body.get('after', 0) / 1e6:.3f} s"
    )


@before("gap")
def gap(it: Sight, body: dict[str, Any], _asked: Asked | None) -> None:
    """Facts may be missing."""
    it.found("gap", "", str(body.get("why", "")))


@after("end")
def unanswered(it: Sight, _body: dict[str, Any], _asked: Asked | None) -> None:
    """Commands that nothing answered; ``quit`` need not be."""
    pending = [*it.vm.pending.values(), *it.vm.unanswered.values()]
    for seq, name, _, _ in sorted(pending, key=lambda command: command[0]):
        if name != "quit":
            it.found("command-without-reply", name, "no answer in this trace", seq)
