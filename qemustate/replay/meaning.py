"""What a record means, apart from when it was seen and how it is numbered: for laying two traces side by side.

A record's meaning is its *lane* and its *words*. Commands are one lane and answers another, since their order is their
client's; events are a lane for each device, job or backend they are about, and one for the rest, since QEMU promises
no order between those. Words are the name of the command or event, its subject, an answer's outcome, and members that
are enumerations.

Ids of commands, times, and all else in a message are no meaning. Nor are negotiation, questions and their answers,
events that QEMU holds back (they may come or not) or sends to tell how far it is, and facts of our own but for how the process ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from qemustate.events.observe import qmp_of
from qemustate.replay.answers import Answers, Told
from qemustate.statemachine.rules import RATE_LIMITED
from qemustate.statemachine.stepping import device_name

#: The lanes of commands, of answers, and of what is about the VM itself.
COMMANDS: Final = "commands"
ANSWERS: Final = "answers"
THE_VM: Final = "vm"

#: Members that name what a message is about, the most telling first (qapi/*.json).
_SUBJECTS: Final = ("job-id", "id", "device", "node-name", "name", "path", "qom-path")

#: Members whose values are enumerations, or say who did it (qapi/run-state.json, job.json, migration.json).
_TELLING: Final = ("status", "action", "reason", "operation", "guest")

#: Commands that only ask, or only open a session.
_ASKS: Final = ("query-", "qom-list", "qom-get", "device-list-properties", "qmp_capabilities")

#: Events that tell how far something is, and how often depends on the host's speed (qapi/migration.json).
_PROGRESS: Final = ("MIGRATION_PASS",)

#: What a record is lost without: a trace that lacks this has no such records.
_NEEDS: Final = {
    "command": "commands",
    "reply": "replies",
    "failure": "replies",
    "event": "events",
    "exited": "process",
}


class Meaning(NamedTuple):
    """A record's lane and words, with the record itself and the command it answers."""

    lane: str
    words: tuple[str, ...]
    told: Told
    command: Told | None


def meanings(batches: Iterable[list[Any]], lacks: Iterable[str]) -> Iterator[Meaning]:
    """Yield the meaning of each record that has one; ``lacks`` names what is left out, as one of two traces lacks it.

    ``batches`` are a trace's, ``lacks`` as in :data:`qemustate.events.records.LACKS`. Without commands, answers are
    about nothing, and left out.
    """
    answers, without = Answers(), frozenset(lacks)
    if "commands" in without:
        without |= {"replies"}
    for items in batches:
        for seq, time, kind, body, _ in items:
            told = (seq, time, kind, body)
            command = answers.see(told)
            if kind in _NEEDS and _NEEDS[kind] not in without:
                meant = _meaning(kind, body, command)
                if meant is not None:
                    yield Meaning(*meant, told, command)


def _meaning(kind: str, body: dict[str, Any], command: Told | None) -> tuple[str, tuple[str, ...]] | None:
    if kind == "exited":
        return THE_VM, ("exited", *(f"{key} {body[key]}" for key in ("status", "signal") if key in body))
    qmp = qmp_of(body)
    if kind == "event":
        name, data = str(qmp.get("event")), qmp.get("data")
        if name in RATE_LIMITED or name in _PROGRESS:
            return None
        subject = _subject(data)
        return subject or THE_VM, (name, subject, *_telling(data))
    asked = qmp if kind == "command" else qmp_of(command[3]) if command else {}
    name = str(asked.get("execute") or asked.get("exec-oob"))
    if not asked or name.startswith(_ASKS):
        return None
    subject = _subject(asked.get("arguments"))
    if kind == "command":
        return COMMANDS, (name, subject)
    error = qmp.get("error")
    outcome = str(error.get("class")) if isinstance(error, dict) else "done"
    return ANSWERS, (name, subject, outcome)


def _subject(data: Any) -> str:
    """Return what a message is about: an id, or the id of the device below whose QOM path something is."""
    if not isinstance(data, dict):
        return ""
    data = data["info"] if isinstance(data.get("info"), dict) else data  # ACPI_DEVICE_OST (qapi/acpi.json)
    for member in _SUBJECTS:
        value = data.get(member)
        if isinstance(value, str) and value:
            parts = device_name(value).removeprefix("/machine/peripheral/").partition("/")
            return value if value.startswith("/") and not parts[0] else parts[0] or value
    return ""


def _telling(data: Any) -> Iterator[str]:
    if isinstance(data, dict):
        yield from (f"{key}={data[key]}" for key in _TELLING if key in data)
