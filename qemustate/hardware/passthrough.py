"""Devices of the host that a guest gets (VFIO).

``iommufd`` of QEMU 9.0 takes the place of the container of /dev/vfio/vfio: its id goes into the device.

Source: QEMU ``hw/vfio/``, ``qapi/qom.json`` (IOMMUFDProperties).
"""

from __future__ import annotations

from typing import Any

from qemustate.hardware.properties import Device, Fd, Object


def iommufd(id: str, *, fd: int | None = None) -> Object:
    """Return a backend of /dev/iommu, ``fd`` an open one if QEMU is not to open it; needs QEMU 9.0."""
    more: dict[str, Any] = {} if fd is None else {"fd": Fd(fd)}
    return Object({"qom-type": "iommufd", "id": id, **more})


def vfio_pci(id: str, host: str, **properties: Any) -> Device:
    """Return a PCI device of the host by its address, ``0000:3b:00.0``; ``bus``, ``iommufd``, ``x-pci-vendor-id``."""
    return Device(driver="vfio-pci", id=id, host=host, **properties)


def vfio_mdev(id: str, sysfsdev: str, *, driver: str = "vfio-pci", **properties: Any) -> Device:
    """Return a mediated device by its path in sysfs: a part of a GPU, of crypto cards (``vfio-ap``), of a channel (``vfio-ccw``)."""
    return Device(driver=driver, id=id, sysfsdev=sysfsdev, **properties)
