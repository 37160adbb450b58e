"""Run state: causes, queries, what a shutdown does."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from qemustate.qmp.messages import Event
from qemustate.statemachine import console, guards
from qemustate.statemachine.effects.job import couple_jobs
from qemustate.statemachine.evidence import CAUSES
from qemustate.statemachine.state import VM
from qemustate.statemachine.stepping import couple_migration, incoming, narrow, set_guards, settle, step_vm
from qemustate.statemachine.tables.migration import RESTING

#: QEMU's rate limit for events (monitor/monitor.c monitor_qapi_event_conf): 1 s, and some slack for its timer.
_WINDOW: Final = 1_050_000


def _clock(event: dict[str, Any]) -> int:
    """Return QEMU's own time stamp of an event in microseconds, 0 where it has none."""
    return Event(event, b"").time or 0


def held_back(vm: VM, _data: dict[str, Any], event: Any) -> None:
    """Before a STOP: a cause that QEMU may hold back by its rate limit is possible again."""
    if not vm.throttled:
        return
    at = _clock(event)
    for name, guard in (("BLOCK_IO_ERROR", "io-error"), ("WATCHDOG", "watchdog")):
        limited = name != "BLOCK_IO_ERROR" or vm.version is None or vm.version >= (8, 0)
        last = vm.throttled.get(name)
        if limited and last is not None and at - last <= _WINDOW and not vm.profile & guards.may(guard):
            set_guards(vm, opens=(guard,))


def resumed(vm: VM, _data: dict[str, Any], event: Any) -> None:
    """Remember when, so that a late cause of an earlier STOP is told apart; an untold incoming migration is over."""
    vm.resumed = event
    if vm.profile & _MAY_BE_INCOMING and incoming(vm) and vm.profile & guards.maynot("migration-events"):
        set_guards(vm, denies=("new",))  # however little was asked, the migration may have got anywhere
        set_guards(vm, denies=("incoming",))


_MAY_BE_OUTGOING: Final = guards.may("outgoing")
_MAY_BE_INCOMING: Final = guards.may("incoming")


def reset(vm: VM, _data: dict[str, Any], _answer: Any) -> None:
    """A reset while a migration is on keeps the main loop busy."""
    if vm.profile & _MAY_BE_OUTGOING:
        set_guards(vm, holds=("reset-meanwhile",))


def shutdown(vm: VM, data: dict[str, Any], _answer: Any) -> None:
    """SHUTDOWN ends the process or pauses the VM: the reason and the command line decide."""
    if data.get("reason") in ("host-qmp-quit", "host-signal"):
        set_guards(vm, holds=("ending",), denies=("shutdown-pauses",))
        return
    pauses = vm.launch.shutdown_pauses if vm.launch else None
    if pauses is None:
        set_guards(vm, opens=("ending", "shutdown-pauses"))
    elif pauses:
        set_guards(vm, holds=("shutdown-pauses",), denies=("ending",))
    else:
        set_guards(vm, holds=("ending",), denies=("shutdown-pauses",))


def set_action(vm: VM, data: dict[str, Any], _answer: Any) -> None:
    """``set-action`` changes what a shutdown does (QAPI ``set-action``)."""
    if "shutdown" in data and vm.launch is not None:
        vm.launch = msgspec.structs.replace(vm.launch, shutdown_pauses=data["shutdown"] == "pause")


def io_error(vm: VM, data: dict[str, Any], event: Any) -> None:
    """An I/O error that asks for a stop, unless it is older than the last RESUME (rate-limited events come late)."""
    at = _clock(event)
    vm.throttled["BLOCK_IO_ERROR"] = max(at, vm.throttled.get("BLOCK_IO_ERROR", 0))
    if data.get("action") == "stop" and (not at or at >= _clock(vm.resumed)):
        set_guards(vm, holds=("io-error",))


def watchdog(vm: VM, data: dict[str, Any], event: Any) -> None:
    """The watchdog fired: with action ``pause`` a STOP follows, with ``poweroff`` the process exits at once."""
    at = _clock(event)
    vm.throttled["WATCHDOG"] = max(at, vm.throttled.get("WATCHDOG", 0))
    if data.get("action") == "pause" and (not at or at >= _clock(vm.resumed)):
        set_guards(vm, holds=("watchdog",))
    elif data.get("action") == "poweroff":
        set_guards(vm, holds=("ending",))


def status_asked(vm: VM, _data: dict[str, Any], _answer: Any) -> None:
    """A ``query-status`` is on its way: what QEMU has entered and not announced yet it will name."""
    if vm.profile & _MAY_BE_OUTGOING:
        set_guards(vm, holds=("asked",))


