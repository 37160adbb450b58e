"""What an operation is, as data: what it sends, what ends it, what is left of it after a crash.

An intent is made from its name, its subject, its arguments and its steps, which is what its ``begun`` record keeps; so a
process that finds it open in a log makes the same intent again and goes on with it.

Conditions look at the state (:class:`~qemustate.statemachine.state.VM`) and at nothing else: whoever brought it about,
whenever, a device that is gone is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec

from qemustate.hardware.hotplug import Step
from qemustate.statemachine.evidence import JOB_COMMANDS
from qemustate.statemachine.state import BACKENDS, VM, Cell

#: Who refused, and why.
Refusal = tuple[str, str]

Recovery = Literal["undo", "resend", "watch"]


class Intent(msgspec.Struct, frozen=True):
    """One operation; see the module's docstring.

    ``done`` and ``refused`` are asked after every record. ``ask`` is a query that tells where no event does: it is asked
    when the deadline has passed, with ``poll`` or in ``doubt`` (no event will tell) again and again, and with ``confirm`` before it is believed to be done. ``reason`` is
    the member of its answer that says why it was refused.
    ``then`` is sent when it is done, and is part of it; ``tidy`` however it ended. ``announced`` is waited for
    when it is done: for as long as it takes, or with ``poll``, where no event may come, for a moment.
    ``quiet`` is a query, and what its answer is like once QEMU is through with what it has said to have ended: it is asked until then.
    ``recovery`` is what a new process does with it: take back what was done so far, send again what it cannot see
    to be done, or only watch, where a step that was never sent means that nothing will come of it. ``going`` says that QEMU is at it,
    where only watching makes sense. ``sets`` names what the last request decides, so that an earlier one is not sent again, and
    whose value QEMU is asked for where it may be more than one when it is done. ``durable``: which file is live hangs on it, so the log is on the disk before and after.
    """

    name: str
    subject: str = ""
    arguments: dict[str, Any] = {}
    steps: tuple[Step, ...] = ()
    then: tuple[Step, ...] = ()
    done: Callable[[VM], bool] = lambda _vm: True
    refused: Callable[[VM], Refusal | None] = lambda _vm: None
    going: Callable[[VM], bool] = lambda _vm: False
    doubt: Callable[[VM], bool] = lambda _vm: False
    value: Callable[[VM], Any] = lambda _vm: None
    settles: str = "QEMU's answer"
    ask: tuple[str, dict[str, Any]] | None = None
    poll: bool = False
    confirm: bool = False
    reason: str = ""
    announced: Callable[[VM], bool] | None = None
    quiet: tuple[str, Callable[[Any], bool]] | None = None
    tidy: tuple[Step, ...] = ()
    recovery: Recovery = "watch"
    sets: str = ""
    durable: bool = False


#: Makes an intent from its subject, arguments, steps and the number of its ``begun`` record.
Maker = Callable[[str, dict[str, Any], tuple[Step, ...], int], Intent]


def answered(vm: VM, since: int, steps: int) -> bool:
    """Say whether QEMU has done the first ``steps`` of the intent that began with record ``since``."""
    return any(it["seq"] == since and it["answered"] >= steps for it in vm.intents.values())


def plug(subject: str, arguments: dict[str, Any], steps: tuple[Step, ...], since: int) -> Intent:
    """Backends, then the device: done when QEMU has answered the last, which makes the object (qapi/qdev.json device_add)."""
    if steps[-1].command != "device_add":
        return Intent(
            "plug", subject, arguments, steps, done=lambda vm: happened(vm, steps[-1]) or answered(vm, since, len(steps)),
            recovery="undo",
        )  # fmt: skip
    return Intent(
        "plug", subject, arguments, steps,
        done=lambda vm: not {"gone", "planned"} & set(vm.shows("device", subject)),
        refused=lambda vm: ("guest", "it went as soon as it was there") if vm.shows("device", subject) == ("gone",) else None,
        value=lambda vm: vm.device_json(vm.devices[subject]) if subject in vm.devices else None,
        settles="qom-list of /machine/peripheral", ask=("qom-list", {"path": "/machine/peripheral"}), recovery="undo",
    )  # fmt: skip


def unplug(subject: str, arguments: dict[str, Any], steps: tuple[Step, ...], since: int) -> Intent:
    """``device_del``, the guest, DEVICE_DELETED; then the backends that were brought with it.

    ``arguments["told"]`` is false for devices whose DEVICE_DELETED may never come: QEMU is asked for those;
    ``arguments["repeat"]`` is true where asking twice does no harm; otherwise only what QEMU never answered is asked again. Backends without a device go with the answers.
    """
    if not steps or steps[0].command != "device_del":
        return Intent("unplug", subject, arguments, then=steps, recovery="resend")

    def refused(vm: VM) -> Refusal | None:
        cell = vm.devices.get(subject)
        if cell is None or cell.since <= since or vm.names("device", cell) != ("present",):
            return None
        if cell.cause == "guest refused":
            return "guest", cell.refused
        # What was asked back is there for certain only after a reset, which leaves it to a query to tell whether it had left before.
        forgotten = cell.cause in ("reset", "query")
        return ("qemu", "a reset made QEMU forget the request") if forgotten else None

    def announced(vm: VM) -> bool:
        # It has left the machine; what it had is free when DEVICE_DELETED says so, or may have said so unheard.
        cell = vm.devices.get(subject)
        return cell is None or cell.belief != vm.watch.device.bit["leaving"]

    def doubt(vm: VM) -> bool:
        # Its DEVICE_DELETED may have come: one that may have been an earlier bearer's, or that nobody heard. Or a reset
        # made QEMU forget the request, unless the device had left before.
        names = vm.shows("device", subject)
        return "gone" in names and len(names) > 1

    return Intent(
        "unplug", subject, arguments, steps[:1], steps[1:],
        done=lambda vm: vm.shows("device", subject) == ("gone",), refused=refused, announced=announced, doubt=doubt,
        going=lambda vm: not arguments.get("repeat") and answered(vm, since, 1),
        settles=str(arguments.get("settles") or "DEVICE_DELETED"),
        ask=("qom-list", {"path": "/machine/peripheral"}), poll=not arguments.get("told", True), recovery="resend",
    )  # fmt: skip


def _runstate(vm: VM) -> tuple[str, ...]:
    return vm.names("runstate", vm.runstate)


#: Run states whose vCPUs go or will go by themselves (qapi/run-state.json).
_GOING_ON: Final = frozenset({"running", "suspended", "inmigrate"})


def pause(subject: str, arguments: dict[str, Any], steps: tuple[Step, ...], _since: int) -> Intent:
    """``stop``: the vCPUs stand still."""
    return Intent(
        "pause", subject, arguments, steps, done=lambda vm: "running" not in _runstate(vm),
        value=_is_runstate, settles="query-status", ask=("query-status", {}), poll=True, recovery="resend", sets="runstate",
    )  # fmt: skip


def resume(subject: str, arguments: dict[str, Any], steps: tuple[Step, ...], _since: int) -> Intent:
    """``cont``: the vCPUs run, or sleep as they did before; which of the two is not always known."""
    return Intent(
        "resume", subject, arguments, steps, done=lambda vm: set(_runstate(vm)) <= _GOING_ON,
        value=_is_runstate, settles="query-status", ask=("query-status", {}), poll=True, recovery="resend", sets="runstate",
    )  # fmt: skip


def _is_runstate(vm: VM) -> str | None:
    names = _runstate(vm)
    return names[0] if len(names) == 1 else None


def reset(subject: str, arguments: dict[str, Any], steps: tuple[Step, ...], since: int) -> Intent:
    """``system_reset``: RESET comes before the answer (system/runstate.c)."""
    return Intent(
        "reset", subject, arguments, steps, done=lambda vm: answered(vm, since, 1), settles="QEMU's answer"
    )


def _exited(vm: VM) -> bool:
    return vm.names("process", vm.process) == ("exited",)


def powerdown(subject: str, arguments: dict[str, Any], steps: tuple[Step, ...], _since: int) -> Intent:
    """``system_powerdown``: POWERDOWN is only the request; the guest's SHUTDOWN is its end."""
    return Intent(
        "powerdown", subject, arguments, steps,
        # Without -no-shutdown the run state is the same for a moment, on the way out.
        done=lambda vm: _exited(vm) or (_runstate(vm) == ("shutdown",) and vm.process.belief == vm.watch.process.bit["running"]),
        settles="SHUTDOWN, which the guest may never send", recovery="resend",
    )  # fmt: skip


