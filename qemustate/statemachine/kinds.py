"""What each kind of record does to a VM: messages by their evidence, our own facts directly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from qemustate.events.observe import parsed
from qemustate.statemachine import guards, launch
from qemustate.statemachine.effects.job import couple_jobs
from qemustate.statemachine.evidence import EVIDENCE
from qemustate.statemachine.reading import ERROR, EVENTS, EXECUTE, RETURN
from qemustate.statemachine.state import BACKENDS, VM, DeviceCell, key_of
from qemustate.statemachine.stepping import (
    backend,
    couple_migration,
    couple_runstate,
    describe_device,
    device,
    device_name,
    set_guards,
    step,
)

Kind = Callable[[VM, dict[str, Any]], None]

_NOTHING: Final[dict[str, Any]] = {}


def _event(vm: VM, body: dict[str, Any]) -> None:
    qmp = body.get("qmp") or parsed(body)
    run = EVENTS.get(qmp["event"])
    if run is not None:
        if not vm.process.belief & _BEGUN:
            _begin_late(vm)
        stamp = qmp.get("timestamp", _NOTHING)
        try:
            at = stamp["seconds"] * 1_000_000 + stamp["microseconds"]
        except (KeyError, TypeError):
            at = vm.time
        run(vm, qmp.get("data", _NOTHING), None, at)


def _command(vm: VM, body: dict[str, Any]) -> None:
    qmp = body.get("qmp") or parsed(body)
    name = qmp.get("execute") or qmp.get("exec-oob")
    if name.__class__ is not str:
        return
    arguments = qmp.get("arguments") or _NOTHING
    identifier = qmp.get("id")
    key = identifier if identifier.__class__ is str else key_of(identifier, vm.seq)
    vm.pending[key] = (vm.seq, name, arguments, identifier)
    run = EXECUTE.get(name)
    if run is not None or name in _FLAGGED:
        if not vm.process.belief & _BEGUN:
            _begin_late(vm)
        if name in _FLAGGED:
            set_guards(vm, holds=(_FLAGGED[name],))
        if run is not None:
            run(vm, arguments, None, vm.time)


#: Commands whose being unanswered is a guard of its own.
_FLAGGED: Final = {"stop": "stop-sent", "system_wakeup": "wakeup-sent"}


def _answered(vm: VM, qmp: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Return (command, arguments) that this answer belongs to, and note that QEMU serves again."""
    identifier = qmp.get("id")
    key = identifier if identifier.__class__ is str else key_of(identifier, 0)
    command = vm.pending.pop(key, None)
    if command is None:
        command = vm.unanswered.pop(key, None) if identifier is not None else _oldest_without_id(vm)
    if not vm.process.belief & _BEGUN:
        _begin_late(vm)
    if vm.stalled is not None:
        vm.stalled = None
    if command is None:
        return None
    name = command[1]
    if name in _FLAGGED and all(p[1] != name for p in vm.pending.values()):
        set_guards(vm, denies=(_FLAGGED[name],))
    if name == "human-monitor-command":
        set_guards(vm, denies=("anything-sent", "stop-sent", "wakeup-sent"))
        couple_jobs(vm, _NOTHING, None, 0)
    return name, command[2]


def _oldest_without_id(vm: VM) -> Any:
    key = next((k for k in vm.pending if k.__class__ is tuple and k[0] == "#"), None)
    return vm.pending.pop(key) if key is not None else None


def _first_reply(vm: VM) -> None:
    step(vm, "runstate", vm.runstate, "first reply")
    set_guards(vm, denies=("starting",))


def _reply(vm: VM, body: dict[str, Any]) -> None:
    qmp = body.get("qmp") or parsed(body)
    command = _answered(vm, qmp)
    if command is None:
        return
    name, arguments = command
    if name == "qmp_capabilities":
        step(vm, "monitor", vm.monitor, "return qmp_capabilities")
    elif vm.monitor.belief != vm.observers["monitor"].bit["ready"]:
        step(vm, "monitor", vm.monitor, "answer")
    if vm.profile & _STARTING:
        _first_reply(vm)
    run = RETURN.get(name)
    if run is not None:
        run(vm, arguments, qmp["return"], vm.time)


