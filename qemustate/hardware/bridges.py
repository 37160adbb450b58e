"""Ports and bridges that PCI devices are plugged into.

Reservations (``bus-reserve``, ``io-reserve``, ``mem-reserve``, ``pref32-reserve``, ``pref64-reserve``) are properties like any other.

Source: QEMU ``hw/pci-bridge/``, ``docs/pcie.txt``.
"""

from __future__ import annotations

from typing import Any

from qemustate.hardware.properties import Device


def root_port(id: str, *, chassis: int, slot: int = 0, bus: str = "pcie.0", **properties: Any) -> Device:
    """Return a port for one PCIe device that can be plugged; ``chassis`` and ``slot`` together are its own."""
    return Device(driver="pcie-root-port", id=id, bus=bus, chassis=chassis, slot=slot, **properties)


def pci_bridge(
    id: str, *, chassis_nr: int, bus: str = "pci.0", shpc: bool = True, **properties: Any
) -> Device:
    """Return a PCI bridge of 31 slots; ``chassis_nr`` is its own, and not 0."""
    return Device(driver="pci-bridge", id=id, bus=bus, chassis_nr=chassis_nr, shpc=shpc, **properties)


def pcie_pci_bridge(id: str, bus: str, **properties: Any) -> Device:
    """Return a PCI bridge behind a PCIe port."""
    return Device(driver="pcie-pci-bridge", id=id, bus=bus, **properties)


def switch_upstream(id: str, bus: str, **properties: Any) -> Device:
    """Return the upper end of a PCIe switch, behind a root port."""
    return Device(driver="x3130-upstream", id=id, bus=bus, **properties)


def switch_downstream(id: str, bus: str, *, chassis: int, slot: int = 0, **properties: Any) -> Device:
    """Return a port of a PCIe switch, whose upstream port is the bus."""
    return Device(driver="xio3130-downstream", id=id, bus=bus, chassis=chassis, slot=slot, **properties)


def pxb_pcie(id: str, bus_nr: int, *, bus: str = "pcie.0", **properties: Any) -> Device:
    """Return another root of PCIe buses, from ``bus_nr`` on, that may belong to a node of memory (``numa_node``)."""
    return Device(driver="pxb-pcie", id=id, bus=bus, bus_nr=bus_nr, **properties)
