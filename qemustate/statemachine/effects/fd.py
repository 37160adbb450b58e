"""Descriptors: sets by number, names that are used up."""

from __future__ import annotations

from typing import Any

from qemustate.statemachine.state import VM
from qemustate.statemachine.stepping import narrow, step_named


def fd_added(vm: VM, data: dict[str, Any], answer: Any) -> None:
    """``add-fd`` names the set it has put the descriptor into (qapi/misc.json AddfdInfo)."""
    step_named(vm, "fd", f"/dev/fdset/{answer.get('fdset-id', data.get('fdset-id'))}", "return add-fd")


def fd_removed(vm: VM, data: dict[str, Any], _answer: Any) -> None:
    """``remove-fd`` without ``fd`` empties the set; with it, others of the set may be left."""
    if "fd" not in data:
        step_named(vm, "fd", f"/dev/fdset/{data.get('fdset-id')}", "return remove-fd")


def fds_used(vm: VM, data: dict[str, Any], _answer: Any) -> None:
    """``netdev_add`` with ``fd``, ``fds``, ``vhostfd`` or ``vhostfds``, and ``migrate`` to ``fd:NAME`` take names away."""
    names = [
        name for key in ("fd", "fds", "vhostfd", "vhostfds") for name in str(data.get(key, "")).split(":")
    ]
    uri = str(data.get("uri", ""))
    if uri.startswith("fd:"):
        names.append(uri[3:])
    for name in names:
        if name in vm.fds:
            step_named(vm, "fd", name, "used")


def query_exports(vm: VM, _data: dict[str, Any], answer: Any) -> None:
    """``query-block-exports`` names every export, and whether it is going."""
    watcher = vm.watch.export
    named = {it["id"]: it for it in answer}
    for name, it in named.items():
        if name not in vm.exports:
            step_named(vm, "export", name, "return add")
        states = watcher.of(("leaving",) if it.get("shutting-down") else ("present",))
        narrow(vm, "export", vm.exports[name], states, name, said=("query-block-exports names it",))
    for name, cell in vm.exports.items():
        if name not in named:
            narrow(
                vm,
                "export",
                cell,
                watcher.of(("gone",)),
                name,
                said=("query-block-exports does not name it",),
            )