def _failure(vm: VM, body: dict[str, Any]) -> None:
    qmp = body.get("qmp") or parsed(body)
    error = qmp["error"] if isinstance(qmp["error"], dict) else _NOTHING
    command = _answered(vm, qmp)
    negotiating = "Expecting capabilities negotiation" in str(error.get("desc", ""))
    if vm.monitor.belief != vm.observers["monitor"].bit["ready"]:
        step(vm, "monitor", vm.monitor, "negotiation refused" if negotiating else "answer")
    if command is None:
        return
    name, arguments = command
    if vm.profile & _STARTING and not negotiating:
        _first_reply(vm)
    run = ERROR.get(name)
    if run is not None:
        run(vm, arguments, error, vm.time)


def _greeting(vm: VM, body: dict[str, Any]) -> None:
    qmp = body.get("qmp") or parsed(body)
    if not vm.process.belief & _BEGUN:
        _begin_late(vm)
    version = qmp["QMP"].get("version", _NOTHING).get("qemu", _NOTHING)
    if {"major", "minor", "micro"} <= version.keys():
        vm.observe((version["major"], version["minor"], version["micro"]))
    step(vm, "process", vm.process, "greeting")
    step(vm, "monitor", vm.monitor, "greeting")


def _spawned(vm: VM, body: dict[str, Any]) -> None:
    argv = [str(word) for word in body.get("argv", ())]
    vm.late = bool(body.get("late"))
    vm.launch = launch.read(argv)
    vm.pid = body.get("pid")
    vm.exit = None
    told = vm.launch.profile()
    vm.profile = vm.profile & guards.clear_mask(_LAUNCH) | told
    step(vm, "process", vm.process, "spawned")
    for cold in vm.launch.devices:
        if cold.id:
            cell = device(vm, cold.id)
            describe_device(vm, cell, cold.properties)
            cell.generation = cell.generation or 1
            if not vm.late:
                step(vm, "device", cell, "launched", cold.id)
    for kind, name in vm.launch.backends:
        step(vm, kind, backend(vm, kind, name), "launched", name)
    if vm.late:
        _know_nothing(vm)
        return
    vm.runstate.belief = vm.observers["runstate"].initial
    set_guards(vm, holds=("starting",))
    step(vm, "runstate", vm.runstate, "spawned")
    couple_runstate(vm)


_LAUNCH: Final = ("autostart", "incoming", "debugger", "kvm", "others")


def _begin_late(vm: VM) -> None:
    """The first record of a log that does not say how the VM was started: anything may be."""
    vm.late = True
    _know_nothing(vm)
    vm.process.belief = vm.observers["process"].of(("running",))
    vm.monitor.belief = vm.observers["monitor"].of(("closed", "negotiating", "ready"))


def _know_nothing(vm: VM) -> None:
    """What was never seen may be anything the tables can reach."""
    set_guards(vm, denies=("starting",))
    set_guards(
        vm,
        opens=(
            "migration-events",
            "outgoing",
            "colo",
            "saving",
            "loading",
            "io-error",
            "watchdog",
            "panic",
            "shutdown-pauses",
        ),
    )
    vm.runstate.belief = vm.observers["runstate"].all
    vm.migration.belief = vm.observers["migration"].all
    couple_runstate(vm)


def _exited(vm: VM, body: dict[str, Any]) -> None:
    step(vm, "process", vm.process, "exited")
    vm.exit = {key: body[key] for key in ("status", "signal") if key in body}
    _unanswered(vm)


def _opened(vm: VM, body: dict[str, Any]) -> None:
    if not body.get("first"):
        _gap(vm, body)
    step(vm, "monitor", vm.monitor, "opened")


def _lost(vm: VM, body: dict[str, Any]) -> None:
    step(vm, "monitor", vm.monitor, "lost")
    step(vm, "process", vm.process, "lost")
    step(vm, "runstate", vm.runstate, "lost")
    _unanswered(vm)
    if body.get("by") == "us":
        _gap(vm, body)


