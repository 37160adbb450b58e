"""Disks: a block node and the device that shows it to the guest.

All properties that QEMU has can be given in its own names, ``disk(..., bus="rp0", **{"share-rw": True})``; they go to
the device. What is special of the node is said with :func:`node`.

Source: QEMU ``qapi/block-core.json``, ``hw/block/virtio-blk.c``, ``hw/scsi/``.
"""

from __future__ import annotations

from typing import Any

from qemustate.hardware.platform import Machine, virtio
from qemustate.hardware.properties import Blockdev, Device, Fd


def node(
    name: str,
    path: str | Fd,
    *,
    format: str = "raw",
    protocol: str = "file",
    aio: str = "",
    **properties: Any,
) -> Blockdev:
    """Return a block node over a file (``protocol`` file) or a block device of the host (host_device).

    A descriptor in place of the path must be open as the node is to be: for reading and writing, or for reading alone.
    ``aio`` is threads, native or io_uring. Other properties, ``read-only``, ``discard``, ``cache``, are the node's, and QEMU
    hands them down to the file below it.
    """
    below = {"driver": protocol, "filename": path, **({"aio": aio} if aio else {})}
    return Blockdev({"driver": format, "node-name": name, "file": below, **properties})


def disk(
    id: str,
    drive: Blockdev,
    *,
    machine: Machine = "q35",
    **properties: Any,
) -> tuple[Blockdev, Device]:
    """Return a virtio disk over a node."""
    return drive, virtio("virtio-blk", machine, id=id, drive=drive.id, **properties)


def scsi_controller(id: str, *, machine: Machine = "q35", **properties: Any) -> Device:
    """Return a virtio SCSI controller; its bus is called ``ID.0``."""
    return virtio("virtio-scsi", machine, id=id, **properties)


def scsi_disk(
    id: str,
    drive: Blockdev,
    bus: str,
    *,
    driver: str = "scsi-hd",
    **properties: Any,
) -> tuple[Blockdev, Device]:
    """Return a SCSI device over a node: a disk (scsi-hd), a CD (scsi-cd), or the host's own (scsi-block, scsi-generic)."""
    return drive, Device(driver=driver, id=id, bus=bus, drive=drive.id, **properties)