def quit_(subject: str, arguments: dict[str, Any], steps: tuple[Step, ...], _since: int) -> Intent:
    """``quit``: done when the process has ended."""
    return Intent(
        "quit", subject, arguments, steps, done=_exited, settles="the end of the process", recovery="resend"
    )


def kill(subject: str, arguments: dict[str, Any], steps: tuple[Step, ...], _since: int) -> Intent:
    """SIGKILL: done when the process has ended."""
    return Intent("kill", subject, arguments, steps, done=_exited, settles="the end of the process")


def balloon(subject: str, arguments: dict[str, Any], steps: tuple[Step, ...], _since: int) -> Intent:
    """``balloon``: the guest gives memory back or takes it; done when BALLOON_CHANGE says the size that was asked for."""
    return Intent(
        "balloon", subject, arguments, steps, done=lambda vm: vm.balloon == arguments["bytes"],
        refused=lambda vm: _asked_again(vm.facts.get("balloon-target", {}).get(""), arguments["bytes"]),
        value=lambda vm: vm.balloon, settles="BALLOON_CHANGE, or query-balloon", ask=("query-balloon", {}),
        recovery="resend", sets="balloon",
    )  # fmt: skip


def _asked_again(requested: Any, wanted: int) -> Refusal | None:
    """Refuse what was asked for where something else has been since: only the last request counts."""
    if requested in (None, wanted):
        return None
    return "us", f"another size has been asked for since: {requested}"


