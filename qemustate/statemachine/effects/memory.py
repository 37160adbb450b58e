"""Memory: what balloon and memory devices have reached."""

from __future__ import annotations

from typing import Any

from qemustate.statemachine.state import VM
from qemustate.statemachine.stepping import device_name


def balloon(vm: VM, data: dict[str, Any], _answer: Any) -> None:
    """BALLOON_CHANGE: the actual size in bytes."""
    vm.balloon = data.get("actual", vm.balloon)


def query_balloon(vm: VM, _data: dict[str, Any], answer: Any) -> None:
    """``query-balloon``: the actual size in bytes."""
    if isinstance(answer, dict):
        vm.balloon = answer.get("actual", vm.balloon)


def memory_size(vm: VM, data: dict[str, Any], _answer: Any) -> None:
    """MEMORY_DEVICE_SIZE_CHANGE: the size in bytes that a memory device has reached."""
    name = str(data.get("id") or device_name(str(data.get("qom-path", ""))))
    vm.memory.setdefault(name, {"requested": 0, "actual": 0})["actual"] = data.get("size", 0)


def memory_requested(vm: VM, data: dict[str, Any], _answer: Any) -> None:
    """``qom-set`` of ``requested-size``: what a virtio-mem device is to reach, in bytes (hw/virtio/virtio-mem.c)."""
    if data.get("property") == "requested-size" and isinstance(data.get("value"), int):
        name = device_name(str(data.get("path", "")))
        vm.memory.setdefault(name, {"requested": 0, "actual": 0})["requested"] = data["value"]


def balloon_asked(vm: VM, data: dict[str, Any], _answer: Any) -> None:
    """``balloon`` sets the target in bytes; BALLOON_CHANGE tells what the guest has reached."""
    vm.facts.setdefault("balloon-target", {})[""] = data["value"]