def _unanswered(vm: VM) -> None:
    """No answer will come on this connection: what was asked may have happened or not."""
    for key, command in vm.pending.items():
        _, name, arguments, _ = command
        vm.unanswered[key] = command
        subject = str(arguments.get("id") or arguments.get("node-name") or "")
        if not subject:
            continue
        if name in ("device_add", "device_del"):
            step(vm, "device", device(vm, subject), f"unanswered {name}", device_name(subject))
        elif name in _BACKEND_COMMANDS:
            kind = _BACKEND_COMMANDS[name]
            step(vm, kind, backend(vm, kind, subject), "unanswered", subject)
    vm.pending = {}


_BACKEND_COMMANDS: Final = {
    row.seen.split(" ")[1]: row.machine for row in EVIDENCE if row.machine in BACKENDS
}


def _gap(vm: VM, _body: dict[str, Any]) -> None:
    """Facts may be missing: every belief widens to all that any rows lead to."""
    if not vm.process.belief & _BEGUN:
        _begin_late(vm)
        return
    _unanswered(vm)
    set_guards(
        vm,
        opens=("outgoing", "colo", "saving", "loading", "io-error", "watchdog", "panic", "shutdown-pauses"),
    )
    for machine in ("runstate", "migration"):
        cell = getattr(vm, machine)
        _widen(vm, machine, cell)
    for name, cell in vm.devices.items():
        _widen(vm, "device", cell, name)
    for name, job_cell in vm.jobs.items():
        _widen(vm, "job", job_cell, name)
    couple_runstate(vm)
    couple_migration(vm)
    vm.late = True


def _widen(vm: VM, machine: str, cell: Any, subject: str = "") -> None:
    watcher = vm.observers[machine]
    before = watcher.names(cell.belief)
    cell.belief = watcher.reach(cell.belief)
    if isinstance(cell, DeviceCell):
        cell.belief &= ~watcher.of(("planned", "adding", "hidden")) | (
            0 if cell.failover == "" else watcher.bit["hidden"]
        )
    if watcher.names(cell.belief) != before:
        cell.since, cell.cause = vm.seq, "gap"
        vm.changed.append((machine, subject, before, cell))


def _deadline(vm: VM, body: dict[str, Any]) -> None:
    step(vm, "monitor", vm.monitor, "deadline")
    key = key_of(body.get("id"), 0)
    command = vm.pending.get(key)
    vm.stalled = {
        "after": body.get("after"),
        "command": command[1] if command else None,
        "seq": command[0] if command else None,
    }


def _held(vm: VM, _body: dict[str, Any]) -> None:
    step(vm, "monitor", vm.monitor, "held")


def _begun(vm: VM, body: dict[str, Any]) -> None:
    if body.get("intent") == "plug" and body.get("subject"):
        step(vm, "device", device(vm, body["subject"]), "planned", body["subject"])


def _ended(vm: VM, body: dict[str, Any]) -> None:
    if body.get("intent") == "plug" and body.get("subject"):
        step(vm, "device", device(vm, body["subject"]), "plan ended", body["subject"])


def _segment(vm: VM, body: dict[str, Any]) -> None:
    vm.name = str(body.get("vm", vm.name))


#: Kind of record -> what it does to a VM. Kinds that change no state are not here.
KINDS: Final[dict[str, Kind]] = {
    "event": _event, "command": _command, "reply": _reply, "failure": _failure, "greeting": _greeting,
    "spawned": _spawned, "exited": _exited, "opened": _opened, "lost": _lost, "gap": _gap, "deadline": _deadline,
    "held": _held, "begun": _begun, "ended": _ended, "segment": _segment,
}  # fmt: skip

_probe = VM()
#: The process was heard of: spawned, or it spoke.
_BEGUN: Final = _probe.observers["process"].all & ~_probe.observers["process"].initial
_STARTING: Final = guards.may("starting")
del _probe