def resize(subject: str, arguments: dict[str, Any], steps: tuple[Step, ...], _since: int) -> Intent:
    """``qom-set`` of a virtio-mem device's ``requested-size``: done when its actual size is that."""
    wanted = arguments["bytes"]
    return Intent(
        "resize", subject, arguments, steps,
        done=lambda vm: vm.memory.get(subject) == {"requested": wanted, "actual": wanted},
        refused=lambda vm: _asked_again(vm.memory.get(subject, {}).get("requested"), wanted),
        value=lambda vm: dict(vm.memory.get(subject, {})),
        settles="MEMORY_DEVICE_SIZE_CHANGE, or query-memory-devices", ask=("query-memory-devices", {}),
        recovery="resend", sets=f"size {subject}",
    )  # fmt: skip


def dump(subject: str, arguments: dict[str, Any], steps: tuple[Step, ...], since: int) -> Intent:
    """``dump-guest-memory``, detached: DUMP_COMPLETED says how it ended, and why; a quick one may be announced before the answer."""

    def is_(vm: VM, status: str) -> bool:
        # An earlier dump may have ended the same way.
        return vm.dump.since > since and vm.names("dump", vm.dump) == (status,)

    return Intent(
        "dump", subject, arguments, steps,
        done=lambda vm: is_(vm, "completed"),
        refused=lambda vm: ("qemu", vm.facts.get("dump-error", {}).get("", "the dump failed")) if is_(vm, "failed") else None,
        going=lambda vm: "active" in vm.names("dump", vm.dump),
        settles="DUMP_COMPLETED, or query-dump", ask=("query-dump", {}), poll=True,
        # QEMU says so before it closes the file and lets the vCPUs go on; another dump would use what it is about to free. Last of all it lets
        # migrations be again (dump/dump.c dump_cleanup()).
        quiet=("query-migrate", lambda told: not any("dump-guest-memory" in it for it in told.get("blocked-reasons", ()))),
    )  # fmt: skip


#: Statuses with which a migration is over (qapi/migration.json MigrationStatus).
_MIGRATED: Final = {"failed": "the migration failed", "cancelled": "the migration was cancelled"}


def migrate(subject: str, arguments: dict[str, Any], steps: tuple[Step, ...], _since: int) -> Intent:
    """``migrate`` or ``migrate-incoming``: done when its status is ``completed``."""

    def names(vm: VM) -> tuple[str, ...]:
        return vm.names("migration", vm.migration)

    def refused(vm: VM) -> Refusal | None:
        is_ = names(vm)
        return ("qemu", _MIGRATED[is_[0]]) if len(is_) == 1 and is_[0] in _MIGRATED else None

    return Intent(
        arguments["intent"], subject, arguments, steps, (Step("query-status", {}),),
        done=lambda vm: names(vm) == ("completed",), refused=refused,
        going=lambda vm: not {"none", *_MIGRATED} & set(names(vm)),
        settles="MIGRATION, or query-migrate", ask=("query-migrate", {}), reason="error-desc",
    )  # fmt: skip


