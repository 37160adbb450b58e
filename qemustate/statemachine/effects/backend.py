"""Backends: what refers to what, and what goes with another."""

from __future__ import annotations

from typing import Any

from qemustate.statemachine.graph import define
from qemustate.statemachine.state import VM
from qemustate.statemachine.stepping import backend, step
from qemustate.statemachine.uses import note


def node_added(vm: VM, data: dict[str, Any], _answer: Any) -> None:
    """``blockdev-add``: what the node stands on; nodes that are defined inside its options are added with it."""
    if inner := note(vm, "node", data.get("node-name", ""), data):
        define(vm, inner)


def nodes_reopened(vm: VM, data: dict[str, Any], _answer: Any) -> None:
    """``blockdev-reopen``: what these nodes stand on from now on (qapi/block-core.json)."""
    for told in data["options"]:
        note(vm, "node", told["node-name"], told)


def object_added(vm: VM, data: dict[str, Any], _answer: Any) -> None:
    """``object-add``: what the object uses."""
    note(vm, "object", data["id"], data)


def netdev_added(vm: VM, data: dict[str, Any], _answer: Any) -> None:
    """``netdev_add``: the chardev of a vhost-user netdev."""
    note(vm, "netdev", data["id"], data)


def netdev_deleted(vm: VM, data: dict[str, Any], _answer: Any) -> None:
    """``netdev_del`` of a vhost-user netdev takes its chardev away too (net/vhost-user.c net_vhost_user_cleanup())."""
    for kind, name in vm.refers.pop(("netdev", data["id"]), ()):
        if kind == "chardev":
            step(vm, kind, vm.watch.backend, backend(vm, kind, name), "return del", name)


def export_added(vm: VM, data: dict[str, Any], _answer: Any) -> None:
    """``block-export-add``: the node that is served."""
    note(vm, "export", data["id"], data)
