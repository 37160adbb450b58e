"""Looks at devices: ids, slots, and unplugs that do not end."""

from __future__ import annotations

from typing import Any, Final

from qemustate.statemachine.looks.registry import Asked, Sight, after, before
from qemustate.statemachine.stepping import device_name, driver_of

#: How long (microseconds) a guest may take to answer an unplug: Linux needs 6 s on native PCIe (hw/pci/pcie.c: 5 s).
OVERDUE: Final = 30_000_000

#: Ports that hold one device (hw/pci-bridge/).
_PORTS: Final = ("pcie-root-port", "ioh3420", "xio3130-downstream")


@before(
    "failure device_add",
    "failure blockdev-add",
    "failure netdev_add",
    "failure chardev-add",
    "failure object-add",
)
def duplicate(it: Sight, qmp: dict[str, Any], asked: Asked | None) -> None:
    """An id that is taken (qapi/, hw/core/qdev-monitor.c, block.c, net/net.c, chardev/char.c, qom/object.c)."""
    desc = str(qmp["error"].get("desc", ""))
    taken = ("Duplicate", "attempt to add duplicate", "already exists")
    if asked and any(word in desc for word in taken) and "CPU" not in desc:
        subject = asked.arguments.get("id") or asked.arguments.get("node-name") or ""
        it.found("duplicate-id", str(subject), desc)


@before("command device_del")
def gone(it: Sight, _qmp: dict[str, Any], asked: Asked | None) -> None:
    """device_del of a device that is certainly gone."""
    name = device_name(str(asked.arguments.get("id", ""))) if asked else ""
    cell = it.vm.devices.get(name)
    if cell is not None and it.vm.names("device", cell) == ("gone",):
        it.found("use-of-gone", name, f"gone since record {cell.since}")


@before("command device_add")
def reused(it: Sight, _qmp: dict[str, Any], asked: Asked | None) -> None:
    """A device for a port that is not empty yet; 10.0 refuses it, 7.2 takes it and hides it from the guest."""
    bus = asked.arguments.get("bus") if asked else None
    if not isinstance(bus, str) or asked is None or "addr" in asked.arguments:
        return
    if driver_of(it.vm, bus) not in _PORTS:
        return
    for name, cell in it.vm.devices.items():
        if cell.bus == bus and it.vm.names("device", cell) == ("unplugging",):
            it.found(
                "slot-reused",
                str(asked.arguments.get("id", "")),
                f"{bus} still holds {name}, which is unplugging",
            )


@before("failure device_del")
def blinking(it: Sight, qmp: dict[str, Any], asked: Asked | None) -> None:
    """hw/pci/pcie.c pcie_cap_slot_unplug_request_cb(): guest is busy (power indicator blinking)."""
    desc = str(qmp["error"].get("desc", ""))
    if asked and "guest is busy" in desc:
        it.found("guest-blinking", device_name(str(asked.arguments.get("id", ""))), desc)


@after("event DEVICE_UNPLUG_GUEST_ERROR", "event MEM_UNPLUG_ERROR", "event ACPI_DEVICE_OST")
def refused(it: Sight, qmp: dict[str, Any], _asked: Asked | None) -> None:
    """The guest keeps the device."""
    for machine, name, before_, cell in it.vm.changed:
        if machine == "device" and cell.cause == "guest refused" and "unplugging" in before_:
            it.found("unplug-refused", name, getattr(cell, "refused", "") or qmp["event"])


@after("end")
def unfinished(it: Sight, _body: dict[str, Any], _asked: Asked | None) -> None:
    """Unplugs that never ended."""
    vm = it.vm
    leaving = vm.watch.device.bit["leaving"]
    exited = vm.names("process", vm.process) == ("exited",)
    for name, cell in vm.devices.items():
        if vm.names("device", cell) == ("unplugging",) and not exited:
            waited = vm.time - cell.asked if cell.asked else 0
            if waited > OVERDUE:
                it.found(
                    "unplug-overdue",
                    name,
                    f"asked {waited / 1e6:.0f} s before the end of the trace",
                    cell.since,
                )
            it.found("unplug-pending", name, "asked for, and not answered by the guest", cell.since)
        elif cell.belief == leaving and cell.cause == "DEVICE_DELETED" and "cpu" not in cell.driver:
            it.found("unplug-lost", name, "only a child's DEVICE_DELETED was seen", cell.since)
