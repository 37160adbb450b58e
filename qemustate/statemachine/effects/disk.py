"""Disks: what puts them on another node, and takes nodes out of the graph."""

from __future__ import annotations

from typing import Any

from qemustate.statemachine.graph import define, loosen, move, put, unlink
from qemustate.statemachine.state import VM
from qemustate.statemachine.stepping import device_name


def graph_changed(vm: VM, _data: dict[str, Any], _answer: Any) -> None:
    """Something was taken out of the block graph."""
    loosen(vm)


def children_changed(vm: VM, _data: dict[str, Any], _answer: Any) -> None:
    """``x-blockdev-change`` gives a node a child, or takes one from it."""
    unlink(vm)


def snapshot_taken(vm: VM, data: dict[str, Any], _answer: Any) -> None:
    """``blockdev-snapshot`` puts a node's users on its overlay (qapi/block-core.json)."""
    move(vm, data["node"], data["overlay"])
    unlink(vm)  # what stood on the node stands on the overlay


def snapshot_made(vm: VM, data: dict[str, Any], _answer: Any) -> None:
    """``blockdev-snapshot-sync`` puts a node's users on a new one, which may have no name of ours."""
    if "snapshot-node-name" in data:
        define(vm, [data["snapshot-node-name"]])
    move(vm, data.get("node-name") or data.get("device", ""), data.get("snapshot-node-name", ""))
    unlink(vm)


def transaction_done(vm: VM, data: dict[str, Any], _answer: Any) -> None:
    """``transaction``: its actions were done, in their order."""
    for action in data["actions"]:
        if action["type"] == "blockdev-snapshot":
            snapshot_taken(vm, action["data"], None)
        elif action["type"] == "blockdev-snapshot-sync":
            snapshot_made(vm, action["data"], None)


def medium_inserted(vm: VM, data: dict[str, Any], _answer: Any) -> None:
    """``blockdev-insert-medium`` puts a drive on a node."""
    _medium(vm, data, data["node-name"])


def medium_removed(vm: VM, data: dict[str, Any], _answer: Any) -> None:
    """A drive has no medium any more, or one whose node has no name of ours."""
    _medium(vm, data, "")
    loosen(vm)


def _medium(vm: VM, data: dict[str, Any], node: str) -> None:
    cell = vm.devices.get(device_name(data.get("id", "")))
    if cell is not None:
        put(cell, node)


def drive_set(vm: VM, data: dict[str, Any], _answer: Any) -> None:
    """``qom-set`` of ``drive`` puts a disk on another node (hw/core/qdev-properties-system.c set_drive_helper())."""
    cell = vm.devices.get(device_name(data["path"].removesuffix("/virtio-backend")))
    if cell is not None:
        put(cell, data["value"])
        loosen(vm)


def told_to_complete(vm: VM, data: dict[str, Any], _answer: Any) -> None:
    """``job-complete`` or ``block-job-complete`` was taken: when it ends well, the job pivots."""
    cell = vm.jobs.get(data.get("id") or data.get("device", ""))
    if cell is not None:
        cell.completing = True
