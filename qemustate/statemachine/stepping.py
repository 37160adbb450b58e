"""Moving the machines of a VM: one trigger, one narrowing, and what follows from one machine for another.

Everything here takes the VM's accumulator, changes it in place, and notes what it changed in ``vm.changed``
and what no row allowed in ``vm.violations``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from qemustate.statemachine import guards, references
from qemustate.statemachine.launch import hotplug_kind
from qemustate.statemachine.observer import Observer, Step, observer
from qemustate.statemachine.state import BACKENDS, VM, Cell, DeviceCell, JobCell
from qemustate.statemachine.tables.device import IN_QOM, RESTLESS

_RESTLESS: Final = observer("device", None).of(RESTLESS)


def step(vm: VM, machine: str, watcher: Observer, cell: Cell, trigger: str, subject: str = "") -> None:
    """Step one machine with a trigger its table knows."""
    moves = watcher.moves[trigger]
    relevant = moves.relevant
    key = (cell.belief, vm.profile & relevant) if relevant else cell.belief
    after = moves.known.get(key) or watcher.learn(moves, cell.belief, vm.profile)
    if after.quiet:
        return
    if after.special:
        _note(vm, machine, cell, after, trigger, subject)
    cell.belief = after.belief
    if watcher.couples:
        couple(vm, watcher, cell)
    if after.before is not None:
        cell.since, cell.cause = vm.seq, after.cause
        vm.changed.append((machine, subject, after.before, cell))


def step_vm(vm: VM, machine: str, trigger: str) -> None:
    """Step a machine of which a VM has one: process, monitor, run state, migration."""
    step(vm, machine, getattr(vm.watch, machine), getattr(vm, machine), trigger)


def step_device(vm: VM, name: str, cell: DeviceCell, trigger: str) -> None:
    """Step a device: its table's rows look at the rule of its bus too."""
    watcher = vm.watch.device
    moves = watcher.moves[trigger]
    belief, profile = cell.belief, vm.profile | cell.kind
    relevant = moves.relevant
    after = moves.known.get((belief, profile & relevant) if relevant else belief) or watcher.learn(
        moves, belief, profile
    )
    if after.quiet:
        return
    if after.special:
        _note(vm, "device", cell, after, trigger, name)
    cell.belief = after.belief
    if after.before is not None:
        cell.since, cell.cause = vm.seq, after.cause
        vm.changed.append(("device", name, after.before, cell))
    if after.belief & _RESTLESS:
        vm.restless[name] = cell
    elif name in vm.restless:
        del vm.restless[name]


def _note(vm: VM, machine: str, cell: Cell, after: Step, trigger: str, subject: str) -> None:
    """Count the assumptions a step leaned on, and note it where no row allowed it."""
    for name in after.assumptions:
        vm.assumptions[name] += 1
    if after.impossible:
        was = ", ".join(vm.names(machine, cell))
        vm.violations.append((f"{machine}-transition", subject, f"{trigger} cannot follow {was}"))


def _fidget(vm: VM, name: str, cell: DeviceCell) -> None:
    """Keep in mind the devices that the next RESUME or RESET may move."""
    if cell.belief & _RESTLESS:
        vm.restless[name] = cell
    else:
        vm.restless.pop(name, None)


def narrow(
    vm: VM, machine: str, cell: Cell, states: int, subject: str = "", *, said: tuple[Any, ...]
) -> None:
    """Keep of a belief what QEMU ``said`` is true; if that leaves nothing, believe QEMU and note a violation."""
    watcher = vm.watcher(machine)
    profile = vm.profile | cell.kind if isinstance(cell, DeviceCell) else vm.profile
    left = cell.belief & states
    if not left and states:
        was = ", ".join(watcher.names(cell.belief))
        told = " ".join(map(str, said))
        vm.violations.append(
            (f"{machine}-contradicted", subject, f"{told}, and the facts allowed only {was}")
        )
        left = states
    settle(vm, machine, cell, watcher.closure(left, profile), "query", subject)


