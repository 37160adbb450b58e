"""Network cards and what is behind them, and vsock.

Source: QEMU ``qapi/net.json``, ``net/tap.c``, ``hw/net/virtio-net.c``, ``hw/virtio/vhost-vsock.c``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qemustate.hardware.platform import Machine, transport, virtio
from qemustate.hardware.properties import Device, Fd, Netdev

if TYPE_CHECKING:
    from collections.abc import Sequence


def tap(id: str, *, ifname: str = "", queues: int = 0, vhost: bool = False) -> Netdev:
    """Return a tap device of the host by its name, which QEMU opens; no script is run."""
    more: dict[str, Any] = {"queues": queues} if queues else {}
    return Netdev(
        type="tap", id=id, ifname=ifname, script="no", downscript="no", **more, **_vhost(vhost=vhost)
    )


def tap_by_fds(
    id: str,
    fds: Sequence[int],
    *,
    vhostfds: Sequence[int] = (),
    vhost: bool = False,
) -> Netdev:
    """Return a tap or macvtap that is open already, a descriptor for each queue; ``vhostfds`` are of /dev/vhost-net."""
    more: dict[str, Any] = {"vhostfds": [Fd(fd) for fd in vhostfds]} if vhostfds else {}
    return Netdev(
        type="tap", id=id, fds=[Fd(fd) for fd in fds], **_vhost(vhost=vhost or bool(vhostfds)), **more
    )


def _vhost(*, vhost: bool) -> dict[str, Any]:
    return {"vhost": True} if vhost else {}


def nic(
    id: str,
    netdev: Netdev,
    *,
    mac: str = "",
    queues: int = 1,
    machine: Machine = "q35",
    **properties: Any,
) -> tuple[Netdev, Device]:
    """Return a virtio network card over a netdev; with several ``queues``, on PCI an interrupt for each direction."""
    several: dict[str, Any] = {}
    if queues > 1:
        # Two a queue, and one each for configuration and control (hw/virtio/virtio-net-pci.c).
        several = {"mq": True, **({"vectors": 2 * queues + 2} if transport(machine) == "pci" else {})}
    more = {"mac": mac} if mac else {}
    return netdev, virtio("virtio-net", machine, id=id, netdev=netdev.id, **more, **several, **properties)


def vsock(id: str, cid: int, *, fd: int | None = None, machine: Machine = "q35", **properties: Any) -> Device:
    """Return a vsock device: ``cid`` is the guest's address, ``fd`` an open /dev/vhost-vsock if QEMU is not to open it."""
    more: dict[str, Any] = {} if fd is None else {"vhostfd": Fd(fd)}
    return virtio("vhost-vsock", machine, id=id, **{"guest-cid": cid}, **more, **properties)
