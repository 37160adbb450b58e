"""The few meanings that a row of evidence cannot say: each a function named in its row.

Every function takes the VM, the event's data or the command's arguments, and the answer's value where there is
one (the reply's ``return``, or the error object); it sets guards and steps machines, no more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from qemustate.statemachine import guards
from qemustate.statemachine.state import VM, DeviceCell
from qemustate.statemachine.stepping import (
    couple_migration,
    describe_device,
    device,
    device_name,
    incoming,
    job,
    narrow,
    set_guards,
    step,
)
from qemustate.statemachine.tables.device import IN_QOM, NOT_IN_QOM

#: (vm, event data or command arguments, answer, QEMU's time stamp in microseconds or 0)
Effect = Callable[[VM, dict[str, Any], Any, int], None]

#: QEMU's rate limit for events (monitor/monitor.c monitor_qapi_event_conf): 1 s, and some slack for its timer.
_WINDOW: Final = 1_050_000


def held_back(vm: VM, _data: dict[str, Any], _answer: Any, at: int) -> None:
    """Before a STOP: a cause that QEMU may hold back by its rate limit is possible again."""
    for event, guard, since in (("BLOCK_IO_ERROR", "io-error", (8, 0)), ("WATCHDOG", "watchdog", ())):
        last = vm.throttled.get(event)
        if last is not None and (not since or vm.version is None or vm.version >= since) and at - last <= _WINDOW:
            if not vm.profile & guards.may(guard):
                set_guards(vm, opens=(guard,))


def resumed(vm: VM, _data: dict[str, Any], _answer: Any, at: int) -> None:
    """Remember when, so that a late cause of an earlier STOP is told apart; an untold incoming migration is over."""
    vm.resumed_at = at
    if incoming(vm) and vm.profile & guards.maynot("migration-events"):
        set_guards(vm, denies=("incoming",))


def reset(vm: VM, _data: dict[str, Any], _answer: Any, _at: int) -> None:
    """A reset while a migration is on keeps the main loop busy."""
    if vm.profile & guards.may("outgoing"):
        set_guards(vm, holds=("reset-meanwhile",))


def shutdown(vm: VM, data: dict[str, Any], _answer: Any, _at: int) -> None:
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


def set_action(vm: VM, data: dict[str, Any], _answer: Any, _at: int) -> None:
    """``set-action`` changes what a shutdown does (QAPI ``set-action``)."""
    import msgspec  # noqa: PLC0415  (rare)

    if "shutdown" in data and vm.launch is not None:
        vm.launch = msgspec.structs.replace(vm.launch, shutdown_pauses=data["shutdown"] == "pause")


def io_error(vm: VM, data: dict[str, Any], _answer: Any, at: int) -> None:
    """An I/O error that asks for a stop, unless it is older than the last RESUME (rate-limited events come late)."""
    vm.throttled["BLOCK_IO_ERROR"] = max(at, vm.throttled.get("BLOCK_IO_ERROR", 0))
    if data.get("action") == "stop" and (not at or at >= vm.resumed_at):
        set_guards(vm, holds=("io-error",))


def query_status(vm: VM, _data: dict[str, Any], answer: Any, _at: int) -> None:
    """``query-status`` names the run state."""
    status = answer.get("status") if isinstance(answer, dict) else None
    states = vm.observers["runstate"].showing(status) if isinstance(status, str) else 0
    if states:
        narrow(vm, "runstate", vm.runstate, states, said=f"query-status says {status}")
        if status != "inmigrate" and vm.profile & guards.maynot("migration-events"):
            set_guards(vm, denies=("incoming",))


#: HMP commands that do what a guard must know (hmp-commands.hx); anything not listed and not ``info`` is open.
_HMP: Final = {
    "stop": ("stop-sent",), "s": ("stop-sent",), "savevm": ("saving",), "loadvm": ("loading",),
    "dump-guest-memory": ("saving",), "migrate": ("outgoing",), "system_wakeup": ("wakeup-sent",),
}  # fmt: skip
_HMP_HARMLESS: Final = frozenset(
    "info cont c system_reset system_powerdown quit q print p x xp help ? device_add device_del drive_add drive_del "
    "block_resize eject change screendump log logfile trace-event netdev_add netdev_del object_add object_del "
    "chardev-add chardev-remove set_link balloon sendkey mouse_move mouse_button qom-list qom-get delvm "
    "hostfwd_add hostfwd_remove commit qemu-io".split()
)


def hmp_sent(vm: VM, data: dict[str, Any], _answer: Any, _at: int) -> None:
    """HMP passthrough: what it may do until it is answered."""
    words = str(data.get("command-line", "")).split()
    word = words[0] if words else "?"
    if word in _HMP:
        set_guards(vm, holds=_HMP[word])
    elif word not in _HMP_HARMLESS:
        set_guards(vm, opens=("anything-sent",))


# --- migration


def migrate_sent(vm: VM, _data: dict[str, Any], _answer: Any, _at: int) -> None:
    """From now on a migration may be under way."""
    set_guards(vm, opens=("outgoing",), denies=("reset-meanwhile",))


def couple(vm: VM, _data: dict[str, Any], _answer: Any, _at: int) -> None:
    """After a migration command was answered."""
    couple_migration(vm)


def set_capabilities(vm: VM, data: dict[str, Any], _answer: Any, _at: int) -> None:
    """``migrate-set-capabilities``: are MIGRATION events sent?"""
    for item in data.get("capabilities", ()):
        if not isinstance(item, dict) or item.get("capability") != "events":
            continue
        if item.get("state"):
            set_guards(vm, holds=("migration-events",))
            for machine in ("runstate", "migration"):
                step(vm, machine, getattr(vm, machine), "events on")
        else:
            set_guards(vm, denies=("migration-events",))


_SWITCHOVER: Final = frozenset({"device", "pre-switchover", "postcopy-active"})


def migration(vm: VM, data: dict[str, Any], _answer: Any, _at: int) -> None:
    """MIGRATION: the status, and what it means for the run state."""
    status = data.get("status")
    trigger = f"MIGRATION {status}"
    if trigger not in vm.observers["migration"].triggers:
        return
    loading = incoming(vm)
    told = not vm.profile & guards.maynot("migration-events")
    if not told and status != "setup":
        set_guards(vm, holds=("migration-events",))
    if loading and status == "setup" and (vm.version is None or vm.version < (9, 0)):
        return  # announced, not kept (migration/migration.c qmp_migrate_incoming())
    step(vm, "migration", vm.migration, trigger)
    if loading:
        if status == "completed":
            step(vm, "runstate", vm.runstate, "incoming completed")
        if status in ("completed", "failed"):
            set_guards(vm, denies=("incoming",))
        return
    if status in _SWITCHOVER:
        step(vm, "runstate", vm.runstate, "MIGRATION switchover")
    couple_migration(vm)
    if status == "completed":
        step(vm, "runstate", vm.runstate, "MIGRATION completed")
    elif status in ("failed", "cancelled"):
        step(vm, "runstate", vm.runstate, "MIGRATION ended")


def query_migrate(vm: VM, _data: dict[str, Any], answer: Any, _at: int) -> None:
    """``query-migrate`` names the status; none before the first migration."""
    if not isinstance(answer, dict):
        return
    states = vm.observers["migration"].showing(str(answer.get("status", "none")))
    if states:
        narrow(vm, "migration", vm.migration, states, said=f"query-migrate says {answer.get('status', 'none')}")
        if incoming(vm) and answer.get("status") in ("completed", "failed"):
            set_guards(vm, denies=("incoming",))
        couple_migration(vm)


# --- devices


def _identified(data: dict[str, Any]) -> str:
    return str(data.get("id") or "")


def device_add_sent(vm: VM, data: dict[str, Any], _answer: Any, _at: int) -> None:
    """``device_add`` with an id: its device is being added, unless the id has a bearer."""
    if name := _identified(data):
        step(vm, "device", device(vm, name), "execute device_add", device_name(name))


def device_added(vm: VM, data: dict[str, Any], _answer: Any, _at: int) -> None:
    """``device_add`` was answered: a new bearer of the id; an earlier one's DEVICE_DELETED may be due."""
    name = _identified(data)
    if not name:
        return
    cell, watcher = device(vm, name), vm.observers["device"]
    if not cell.belief & ~watcher.of(("leaving", "unplugging", "ejected")) and not cell.kind & guards.may("cpu"):
        cell.outstanding += 1
    describe_device(vm, cell, data)
    cell.generation += 1
    cell.refused = ""
    step(vm, "device", cell, "return device_add", device_name(name))


