"""Where looks are registered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

from qemustate.statemachine.state import VM


class Asked(NamedTuple):
    """The command an answer belongs to, or that is being sent."""

    name: str
    arguments: dict[str, Any]
    seq: int


class Sight(Protocol):
    """What a look sees besides the message: the state, and where to say what it found."""

    vm: VM
    #: Notes that looks keep between records, by their own names.
    memory: dict[str, Any]

    def found(self, rule: str, subject: str, message: str, seq: int | None = None) -> None:
        """Say that a rule is broken here, or at record ``seq``."""


#: (sight, the message, or the body of a record that is none; the command it answers, if any)
Look = Callable[[Sight, dict[str, Any], Asked | None], None]

BEFORE: Final[dict[str, list[Look]]] = {}
AFTER: Final[dict[str, list[Look]]] = {}


def before(*seen: str) -> Callable[[Look], Look]:
    """Register a look at records before they are folded."""
    return _register(BEFORE, seen)


def after(*seen: str) -> Callable[[Look], Look]:
    """Register a look at what became of records."""
    return _register(AFTER, seen)


def _register(where: dict[str, list[Look]], seen: tuple[str, ...]) -> Callable[[Look], Look]:
    def keep(look: Look) -> Look:
        for name in seen:
            where.setdefault(name, []).append(look)
        return look

    return keep
