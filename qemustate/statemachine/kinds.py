"""What each kind of record does to a VM: messages by their evidence, our own facts directly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from qemustate.events.observe import parsed
from qemustate.statemachine import guards, launch, progress
from qemustate.statemachine.gaps import begin_late, gap, know_nothing, unanswered, widen
from qemustate.statemachine.graph import define
from qemustate.statemachine.observer import observer
from qemustate.statemachine.reading import COMMANDS, EVENTS
from qemustate.statemachine.state import VM, Pending, key_of
from qemustate.statemachine.stepping import (
    anonymous_path,
    backend,
    couple,
    describe_device,
    device,
    device_name,
    set_guards,
    set_profile,
    step,
    step_device,
    step_vm,
)

Kind = Callable[[VM, dict[str, Any]], None]

_NOTHING: Final[dict[str, Any]] = {}


def _event(vm: VM, body: dict[str, Any]) -> None:
    qmp = body.get("qmp") or parsed(body)
    run = EVENTS.get(qmp["event"])
    if run is not None:
        if not vm.begun:
            begin_late(vm)
        run(vm, qmp.get("data", _NOTHING), qmp)


def _command(vm: VM, body: dict[str, Any]) -> None:
    qmp = body.get("qmp") or parsed(body)
    name: str = qmp.get("execute") or qmp["exec-oob"]
    identifier = qmp.get("id")
    key = identifier if identifier.__class__ in _KEYS else key_of(identifier, vm.seq)
    arguments = qmp.get("arguments", _NOTHING)
    vm.pending[key] = (vm.seq, name, arguments, identifier)
    if vm.intents:
        _step_sent(vm, name, arguments)
    if not vm.begun:
        begin_late(vm)
    if vm.profile & _NEW and name not in _NEGOTIATION:
        set_guards(vm, denies=("new",))
    reading = COMMANDS.get(name)
    if reading is not None and reading.execute is not None:
        reading.execute(vm, arguments, None)


def _answered(vm: VM, identifier: Any) -> Pending | None:
    """Return the command that this answer belongs to, and note that QEMU serves again."""
    if vm.stalled is not None:
        vm.stalled = None
    key = identifier if identifier.__class__ in _KEYS else key_of(identifier, 0)
    command = vm.pending.pop(key, None)
    if command is not None:
        return command
    if not vm.begun:
        begin_late(vm)
    return _oldest_without_id(vm) if identifier is None else vm.unanswered.pop(key, None)


#: Types of id that are dictionary keys as they are (a bool or a float equals an int, and is none).
_KEYS: Final = (str, int)


def _oldest_without_id(vm: VM) -> Pending | None:
    key = next((k for k in vm.pending if k.__class__ is tuple and k[0] == "#"), None)
    return None if key is None else vm.pending.pop(key)


def _settle_in(vm: VM) -> None:
    """The first answer of a QEMU just started: start-up is over."""
    step_vm(vm, "runstate", "first reply")
    step_vm(vm, "migration", "first reply")
    set_guards(vm, denies=("starting",))


#: What a client says before anything else.
_NEGOTIATION: Final = ("qmp_capabilities", "migrate-set-capabilities")


def _reply(vm: VM, body: dict[str, Any]) -> None:
    qmp = body.get("qmp") or parsed(body)
    identifier = qmp.get("id")
    command = vm.pending.pop(identifier, None) if identifier.__class__ is str and vm.stalled is None else None
    if command is None:
        command = _answered(vm, identifier)
        if command is None:
            _unasked(vm, qmp["return"])
            return
    name = command[1]
    if vm.intents:
        _step_answered(vm, command[0], done=True)
    if vm.monitor.belief != _READY:
        step_vm(vm, "monitor", "return qmp_capabilities" if name == "qmp_capabilities" else "answer")
    if vm.profile & _STARTING:
        _settle_in(vm)
    reading = COMMANDS.get(name)
    if reading is not None and reading.done is not None:
        reading.done(vm, command[2], qmp["return"])


def _unasked(vm: VM, answer: Any) -> None:
    """Some answers are known without their command, which a trace that began late, or shows none, has not.

    QEMU is believed: where what it says cannot follow, the trace does not show what came between either.
    """
    reading = COMMANDS.get(progress.asked_for(answer) or "") if vm.late else None
    if reading is not None and reading.done is not None:
        known = len(vm.violations)
        reading.done(vm, _NOTHING, answer)
        del vm.violations[known:]


def _failure(vm: VM, body: dict[str, Any]) -> None:
    qmp = body.get("qmp") or parsed(body)
    error = qmp["error"] if isinstance(qmp["error"], dict) else _NOTHING
    command = _answered(vm, qmp.get("id"))
    negotiating = "Expecting capabilities negotiation" in str(error.get("desc", ""))
    if vm.monitor.belief != _READY:
        step_vm(vm, "monitor", "negotiation refused" if negotiating else "answer")
    if command is None:
        return
    if vm.intents:
        _step_answered(vm, command[0], done=False)
    if vm.profile & _STARTING and not negotiating:
        _settle_in(vm)
    reading = COMMANDS.get(command[1])
    if reading is not None and reading.refused is not None:
        reading.refused(vm, command[2], error)


def _greeting(vm: VM, body: dict[str, Any]) -> None:
    qmp = body.get("qmp") or parsed(body)
    if not vm.begun:
        begin_late(vm)
    told = qmp["QMP"].get("version", _NOTHING).get("qemu", _NOTHING)
    version = tuple(told.get(part) for part in ("major", "minor", "micro"))
    if all(part.__class__ is int for part in version):
        vm.observe(version)
    step_vm(vm, "process", "greeting")
    step_vm(vm, "monitor", "greeting")


def is_another(vm: VM, body: dict[str, Any]) -> bool:
    """Whether a ``spawned`` tells of another process than the one known so far.

    One that is told of late may be that one still, unless it is certain to have exited or has another pid.
    """
    if not vm.begun:
        return False
    exited = vm.names("process", vm.process) == ("exited",)
    return not body.get("late") or exited or (vm.pid is not None and body.get("pid", vm.pid) != vm.pid)


def _spawned(vm: VM, body: dict[str, Any]) -> None:
    if is_another(vm, body):
        vm.forget()
    elif vm.begun:
        gap(vm)
    argv = tuple(str(word) for word in body.get("argv", ()))
    vm.late, vm.begun = bool(body.get("late")), True
    vm.launch = launch.read(argv)
    vm.pid = body.get("pid")
    vm.spawned = body
    told = vm.launch.profile()
    set_profile(vm, guards.clear_mask(_LAUNCH), told)
    step_vm(vm, "process", "spawned")
    _cold_plug(vm, vm.launch)
    for kind, name in vm.launch.backends:
        step(vm, kind, vm.watch.backend, backend(vm, kind, name), "launched", name)
    vm.refers.update({(kind, name): uses for kind, name, uses in vm.launch.refers})
    define(vm, vm.launch.inner)
    if vm.late:
        know_nothing(vm)
        return
    set_guards(vm, holds=("starting", "new"))
    step_vm(vm, "runstate", "spawned")
    couple(vm, vm.watch.runstate, vm.runstate)


def _cold_plug(vm: VM, told: launch.Launch) -> None:
    """Believe in the devices of the command line; those without an id are numbered in their order."""
    number = 0
    for cold in told.devices:
        name = cold.id or anonymous_path(number)
        number += not cold.id
        if not cold.id and not told.counted:
            continue
        cell = device(vm, name, ours=True)
        describe_device(vm, cell, cold.properties)
        cell.generation = cell.generation or 1
        if not vm.late:
            step_device(vm, name, cell, "launched")
    alone = told.counted and not vm.late and not vm.profile & _OTHERS
    vm.numbered = number, number if alone else None


_OTHERS: Final = guards.may("others")
_LAUNCH: Final = ("autostart", "incoming", "deferred", "debugger", "kvm", "sleeps", "others")


def _exited(vm: VM, body: dict[str, Any]) -> None:
    step_vm(vm, "process", "exited")
    vm.exit = {key: body[key] for key in ("status", "signal") if key in body}
    unanswered(vm)


def _opened(vm: VM, body: dict[str, Any]) -> None:
    if not body.get("first"):
        gap(vm, alone=bool(body.get("alone")))
    step_vm(vm, "monitor", "opened")


def _lost(vm: VM, body: dict[str, Any]) -> None:
    step_vm(vm, "monitor", "lost")
    step_vm(vm, "process", "lost")
    step_vm(vm, "runstate", "lost")
    unanswered(vm)
    for name, cell in vm.jobs.items():  # what a verb has led to may be told no more
        widen(vm, "job", cell, name, alone=True)
    if body.get("by") == "us":
        gap(vm, alone=bool(body.get("alone")))


def _gap(vm: VM, _body: dict[str, Any]) -> None:
    gap(vm)


def _deadline(vm: VM, body: dict[str, Any]) -> None:
    if "correlation" in body:  # what an intent waits for is the guest's to give: QEMU may be as quick as ever
        if body["correlation"] in vm.intents:
            vm.intents[body["correlation"]]["overdue"] = True
        return
    step_vm(vm, "monitor", "deadline")
    key = key_of(body.get("id"), 0)
    command = vm.pending.get(key)
    vm.stalled = {
        "after": body.get("after"),
        "command": command[1] if command else None,
        "seq": command[0] if command else None,
    }


def _held(vm: VM, _body: dict[str, Any]) -> None:
    gap(vm)  # somebody else is there
    step_vm(vm, "monitor", "held")


def _begun(vm: VM, body: dict[str, Any]) -> None:
    if correlation := str(body.get("correlation", "")):
        vm.intents[correlation] = {**body, "seq": vm.seq, "sent": 0, "answered": 0, "last": 0, "again": False}
    steps = body.get("steps")
    of_a_device = not steps or steps[-1][0] == "device_add"
    if body.get("intent") == "plug" and body.get("subject") and of_a_device:
        step_device(vm, device_name(body["subject"]), device(vm, body["subject"], ours=True), "planned")


def _step_sent(vm: VM, name: str, arguments: dict[str, Any]) -> None:
    """Note that the next step of an intent was sent; or, where it is none's next, the last one of an intent once more."""
    for more in (1, 0):
        for intent in vm.intents.values():
            steps, count = intent.get("steps", ()), intent["sent"] + more
            if 0 < count <= len(steps) and steps[count - 1][0] == name and steps[count - 1][1] == arguments:
                intent["sent"], intent["last"], intent["again"] = count, vm.seq, not more
                return


