"""Moving the machines of a VM: one trigger, one narrowing, and what follows from one machine for another.

Everything here takes the VM's accumulator, changes it in place, and notes what it changed in ``vm.changed``
and what no row allowed in ``vm.violations``.
"""

from __future__ import annotations

from typing import Final

from qemustate.statemachine import guards
from qemustate.statemachine.launch import hotplug_kind
from qemustate.statemachine.state import BACKENDS, VM, Cell, DeviceCell, JobCell
from qemustate.statemachine.tables import migration

#: Which table a machine's name stands for.
_TABLE: Final = {**dict.fromkeys(BACKENDS, "backend"), "device": "device", "job": "job"}


def step(vm: VM, machine: str, cell: Cell, trigger: str, subject: str = "") -> None:
    """Step one machine with a trigger its table knows."""
    watcher = vm.observers[_TABLE.get(machine, machine)]
    profile = vm.profile | cell.kind if machine == "device" else vm.profile  # type: ignore[attr-defined]
    after = watcher.image(trigger, cell.belief, profile)
    if after.assumptions:
        vm.assumptions.update(after.assumptions)
    if after.impossible:
        was = ", ".join(watcher.names(cell.belief))
        vm.violations.append((f"{machine}-transition", subject, f"{trigger} cannot follow {was}"))
    if after.belief != cell.belief:
        _settle(vm, machine, cell, after.belief, after.cause, subject)


def _settle(vm: VM, machine: str, cell: Cell, belief: int, cause: str, subject: str) -> None:
    watcher = vm.observers[_TABLE.get(machine, machine)]
    before, cell.belief = watcher.names(cell.belief), belief
    if watcher.names(belief) != before:
        cell.since, cell.cause = vm.seq, cause
        vm.changed.append((machine, subject, before, cell))
    if machine == "runstate":
        couple_runstate(vm)


def narrow(vm: VM, machine: str, cell: Cell, states: int, subject: str = "", *, said: str) -> None:
    """Keep of a belief what QEMU ``said`` is true; if that leaves nothing, believe QEMU and note a violation."""
    watcher = vm.observers[_TABLE.get(machine, machine)]
    profile = vm.profile | cell.kind if machine == "device" else vm.profile  # type: ignore[attr-defined]
    left = cell.belief & states
    if not left and states:
        was = ", ".join(watcher.names(cell.belief))
        vm.violations.append(
            (f"{machine}-contradicted", subject, f"{said}, and the facts allowed only {was}")
        )
        left = states
    left = watcher.closure(left, profile)
    if left != cell.belief:
        _settle(vm, machine, cell, left, "query", subject)


def set_guards(
    vm: VM, *, holds: tuple[str, ...] = (), denies: tuple[str, ...] = (), opens: tuple[str, ...] = ()
) -> None:
    """Set guards; silent rows that this allows are taken."""
    profile = vm.profile & guards.clear_mask((*holds, *denies, *opens))
    profile |= guards.held(*holds) | guards.denied(*denies) | guards.open_(*opens)
    set_profile(vm, profile)


def set_profile(vm: VM, profile: int) -> None:
    """Replace the profile, and close the beliefs whose silent rows look at what changed."""
    changed, vm.profile = vm.profile ^ profile, profile
    if not changed:
        return
    for machine in ("runstate", "migration"):
        watcher = vm.observers[machine]
        if changed & watcher.silent_relevant:
            cell: Cell = getattr(vm, machine)
            closed = watcher.closure(cell.belief, profile)
            if closed != cell.belief:
                _settle(vm, machine, cell, closed, "", "")


def couple_runstate(vm: VM) -> None:
    """Tell the guards of other machines whether the vCPUs may run."""
    running = vm.observers["runstate"].bit["running"]
    belief = vm.runstate.belief
    bits = guards.may("vcpus-run") if belief & running else 0
    if belief & ~running:
        bits |= guards.maynot("vcpus-run")
    vm.profile = vm.profile & guards.clear_mask(("vcpus-run",)) | bits


def incoming(vm: VM) -> bool:
    """Whether the migration there may be is certainly an incoming one."""
    return bool(vm.profile & guards.may("incoming")) and not vm.profile & guards.maynot("incoming")


def couple_migration(vm: VM) -> None:
    """Tell the guards of the run state how far a migration may be."""
    watcher = vm.observers["migration"]
    belief = vm.migration.belief
    resting = watcher.of(migration.RESTING)
    bits = guards.may("outgoing") if belief & ~resting else 0
    bits |= guards.maynot("outgoing") if belief & resting else 0
    colo = guards.open_("colo") if belief & watcher.bit["colo"] else guards.denied("colo")
    set_profile(vm, vm.profile & guards.clear_mask(("colo",)) | colo)
    if incoming(vm):
        set_guards(vm, denies=("outgoing", "switchover"))
        return
    past = watcher.of(
        ("device", "pre-switchover", "postcopy-active", "postcopy-paused", "postcopy-recover", "cancelling")
    )
    told = vm.profile & guards.may("migration-events") and not vm.profile & guards.maynot("migration-events")
    if not told or vm.version is None or vm.version < (9, 0):
        past |= watcher.bit["active"]
    if not told:
        past = ~resting | watcher.of(("completed", "failed", "cancelled"))
        bits |= guards.may("switchover") if belief & past else guards.maynot("switchover")
    else:
        bits |= (
            guards.may("switchover") | guards.maynot("switchover")
            if belief & past
            else guards.maynot("switchover")
        )
    set_profile(vm, vm.profile & guards.clear_mask(("outgoing", "switchover")) | bits)


def device(vm: VM, name: str) -> DeviceCell:
    """Return the device of that id or QOM path: what may be, if it was never heard of."""
    name = device_name(name)
    cell = vm.devices.get(name)
    if cell is None:
        watcher = vm.observers["device"]
        belief = (
            watcher.of(("gone", "present", "present-off", "unplugging", "ejected"))
            if vm.late
            else watcher.initial
        )
        cell = vm.devices[name] = DeviceCell(belief)
    return cell


def device_name(name: str) -> str:
    """Return a device's id for its id or its QOM path: ``/machine/peripheral/ID`` is ``ID``."""
    prefix = "/machine/peripheral/"
    return name[len(prefix) :] if name.startswith(prefix) and "/" not in name[len(prefix) :] else name


def describe_device(vm: VM, cell: DeviceCell, properties: dict[str, object]) -> None:
    """Note what a device is: its driver and bus, and so the rule of its bus."""
    cell.driver = str(properties.get("driver", ""))
    cell.bus = str(properties.get("bus", ""))
    cell.failover = str(properties.get("failover_pair_id", ""))
    drivers = {name: d.driver for name, d in vm.devices.items()}
    failover = guards.held("failover") if cell.failover else guards.denied("failover")
    cell.kind = hotplug_kind(cell.driver, cell.bus, vm.launch, drivers) | failover


def job(vm: VM, name: str) -> JobCell:
    """Return the job of that id: any status, if the beginning was not seen."""
    cell = vm.jobs.get(name)
    if cell is None:
        watcher = vm.observers["job"]
        cell = vm.jobs[name] = JobCell(watcher.all if vm.late else watcher.initial)
    return cell


def backend(vm: VM, kind: str, name: str) -> Cell:
    """Return the node, netdev, chardev or object of that id."""
    collection: dict[str, Cell] = getattr(vm, BACKENDS[kind])
    cell = collection.get(name)
    if cell is None:
        watcher = vm.observers["backend"]
        cell = collection[name] = Cell(watcher.of(("gone", "present")) if vm.late else watcher.initial)
    return cell
