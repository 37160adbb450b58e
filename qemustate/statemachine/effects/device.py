"""Devices: who is meant, which bearer of the id, and who refused."""

from __future__ import annotations

from typing import Any, Final

from qemustate.statemachine import console, guards
from qemustate.statemachine.effects import anonymous
from qemustate.statemachine.state import VM, DeviceCell
from qemustate.statemachine.stepping import (
    ANONYMOUS,
    PERIPHERAL,
    describe_device,
    device,
    device_name,
    heard_of,
    narrow,
    settle,
    step_device,
)
from qemustate.statemachine.tables.device import GOING, IN_QOM, NOT_IN_QOM


def _identified(data: dict[str, Any]) -> str:
    name = data.get("id")
    return name if name.__class__ is str else ""


def device_add_sent(vm: VM, data: dict[str, Any], _answer: Any) -> None:
    """``device_add`` with an id: its device is being added, unless the id has a bearer."""
    if name := _identified(data):
        step_device(vm, device_name(name), device(vm, name, ours=True), "execute device_add")


def device_added(vm: VM, data: dict[str, Any], _answer: Any) -> None:
    """``device_add`` was answered: a new bearer of the id; an earlier one's DEVICE_DELETED may be due."""
    name = _identified(data)
    if not name:
        anonymous.added(vm, data)
        return
    cell, watcher = device(vm, name, ours=True), vm.watch.device
    if cell.belief & watcher.of(GOING) and cell.kind & _MAY_BE_OTHER:
        if cell.belief & watcher.of(_FREE) or cell.kind & _MAY_BE_CPU:
            cell.doubtful += 1
        else:
            cell.outstanding += 1
    describe_device(vm, cell, data)
    cell.generation += 1
    cell.refused = ""
    step_device(vm, device_name(name), cell, "return device_add")


def device_add_refused(vm: VM, data: dict[str, Any], answer: Any) -> None:
    """``device_add`` was refused: nothing is left of it, and a bearer of the id stays."""
    if name := _identified(data):
        desc = str(answer.get("desc", ""))
        trigger = (
            "error device_add:duplicate" if desc.startswith("Duplicate device ID") else "error device_add"
        )
        cell = device(vm, name)
        step_device(vm, device_name(name), cell, trigger)
        cell.refused = desc
    else:
        anonymous.refused(vm, str(answer.get("desc", "")))


def device_del_taken(vm: VM, data: dict[str, Any], _answer: Any) -> None:
    """``device_del`` was accepted: from now on the guest is asked."""
    if name := _identified(data):
        cell = device(vm, name)
        cell.asked = vm.time
        step_device(vm, device_name(name), cell, "return device_del")
        _race(vm, device_name(name), cell, over=True)


#: Of the states that leave an id free, those in which DEVICE_DELETED has come or is not due; see ``GOING``.
_FREE: Final = ("gone", "adding", "planned")
_MAY_BE_CPU: Final = guards.may("cpu")
_MAY_BE_OTHER: Final = guards.maynot("cpu")
#: What a refused ``device_del`` says (hw/core/qdev-monitor.c, hw/pci/pcie.c): part of ``desc`` -> trigger.
_DEL_REFUSALS: Final = (
    ("already in the process of unplug", "error device_del:pending"),
    ("unplug already in progress", "error device_del:pending"),
    ("guest is busy", "error device_del:busy"),
)


def device_del_refused(vm: VM, data: dict[str, Any], answer: Any) -> None:
    """``device_del`` was refused: the error tells where the device is."""
    if not (name := _identified(data)):
        return
    desc = str(answer.get("desc", ""))
    trigger = next((t for part, t in _DEL_REFUSALS if part in desc), "error device_del")
    if answer.get("class") == "DeviceNotFound":
        trigger = "error device_del:not-found"
    cell = device(vm, name)
    step_device(vm, device_name(name), cell, trigger)
    if trigger != "error device_del:not-found":
        cell.refused = desc


def device_deleted(vm: VM, data: dict[str, Any], _answer: Any) -> None:
    """DEVICE_DELETED: by id, by path, for a child, or for an earlier bearer of the id."""
    path = str(data.get("path", ""))
    name = str(data.get("device") or device_name(path))
    if "device" in data or "/" not in name:
        cell = device(vm, name)
        if cell.outstanding:
            cell.outstanding -= 1
            vm.assumptions["oldest-first"] += 1
            return
        if cell.doubtful:
            cell.doubtful -= 1
            _race(vm, name, cell)
            _perhaps(vm, name, cell, "DEVICE_DELETED")
            return
        if not cell.generation:
            cell.generation = 1
        left = cell.belief == vm.watch.device.bit["leaving"]
        _race(vm, name, cell)
        step_device(vm, name, cell, "DEVICE_DELETED")
        if left:  # known to be gone; announced only now
            cell.since, cell.cause = vm.seq, "DEVICE_DELETED"
            vm.changed.append(("device", name, ("gone",), cell))
        return
    if path.startswith(PERIPHERAL):
        parent = path[len(PERIPHERAL) :].partition("/")[0]
    else:
        parent = "/".join(path.split("/")[:4])
    if path.count("/") > 3:
        if parent in vm.devices:
            _child_deleted(vm, parent, vm.devices[parent])
    elif path.startswith("/machine/"):
        if path.startswith(ANONYMOUS):
            anonymous.told(vm, path)
        cell = device(vm, path)
        cell.belief = vm.watch.device.of(("present",)) if not cell.since else cell.belief
        step_device(vm, path, cell, "DEVICE_DELETED")


