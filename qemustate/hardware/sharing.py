"""Folders of the host that a guest mounts, and devices whose work another process does (vhost-user).

Source: QEMU ``hw/9pfs/``, ``hw/virtio/vhost-user-*.c``, ``qapi/net.json`` (NetdevVhostUserOptions).
"""

from __future__ import annotations

from typing import Any

from qemustate.hardware.network import nic
from qemustate.hardware.platform import Machine, virtio
from qemustate.hardware.properties import Chardev, Device, Fsdev, Netdev


def ninep(
    id: str,
    path: str,
    tag: str,
    *,
    security_model: str = "none",
    machine: Machine = "q35",
    **properties: Any,
) -> tuple[Fsdev, Device]:
    """Return a folder shared by 9p, which the guest mounts by ``tag``; QEMU can plug it at launch only.

    ``properties`` are the Fsdev's: ``readonly``, ``multidevs``, ``writeout``.
    """
    backend = Fsdev(fsdriver="local", id=f"{id}-fs", path=path, security_model=security_model, **properties)
    return backend, virtio("virtio-9p", machine, id=id, fsdev=backend.id, mount_tag=tag)


def virtio_fs(
    id: str,
    chardev: Chardev,
    tag: str,
    *,
    machine: Machine = "q35",
    **properties: Any,
) -> tuple[Chardev, Device]:
    """Return a folder that virtiofsd serves at ``chardev``; the VM's memory must be shared (``share=on``)."""
    return chardev, virtio("vhost-user-fs", machine, id=id, chardev=chardev.id, tag=tag, **properties)


def vhost_user_disk(
    id: str,
    chardev: Chardev,
    *,
    machine: Machine = "q35",
    **properties: Any,
) -> tuple[Chardev, Device]:
    """Return a disk that another process serves; its size and block size are that process's to tell."""
    return chardev, virtio("vhost-user-blk", machine, id=id, chardev=chardev.id, **properties)


def vhost_user_scsi(
    id: str,
    chardev: Chardev,
    *,
    machine: Machine = "q35",
    **properties: Any,
) -> tuple[Chardev, Device]:
    """Return a SCSI controller that another process serves."""
    return chardev, virtio("vhost-user-scsi", machine, id=id, chardev=chardev.id, **properties)


def vhost_user_nic(
    id: str,
    chardev: Chardev,
    *,
    queues: int = 1,
    **properties: Any,
) -> tuple[Chardev, Netdev, Device]:
    """Return a network card that another process serves; properties as for :func:`qemustate.hardware.network.nic`."""
    backend = Netdev(
        {"type": "vhost-user", "id": f"{id}-net", "chardev": chardev.id, "vhostforce": True, "queues": queues}
    )
    return (chardev, *nic(id, backend, queues=queues, **properties))
