"""The block graph, as far as it is told: which node a disk is on, and the nodes that nobody added by a command.

A disk is put on another node by a snapshot (its overlay), by a mirror or a commit of the top image that was told to
complete (block/mirror.c mirror_exit_common()), by a change of its medium, and by ``qom-set``. Where what is known does not
say which node that is, none is believed in, until ``query-block`` names it.

A node that was defined inside another one's options, or that a snapshot made, is there as long as something uses it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from qemustate.statemachine import guards
from qemustate.statemachine.state import VM, DeviceCell, JobCell
from qemustate.statemachine.stepping import backend, step

_OTHERS: Final = guards.may("others")
#: Job types that may put a disk on another node.
_PIVOTING: Final = ("mirror", "commit")
#: Job types that leave nodes standing on others than before.
_REWIRING: Final = (*_PIVOTING, "stream", "")


def define(vm: VM, names: Iterable[str]) -> None:
    """Believe in nodes of these names that were defined inside others, or made by something else than ``blockdev-add``."""
    for name in names:
        cell = vm.inner[name] = backend(vm, "node", name)
        step(vm, "node", vm.watch.backend, cell, "defined", name)


def loosen(vm: VM) -> None:
    """Something was taken out of the graph: the nodes that nobody added may have gone with it."""
    for name, cell in vm.inner.items():
        step(vm, "node", vm.watch.backend, cell, "graph changed", name)


def unlink(vm: VM) -> None:
    """Nobody knows any more which node stands on which."""
    for who, uses in list(vm.refers.items()):
        if who[0] == "node":
            vm.refers[who] = tuple(use for use in uses if use[0] != "node")


def put(cell: DeviceCell, node: str) -> None:
    """Say which node a disk is on; empty where it is on none, or nobody knows."""
    others = tuple(use for use in cell.uses if use[0] != "node")
    cell.uses = (*others, ("node", node)) if node else others


def move(vm: VM, old: str, new: str) -> None:
    """Put the disks that are on one node on another; empty where nobody knows."""
    for cell in vm.devices.values():
        if ("node", old) in cell.uses or not old:
            put(cell, new)


def job_begun(vm: VM, cell: JobCell, command: str, arguments: dict[str, Any]) -> None:
    """Note which node the job's users are taken from when it completes, and which one they are put on."""
    if "filter-node-name" in arguments:
        define(vm, [arguments["filter-node-name"]])
    key = _PIVOTS.get(command)
    if key is None:
        return
    if key == "node-name" and key in arguments:
        define(vm, [arguments[key]])
    cell.pivots_from = arguments.get("replaces") or arguments.get("top-node") or arguments.get("device", "")
    cell.pivots_to = arguments.get(key, "")


#: Commands whose job may put a disk on another node -> the argument that names that node.
_PIVOTS: Final = {"drive-mirror": "node-name", "blockdev-mirror": "target", "block-commit": "base-node"}


def job_ended(vm: VM, cell: JobCell, *, done: bool) -> None:
    """A job has ended; if it is done, what it was told to put on another node is there, and perhaps what nobody here told it."""
    loosen(vm)
    if done and cell.type in _REWIRING:
        unlink(vm)
    if not done or cell.type not in _PIVOTING:
        return
    if cell.completing:
        move(vm, cell.pivots_from, cell.pivots_to)
    elif vm.late or vm.profile & _OTHERS or not cell.pivots_from:
        move(vm, cell.pivots_from, "")
