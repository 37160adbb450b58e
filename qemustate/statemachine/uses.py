"""Who uses a backend: what is referred to is in use.

QEMU refuses to take that away (a netdev, and objects nobody must hold on to, excepted); so this is what tells it before QEMU
does. A reference is kept as told, at launch, when something is added, and when a node is reopened.
"""

from __future__ import annotations

from typing import Any

from qemustate.statemachine import references
from qemustate.statemachine.references import Reference
from qemustate.statemachine.state import VM


def note(vm: VM, kind: str, name: str, told: Any) -> list[str]:
    """Note what something that is there now refers to; return the names of the nodes that its options define inside."""
    found, inner = references.read(kind, told)
    if found:
        vm.refers[kind, name] = found
    elif vm.refers:
        vm.refers.pop((kind, name), None)
    return inner


def users(vm: VM, kind: str, name: str) -> list[Reference]:
    """Return what refers to a backend and may be there: devices, backends, exports, each by kind and name."""
    wanted = (kind, name)
    devices = [
        ("device", n) for n, cell in vm.devices.items() if wanted in cell.uses and vm.may_be("device", n)
    ]
    others = [user for user, found in vm.refers.items() if wanted in found and vm.may_be(*user)]
    return devices + others
