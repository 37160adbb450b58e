"""Descriptors: sets by number, names that are used up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from qemustate.statemachine.state import VM
from qemustate.statemachine.stepping import narrow, step_named
from qemustate.statemachine.tables.fd import LISTED, NOT_LISTED


def fd_added(vm: VM, data: dict[str, Any], answer: Any) -> None:
    """``add-fd`` names the set it has put the descriptor into (qapi/misc.json AddfdInfo)."""
    step_named(vm, "fd", f"/dev/fdset/{answer.get('fdset-id', data.get('fdset-id'))}", "return add-fd")


def fd_removed(vm: VM, data: dict[str, Any], _answer: Any) -> None:
    """``remove-fd`` without ``fd`` empties the set; with it, others of the set may be left."""
    if "fd" not in data:
        step_named(vm, "fd", f"/dev/fdset/{data.get('fdset-id')}", "return remove-fd")


#: Members whose value is the name of a descriptor, or several joined with ``:``; ``str`` is that of an address of type ``fd``.
_NAMES = ("fd", "fds", "vhostfd", "vhostfds", "str")


def fds_used(vm: VM, data: dict[str, Any], _answer: Any) -> None:
    """A command that used descriptors by name has taken the names away (monitor/fds.c monitor_get_fd())."""
    if vm.fds:
        for name in _names(data):
            if name in vm.fds:
                step_named(vm, "fd", name, "used")


def fds_perhaps_used(vm: VM, data: dict[str, Any], _answer: Any) -> None:
    """A command that was refused may have looked its descriptors up before that."""
    if vm.fds:
        for name in _names(data):
            if name in vm.fds:
                step_named(vm, "fd", name, "perhaps used")


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for inner in value:
            yield from _names(inner)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key in _NAMES and isinstance(inner, str):
                yield from inner.split(":")
            elif key == "uri" and isinstance(inner, str):
                yield inner.removeprefix("fd:")
            else:
                yield from _names(inner)


def query_fdsets(vm: VM, _data: dict[str, Any], answer: Any) -> None:
    """``query-fdsets`` names every set; names of ``getfd`` no query tells."""
    watcher, said = vm.watch.fd, "query-fdsets"
    named = {f"/dev/fdset/{it['fdset-id']}" for it in answer}
    for name in named - vm.fds.keys():
        step_named(vm, "fd", name, "return add-fd")
    for name, cell in vm.fds.items():
        if name in named:
            narrow(vm, "fd", cell, watcher.of(LISTED), name, said=(said, "names it"))
        elif name.startswith("/"):
            narrow(vm, "fd", cell, watcher.of(NOT_LISTED), name, said=(said, "does not name it"))


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
