"""Jobs, and the snapshots and dumps that stop a VM."""

from __future__ import annotations

import re
from typing import Any, Final

from qemustate.statemachine import console, guards
from qemustate.statemachine.evidence import JOB_COMMANDS
from qemustate.statemachine.graph import job_begun, job_ended
from qemustate.statemachine.state import VM
from qemustate.statemachine.stepping import job, narrow, set_guards, settle, step, step_vm
from qemustate.statemachine.tables.job import STATUSES


def job_status(vm: VM, data: dict[str, Any], _answer: Any) -> None:
    """JOB_STATUS_CHANGE names the job's status."""
    trigger = _TRIGGERS.get(data.get("status"))
    if trigger is None:
        return
    name = data.get("id", "")
    cell = vm.jobs.get(name) or job(vm, name)
    if trigger == _CREATED:
        cell.error = cell.type = cell.pivots_from = cell.pivots_to = ""
        cell.completing = False
        for _, command, arguments, _ in vm.pending.values():
            if command in JOB_COMMANDS and arguments.get("job-id", name) == name:
                cell.type = JOB_COMMANDS[command]
                job_begun(vm, cell, command, arguments)
                break
    step(vm, "job", vm.watch.job, cell, trigger, name)
    if cell.type in _STOPPING:
        couple_jobs(vm, data, None)
        if cell.type == "snapshot-save":
            _saved(vm, data["status"])
    elif not cell.type and (vm.late or vm.profile & _OTHERS):
        _perhaps_saved(vm, data["status"])
    if vm.profile & _ENDING:
        step_vm(vm, "runstate", "teardown")
    elif data["status"] in _DRAINED:
        step_vm(vm, "runstate", "drained")


_TRIGGERS: Final[dict[Any, str]] = {status: f"JOB_STATUS_CHANGE {status}" for status in STATUSES}
_CREATED: Final = _TRIGGERS["created"]
_ENDING: Final = guards.may("ending")
_OTHERS: Final = guards.may("others")
#: Statuses in which a job stands still.
_DRAINED: Final = ("paused", "standby")
#: Job types that stop the VM (migration/savevm.c).
_STOPPING: Final = ("snapshot-save", "snapshot-load")


def _saved(vm: VM, status: str) -> None:
    """A snapshot that is being saved leaves the status of a migration behind, and once saved, ``completed``."""
    if status == "running":
        step_vm(vm, "migration", "saving")
    elif status == "pending":
        step_vm(vm, "migration", "saved")


def _perhaps_saved(vm: VM, status: str) -> None:
    """A job of a type that nobody here knows may be such a snapshot."""
    trigger = {"running": "saving", "pending": "saved"}.get(status)
    after = trigger and vm.watch.migration.image(trigger, vm.migration.belief, vm.profile)
    if after and not after.impossible:
        settle(vm, "migration", vm.migration, vm.migration.belief | after.belief, "snapshot")


def block_job_ended(vm: VM, data: dict[str, Any], event: Any) -> None:
    """BLOCK_JOB_COMPLETED and BLOCK_JOB_CANCELLED carry the type, and an error if there was one."""
    cell = job(vm, str(data.get("device", "")))
    cell.type = str(data.get("type", cell.type))
    cell.error = str(data.get("error", ""))
    job_ended(vm, cell, done=event["event"] == "BLOCK_JOB_COMPLETED" and not cell.error)


def query_jobs(vm: VM, _data: dict[str, Any], answer: Any) -> None:
    """``query-jobs`` names every job and its status; a job it does not name is gone."""
    if not isinstance(answer, list):
        return
    watcher = vm.watch.job
    named = {str(item.get("id")): item for item in answer if isinstance(item, dict)}
    for name, item in named.items():
        cell = vm.jobs.get(name) or job(vm, name)
        cell.type = str(item.get("type", cell.type))
        cell.error = str(item.get("error", cell.error))
        if states := watcher.showing(str(item.get("status"))):
            narrow(vm, "job", cell, states, name, said=("query-jobs says", item.get("status")))
    for name, cell in vm.jobs.items():
        if name not in named:
            narrow(
                vm,
                "job",
                cell,
                watcher.of(("null", "undefined")),
                name,
                said=("query-jobs does not name it",),
            )


