"""Migration: its status, and what it means for the run state."""

from __future__ import annotations

from typing import Any, Final

from qemustate.statemachine import console, guards
from qemustate.statemachine.effects.job import couple_jobs
from qemustate.statemachine.state import VM
from qemustate.statemachine.stepping import couple_migration, incoming, narrow, set_guards, settle, step_vm
from qemustate.statemachine.tables.migration import RESTING


def migrate_sent(vm: VM, _data: dict[str, Any], _answer: Any) -> None:
    """A migration may begin; what it does silently it does when the command is answered, or an event has told of it."""
    set_guards(vm, opens=("outgoing",), denies=("reset-meanwhile",))


def couple_migration_guards(vm: VM, _data: dict[str, Any], _answer: Any) -> None:
    """After a migration command was answered."""
    couple_migration(vm)


def set_capabilities(vm: VM, data: dict[str, Any], _answer: Any) -> None:
    """``migrate-set-capabilities``: whether MIGRATION events are sent, and whether the VM runs on."""
    for item in data.get("capabilities", ()):
        name = item.get("capability") if isinstance(item, dict) else None
        if name == "background-snapshot":
            set_guards(vm, **{"holds" if item.get("state") else "denies": ("background",)})
        if name != "events":
            continue
        if item.get("state"):
            set_guards(vm, holds=("migration-events",))
            for machine in ("runstate", "migration"):
                step_vm(vm, machine, "events on")
        else:
            set_guards(vm, denies=("migration-events",))


def migration_resumed(vm: VM, data: dict[str, Any], _answer: Any) -> None:
    """``migrate`` with ``resume`` goes on with the one there is (qapi/migration.json)."""
    if data.get("resume"):
        set_guards(vm, opens=("begun",))


def migrate_refused(vm: VM, _data: dict[str, Any], answer: Any) -> None:
    """``migrate`` was refused: it may have begun and failed, or another one is under way (migration/migration.c qmp_migrate())."""
    desc = str(answer.get("desc", ""))
    resting = not vm.migration.belief & ~vm.watch.migration.of(RESTING)
    if "migration process in progress" in desc:
        if resting and not vm.profile & guards.may("saving"):
            under_way = vm.watch.migration.all & ~vm.watch.migration.of(RESTING)
            set_guards(vm, holds=("migrate-sent",))
            settle(vm, "migration", vm.migration, under_way, "another monitor")
    elif not desc.startswith("Parameter 'uri' is missing"):
        step_vm(vm, "migration", "error migrate")


def migration_begun(vm: VM, _data: dict[str, Any], _answer: Any) -> None:
    """``migrate`` was answered: until that one ends, another is refused (migration/migration.c migrate_prepare())."""
    if not vm.migration.belief & vm.watch.migration.of(RESTING):
        told = not vm.profile & guards.maynot("migration-events")
        set_guards(vm, **{"holds" if told else "opens": ("begun",)})


#: Status -> what it is to the run state.
_ABOUT: Final = {
    "completed": "completed",
    "failed": "ended",
    "cancelled": "ended",
    "device": "switchover",
    "pre-switchover": "switchover",
    "postcopy-active": "postcopy",
}


def migration(vm: VM, data: dict[str, Any], _answer: Any) -> None:
    """MIGRATION: the status, and what it means for the run state."""
    status = data.get("status")
    trigger = f"MIGRATION {status}"
    if trigger not in vm.watch.migration.triggers:
        return
    loading = incoming(vm)
    told = not vm.profile & guards.maynot("migration-events")
    if not told and status != "setup":
        set_guards(vm, holds=("migration-events",))
    either = not loading and vm.profile & _MAY_LOAD == _MAY_LOAD
    if (loading or either) and status == "setup" and (vm.version is None or vm.version < (9, 0)):
        if either:
            _step_either(vm, "migration", trigger, "")
        return  # announced, not kept (migration/migration.c qmp_migrate_incoming())
    if status == "setup" and not loading and not vm.profile & guards.may("migrate-sent"):
        set_guards(vm, **{"opens" if vm.profile & guards.may("saving") else "holds": ("migrate-sent",)})
    if vm.profile & _OTHERS:
        couple_jobs(vm, data, None)
    if status == "setup" and _is_of_a_snapshot(vm):
        set_guards(vm, denies=("migrate-sent",))
    step_vm(vm, "migration", trigger)
    about = _ABOUT.get(str(status), "")
    if about in ("completed", "ended"):
        set_guards(vm, denies=("begun",))
    outgoing = f"MIGRATION {about}" if about else ""
    arrived = "incoming completed" if status == "completed" else ""
    if either:
        _step_either(vm, "runstate", outgoing, arrived)
    elif about in ("completed", "ended") and vm.profile & _MAY_SAVE and not loading:
        if vm.profile & _MAY_MIGRATE:
            _step_either(vm, "runstate", outgoing, "")
    elif trigger := arrived if loading else outgoing:
        step_vm(vm, "runstate", trigger)
    if (loading or either) and status in ("completed", "failed"):
        set_guards(vm, denies=("incoming",))


def _is_of_a_snapshot(vm: VM) -> bool:
    """Whether a ``setup`` is certainly a snapshot's, which QEMU takes only where no migration is on (migration/savevm.c)."""
    saved = vm.profile & guards.open_("saving") == guards.may("saving")
    resting = not vm.migration.belief & ~vm.watch.migration.of(RESTING)
    return saved and resting and not console.asked(vm, "migrate") and not vm.profile & guards.may("others")


_OTHERS: Final = guards.may("others")
_UNSEEN: Final = _OTHERS | guards.maynot("migration-events")
_MAY_SAVE: Final = guards.may("saving")
_MAY_MIGRATE: Final = guards.may("migrate-sent")
_MAY_LOAD: Final = guards.open_("incoming")


def _step_either(vm: VM, machine: str, first: str, second: str) -> None:
    """Step a machine with one trigger or the other, which cannot be told apart; empty: it may stay as it is."""
    cell, watcher = getattr(vm, machine), getattr(vm.watch, machine)
    steps = [watcher.image(trigger, cell.belief, vm.profile) for trigger in (first, second) if trigger]
    possible = [step for step in steps if not step.impossible]
    belief = 0 if len(steps) == 2 and possible else cell.belief
    for step in possible:
        belief |= step.belief
        vm.assumptions.update(step.assumptions)
    settle(vm, machine, cell, belief, "migration")


def query_migrate(vm: VM, _data: dict[str, Any], answer: Any) -> None:
    """``query-migrate`` names the status; none before the first migration."""
    if not isinstance(answer, dict):
        return
    states = vm.watch.migration.showing(str(answer.get("status", "none")))
    if states:
        if vm.profile & _UNSEEN == _UNSEEN and not states & vm.migration.belief:
            set_guards(vm, opens=("migrate-sent",))  # another monitor migrates, and no event says so
            settle(vm, "migration", vm.migration, states, "query")
        narrow(
            vm, "migration", vm.migration, states, said=("query-migrate says", answer.get("status", "none"))
        )
        if incoming(vm) and answer.get("status") in ("completed", "failed"):
            set_guards(vm, denies=("incoming",))
        if answer.get("status", "none") in RESTING:
            set_guards(vm, denies=("begun",))
        elif not vm.profile & _MAY_MIGRATE and not incoming(vm):
            either = vm.profile & (guards.may("incoming") | _MAY_SAVE)
            set_guards(
                vm, **{"opens" if either else "holds": ("migrate-sent",)}
            )  # somebody, unseen, has begun it
        couple_migration(vm)
        if answer.get("status", "none") == "none":
            step_vm(vm, "runstate", "no migration")
