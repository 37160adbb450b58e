"""What a state table is made of: rows, and the table that holds them.

A row says: on this trigger, from this state, QEMU may be in that state afterwards. Rows are plain data;
:mod:`qemustate.statemachine.observer` reads them as *what may be*, and
:mod:`qemustate.statemachine.machine` as *what one machine does*.

Columns
    ``trigger``     what is seen: an event's name (``STOP``), ``execute NAME`` when a command is sent,
                    ``return NAME`` and ``error NAME`` when it is answered, a record's kind; empty for a
                    *silent* row, which QEMU takes and announces with nothing
    ``source``      the state before
    ``dest``        the state after
    ``when``        guards, all of which must be possible; ``!name`` asks for the guard's opposite. A guard
                    is *possible* unless the facts exclude it, so a row is left out only on knowledge
    ``cause``       who or what brought the state about, in QMP's words
    ``assumption``  the name of an assumption this row leans on; see :data:`ASSUMPTIONS`
    ``since``       first QEMU version that can do it, ``until`` the first that no longer can
    ``ref``         where it comes from: QEMU file or QAPI name

States are internal names; ``Table.shows`` maps the ones that carry a hidden bit (``paused+s``: paused, and
asleep in S3 when it was) to the name people and QAPI know.
"""

from __future__ import annotations

from typing import Final

import msgspec

#: Trigger of a row that QEMU takes without telling anybody.
SILENT: Final = ""

#: Every assumption a row may lean on: its name and its sentence. Uses are counted by the fold.
ASSUMPTIONS: Final = {
    "alone": "between two of our connections to our own socket nobody else sent a command there",
    "stop-is-ours": "a STOP that arrives while our own `stop` is unanswered is that command's",
    "stop-has-its-cause": "a STOP is due to the cause QEMU has just announced for it, not to another one",
    "first-reply": "QEMU answers no command before the start-up that -S would have prevented is over",
    "postmigrate-at-once": "after MIGRATION `completed`, QEMU enters `postmigrate` before it serves another command",
    "events-in-time": "an incoming migration does not end before its VM's client could switch MIGRATION events on",
    "no-unseen-migration": "where query-status shows no migration's doing, none that was begun unseen is under way",
    "no-s3-no-sleep": "a guest whose machine offers no S3 (disable_s3) does not sleep, nor did it where it came from",
    "announced": "a device leaves the machine when QEMU says so; the moment between is not counted as gone",
    "oldest-first": "of several deletions outstanding for one id, DEVICE_DELETED belongs to the oldest",
    "child-means-parent": "DEVICE_DELETED for a device's own child object means the device itself was removed",
}


class Row(msgspec.Struct, frozen=True):
    """One line of a state table; see the module's docstring for the columns."""

    trigger: str
    source: str
    dest: str
    when: tuple[str, ...] = ()
    cause: str = ""
    assumption: str = ""
    since: tuple[int, ...] = ()
    until: tuple[int, ...] = ()
    ref: str = ""

    @property
    def silent(self) -> bool:
        """QEMU takes this row and sends nothing."""
        return self.trigger == SILENT

    def in_version(self, version: tuple[int, ...] | None) -> bool:
        """Whether a QEMU of that version can take this row; every row where the version is not known."""
        if version is None:
            return True
        return (not self.since or version >= self.since) and (not self.until or version < self.until)


class Coupling(msgspec.Struct, frozen=True):
    """What one machine's states mean for a guard of the others.

    The guard may hold if any believed state is among ``states``, and may not if any is not. With ``opens`` being in
    those states is no proof: the guard then stays open. ``when`` as in a row; where it is impossible the guard
    does not hold. Couplings are applied until nothing changes any more.
    """

    guard: str
    states: tuple[str, ...]
    opens: bool = False
    when: tuple[str, ...] = ()
    since: tuple[int, ...] = ()
    until: tuple[int, ...] = ()
    ref: str = ""


def coupling(
    guard: str,
    states: str,
    *,
    opens: bool = False,
    when: str = "",
    since: str = "",
    until: str = "",
    ref: str = "",
) -> Coupling:
    """Return a coupling; ``states`` and ``when`` are separated by blanks."""
    return Coupling(
        guard, tuple(states.split()), opens, tuple(when.split()), version_of(since), version_of(until), ref
    )


class Table(msgspec.Struct, frozen=True):
    """A machine as data: its states in order, the initial one, its rows, what states show as, and couplings.

    ``commanded`` are the events that only a command brings about; see :func:`is_commanded`.
    """

    name: str
    states: tuple[str, ...]
    initial: str
    rows: tuple[Row, ...]
    shows: dict[str, str] = {}
    couplings: tuple[Coupling, ...] = ()
    commanded: tuple[str, ...] = ()

    def shown(self, state: str) -> str:
        """Return the name people and QAPI know an internal state by."""
        return self.shows.get(state, state)


def is_commanded(trigger: str) -> bool:
    """Say whether a trigger is a command, its answer, or an intent: it does not happen where nobody sends commands."""
    return trigger.startswith(("execute ", "return ", "error ", "unanswered", "launched", "plan"))


def version_of(text: str) -> tuple[int, ...]:
    """``"9.2"`` -> ``(9, 2)``; the empty string gives the empty tuple."""
    return tuple(int(part) for part in text.split(".")) if text else ()


def rows(
    trigger: str,
    sources: str,
    dest: str,
    *,
    when: str = "",
    cause: str = "",
    assume: str = "",
    since: str = "",
    until: str = "",
    ref: str = "",
) -> list[Row]:
    """Return one row per source state: ``sources`` is separated by blanks, ``dest`` ``"="`` stays.

    ``dest`` may name several states too: every source then leads to each of them. Raises ValueError for an assumption that is
    not in ASSUMPTIONS.
    """
    if assume and assume not in ASSUMPTIONS:
        raise ValueError(f"no such assumption: {assume}")
    return [
        Row(
            trigger,
            source,
            source if target == "=" else target,
            tuple(when.split()),
            cause,
            assume,
            version_of(since),
            version_of(until),
            ref,
        )
        for source in sources.split()
        for target in dest.split()
    ]