def couple_jobs(vm: VM, _data: dict[str, Any], _answer: Any) -> None:
    """Tell the run state whether its VM may be being saved or loaded."""
    watcher = vm.watch.job
    over = watcher.of(("undefined", "concluded", "null"))
    pending = {console.meant(name, arguments).name for _, name, arguments, _ in vm.pending.values()}
    lost = {console.meant(name, arguments).name for _, name, arguments, _ in vm.unanswered.values()}
    alive = pending | {c.type for c in vm.jobs.values() if not c.belief & over}
    perhaps = lost | {c.type for c in vm.jobs.values() if c.belief & ~over}
    if "" in perhaps and (vm.late or vm.profile & _OTHERS):
        perhaps |= {*_STOPPING}
    for guard, kinds in (("saving", _SAVING), ("loading", ("snapshot-load",))):
        how = "holds" if alive.intersection(kinds) else "opens" if perhaps.intersection(kinds) else "denies"
        set_guards(vm, **{how: (guard,)})


def dump_asked(vm: VM, _data: dict[str, Any], _answer: Any) -> None:
    """Whatever made an earlier dump fail is not what this one will end with."""
    vm.facts.pop("dump-error", None)


#: Jobs and commands that save the VM's state.
_SAVING: Final = ("snapshot-save", "dump-guest-memory", "xen-save-devices-state")


def dump_answered(vm: VM, data: dict[str, Any], _answer: Any) -> None:
    """``dump-guest-memory`` is over when it is answered, unless it was detached."""
    if data.get("detach"):
        step_vm(vm, "dump", "return dump-guest-memory detached")
    else:
        step_vm(vm, "dump", "return dump-guest-memory")
        couple_jobs(vm, data, None)


def dumped(vm: VM, data: dict[str, Any], _event: Any) -> None:
    """DUMP_COMPLETED carries how the dump ended, and why where it failed; ``query-dump`` has no reason."""
    if error := data.get("error"):
        vm.facts["dump-error"] = {"": error}
    trigger = f"DUMP_COMPLETED {data['result']['status']}"
    if trigger in vm.watch.dump.triggers:
        step_vm(vm, "dump", trigger)


def query_dump(vm: VM, _data: dict[str, Any], answer: Any) -> None:
    """``query-dump`` names the status."""
    if states := vm.watch.dump.showing(answer["status"]):
        narrow(vm, "dump", vm.dump, states, said=("query-dump says", answer["status"]))


def query_block_jobs(vm: VM, _data: dict[str, Any], answer: Any) -> None:
    """``query-block-jobs`` names block jobs and their status, and none of other types."""
    for it in answer:
        cell = job(vm, it["device"])
        cell.type = it["type"]
        cell.error = it.get("error", cell.error)
        if states := vm.watch.job.showing(it.get("status", "")):
            narrow(vm, "job", cell, states, it["device"], said=("query-block-jobs says", it["status"]))


def job_dismissed(vm: VM, data: dict[str, Any], _answer: Any) -> None:
    """A job that was dismissed is gone; its id is free."""
    cell = job(vm, data["id"])
    over = vm.watch.job.of(("null", "undefined"))
    narrow(vm, "job", cell, over, data["id"], said=("job-dismiss was done",))


#: A verb refused says the status (job.c job_apply_verb_locked()).
_REFUSED: Final = re.compile(r"Job '(.*)' in state '([a-z]+)' cannot accept command verb")


def verb_refused(vm: VM, data: dict[str, Any], answer: Any) -> None:
    """A refused verb tells the job's status, or that there is no such job."""
    desc = str(answer.get("desc", ""))
    name = str(data.get("id") or data.get("device", ""))
    if told := _REFUSED.match(desc):
        states = vm.watch.job.showing(told[2])
        narrow(vm, "job", job(vm, told[1]), states, told[1], said=("QEMU says", told[2]))
    elif name in vm.jobs and (
        desc == "Job not found"
        or (answer.get("class") == "DeviceNotActive" and vm.jobs[name].type in _OF_BLOCKS)
    ):
        over = vm.watch.job.of(("null", "undefined"))
        narrow(vm, "job", vm.jobs[name], over, name, said=("QEMU finds no such job",))


#: Job types that the block-job-* commands find (blockdev.c find_block_job_locked()).
_OF_BLOCKS: Final = ("mirror", "commit", "stream", "backup")
