"""Facts that are missing: a beginning that nobody saw, answers that will not come, stretches of which nothing was heard.

Whatever happened meanwhile may be so, and so is believed; what nobody can have done in that time is not.
"""

from __future__ import annotations

from typing import Any, Final

from qemustate.statemachine import console, guards
from qemustate.statemachine.effects import anonymous
from qemustate.statemachine.effects.fd import fds_perhaps_used
from qemustate.statemachine.evidence import CAUSES, EVIDENCE, JOB_COMMANDS
from qemustate.statemachine.graph import loosen, move
from qemustate.statemachine.state import BACKENDS, VM, Cell, DeviceCell
from qemustate.statemachine.stepping import (
    backend,
    couple,
    couple_migration,
    describe_device,
    device,
    device_name,
    job,
    set_guards,
    settle,
    step,
    step_device,
    step_named,
)
from qemustate.statemachine.tables.device import GOING, IN_QOM


def begin_late(vm: VM) -> None:
    """The first record of a log that does not say how the VM was started: anything may be."""
    vm.late = vm.begun = True
    know_nothing(vm)
    vm.process.belief = vm.watch.process.of(("running",))
    vm.monitor.belief = vm.watch.monitor.of(("closed", "negotiating", "ready"))


#: What may have begun where nobody looked.
_UNSEEN: Final = (
    "migrate-sent",
    "woken",
    "begun",
    "outgoing",
    "colo",
    "saving",
    "loading",
    "reset-meanwhile",
    *CAUSES,
)


def know_nothing(vm: VM) -> None:
    """What was never seen may be anything the tables can reach."""
    set_guards(vm, denies=("starting", "new"), opens=("migration-events", "background", *_UNSEEN))
    vm.runstate.belief = vm.watch.runstate.all
    vm.migration.belief = vm.watch.migration.all
    vm.dump.belief = vm.watch.dump.all
    couple(vm, vm.watch.runstate, vm.runstate)


def unanswered(vm: VM) -> None:
    """No answer will come on this connection: what was asked may have happened or not."""
    for key, command in vm.pending.items():
        vm.unanswered[key] = command
        name, arguments = console.meant(command[1], command[2])
        fds_perhaps_used(vm, arguments, None)
        if name in ("getfd", "closefd") and arguments.get("fdname"):
            step_named(vm, "fd", str(arguments["fdname"]), f"unanswered {name}")
        if name in ("add-fd", "remove-fd") and "fdset-id" in arguments:
            step_named(vm, "fd", f"/dev/fdset/{arguments['fdset-id']}", f"unanswered {name}")
        if name == "migrate":
            set_guards(vm, opens=("migrate-sent",))
        subject = next((str(arguments[key]) for key in _SUBJECTS if arguments.get(key)), "")
        if not subject:
            if name == "device_add":
                anonymous.added(vm, arguments, perhaps=True)
            continue
        if name in ("device_add", "device_del"):
            cell = device(vm, subject)
            if name == "device_add":
                _perhaps_added(vm, cell, arguments)
            step_device(vm, device_name(subject), cell, f"unanswered {name}")
        elif name == "block-export-add":
            step_named(vm, "export", subject, "unanswered")
        elif name in _BACKEND_COMMANDS:
            kind = _BACKEND_COMMANDS[name]
            step(vm, kind, vm.watch.backend, backend(vm, kind, subject), "unanswered", subject)
        elif name in JOB_COMMANDS:
            _perhaps_a_job(vm, name, str(arguments.get("job-id", subject)))
    vm.pending = {}
    in_flight = tuple(guard for guard in _IN_FLIGHT if vm.profile & guards.may(guard))
    set_guards(vm, opens=in_flight, denies=("asked",))


#: Arguments that name what a command is about; a job that is not named is by its device.
_SUBJECTS: Final = ("id", "node-name", "job-id", "device")


