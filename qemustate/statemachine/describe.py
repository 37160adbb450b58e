"""One stable line for every record, change, finding and state: for people, logs and text goldens alike.

``->`` is what was sent to QEMU, ``<-`` its answer, ``!`` an event, ``*`` a fact of our own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

from qemustate.events.observe import qmp_of
from qemustate.events.records import MESSAGE_KINDS
from qemustate.qmp.jsontext import print_qemu
from qemustate.statemachine import progress
from qemustate.statemachine.printable import printable
from qemustate.statemachine.state import BACKENDS, VM, Cell, Change, DeviceCell, JobCell, iso

#: How much of a value a line shows.
_WIDTH: Final = 60


def value(it: Any) -> str:
    """Return a value as compact JSON, shortened in the middle of nowhere with ``...``."""
    text = it if isinstance(it, str) and it.isprintable() and " " not in it else _json(it)
    return text if len(text) <= _WIDTH else text[: _WIDTH - 3] + "..."


def _json(it: Any) -> str:
    try:
        return json.dumps(it, separators=(",", ":"), default=repr)
    except RecursionError:  # QEMU takes and prints 1,024 levels (json-parser.c)
        return print_qemu(it).decode()


def sentence(it: Any) -> str:
    """Return a sentence of QEMU's whole, on one line."""
    text = it if isinstance(it, str) else value(it)
    return text if text.isprintable() else json.dumps(text)


def _members(it: dict[str, Any]) -> str:
    return "".join(f" {key}={value(val)}" for key, val in it.items())


def record(kind: str, body: dict[str, Any], command: str | None = None) -> str:
    """Return one line for a record; ``command`` names whose answer a reply or failure is."""
    if kind in MESSAGE_KINDS:
        return _message(kind, body, command or "?")
    told = {key: val for key, val in body.items() if key not in ("origin", "state")}
    match kind:
        case "spawned":
            argv = body.get("argv")
            return f"* spawned {value(argv[0] if isinstance(argv, list | tuple) and argv else '?')}" + (
                f" pid={body['pid']}" if body.get("pid") else ""
            )
        case "malformed":
            return f"* malformed from {body.get('from', '?')}: {body.get('error', '')}: {value(repr(body.get('data')))}"
        case "note":
            return f"* note: {body.get('text', '')}"
        case "snapshot":
            return "* snapshot"
        case "begun":
            steps = body.get("steps")
            sent = ", ".join(str(step[0]) for step in steps) if isinstance(steps, list | tuple) else ""
            return f"* begun {_intent(body)}" + (f": {sent}" if sent else "")
        case "ended":
            why = f": {sentence(body['why'])}" if body.get("why") else ""
            return f"* ended {_intent(body)}: {body.get('outcome', '?')}{why}"
        case "deadline" if "correlation" in body:
            after = body.get("after", 0) / 1e6
            return (
                f"* deadline of {body.get('waiting', '?')} ({body['correlation']}): not ended in {after:g} s"
            )
        case _:
            return f"* {kind}{_members(told)}"


def _intent(body: dict[str, Any]) -> str:
    words = (body.get("intent", "?"), body.get("subject", ""), f"({body.get('correlation', '?')})")
    return " ".join(str(word) for word in words if word)


def _object(it: Any) -> dict[str, Any]:
    """Return an object as it is, and anything else as an empty one: a message may have any shape."""
    return it if isinstance(it, dict) else {}


def _message(kind: str, body: dict[str, Any], command: str) -> str:
    qmp = qmp_of(body)
    match kind:
        case "event":
            return f"! {value(qmp.get('event'))}{_members(_object(qmp.get('data')))}"
        case "command":
            fds = f" (with {body['fds']} fd)" if body.get("fds") else ""
            name = value(qmp.get("execute", qmp.get("exec-oob")))
            return f"-> {name}{_members(_object(qmp.get('arguments')))}{fds}"
        case "reply":
            return f"<- {_answer(qmp.get('return'), command)}"
        case "failure":
            error = _object(qmp.get("error"))
            return f"<- {command} refused: {sentence(error.get('class'))}: {sentence(error.get('desc'))}"
        case _:
            version = _object(_object(_object(qmp.get("QMP")).get("version")).get("qemu"))
            return f"<- greeting of QEMU {version.get('major')}.{version.get('minor')}.{version.get('micro')}"


def _answer(it: Any, command: str) -> str:
    """Return what was asked, where that is known, and the answer."""
    told = "; ".join(map(str, progress.jobs(it)))
    return f"{progress.asked_for(it) or command}: {told or value(it)}"


