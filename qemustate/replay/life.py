"""The life of one device, job or backend: every record that names or changes it, and what is still missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from qemustate.errors import BadInput
from qemustate.replay.answers import Answers, Told, name_of
from qemustate.replay.check import Until
from qemustate.replay.source import Trace
from qemustate.replay.subject import COLLECTIONS, Subject
from qemustate.statemachine import describe, guards, progress
from qemustate.statemachine.fold import apply
from qemustate.statemachine.observer import Observer
from qemustate.statemachine.printable import printable
from qemustate.statemachine.state import BACKENDS, VM, Cell, DeviceCell, iso

#: Machine and state -> what it waits for, ``{since}`` when. The state is the table's own, hidden ones included.
WAITS: Final = {
    ("device", "planned"): "planned{since}; device_add has not been sent",
    ("device", "adding"): "device_add sent{since}; it has not been answered",
    ("device", "hidden"): "added{since}; the guest has not negotiated failover",
    ("device", "present-off"): "added{since}; its slot has no power yet",
    ("device", "unplugging"): "unplug requested{since}; the guest has not answered",
    ("device", "leaving"): "it left the machine{since}; DEVICE_DELETED has not named it",
    ("job", "created"): "created{since}; it has not started",
    ("job", "running"): "running{since}; it is neither ready nor concluded",
    ("job", "paused"): "paused{since}",
    ("job", "ready"): "ready{since}; it waits for job-complete or job-cancel",
    ("job", "standby"): "paused while ready{since}",
    ("job", "waiting"): "waiting{since} for the other jobs of its transaction",
    ("job", "pending"): "pending{since}; it waits for job-finalize",
    ("job", "aborting"): "aborting{since}; it is not concluded",
    ("job", "concluded"): "concluded{since}; it waits for job-dismiss",
    ("export", "adding"): "adding it was asked for{since}; no answer yet",
    ("export", "leaving"): "removing it was asked for{since}; BLOCK_EXPORT_DELETED has not come",
    ("dump", "active"): "dumping{since}; DUMP_COMPLETED has not come",
    **{(kind, "adding"): "adding it was asked for{since}; no answer yet" for kind in BACKENDS},
    **{(kind, "removing"): "removing it was asked for{since}; no answer yet" for kind in BACKENDS},
}

#: What is never said of a kind of device, and so not missing (hw/acpi/cpu.c: a vCPU under TCG).
NEVER: Final = {("device", "leaving"): "cpu"}

#: Machine -> the query whose answer tells its state.
QUERIES: Final = {
    "device": "qom-list /machine/peripheral",
    "job": "query-jobs",
    "runstate": "query-status",
    "migration": "query-migrate",
}

#: Triggers of the tables that somebody can bring about, in a person's words.
COMING: Final = {"RESET": "a reset", "RESUME": "resuming the VM", "negotiated": "a guest that negotiates"}

#: Where what is under way leads when it is completed.
GOALS: Final[dict[tuple[str, ...], tuple[str, ...]]] = {("unplugging",): ("gone",), ("adding",): ("present",)}

_KINDS_MASK: Final = ~guards.clear_mask(guards.DEVICE_KINDS)


class Step(msgspec.Struct, frozen=True):
    """One record of a life: its number, its time (ISO 8601 or None), its line, and what it changed."""

    seq: int
    time: str | None
    line: str
    changes: list[str]


class Life(msgspec.Struct, frozen=True):
    """The life of what an id stands for: its records, its state at the end, and what is missing, one line each."""

    subject: str
    steps: list[Step]
    state: list[str]
    missing: list[str]

    def lines(self) -> Iterator[str]:
        """Yield the lines for a person."""
        yield from (step.line for step in self.steps)
        yield ""
        yield from self.state
        yield from (printable(f"  still missing: {it}") for it in self.missing)


class _Unknown(BadInput):
    """A trace knows nothing of a name; another VM's may."""


def lives(traces: Sequence[Trace], name: str, until: Until | None = None) -> list[tuple[Trace, Life]]:
    """Return the lives of what ``name`` stands for in those of several VMs that know it.

    Raises BadInput where none does.
    """
    found: list[tuple[Trace, Life]] = []
    unknown: BadInput | None = None
    for trace in traces:
        try:
            found.append((trace, explain(trace, name, until)))
        except _Unknown as error:
            unknown = unknown or error
    if unknown is not None and not found:
        raise unknown
    return found


def explain(trace: Trace, name: str, until: Until | None = None) -> Life:
    """Return the life of what ``name`` stands for (see :mod:`qemustate.replay.subject`), up to a record or time.

    Raises BadInput where the trace knows nothing of that name, or cannot be read on.
    """
    subject, end = Subject.read(name), until or Until()
    vm, answers, steps = trace.start(), Answers(), []
    times: dict[int, int] = {}
    reports: dict[str, tuple[str, bool]] = {}
    for told in _records(trace, end):
        seq, time, kind, body = told
        command = answers.see(told)
        apply(vm, seq, time, kind, body)
        changes = subject.changes(vm)
        asked = command is not None and subject.named_in(_told(command).get("arguments"))
        named = kind in ("command", "event") and subject.named_in(_named(_told(told)))
        if changes or asked or named or (kind == "reply" and _reported(subject, _told(told), reports)):
            times[seq] = time
            text = describe.record(kind, body, name_of(command))
            steps.append(Step(seq, iso(time), describe.line(seq, time, text, changes), changes))
    cells = subject.cells(vm)
    if not cells:
        known = [it for collection in COLLECTIONS.values() for it in getattr(vm, collection)]
        raise _Unknown(
            trace.shown,
            expected=f"something of the name {name}",
            seen=", ".join(known[:20]) or "no name at all",
        )
    state = list(describe.state(vm, subject.covers))[1:]
    missing = [it for key, cell in cells.items() for it in _missing(vm, *key, cell, times)]
    return Life(name, steps, state, [*missing, *_pending(vm, subject)])