def _child_deleted(vm: VM, parent: str, cell: DeviceCell) -> None:
    """A device's child object was deleted: the device has left, unless an earlier bearer of its id is meant."""
    if cell.doubtful:
        _race(vm, parent, cell)
        _perhaps(vm, parent, cell, "DEVICE_DELETED child")
    elif not cell.outstanding:
        _race(vm, parent, cell)
        step_device(vm, parent, cell, "DEVICE_DELETED child")


def _perhaps(vm: VM, name: str, cell: DeviceCell, trigger: str) -> None:
    """Believe an event that may be an earlier bearer's: what it leads to, and what was."""
    after = vm.watch.device.image(trigger, cell.belief, vm.profile | cell.kind)
    if not after.impossible:
        settle(vm, "device", cell, cell.belief | after.belief, trigger, name)


def _race(vm: VM, name: str, cell: DeviceCell, *, over: bool = False) -> None:
    """Note whether a ``device_del`` of this device is still to be answered; ``over``: one has just been."""
    if over and not cell.kind & _RACED:
        return
    asked = bool(vm.pending) and any(
        command == "device_del" and device_name(_identified(arguments)) == name
        for command, arguments in (console.meant(it[1], it[2]) for it in vm.pending.values())
    )
    cell.kind = cell.kind & _RACED_FORGET | (_RACED if asked else _NOT_RACED)


_RACED_FORGET: Final = guards.clear_mask(("raced",))
_RACED: Final = guards.held("raced")
_NOT_RACED: Final = guards.denied("raced")


def unplug_refused(vm: VM, data: dict[str, Any], _answer: Any) -> None:
    """The guest refused an unplug: the device stays."""
    name = str(data.get("device") or device_name(str(data.get("path", ""))))
    if not name:
        return
    cell = device(vm, name)
    step_device(vm, name, cell, "refused")
    cell.refused = str(data.get("msg", "the guest refused the unplug"))


#: _OST source codes of an eject, and status codes that are no refusal (ACPI 6.3.5; hw/acpi/memory_hotplug.c).
_OST_EJECT: Final = (3, 259)
_OST_FINE: Final = (0, 0x84)


def ost(vm: VM, data: dict[str, Any], _answer: Any) -> None:
    """ACPI_DEVICE_OST: on x86 this is how a guest refuses to give up a DIMM or a vCPU."""
    info = data.get("info")
    if not isinstance(info, dict) or not info.get("device") or info.get("source") not in _OST_EJECT:
        return
    if info.get("status") not in _OST_FINE:
        cell = device(vm, info["device"])
        step_device(vm, info["device"], cell, "refused")
        cell.refused = f"_OST status {info.get('status')}"


def negotiated(vm: VM, data: dict[str, Any], _answer: Any) -> None:
    """FAILOVER_NEGOTIATED: the hidden primary of that device is plugged now, and one that is added later is not hidden."""
    pair = str(data.get("device-id", ""))
    if pair in vm.devices:
        vm.devices[pair].standby = "negotiated"
    for name, cell in vm.devices.items():
        if cell.failover and cell.failover == pair:
            step_device(vm, name, cell, "negotiated")


def _goes_along(vm: VM, cell: DeviceCell) -> bool:
    """Whether a device may have left with the one that provides its bus, unannounced so far (hw/core/bus.c bus_unparent())."""
    going = vm.watch.device.of(GOING)
    provider = cell.bus.rpartition("/")[2].partition(".")[0]
    if provider:
        return provider in vm.devices and bool(vm.devices[provider].belief & going)
    return any(other.belief & going for other in vm.devices.values())


def qom_list(vm: VM, data: dict[str, Any], answer: Any) -> None:
    """``qom-list`` names every device there is: ``/machine/peripheral`` those with an id, ``peripheral-anon`` the others."""
    where = str(data.get("path", "")).rstrip("/") + "/"
    if where not in (PERIPHERAL, ANONYMOUS) or not isinstance(answer, list):
        return
    types = {x["name"]: str(x.get("type", "")) for x in answer if isinstance(x, dict)}
    listed = {name: type_[6:-1] for name, type_ in types.items() if type_.startswith("child<")}
    if where == ANONYMOUS:
        anonymous.listed(vm, listed)
        return
    watcher = vm.watch.device
    there, not_there = watcher.of(IN_QOM), watcher.of(NOT_IN_QOM)
    for name in listed.keys() - vm.devices.keys():
        cell = heard_of(
            vm, name, watcher.of(IN_QOM if vm.late or vm.profile & guards.may("others") else ("gone",))
        )
        cell.generation = 1
    for name, cell in vm.devices.items():
        if name in listed:
            narrow(vm, "device", cell, there, name, said=("qom-list names it",))
        elif not name.startswith("/"):
            if not cell.belief & not_there and _goes_along(vm, cell):
                settle(vm, "device", cell, watcher.bit["leaving"], "query", name)
            narrow(vm, "device", cell, not_there, name, said=("qom-list does not name it",))
            step_device(vm, name, cell, "not listed")