def settle(vm: VM, machine: str, cell: Cell, belief: int, cause: str, subject: str = "") -> None:
    """Give a machine a belief that no row led to, and note the change."""
    if belief == cell.belief:
        return
    watcher = vm.watcher(machine)
    before, cell.belief = watcher.names(cell.belief), belief
    if watcher.names(belief) != before:
        cell.since, cell.cause = vm.seq, cause
        vm.changed.append((machine, subject, before, cell))
    if watcher.couples:
        couple(vm, watcher, cell)
    elif isinstance(cell, DeviceCell):
        _fidget(vm, subject, cell)


def set_guards(
    vm: VM, *, holds: tuple[str, ...] = (), denies: tuple[str, ...] = (), opens: tuple[str, ...] = ()
) -> None:
    """Set guards; silent rows that this allows are taken."""
    set_profile(vm, *guard_masks(holds, denies, opens))


@lru_cache(maxsize=1024)
def guard_masks(
    holds: tuple[str, ...], denies: tuple[str, ...], opens: tuple[str, ...] = ()
) -> tuple[int, int]:
    """Return the *and* and *or* masks that set these guards in a profile."""
    kept = guards.clear_mask((*holds, *denies, *opens))
    return kept, guards.held(*holds) | guards.denied(*denies) | guards.open_(*opens)


def set_profile(vm: VM, kept: int, added: int) -> None:
    """Change the profile by masks, and close the beliefs whose silent rows look at what changed."""
    before = vm.profile
    profile = vm.profile = before & kept | added
    changed = profile ^ before
    if not changed:
        return
    watch = vm.watch
    if changed & watch.runstate.silent_relevant:
        settle(vm, "runstate", vm.runstate, watch.runstate.closure(vm.runstate.belief, profile), "")
    if changed & watch.migration.silent_relevant:
        settle(vm, "migration", vm.migration, watch.migration.closure(vm.migration.belief, vm.profile), "")


def couple(vm: VM, watcher: Observer, cell: Cell) -> None:
    """Tell the guards of other machines what this one's belief means for them.

    The silent rows that this allows are taken at once, and couple in their turn, until nothing changes any more.
    """
    set_profile(vm, *watcher.coupled(cell.belief, vm.profile & watcher.conditions))


def incoming(vm: VM) -> bool:
    """Whether the migration there may be is certainly an incoming one."""
    return bool(vm.profile & guards.may("incoming")) and not vm.profile & guards.maynot("incoming")


def couple_migration(vm: VM) -> None:
    """Apply the couplings of the migration again: a guard they look at has changed."""
    couple(vm, vm.watch.migration, vm.migration)


def device(vm: VM, name: str, *, ours: bool = False) -> DeviceCell:
    """Return the device of that id or QOM path: what may be, if it was never heard of.

    A device that nobody here added may be there all the same, where the beginning was not seen or another monitor
    can act; one that is being added (``ours``) is new unless the beginning was not seen.
    """
    cell = vm.devices.get(name)
    if cell is not None:
        return cell
    name = device_name(name)
    cell = vm.devices.get(name)
    if cell is None:
        watcher = vm.watch.device
        unheard = vm.late or (not ours and vm.profile & _OTHERS)
        belief = watcher.of(("gone", *IN_QOM, "ejected")) if unheard else watcher.initial
        cell = heard_of(vm, name, belief)
    return cell


def heard_of(vm: VM, name: str, belief: int) -> DeviceCell:
    """Return a new device of that id, which may be any of these states."""
    cell = vm.devices[name] = DeviceCell(belief)
    _fidget(vm, name, cell)
    return cell


_OTHERS: Final = guards.may("others")


def device_name(name: str) -> str:
    """Return a device's id for its id or its QOM path: ``/machine/peripheral/ID`` is ``ID``."""
    if name.startswith(PERIPHERAL) and "/" not in name[len(PERIPHERAL) :]:
        return name[len(PERIPHERAL) :]
    return name


