"""Looks at operations: what was asked for, and had not ended in time or at all."""

from __future__ import annotations

from typing import Any

from qemustate.statemachine.looks.registry import Asked, Sight, after, before


@before("deadline")
def overdue(it: Sight, body: dict[str, Any], _asked: Asked | None) -> None:
    """The deadline of an operation passed."""
    if "correlation" in body:
        waited = f"not ended in {body.get('after', 0) / 1e6:g} s"
        it.found("operation-overdue", str(body.get("waiting", "")), waited)


@before("ended")
def undone(it: Sight, body: dict[str, Any], _asked: Asked | None) -> None:
    """What an operation could not take back."""
    for command, arguments in body.get("left", ()):
        named = arguments.get("id") or arguments.get("node-name") or ""
        it.found(
            "operation-left-behind",
            str(named),
            f"{body.get('intent')} {body.get('subject')}: {command} was refused",
        )


@after("end")
def unfinished(it: Sight, _body: dict[str, Any], _asked: Asked | None) -> None:
    """Operations that are still open."""
    for body in it.vm.intents.values():
        it.found(
            "operation-unfinished",
            str(body.get("subject", "")),
            f"{body['intent']}: its end is not in this trace",
            body["seq"],
        )
