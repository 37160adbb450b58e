"""Looks at backends: who uses what, and what is left behind."""

from __future__ import annotations

from typing import Any, Final

from qemustate.statemachine.looks.registry import Asked, Sight, after, before
from qemustate.statemachine.state import BACKENDS, VM, DeviceCell
from qemustate.statemachine.uses import users

#: Removing command -> (kind of backend, the argument that names it).
_REMOVALS: Final = {
    "blockdev-del": ("node", "node-name"),
    "netdev_del": ("netdev", "id"),
    "chardev-remove": ("chardev", "id"),
    "object-del": ("object", "id"),
}


@before(*(f"command {name}" for name in _REMOVALS))
def in_use(it: Sight, _qmp: dict[str, Any], asked: Asked | None) -> None:
    """A backend about to be removed that certainly is, as certainly are those who use it."""
    if asked is None:
        return
    kind, key = _REMOVALS[asked.name]
    name = str(asked.arguments.get(key, ""))
    if it.vm.shows(kind, name) != ("present",):
        return
    there = [f"{k} {n}" for k, n in users(it.vm, kind, name) if "gone" not in it.vm.shows(k, n)]
    if there:
        it.found("backend-in-use", name, f"{kind} {name} is used by {', '.join(there)}")


@before(*(f"reply {name}" for name in _REMOVALS))
def removed(it: Sight, _qmp: dict[str, Any], asked: Asked | None) -> None:
    """A backend removed while it is used: QEMU lets a netdev go (net/net.c qmp_netdev_del()), and others not."""
    if asked is None:
        return
    kind, key = _REMOVALS[asked.name]
    name = str(asked.arguments.get(key, ""))
    for user, device in users(it.vm, kind, name):
        if user == "device" and it.vm.shows(user, device) == ("present",):
            it.found("backend-under-frontend", name, f"{kind} {name} is used by {device}, which is present")


@after("end")
def leaked(it: Sight, _body: dict[str, Any], _asked: Asked | None) -> None:
    """Backends whose device is gone, in a VM that goes on."""
    vm = it.vm
    if vm.names("process", vm.process) != ("running",) or "ending" in it.memory:
        return
    for cell in vm.devices.values():
        for kind, name in _left_behind(vm, cell):
            it.found(
                "backend-leaked", name, f"{kind} {name} is still there, and its device is gone", cell.since
            )


def _left_behind(vm: VM, cell: DeviceCell) -> list[tuple[str, str]]:
    if vm.names("device", cell) != ("gone",) or not cell.generation:
        return []
    return [
        (kind, name)
        for kind, name in cell.uses
        if (it := getattr(vm, BACKENDS[kind]).get(name)) is not None
        and vm.names(kind, it) == ("present",)
        and not users(vm, kind, name)
    ]