#: Where devices with an id are.
PERIPHERAL: Final = "/machine/peripheral/"


def anonymous_path(number: int) -> str:
    """Return the QOM path of a device without an id, by the number QEMU gave it."""
    return f"{ANONYMOUS}device[{number}]"


#: Where devices without an id are.
ANONYMOUS: Final = "/machine/peripheral-anon/"


def describe_device(vm: VM, cell: DeviceCell, properties: dict[str, Any]) -> None:
    """Note what a device is: its driver and bus, and so the rule of its bus."""
    cell.properties = properties
    cell.driver = str(properties.get("driver", ""))
    cell.bus = str(properties.get("bus", ""))
    cell.failover = str(properties.get("failover_pair_id", ""))
    cell.uses = tuple([(_USES[key], str(value)) for key, value in properties.items() if key in _USES])
    cell.standby = "hides" if "failover" in properties and properties["failover"] in _ON else ""
    kind = hotplug_kind(cell.driver, vm.launch, driver_of(vm, cell.bus))
    cell.kind = kind | (_failover(vm, cell.failover) if cell.failover else _NO_FAILOVER) | _NOT_RACED


def _failover(vm: VM, pair: str) -> int:
    """Return whether a device is hidden for now: its standby is there and waits for the guest (hw/net/virtio-net.c)."""
    standby = vm.devices.get(pair)
    if standby is None:
        return _MAYBE_FAILOVER if vm.late or vm.profile & _OTHERS else _NO_FAILOVER
    if standby.standby != "hides":
        return _NO_FAILOVER if standby.driver else _MAYBE_FAILOVER
    there = not standby.belief & ~vm.watch.device.of(IN_QOM)
    return _FAILOVER if there and not vm.late else _MAYBE_FAILOVER


_USES: Final = references.DEVICE
_FAILOVER: Final = guards.held("failover")
_NOT_RACED: Final = guards.denied("raced")
_NO_FAILOVER: Final = guards.denied("failover")
_MAYBE_FAILOVER: Final = guards.open_("failover")
#: What is true of a property that is a bool: QMP's own, and the words of a command line (qapi/opts-visitor.c).
_ON: Final = (True, "on", "yes", "true", "y")


def driver_of(vm: VM, bus: str) -> str:
    """Return the driver of the device that provides a bus (``rp0``, or ``scsi0.0`` of ``scsi0``); empty where unknown."""
    name = bus.rpartition("/")[2]
    cell = vm.devices.get(name) or vm.devices.get(name.partition(".")[0])
    return cell.driver if cell else ""


def job(vm: VM, name: str) -> JobCell:
    """Return the job of that id: any status, if the beginning was not seen."""
    cell = vm.jobs.get(name)
    if cell is None:
        watcher = vm.watch.job
        cell = vm.jobs[name] = JobCell(watcher.all if vm.late else watcher.initial)
    return cell


def backend(vm: VM, kind: str, name: str) -> Cell:
    """Return the node, netdev, chardev or object of that id."""
    collection: dict[str, Cell] = getattr(vm, BACKENDS[kind])
    cell = collection.get(name)
    if cell is None:
        watcher = vm.watch.backend
        cell = collection[name] = Cell(watcher.of(("gone", "present")) if vm.late else watcher.initial)
    return cell


def step_named(vm: VM, machine: str, name: str, trigger: str) -> None:
    """Step an export or a descriptor of that name: what may be, if it was never heard of."""
    watcher: Observer = getattr(vm.watch, machine)
    collection: dict[str, Cell] = getattr(vm, f"{machine}s")
    cell = collection.get(name)
    if cell is None:
        cell = collection[name] = Cell(watcher.of(("gone", "present")) if vm.late else watcher.initial)
    step(vm, machine, watcher, cell, trigger, name)