def _records(trace: Trace, until: Until) -> Iterator[Told]:
    for items in trace.batches():
        for seq, time, kind, body, _ in items:
            if until.passed(seq, time):
                return
            yield seq, time, kind, body


def _told(told: Told) -> dict[str, Any]:
    qmp = told[3].get("qmp")
    return qmp if isinstance(qmp, dict) else {}


def _reported(subject: Subject, qmp: dict[str, Any], reports: dict[str, tuple[str, bool]]) -> bool:
    """Say whether an answer reports a job of the subject with another status, or now with all its work done."""
    news = {
        it.name: (it.status, it.complete)
        for it in progress.jobs(qmp.get("return"))
        if subject.covers("job", it.name)
    }
    changed = any(reports.get(name) != told for name, told in news.items())
    reports |= news
    return changed


def _named(qmp: dict[str, Any]) -> Any:
    return qmp.get("arguments") if "arguments" in qmp else qmp.get("data")


def _missing(vm: VM, machine: str, name: str, cell: Cell, times: dict[int, int]) -> Iterator[str]:
    """Yield what a cell waits for, since when, and what would complete it by its table's rows."""
    watcher = vm.watcher(machine)
    shown = watcher.names(cell.belief)
    exited = vm.names("process", vm.process) == ("exited",)
    waits = [
        WAITS[machine, state] for state in watcher.inner_names(cell.belief) if _waits(machine, state, cell)
    ]
    if len(shown) > 1:
        would = f"; {QUERIES[machine]} would tell" if machine in QUERIES and not exited else ""
        yield f"which it is: {describe.names(shown)}{would}{_GONE if exited else ''}"
    elif waits and exited:
        yield waits[0].format(since=f" (record {cell.since})") + _GONE
    elif waits:
        told = waits[0].format(since=f"{_ago(vm, cell, times)} (record {cell.since})")
        yield "; ".join([told, *_completions(vm, cell, watcher)])
    if isinstance(cell, DeviceCell) and cell.outstanding:
        yield f"{cell.outstanding} DEVICE_DELETED for earlier bearers of the id {name}"


_GONE: Final = "; QEMU has exited, and nothing more will come"


def _waits(machine: str, state: str, cell: Cell) -> bool:
    never = NEVER.get((machine, state))
    known = guards.names(cell.kind, guards.DEVICE_KINDS) if isinstance(cell, DeviceCell) else {}
    return (machine, state) in WAITS and not (never and known[never])


def _ago(vm: VM, cell: Cell, times: dict[int, int]) -> str:
    since = times.get(cell.since, 0)
    if not since or vm.time < since:
        return ""
    minutes, seconds = divmod((vm.time - since) // 1_000_000, 60)
    hours, minutes = divmod(minutes, 60)
    return f" {hours}:{minutes:02d}:{seconds:02d} ago" if hours else f" {minutes:02d}:{seconds:02d} ago"


def _completions(vm: VM, cell: Cell, watcher: Observer) -> Iterator[str]:
    """Yield what each trigger that could come would make of a cell: the rows of its table say it, and the guards."""
    shown = watcher.names(cell.belief)
    profile = vm.profile | cell.kind if isinstance(cell, DeviceCell) else vm.profile
    for trigger, words in COMING.items():
        if trigger not in watcher.moves:
            continue
        after = watcher.image(trigger, cell.belief, profile)
        became = watcher.names(after.belief)
        if not after.impossible and became != shown:
            by_bus = watcher.moves[trigger].relevant & _KINDS_MASK and isinstance(cell, DeviceCell)
            would = "complete it" if became == GOALS.get(shown) else f"make it {' or '.join(became)}"
            yield f"{_bus(cell) if by_bus else ''}{words} would {would}"


def _bus(cell: Cell) -> str:
    """Say what decides: the rule of the device's bus, where it is known."""
    assert isinstance(cell, DeviceCell)
    known = [name for name, holds in guards.names(cell.kind, guards.DEVICE_KINDS).items() if holds]
    return (
        f"on this bus ({guards.GUARDS[known[0]].partition(' (')[0]}) " if known else "whatever its bus does, "
    )


def _pending(vm: VM, subject: Subject) -> Iterator[str]:
    """Yield the commands about the subject that nobody has answered."""
    for seq, command, arguments, _ in sorted(
        [*vm.pending.values(), *vm.unanswered.values()], key=lambda it: it[0]
    ):
        if subject.named_in(arguments):
            yield f"the answer to {command} (record {seq})"