def device_add_refused(vm: VM, data: dict[str, Any], answer: Any, _at: int) -> None:
    """``device_add`` was refused: nothing is left of it, and a bearer of the id stays."""
    if name := _identified(data):
        desc = str(answer.get("desc", ""))
        trigger = "error device_add:duplicate" if desc.startswith("Duplicate device ID") else "error device_add"
        cell = device(vm, name)
        step(vm, "device", cell, trigger, device_name(name))
        cell.refused = desc


#: What a refused ``device_del`` says (hw/core/qdev-monitor.c, hw/pci/pcie.c): part of ``desc`` -> trigger.
_DEL_REFUSALS: Final = (
    ("already in the process of unplug", "error device_del:pending"),
    ("unplug already in progress", "error device_del:pending"),
    ("guest is busy", "error device_del:busy"),
)


def device_del_refused(vm: VM, data: dict[str, Any], answer: Any, _at: int) -> None:
    """``device_del`` was refused: the error tells where the device is."""
    if not (name := _identified(data)):
        return
    desc = str(answer.get("desc", ""))
    trigger = next((t for part, t in _DEL_REFUSALS if part in desc), "error device_del")
    if answer.get("class") == "DeviceNotFound":
        trigger = "error device_del:not-found"
    cell = device(vm, name)
    step(vm, "device", cell, trigger, device_name(name))
    if trigger != "error device_del:not-found":
        cell.refused = desc


