"""Who refers to whom: devices, block nodes, netdevs, objects and exports name the backends they use.

What is referred to is in use, and QEMU refuses to take it away (a netdev, and objects nobody must hold on to, excepted); so
this is what tells that before QEMU does. A reference is kept as told, at launch, when something is added, and when a node is reopened.

Source: the members of QAPI ``BlockdevOptions``, ``Netdev``, ``ObjectOptions`` and ``BlockExportOptions`` that name something, and the
properties of devices that do (hw/core/qdev-properties-system.c, hw/mem/, hw/virtio/).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from qemustate.statemachine.state import VM

#: What is meant: its kind (``node``, ``netdev``, ``chardev``, ``object``, ``export``, ``device``) and its name.
Reference = tuple[str, str]

#: Property of a device -> the kind of backend it names.
DEVICE: Final = {
    "drive": "node", "netdev": "netdev", "chardev": "chardev", "memdev": "object", "iothread": "object", "rng": "object",
    "cryptodev": "object", "hostmem": "object",
}  # fmt: skip
#: Members of block options that name a node, where they are not options themselves.
_NODES: Final = frozenset(
    (
        "file",
        "backing",
        "data-file",
        "image",
        "log",
        "raw",
        "test",
        "target",
        "children",
        "bottom",
        "header",
        "top",
    )
)
#: Members that name something else.
_MEMBERS: Final = {
    "throttle-group": "object", "key-secret": "object", "tls-creds": "object", "iothread": "object",
    "chardev": "chardev", "netdev": "netdev", "secondary": "chardev", "primary_in": "chardev", "secondary_in": "chardev",
    "outdev": "chardev", "indev": "chardev",
}  # fmt: skip


def of(kind: str, told: Any) -> tuple[Reference, ...]:
    """Return what a backend or an export of that kind refers to, by its options."""
    found: list[Reference] = []
    if told.__class__ is dict:
        _gather(kind, told, found, [])
    return tuple(dict.fromkeys(found)) if len(found) > 1 else tuple(found)


def _gather(kind: str, told: dict[str, Any], found: list[Reference], inner: list[str]) -> None:
    for key, value in told.items():
        if value.__class__ is str:
            if key in _MEMBERS and value:
                found.append((_MEMBERS[key], value))
            elif (kind == "node" and key in _NODES and value) or (kind == "export" and key == "node-name"):
                found.append(("node", value))
        elif value.__class__ is dict:
            name = value.get("node-name") if kind == "node" else None
            if name:
                found.append(("node", name))
                inner.append(name)
            _gather(kind, value, [] if name else found, inner)
        elif value.__class__ is list and kind == "node" and key in _NODES:
            for child in value:
                _gather(kind, {key: child}, found, inner)


def note(vm: VM, kind: str, name: str, told: Any) -> list[str]:
    """Note what something that is there now refers to; return the names of the nodes that its options define inside."""
    found: list[Reference] = []
    inner: list[str] = []
    if told.__class__ is dict:
        _gather(kind, told, found, inner)
    if found:
        vm.refers[kind, name] = tuple(dict.fromkeys(found))
    elif vm.refers:
        vm.refers.pop((kind, name), None)
    return inner


def users(vm: VM, kind: str, name: str) -> list[Reference]:
    """Return what refers to a backend and may be there: devices, backends, exports, each by kind and name."""
    wanted = (kind, name)
    devices = [
        ("device", n) for n, cell in vm.devices.items() if wanted in cell.uses and _there(vm, "device", n)
    ]
    others = [user for user, found in vm.refers.items() if wanted in found and _there(vm, *user)]
    return devices + others


def _there(vm: VM, kind: str, name: str) -> bool:
    return names(vm, kind, name) != ("gone",)


def names(vm: VM, kind: str, name: str) -> tuple[str, ...]:
    """Return what something shows as; ``gone`` if it was never heard of."""
    cell = getattr(vm, f"{kind}s").get(name)
    return ("gone",) if cell is None else vm.names(kind, cell)


def used_by(vm: VM) -> dict[Reference, list[str]]:
    """Return, for everything that is referred to, what refers to it: ``device vd1``, ``node n2``."""
    found: dict[Reference, list[str]] = {}
    for name, cell in vm.devices.items():
        for use in cell.uses:
            if _there(vm, "device", name):
                found.setdefault(use, []).append(f"device {name}")
    for (kind, name), uses in vm.refers.items():
        if _there(vm, kind, name):
            for use in uses:
                found.setdefault(use, []).append(f"{kind} {name}")
    return found