def names(possible: tuple[str, ...]) -> str:
    """Return a belief as people read it: one name, or ``a|b`` where more are possible; many are counted."""
    if len(possible) > 6:
        return f"any of {len(possible)}"
    return "|".join(possible)


def change(vm: VM, it: Change) -> str:
    """Return one change as ``device vd1: present -> unplugging (device_del)``."""
    machine, subject, before, cell = it
    what = f"{machine} {subject}" if subject else machine
    why = f" ({cell.cause})" if cell.cause else ""
    after = vm.names(machine, cell)
    moved = names(after) if before == after else f"{names(before)} -> {names(after)}"
    return f"{what}: {moved}{why}"


def line(seq: int, time: int, text: str, changes: list[str]) -> str:
    """Return a timeline's line: number, time, record, and what it changed."""
    clock = (iso(time) or "")[11:23] or "-"
    after = f"   [{'; '.join(changes)}]" if changes else ""
    return printable(f"{seq:>6} {clock:>12} {text}{after}")


def finding(it: dict[str, Any]) -> str:
    """Return one finding's line."""
    subject = f" {it['subject']}" if it["subject"] else ""
    return printable(f"{it['severity']} at {it['seq']}: {it['rule']}{subject}: {it['message']}")


def state(vm: VM, wanted: Callable[[str, str], bool] | None = None) -> Iterator[str]:
    """Yield the lines of a VM's state, or of the machines of it that are ``wanted``, by machine and name."""
    yield printable(f"vm {vm.name}, after record {vm.seq}" + (f" at {iso(vm.time)}" if vm.time else ""))
    for machine, name, text in _state(vm):
        if wanted is None or wanted(machine, name):
            yield printable(f"  {machine:<10} {name + ': ' if name else ''}{text}")
    if wanted is None:
        for correlation, body in vm.intents.items():
            late = ", overdue" if body.get("overdue") else ""
            yield printable(
                f"  operation  {_intent({**body, 'correlation': correlation})} since {body['seq']}{late}"
            )
        for seq, name, _, identifier in [*vm.pending.values(), *vm.unanswered.values()]:
            yield printable(f"  pending    {name} (record {seq}, id {value(identifier)})")


def _state(vm: VM) -> Iterator[tuple[str, str, str]]:
    """Yield (machine, name or "", text) of everything a VM has."""
    exit_ = ", ".join(f"{key} {val}" for key, val in (vm.exit or {}).items())
    yield "process", "", _cell(vm, "process", vm.process) + (f" with {exit_}" if exit_ else "")
    version = ".".join(map(str, vm.version)) if vm.version else "?"
    yield "monitor", "", f"{_cell(vm, 'monitor', vm.monitor)}, QEMU {version}"
    yield "runstate", "", _cell(vm, "runstate", vm.runstate)
    if vm.migration.since:
        yield "migration", "", _cell(vm, "migration", vm.migration)
    for name, device in vm.devices.items():
        yield "device", name, _cell(vm, "device", device) + _device(device)
    for kind, collection in BACKENDS.items():
        for name, cell in getattr(vm, collection).items():
            yield kind, name, _cell(vm, kind, cell)
    for name, job in vm.jobs.items():
        yield "job", name, _cell(vm, "job", job) + _job(job)
    for machine, others in (("export", vm.exports), ("fd", vm.fds), ("display", vm.displays)):
        for name, cell in others.items():
            yield machine, name, _cell(vm, machine, cell)
    if vm.dump.since:
        yield "dump", "", _cell(vm, "dump", vm.dump)
    for fact, values in vm.facts.items():
        for name, told in values.items():
            yield fact, name, value(told)


def _cell(vm: VM, machine: str, cell: Cell) -> str:
    since = f" since {cell.since}" if cell.since else ""
    why = f" ({cell.cause})" if cell.cause else ""
    return f"{names(vm.names(machine, cell))}{since}{why}"


def _device(cell: DeviceCell) -> str:
    told = [
        cell.driver,
        f"on {cell.bus}" if cell.bus else "",
        f"generation {cell.generation}" if cell.generation > 1 else "",
    ]
    told.append(f"refused: {sentence(cell.refused)}" if cell.refused else "")
    text = ", ".join(part for part in told if part)
    return f", {text}" if text else ""


def _job(cell: JobCell) -> str:
    return (f", {cell.type}" if cell.type else "") + (
        f", error: {sentence(cell.error)}" if cell.error else ""
    )