def device_deleted(vm: VM, data: dict[str, Any], _answer: Any, _at: int) -> None:
    """DEVICE_DELETED: by id, by path, for a child, or for an earlier bearer of the id."""
    path = str(data.get("path", ""))
    name = str(data.get("device") or device_name(path))
    if "device" in data or "/" not in name:
        cell = device(vm, name)
        if cell.outstanding:
            cell.outstanding -= 1
            vm.assumptions["oldest-first"] += 1
            return
        if not cell.generation:
            cell.generation = 1
        step(vm, "device", cell, "DEVICE_DELETED", name)
        return
    parent = path.removeprefix("/machine/peripheral/").split("/")[0]
    if path.startswith("/machine/peripheral/") and parent in vm.devices:
        if not vm.devices[parent].outstanding:
            step(vm, "device", vm.devices[parent], "DEVICE_DELETED child", parent)
    elif path.count("/") == 3 and path.startswith("/machine/"):  # noqa: PLR2004  /machine/peripheral-anon/device[0]
        cell = device(vm, path)
        cell.belief = vm.observers["device"].of(("present",)) if not cell.since else cell.belief
        step(vm, "device", cell, "DEVICE_DELETED", path)


def unplug_refused(vm: VM, data: dict[str, Any], _answer: Any, _at: int) -> None:
    """The guest refused an unplug: the device stays."""
    name = str(data.get("device") or device_name(str(data.get("path", ""))))
    cell = device(vm, name)
    step(vm, "device", cell, "refused", name)
    cell.refused = str(data.get("msg", "the guest refused the unplug"))


#: _OST source codes of an eject, and status codes that are no refusal (ACPI 6.3.5; hw/acpi/memory_hotplug.c).
_OST_EJECT: Final = (3, 259)
_OST_FINE: Final = (0, 0x84)


def ost(vm: VM, data: dict[str, Any], _answer: Any, _at: int) -> None:
    """ACPI_DEVICE_OST: on x86 this is how a guest refuses to give up a DIMM or a vCPU."""
    info = data.get("info")
    if isinstance(info, dict) and info.get("device") and info.get("source") in _OST_EJECT:
        if info.get("status") not in _OST_FINE:
            cell = device(vm, info["device"])
            step(vm, "device", cell, "refused", info["device"])
            cell.refused = f"_OST status {info.get('status')}"


def negotiated(vm: VM, data: dict[str, Any], _answer: Any, _at: int) -> None:
    """FAILOVER_NEGOTIATED: the hidden primary of that device is plugged now."""
    for name, cell in vm.devices.items():
        if cell.failover and cell.failover == data.get("device-id"):
            step(vm, "device", cell, "negotiated", name)


def qom_list(vm: VM, data: dict[str, Any], answer: Any, _at: int) -> None:
    """``qom-list /machine/peripheral`` names every device with an id that the machine has."""
    if data.get("path") != "/machine/peripheral" or not isinstance(answer, list):
        return
    listed = {x["name"] for x in answer if isinstance(x, dict) and str(x.get("type", "")).startswith("child<")}
    watcher = vm.observers["device"]
    there, not_there = watcher.of(IN_QOM), watcher.of(NOT_IN_QOM)
    for name in listed - vm.devices.keys():
        cell = vm.devices[name] = DeviceCell(watcher.of(IN_QOM if vm.late else ("gone",)))
        cell.generation = 1
    for name, cell in vm.devices.items():
        if name in listed:
            narrow(vm, "device", cell, there, name, said="qom-list names it")
        elif not name.startswith("/"):
            narrow(vm, "device", cell, not_there, name, said="qom-list does not name it")
            step(vm, "device", cell, "not listed", name)