def job(subject: str, arguments: dict[str, Any], steps: tuple[Step, ...], since: int) -> Intent:
    """A background job from its start to its end (qapi/job.json); QEMU keeps it until it is dismissed, so that how it ended is seen.

    ``arguments["intent"]`` is its name as an intent.
    """

    def statuses(vm: VM) -> tuple[str, ...]:
        cell = vm.jobs.get(subject)
        return ("undefined",) if cell is None else vm.names("job", cell)

    def over(vm: VM) -> bool:
        # One that has concluded since is dismissed by nobody but us.
        dismissed = statuses(vm) == ("null",) and vm.jobs[subject].since > since
        return dismissed or statuses(vm) == ("concluded",)

    def refused(vm: VM) -> Refusal | None:
        cell = vm.jobs.get(subject)
        return ("qemu", cell.error) if cell is not None and cell.error and over(vm) else None

    return Intent(
        arguments["intent"], subject, arguments, steps,
        done=over, refused=refused,
        going=lambda vm: not {"undefined", "null"} & set(statuses(vm)),
        settles="JOB_STATUS_CHANGE, or query-jobs", ask=("query-jobs", {}), confirm=True,
        tidy=(Step("job-dismiss", {"id": subject}),), durable=True,
    )  # fmt: skip


#: Every intent by its name.
INTENTS: Final[dict[str, Maker]] = {
    "plug": plug, "unplug": unplug, "pause": pause, "resume": resume, "reset": reset, "powerdown": powerdown,
    "quit": quit_, "kill": kill, "balloon": balloon, "resize": resize, "dump": dump, "migrate": migrate, "incoming": migrate,
    "mirror": job, "commit": job, "stream": job, "backup": job, "snapshot": job, "snapshot-load": job, "snapshot-delete": job,
}  # fmt: skip


#: Commands that make a backend: command -> (its kind, the argument that names it).
_MAKES: Final = {
    "blockdev-add": ("node", "node-name"),
    "netdev_add": ("netdev", "id"),
    "chardev-add": ("chardev", "id"),
    "object-add": ("object", "id"),
}


def made_again(body: dict[str, Any]) -> Intent | None:
    """Return the intent that a ``begun`` record tells of, with the number of that record; None for one that is not of ours."""
    maker = INTENTS.get(body["intent"])
    if maker is None:
        return None
    steps = tuple(
        Step(command, arguments, undo=(undo[0], undo[1]) if undo else None)
        for command, arguments, undo in body.get("steps", ())
    )
    return maker(body.get("subject", ""), body.get("arguments", {}), steps, body["seq"])


def happened(vm: VM, step: Step) -> bool | None:
    """Say whether a step has been done, as the state tells: None where it does not."""
    arguments = step.arguments
    if step.command in _MAKES:
        kind, key = _MAKES[step.command]
        return _there(vm, kind, getattr(vm, BACKENDS[kind]).get(arguments[key]))
    if step.command == "device_add":
        return _there(vm, "device", vm.devices.get(arguments.get("id", "")))
    if step.command == "device_del":
        return True if vm.shows("device", arguments["id"]) == ("gone",) else None
    if step.command == "getfd":
        return _there(vm, "fd", vm.fds.get(arguments["fdname"]))
    if step.command == "add-fd":
        return _there(vm, "fd", vm.fds.get(f"/dev/fdset/{arguments['fdset-id']}"))
    if step.command in JOB_COMMANDS:
        job = vm.jobs.get(arguments.get("job-id", ""))
        names = {"undefined"} if job is None else set(vm.names("job", job))
        return names.isdisjoint({"undefined", "null"}) or (None if names - {"undefined", "null"} else False)
    return None


def is_over(vm: VM, step: Step) -> bool:
    """Say whether a step need not be sent: a name of a descriptor that was used is none any more."""
    if step.command != "closefd":
        return False
    cell = vm.fds.get(step.arguments["fdname"])
    return cell is None or vm.names("fd", cell) == ("gone",)


def _there(vm: VM, machine: str, cell: Cell | None) -> bool | None:
    if cell is None:
        return False
    names = vm.names(machine, cell)
    if "gone" not in names and "planned" not in names and "adding" not in names:
        return True
    return False if names in (("gone",), ("planned",)) else None
