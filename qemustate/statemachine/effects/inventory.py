"""Queries that name what there is: who is named is there, and, where all are named, who is not is gone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from qemustate.statemachine.graph import put
from qemustate.statemachine.state import BACKENDS, VM, Cell
from qemustate.statemachine.stepping import PERIPHERAL, backend, device, narrow, settle, step_device
from qemustate.statemachine.tables.device import IN_QOM, NOT_IN_QOM


def _named(vm: VM, kind: str, names: Iterable[str], *, all_of_them: bool, said: str) -> None:
    there = vm.watch.backend.of(("present", "removing", "inner"))
    named = set(names)
    for name in named:
        cell = getattr(vm, BACKENDS[kind]).get(name)
        if cell is None:
            # Nobody said that it was made: QEMU makes some itself (hw/core/machine.c), monitors others.
            settle(vm, kind, backend(vm, kind, name), vm.watch.backend.bit["present"], "query", name)
        else:
            narrow(vm, kind, cell, there, name, said=(said, "names it"))
    if all_of_them:
        gone = vm.watch.backend.of(("gone", "adding"))
        for name, cell in getattr(vm, BACKENDS[kind]).items():
            if name not in named:
                narrow(vm, kind, cell, gone, name, said=(said, "does not name it"))


def _devices(vm: VM, names: Iterable[str], *, said: str, drivers: tuple[str, ...] = ()) -> None:
    """Believe in the devices named, and no more in the others of these drivers (by the ends of their names)."""
    there, not_there = vm.watch.device.of(IN_QOM), vm.watch.device.of(NOT_IN_QOM)
    named = set(names)
    for name in sorted(named):
        narrow(vm, "device", device(vm, name), there, name, said=(said, "names it"))
    for name, cell in vm.devices.items():
        if drivers and name not in named and cell.driver.endswith(drivers):
            narrow(vm, "device", cell, not_there, name, said=(said, "does not name it"))
            step_device(vm, name, cell, "not listed")


def query_nodes(vm: VM, _data: dict[str, Any], answer: Any) -> None:
    """``query-named-block-nodes``: every node with a name; names QEMU makes up begin with ``#`` (block.c).

    A node that nobody here added may come and go with another.
    """
    names = {it["node-name"] for it in answer if not it["node-name"].startswith("#")}
    watcher = vm.watch.backend
    for name in names - vm.nodes.keys():
        cell = vm.nodes[name] = vm.inner[name] = Cell(watcher.of(("present", "inner")))
        cell.since, cell.cause = vm.seq, "query"
        vm.changed.append(("node", name, ("gone",), cell))
    for name, cell in vm.inner.items():
        if name not in names and cell.belief & watcher.bit["inner"]:
            settle(vm, "node", cell, watcher.bit["gone"], "query", name)
    _named(vm, "node", names, all_of_them=True, said="query-named-block-nodes")


def query_chardevs(vm: VM, _data: dict[str, Any], answer: Any) -> None:
    """``query-chardev``: every character device; those QEMU makes itself are named too."""
    known = vm.chardevs.keys()
    _named(
        vm,
        "chardev",
        [it["label"] for it in answer if it["label"] in known],
        all_of_them=True,
        said="query-chardev",
    )


def qom_list_objects(vm: VM, _data: dict[str, Any], answer: Any) -> None:
    """``qom-list /objects``: every object; those QEMU makes itself are there too."""
    names = [it["name"] for it in answer if it["name"] in vm.objects]
    _named(vm, "object", names, all_of_them=True, said="qom-list /objects")


def query_iothreads(vm: VM, _data: dict[str, Any], answer: Any) -> None:
    """``query-iothreads``: the iothreads among the objects."""
    _named(vm, "object", [it["id"] for it in answer], all_of_them=False, said="query-iothreads")


def query_memdevs(vm: VM, _data: dict[str, Any], answer: Any) -> None:
    """``query-memdev``: the memory backends among the objects."""
    _named(vm, "object", [it["id"] for it in answer if "id" in it], all_of_them=False, said="query-memdev")


def query_cpus(vm: VM, _data: dict[str, Any], answer: Any) -> None:
    """``query-hotpluggable-cpus``: a vCPU that is plugged has a path, with its id if it was given one."""
    paths = [it["qom-path"] for it in answer if str(it.get("qom-path", "")).startswith(PERIPHERAL)]
    _devices(
        vm,
        [path[len(PERIPHERAL) :].split("/")[0] for path in paths],
        said="query-hotpluggable-cpus",
        drivers=("-cpu", "-cpu-core"),
    )


def query_pci(vm: VM, _data: dict[str, Any], answer: Any) -> None:
    """``query-pci``: the PCI devices the machine has, behind bridges too; ids are in ``qdev_id``."""
    found: list[str] = []
    open_ = [it for bus in answer for it in bus["devices"]]
    while open_:
        it = open_.pop()
        if it.get("qdev_id"):
            found.append(it["qdev_id"])
        open_ += it.get("pci_bridge", {}).get("devices", [])
    _devices(vm, sorted(found), said="query-pci")


def query_block(vm: VM, _data: dict[str, Any], answer: Any) -> None:
    """``query-block``: a drive's device is named by its id, or by the path of its backend child."""
    names = []
    for it in answer:
        path = str(it.get("qdev", ""))
        if path.startswith(PERIPHERAL):
            names.append(path[len(PERIPHERAL) :].split("/", maxsplit=1)[0])
            _on(vm, names[-1], it.get("inserted", {}).get("node-name", ""))
    _devices(vm, names, said="query-block")


def _on(vm: VM, name: str, node: str) -> None:
    """The device is on that node; one whose name QEMU made up is none that is known, but may be of a -drive."""
    cell = vm.devices.get(name)
    if cell is not None and not (node.startswith("#") and not any(use[1] in vm.nodes for use in cell.uses)):
        put(cell, "" if node.startswith("#") else node)


#: Drivers that ``query-memory-devices`` names (hw/mem/memory-device.c).
_MEMORY = ("pc-dimm", "nvdimm", "virtio-mem-pci", "virtio-pmem-pci", "sgx-epc")


def query_memory_devices(vm: VM, _data: dict[str, Any], answer: Any) -> None:
    """``query-memory-devices``: every memory device, and both sizes of virtio-mem (qapi/machine.json)."""
    names = [it["data"]["id"] for it in answer if it["data"].get("id")]
    _devices(vm, names, said="query-memory-devices", drivers=_MEMORY)
    for it in answer:
        if it["type"] == "virtio-mem":
            told = it["data"]
            name = str(told.get("id") or told["memdev"])
            vm.memory[name] = {"requested": told["requested-size"], "actual": told["size"]}