# --- jobs


def job_status(vm: VM, data: dict[str, Any], _answer: Any, _at: int) -> None:
    """JOB_STATUS_CHANGE names the job's status."""
    trigger = f"JOB_STATUS_CHANGE {data.get('status')}"
    if trigger not in vm.observers["job"].triggers:
        return
    name = str(data.get("id", ""))
    cell = job(vm, name)
    if data["status"] == "created":
        from qemustate.statemachine.evidence import JOB_COMMANDS  # noqa: PLC0415  (rows import nothing of ours)

        cell.error = ""
        cell.type = next((JOB_COMMANDS[p[1]] for p in vm.pending.values() if p[1] in JOB_COMMANDS), cell.type)
    step(vm, "job", cell, trigger, name)
    if cell.type.startswith("snapshot-"):
        couple_jobs(vm, data, None, 0)


def block_job_ended(vm: VM, data: dict[str, Any], _answer: Any, _at: int) -> None:
    """BLOCK_JOB_COMPLETED and BLOCK_JOB_CANCELLED carry the type and the error."""
    cell = job(vm, str(data.get("device", "")))
    cell.type = str(data.get("type", cell.type))
    cell.error = str(data.get("error", ""))


def query_jobs(vm: VM, _data: dict[str, Any], answer: Any, _at: int) -> None:
    """``query-jobs`` names every job and its status; a job it does not name is gone."""
    if not isinstance(answer, list):
        return
    watcher = vm.observers["job"]
    named = {str(item.get("id")): item for item in answer if isinstance(item, dict)}
    for name, item in named.items():
        cell = vm.jobs.get(name) or job(vm, name)
        cell.type = str(item.get("type", cell.type))
        cell.error = str(item.get("error", cell.error))
        if states := watcher.showing(str(item.get("status"))):
            narrow(vm, "job", cell, states, name, said=f"query-jobs says {item.get('status')}")
    for name, cell in vm.jobs.items():
        if name not in named:
            narrow(vm, "job", cell, watcher.of(("null", "undefined")), name, said="query-jobs does not name it")


def couple_jobs(vm: VM, _data: dict[str, Any], _answer: Any, _at: int) -> None:
    """Tell the run state whether its VM may be being saved or loaded."""
    watcher = vm.observers["job"]
    over = watcher.of(("undefined", "concluded", "null"))
    pending = {name for _, name, _, _ in vm.pending.values()}
    alive = {c.type for c in vm.jobs.values() if c.belief & ~over}
    for guard, kinds in (("saving", ("snapshot-save", "dump-guest-memory")), ("loading", ("snapshot-load",))):
        held = any(kind in alive or kind in pending for kind in kinds)
        set_guards(vm, **{"holds" if held else "denies": (guard,)})


def dump_answered(vm: VM, data: dict[str, Any], _answer: Any, _at: int) -> None:
    """``dump-guest-memory`` is over when it is answered, unless it was detached."""
    if not data.get("detach"):
        couple_jobs(vm, data, None, 0)


# --- memory


def balloon(vm: VM, data: dict[str, Any], _answer: Any, _at: int) -> None:
    """BALLOON_CHANGE: the actual size in bytes."""
    vm.balloon = data.get("actual", vm.balloon)


def query_balloon(vm: VM, _data: dict[str, Any], answer: Any, _at: int) -> None:
    """``query-balloon``: the actual size in bytes."""
    if isinstance(answer, dict):
        vm.balloon = answer.get("actual", vm.balloon)


def memory_size(vm: VM, data: dict[str, Any], _answer: Any, _at: int) -> None:
    """MEMORY_DEVICE_SIZE_CHANGE: the size in bytes that a memory device has reached."""
    name = str(data.get("id") or device_name(str(data.get("qom-path", ""))))
    vm.memory.setdefault(name, {"requested": 0, "actual": 0})["actual"] = data.get("size", 0)


EFFECTS: Final[dict[str, Effect]] = {
    f.__name__: f
    for f in (
        held_back, resumed, reset, shutdown, set_action, io_error, query_status, hmp_sent, migrate_sent,
        set_capabilities, migration, query_migrate, device_add_sent, device_added, device_add_refused,
        device_del_refused, device_deleted, unplug_refused, ost, negotiated, qom_list, job_status,
        block_job_ended, query_jobs, couple_jobs, dump_answered, balloon, query_balloon, memory_size,
    )
} | {"couple_migration": couple}  # fmt: skip