def _perhaps_added(vm: VM, cell: DeviceCell, arguments: dict[str, Any]) -> None:
    """A ``device_add`` whose answer will not come: where nobody else can bear the id, its bearer is this one."""
    there = vm.watch.device.of(IN_QOM)
    if cell.belief & vm.watch.device.of(_BORNE):
        cell.doubtful += 1
    if not cell.belief & there:
        describe_device(vm, cell, arguments)
    elif cell.belief & ~there and arguments != cell.properties:
        cell.kind |= guards.open_(*guards.DEVICE_KINDS)


def _perhaps_a_job(vm: VM, command: str, name: str) -> None:
    """A command whose answer will not come may have started its job, which may be anywhere by now."""
    cell = job(vm, name)
    cell.type = JOB_COMMANDS[command]
    settle(vm, "job", cell, vm.watch.job.all, "unanswered", name)


#: Guards that say that a command is unanswered: one that will not be answered may be done already.
_IN_FLIGHT: Final = ("stop-sent", "wakeup-sent", "anything-sent")

#: States in which a device bears its id, or has left a DEVICE_DELETED to come.
_BORNE: Final = (*GOING, *IN_QOM)

_BACKEND_COMMANDS: Final = {
    row.seen.split(" ")[1]: row.machine for row in EVIDENCE if row.machine in BACKENDS
}


def gap(vm: VM, *, alone: bool = False) -> None:
    """Facts may be missing: every belief widens to all that any rows lead to.

    ``alone``: nobody can have sent a command meanwhile, so what only commands change is what it was.
    """
    if not vm.begun:
        begin_late(vm)
        return
    unanswered(vm)
    alone = alone and not vm.profile & guards.may("others")
    if alone:
        vm.assumptions["alone"] += 1
    if vm.profile & guards.may("incoming"):
        set_guards(vm, opens=("incoming",))
    held = guards.names(vm.profile, ("migrate-sent",))["migrate-sent"]
    set_guards(vm, denies=("new",), opens=_UNSEEN[1:] if held else _UNSEEN)
    for machine in ("runstate", "migration"):
        cell = getattr(vm, machine)
        widen(vm, machine, cell)
    for name, cell in vm.devices.items():
        widen(vm, "device", cell, name, alone=alone)
        cell.doubtful, cell.outstanding = cell.doubtful + cell.outstanding, 0
    over = vm.watch.job.of(("undefined", "concluded", "null"))
    for name, job_cell in vm.jobs.items():
        if not alone and job_cell.belief & over:
            job_cell.type = ""  # another job may bear its id by now
        if job_cell.completing and job_cell.belief & ~over:
            move(vm, job_cell.pivots_from, "")  # it may have ended
        widen(vm, "job", job_cell, name, alone=alone)
    for name, display in vm.displays.items():
        widen(vm, "display", display, name, alone=alone)
        display.clients = 0
    for name, export in vm.exports.items():
        widen(vm, "export", export, name, alone=alone)
    if alone:
        loosen(vm)
    else:
        set_guards(vm, opens=("background",))
        move(vm, "", "")
        either, inner = vm.watch.backend.of(("gone", "present")), vm.watch.backend.bit["inner"]
        for kind, collection in BACKENDS.items():
            for name, cell in getattr(vm, collection).items():
                settle(vm, kind, cell, either | cell.belief & inner, "gap", name)
    couple(vm, vm.watch.runstate, vm.runstate)
    couple_migration(vm)
    if not alone:
        vm.numbered = (vm.numbered[0], None)
    vm.late = vm.late or not alone


def widen(vm: VM, machine: str, cell: Cell, subject: str = "", *, alone: bool = False) -> None:
    """Believe all that a machine's rows lead to from where it may be; ``alone``: without any command."""
    watcher = vm.watcher(machine)
    belief = watcher.reach(cell.belief, uncommanded=alone)
    if isinstance(cell, DeviceCell) and not alone:
        belief &= ~watcher.of(("planned", "adding") if cell.failover else ("planned", "adding", "hidden"))
    settle(vm, machine, cell, belief, "gap", subject)