def query_status(vm: VM, _data: dict[str, Any], answer: Any) -> None:
    """``query-status`` names the run state."""
    status = answer.get("status")
    if vm.profile & _MAY_BE_ASKED and not console.asked(vm, "query-status"):
        set_guards(vm, denies=("asked",))
    states = vm.watch.runstate.showing(status)
    if not states:
        return
    if status == "finish-migrate" and vm.migration.belief == vm.watch.migration.bit["completed"]:
        # Announced by the migration's thread, while the main loop serves on: `postmigrate` comes any moment now
        # (migration/migration.c migration_iteration_finish()), and the assumption that it had come did not hold.
        settle(vm, "runstate", vm.runstate, states | vm.watch.runstate.of(("postmigrate",)), "query")
        return
    if vm.profile & _SENT_UNTOLD == _SENT_UNTOLD and status != "finish-migrate":
        migrating = vm.migration.belief & ~vm.watch.migration.of(RESTING)
        if not migrating and not console.asked(vm, "migrate"):  # all that it led to has happened
            set_guards(vm, denies=("migrate-sent", "outgoing", "switchover"))
    if vm.profile & _MAY_MIGRATE == _MAY_MIGRATE and status not in _MIGRATING:
        vm.assumptions["no-unseen-migration"] += 1
        set_guards(vm, denies=("migrate-sent",))
        couple_migration(vm)
    narrow(vm, "runstate", vm.runstate, states, said=("query-status says", status))
    if vm.profile & _MAY_BE_CAUSED:
        # A STOP follows its cause at once (system/runstate.c): what may have been announced unseen is over by now.
        set_guards(vm, denies=tuple(it for it in CAUSES if vm.profile & guards.maynot(it)))
    if (
        vm.profile & _MAY_BE_INCOMING
        and status != "inmigrate"
        and vm.profile & guards.maynot("migration-events")
    ):
        set_guards(vm, denies=("incoming",))


_SENT_UNTOLD: Final = guards.may("migrate-sent") | guards.maynot("migration-events")
_MAY_BE_ASKED: Final = guards.may("asked")
_MAY_MIGRATE: Final = guards.open_("migrate-sent")
_MAY_BE_CAUSED: Final = guards.held(*CAUSES)
#: Run states that a migration brings about.
_MIGRATING: Final = ("inmigrate", "finish-migrate", "postmigrate", "colo")


def hmp_sent(vm: VM, data: dict[str, Any], _answer: Any) -> None:
    """HMP passthrough: what it may do until it is answered, where it is not the same as a command of QMP."""
    if console.opaque(console.PASSTHROUGH, data):
        set_guards(vm, opens=("anything-sent",))
    elif _saves(data):
        step_vm(vm, "migration", "saving")


def hmp_answered(vm: VM, data: dict[str, Any], answer: Any) -> None:
    """HMP passthrough is over when it is answered; what jobs and other commands do stays."""
    if not any(console.opaque(command[1], command[2]) for command in vm.pending.values()):
        set_guards(vm, denies=("anything-sent",))
    couple_jobs(vm, data, None)
    if answer == "" and _saves(data):
        step_vm(vm, "migration", "saved")


def _saves(data: dict[str, Any]) -> bool:
    return console.meant(console.PASSTHROUGH, data).name == "snapshot-save"


def wakeup_asked(vm: VM, _data: dict[str, Any], _answer: Any) -> None:
    """A ``system_wakeup`` is on its way, and WAKEUP may come before its answer."""
    if not vm.profile & _MAY_BE_WOKEN:
        set_guards(vm, opens=("woken",))


def wakeup_done(vm: VM, _data: dict[str, Any], _answer: Any) -> None:
    """A ``system_wakeup`` was done: WAKEUP has come or will."""
    if vm.profile & _MAY_BE_WOKEN:
        set_guards(vm, holds=("woken",))
    _wakeup_answered(vm)


def wakeup_refused(vm: VM, _data: dict[str, Any], _answer: Any) -> None:
    """A ``system_wakeup`` was refused, and wakes nobody."""
    if _wakeup_answered(vm) and vm.profile & _OPEN_WOKEN == _OPEN_WOKEN:
        set_guards(vm, denies=("woken",))


def _wakeup_answered(vm: VM) -> bool:
    """Return whether none is in flight any more."""
    last = not console.asked(vm, "system_wakeup")
    if last:
        set_guards(vm, denies=("wakeup-sent",))
    return last


_MAY_BE_WOKEN: Final = guards.may("woken")
_OPEN_WOKEN: Final = guards.open_("woken")


def stop_answered(vm: VM, _data: dict[str, Any], _answer: Any) -> None:
    """A ``stop`` was answered; another one may still be in flight."""
    if not console.asked(vm, "stop"):
        set_guards(vm, denies=("stop-sent",))
