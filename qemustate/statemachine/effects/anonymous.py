"""Devices without an id: QEMU numbers them, and tells the number to nobody.

``/machine/peripheral-anon/device[N]``: N is counted up with each device made without an id, cold-plugged ones first
(system/qdev-monitor.c qdev_set_id()), and never used again. So who sees every ``device_add`` can count along. What cannot be
counted (another monitor may add too, the beginning was not seen) is open until QEMU names the path.
"""

from __future__ import annotations

import re
from typing import Any, Final

from qemustate.statemachine import guards
from qemustate.statemachine.state import VM
from qemustate.statemachine.stepping import (
    ANONYMOUS,
    anonymous_path,
    describe_device,
    heard_of,
    narrow,
    settle,
    step_device,
)
from qemustate.statemachine.tables.device import IN_QOM, NOT_IN_QOM

#: What a refusal says that comes before a number is taken (system/qdev-monitor.c qdev_device_add_from_qdict()).
_UNNUMBERED: Final = re.compile(
    r"Parameter 'driver' is missing|.* is not a valid device model name|.*Bus '.*' (not found|does not support hotplugging|is full)"
    r"|No '.*' bus found|device_add not allowed while migrating|Device '.*' does not support hotplugging"
)
#: More numbers than this that a device may have say nothing about any of them.
_MANY: Final = 16
_SYNC: Final = guards.open_("sync")
_NUMBER: Final = re.compile(r"device\[(\d+)\]")


def added(vm: VM, data: dict[str, Any], *, perhaps: bool = False) -> None:
    """A device without an id was made, or ``perhaps`` was: its number is the next one, as far as that is known."""
    low, high = vm.numbered
    if high is not None:
        for number in range(low, high + 1):
            _candidate(vm, number, data, certain=low == high and not perhaps)
    _count(vm, low if perhaps else low + 1, None if high is None else high + 1)


def refused(vm: VM, desc: str) -> None:
    """A device without an id was refused: it may have taken a number all the same."""
    if not _UNNUMBERED.match(desc):
        low, high = vm.numbered
        _count(vm, low, None if high is None else high + 1)


def told(vm: VM, path: str) -> None:
    """QEMU told a device's path: at least so many have been made."""
    if found := _NUMBER.fullmatch(path.rpartition("/")[2]):
        low, high = vm.numbered
        least = max(low, int(found[1]) + 1)
        vm.numbered = least, None if high is None else max(high, least)


def _count(vm: VM, low: int, high: int | None) -> None:
    vm.numbered = low, None if high is None or high - low > _MANY else high


def _candidate(vm: VM, number: int, data: dict[str, Any], *, certain: bool) -> None:
    path = anonymous_path(number)
    cell = vm.devices.get(path)
    if cell is None:
        cell = heard_of(vm, path, vm.watch.device.initial)
        describe_device(vm, cell, data)
        cell.generation = 1
    elif cell.driver != data.get("driver"):  # it is one or the other
        cell.driver, cell.kind = "", guards.open_(*guards.DEVICE_KINDS) | guards.denied("failover", "raced")
    if certain:
        step_device(vm, path, cell, "return device_add")
        return
    after = vm.watch.device.image("return device_add", cell.belief, vm.profile | cell.kind)
    settle(vm, "device", cell, cell.belief | after.belief, "device_add", path)


def listed(vm: VM, names: dict[str, str]) -> None:
    """``qom-list /machine/peripheral-anon`` names every device without an id, each with its driver."""
    watcher = vm.watch.device
    there, not_there = watcher.of(IN_QOM), watcher.of(NOT_IN_QOM)
    unseen = watcher.of(IN_QOM) if vm.numbered[1] is None else watcher.of(("gone",))
    for name, driver in names.items():
        path = ANONYMOUS + name
        told(vm, path)
        if path not in vm.devices:
            cell = heard_of(vm, path, unseen)
            describe_device(vm, cell, {"driver": driver})
            cell.generation = 1
            if cell.kind & _SYNC == guards.held("sync"):  # one that is there has not been asked to go
                settle(vm, "device", cell, cell.belief & ~watcher.of(("unplugging",)), "query", path)
        narrow(vm, "device", vm.devices[path], there, path, said=("qom-list names it",))
    for path, cell in vm.devices.items():
        if path.startswith(ANONYMOUS) and path[len(ANONYMOUS) :] not in names:
            narrow(vm, "device", cell, not_there, path, said=("qom-list does not name it",))
            step_device(vm, path, cell, "not listed")