def _step_answered(vm: VM, seq: int, *, done: bool) -> None:
    """Note that the step that was sent last, by the command ``seq``, was done, or was refused and so is as if it had not been sent.

    One that is refused when it is sent again may have been done the first time, and mostly is refused for that.
    """
    for intent in vm.intents.values():
        if intent["last"] == seq:
            intent["answered"] = intent["sent"] if done else intent["sent"] - 1
            if not intent["again"]:
                intent["sent"] = intent["answered"]


def _ended(vm: VM, body: dict[str, Any]) -> None:
    begun = vm.intents.pop(str(body.get("correlation", "")), {})
    subject, intent = body.get("subject"), body.get("intent")
    if not subject:
        return
    if intent == "plug":
        step_device(vm, device_name(subject), device(vm, subject, ours=True), "plan ended")
        if body.get("outcome") == "done":
            vm.plugged[subject] = begun.get("steps", [])
    elif intent == "unplug" and body.get("outcome") == "done":
        vm.plugged.pop(subject, None)


def _helper(vm: VM, body: dict[str, Any]) -> None:
    name = str(body["name"])
    if "pid" in body:
        vm.helpers[name] = body
    else:
        vm.helpers.pop(name, None)


def _segment(vm: VM, body: dict[str, Any]) -> None:
    vm.name = str(body.get("vm", vm.name))


#: Kind of record -> what it does to a VM. Kinds that change no state are not here.
KINDS: Final[dict[str, Kind]] = {
    "event": _event, "command": _command, "reply": _reply, "failure": _failure, "greeting": _greeting,
    "spawned": _spawned, "exited": _exited, "opened": _opened, "lost": _lost, "gap": _gap, "deadline": _deadline,
    "held": _held, "begun": _begun, "ended": _ended, "segment": _segment, "helper": _helper,
}  # fmt: skip

_STARTING: Final = guards.may("starting")
_NEW: Final = guards.may("new")
_READY: Final = observer("monitor", None).bit["ready"]
