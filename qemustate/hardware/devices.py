"""Small devices: random numbers, the balloon, the IOMMU, a panic's bell, a loader.

Source: QEMU ``hw/virtio/virtio-rng.c``, ``virtio-balloon.c``, ``hw/i386/intel_iommu.c``, ``hw/misc/pvpanic*.c``,
``hw/core/generic-loader.c``.
"""

from __future__ import annotations

from typing import Any

from qemustate.hardware.platform import Machine, virtio
from qemustate.hardware.properties import Device, Object


def rng(
    id: str,
    *,
    filename: str = "/dev/urandom",
    machine: Machine = "q35",
    **properties: Any,
) -> tuple[Object, Device]:
    """Return random numbers of the host; ``max-bytes`` in each ``period`` (milliseconds) at most."""
    source = Object({"qom-type": "rng-random", "id": f"{id}-source", "filename": filename})
    return source, virtio("virtio-rng", machine, id=id, rng=source.id, **properties)


def balloon(id: str, *, machine: Machine = "q35", **properties: Any) -> Device:
    """Return the balloon that takes memory back: ``deflate-on-oom``, ``free-page-reporting``."""
    return virtio("virtio-balloon", machine, id=id, **properties)


def intel_iommu(*, interrupts: bool = True, device_iotlb: bool = True, caching_mode: bool = True) -> Device:
    """Return Intel's IOMMU for q35. To remap ``interrupts`` under KVM, the machine needs ``kernel-irqchip=split``."""
    return Device(
        {
            "driver": "intel-iommu",
            "intremap": "on" if interrupts else "off",
            "device-iotlb": device_iotlb,
            "caching-mode": caching_mode,
        }
    )


def pvpanic(id: str, *, driver: str = "pvpanic", **properties: Any) -> Device:
    """Return the device by which a guest tells that it panicked; ``pvpanic-pci`` where there is no ISA bus."""
    return Device(driver=driver, id=id, **properties)


def loader(id: str, file: str, **properties: Any) -> Device:
    """Return a file that is loaded into memory at start: ``addr``, ``cpu-num``, ``force-raw``."""
    return Device(driver="loader", id=id, file=file, **properties)
