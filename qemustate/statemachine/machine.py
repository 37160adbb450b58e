"""What one machine does: a table as a ``transitions.Machine``, for callbacks and for walking it.

The observer keeps every state that may be; this fires one row at a time, on an object that has a ``state``.
Used by the simulated QEMU, by property tests (every walk stays inside the observer's belief), and by
:class:`Callbacks`, which fires ``on_enter_STATE`` when a belief becomes a single state.

``transitions`` takes the first row whose conditions hold; here the walker says which destination it wants, and
a condition on every row picks it. Source: pytransitions 0.9, ``transitions/core.py``.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import transitions

from qemustate.statemachine import guards
from qemustate.statemachine.rows import Row, Table


class RowTransition(transitions.Transition):
    """A transition that carries the row it was made from: guard, assumption, versions, source of the fact."""

    def __init__(self, source: str, dest: str, row: Row, **more: Any) -> None:
        super().__init__(source, dest, **more)
        self.row: Final = row


class Walker:
    """Something that is in one state of a table: ``state``, and where it wants to go (``wanted``)."""

    def __init__(self, table: Table, profile: int = 0, version: tuple[int, ...] | None = None) -> None:
        self.state = table.initial
        self.profile = profile
        self.wanted: str | None = None
        self._machine = machine(table, version)

    def moves(self) -> list[Row]:
        """Return the rows that can be taken from here under the walker's profile."""
        return [
            t.row
            for event in self._machine.events.values()
            for t in event.transitions.get(self.state, ())
            if isinstance(t, RowTransition) and _allows(self.profile, t.row)
        ]

    def take(self, row: Row) -> None:
        """Take one of :meth:`moves`; raises ``transitions.MachineError`` for a row that does not start here."""
        self.wanted = row.dest
        try:
            if not self._machine.events[_name(row.trigger)].trigger(self):
                raise transitions.MachineError(f"{row.trigger} does not lead from {self.state} to {row.dest}")
        finally:
            self.wanted = None


def _name(trigger: str) -> str:
    return trigger or "(silent)"


def _allows(profile: int, row: Row) -> bool:
    needed = guards.mask(row.when)
    return profile & needed == needed


def _chosen(row: Row, event: transitions.EventData) -> bool:
    walker = event.model
    assert isinstance(walker, Walker)
    return walker.wanted == row.dest and _allows(walker.profile, row)


def machine(table: Table, version: tuple[int, ...] | None = None) -> transitions.Machine:
    """Return the table as a model-less ``transitions.Machine``; fire with ``m.events[TRIGGER].trigger(walker)``.

    Silent rows hang on the trigger ``(silent)``.
    """
    made = transitions.Machine(
        model=None, states=list(table.states), initial=table.initial, auto_transitions=False, send_event=True
    )
    for row in table.rows:
        if not row.in_version(version):
            continue
        name = _name(row.trigger)
        if name not in made.events:
            made.events[name] = made.event_cls(name, made)
        made.events[name].add_transition(
            RowTransition(row.source, row.dest, row, conditions=[partial(_chosen, row)])
        )
    return made


class Callbacks:
    """Callbacks the ``transitions`` way, for a belief: ``on_enter_STATE`` and ``on_uncertain``.

    ``react(before, after)`` takes the names a belief showed as before and after a record and calls
    ``on_enter_STATE(...)`` of the listener when the belief has become that single state, ``on_exit_STATE`` when it
    has left it, and ``on_uncertain`` when it stops being one. Dashes in names become underscores.
    """

    def __init__(self, listener: object) -> None:
        self._listener = listener

    def react(self, before: tuple[str, ...], after: tuple[str, ...], *args: Any) -> list[Any]:
        """Call what the listener has for this change, and return what that returned; a method it has not is passed over."""
        if before == after:
            return []
        names = [f"on_exit_{before[0]}"] if len(before) == 1 else []
        names.append(f"on_enter_{after[0]}" if len(after) == 1 else "on_uncertain")
        methods = (getattr(self._listener, name.replace("-", "_"), None) for name in names)
        return [method(*args) for method in methods if method is not None]
