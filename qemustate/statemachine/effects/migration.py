"""Migration: its status, and what it means for the run state."""

from __future__ import annotations

from typing import Any, Final

from qemustate.statemachine import guards
from qemustate.statemachine.state import VM
from qemustate.statemachine.stepping import couple_migration, incoming, narrow, set_guards, step_vm


def migrate_sent(vm: VM, _data: dict[str, Any], _answer: Any) -> None:
    """From now on a migration may be under way."""
    set_guards(vm, holds=("migrate-sent",), opens=("outgoing",), denies=("reset-meanwhile",))


def couple_migration_guards(vm: VM, _data: dict[str, Any], _answer: Any) -> None:
    """After a migration command was answered."""
    couple_migration(vm)


def set_capabilities(vm: VM, data: dict[str, Any], _answer: Any) -> None:
    """``migrate-set-capabilities``: whether MIGRATION events are sent."""
    for item in data.get("capabilities", ()):
        if not isinstance(item, dict) or item.get("capability") != "events":
            continue
        if item.get("state"):
            set_guards(vm, holds=("migration-events",))
            for machine in ("runstate", "migration"):
                step_vm(vm, machine, "events on")
        else:
            set_guards(vm, denies=("migration-events",))


_SWITCHOVER: Final = frozenset({"device", "pre-switchover", "postcopy-active"})


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
    if loading and status == "setup" and (vm.version is None or vm.version < (9, 0)):
        return  # announced, not kept (migration/migration.c qmp_migrate_incoming())
    if status == "setup" and not loading and not vm.profile & guards.may("migrate-sent"):
        set_guards(vm, **{"opens" if vm.profile & guards.may("saving") else "holds": ("migrate-sent",)})
    step_vm(vm, "migration", trigger)
    if loading:
        if status == "completed":
            step_vm(vm, "runstate", "incoming completed")
        if status in ("completed", "failed"):
            set_guards(vm, denies=("incoming",))
        return
    if status in _SWITCHOVER:
        step_vm(vm, "runstate", "MIGRATION switchover")
    if status == "completed":
        step_vm(vm, "runstate", "MIGRATION completed")
    elif status in ("failed", "cancelled"):
        step_vm(vm, "runstate", "MIGRATION ended")


def query_migrate(vm: VM, _data: dict[str, Any], answer: Any) -> None:
    """``query-migrate`` names the status; none before the first migration."""
    if not isinstance(answer, dict):
        return
    states = vm.watch.migration.showing(str(answer.get("status", "none")))
    if states:
        narrow(
            vm, "migration", vm.migration, states, said=("query-migrate says", answer.get("status", "none"))
        )
        if incoming(vm) and answer.get("status") in ("completed", "failed"):
            set_guards(vm, denies=("incoming",))
        couple_migration(vm)
        if answer.get("status", "none") == "none":
            step_vm(vm, "runstate", "no migration")
