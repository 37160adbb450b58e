"""Serial ports and consoles, and the character devices behind them.

Source: QEMU ``qapi/char.json``, ``hw/char/virtio-serial-bus.c``.
"""

from __future__ import annotations

from typing import Any

from qemustate.hardware.platform import Machine, virtio
from qemustate.hardware.properties import Chardev, Device, Fd


def socket(id: str, path: str | Fd, *, server: bool = True) -> Chardev:
    """Return a Unix socket by its path, or by a descriptor; a server does not wait for its client."""
    address = {"fd": path} if isinstance(path, Fd) else {"path": path}
    return Chardev(backend="socket", id=id, **address, server=server, **({"wait": False} if server else {}))


def virtio_serial(id: str, *, machine: Machine = "q35", **properties: Any) -> Device:
    """Return a controller of virtio ports (``max_ports``); its bus is called ``ID.0``."""
    return virtio("virtio-serial", machine, id=id, **properties)


def port(id: str, chardev: Chardev, bus: str, name: str, **properties: Any) -> tuple[Chardev, Device]:
    """Return a port of a virtio controller, which the guest finds by ``name``."""
    return chardev, Device(
        driver="virtserialport", id=id, bus=bus, chardev=chardev.id, name=name, **properties
    )


def console(id: str, chardev: Chardev, bus: str, **properties: Any) -> tuple[Chardev, Device]:
    """Return a console of a virtio controller: ``hvc0`` to a Linux guest."""
    return chardev, Device(driver="virtconsole", id=id, bus=bus, chardev=chardev.id, **properties)


def serial(chardev: Chardev) -> tuple[Chardev, dict[str, Any]]:
    """Return the machine's own serial port over a chardev: ``ttyS0`` to a Linux guest."""
    return chardev, {"serial": f"chardev:{chardev.id}"}


def monitor(
    chardev: Chardev, *, mode: str = "control", pretty: bool = False
) -> tuple[Chardev, dict[str, Any]]:
    """Return a monitor over a chardev, QMP (``control``) or for a person (``readline``)."""
    return chardev, {"mon": {"chardev": chardev.id, "mode": mode, **({"pretty": True} if pretty else {})}}
