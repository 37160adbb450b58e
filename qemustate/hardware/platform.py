"""The machine itself: what its type decides, and the options that are no devices.

Each function returns a map of options, for :meth:`qemustate.hardware.config.Config.add`, with parts before it where some go with it.
Anything else is said in QEMU's own names: ``{"nodefaults": True, "uuid": "...", "overcommit": {"mem-lock": True}}``.

Source: QEMU ``qemu-options.hx``, ``hw/virtio/`` for names of virtio devices.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from qemustate.hardware.properties import Blockdev, Device, Fd, Object

#: What virtio devices are attached by.
Transport = Literal["pci", "ccw", "device"]

#: A machine: its type, or all of ``-machine``.
Machine = str | Mapping[str, Any]


def transport(machine: Machine) -> Transport:
    """Return what virtio devices of a machine are attached by, by its type or its map: never a matter of the host.

    ``ccw`` on s390x, ``device`` (virtio-mmio) on microvm, which has a PCI bus only with ``pcie=on``, else ``pci``.
    """
    settings = {"type": machine} if isinstance(machine, str) else machine
    kind = str(settings.get("type", ""))
    if kind.startswith("s390"):
        return "ccw"
    return "device" if kind.startswith("microvm") and settings.get("pcie") not in (True, "on") else "pci"


def virtio(name: str, machine: Machine, **properties: Any) -> Device:
    """Return a virtio device: ``virtio("virtio-blk", "q35")`` is a virtio-blk-pci."""
    return Device(driver=f"{name}-{transport(machine)}", **properties)


def kernel(path: str, *, initrd: str = "", append: str = "") -> dict[str, Any]:
    """Return the options that boot a kernel of the host."""
    options = {"kernel": path, "initrd": initrd, "append": append}
    return {name: value for name, value in options.items() if value}


def firmware(code: str, variables: str = "", *, format: str = "raw") -> tuple[Blockdev | dict[str, Any], ...]:
    """Return firmware in flash, as OVMF is shipped: ``code`` read-only, ``variables`` the VM's own file.

    Flash that has no variables is a ``bios`` to machines without flash: ``{"bios": path}``.
    """
    flash = {"pflash0": (code, True), "pflash1": (variables, False)}
    nodes = [
        Blockdev(
            {
                "driver": format,
                "node-name": name,
                "read-only": read_only,
                "file": {"driver": "file", "filename": path},
            }
        )
        for name, (path, read_only) in flash.items()
        if path
    ]
    return (*nodes, {"machine": {node.id: node.id for node in nodes}})


def smp(cpus: int, **topology: int) -> dict[str, Any]:
    """Return ``-smp``: ``maxcpus``, ``sockets``, ``dies``, ``clusters``, ``cores``, ``threads``, ``books``, ``drawers``."""
    return {"smp": {"cpus": cpus, **topology}}


def memory(size: int, *, slots: int = 0, maximum: int = 0) -> dict[str, Any]:
    """Return ``-m``, in bytes: ``slots`` and ``maximum`` leave room to plug more."""
    more = {"slots": slots, "maxmem": f"{maximum}B"} if maximum else {}
    return {"m": {"size": f"{size}B", **more}}


def rtc(*, base: str = "utc", clock: str = "host", driftfix: str = "") -> dict[str, Any]:
    """Return ``-rtc``: ``base`` utc, localtime or a date; ``clock`` host, rt or vm; ``driftfix`` slew or none."""
    return {"rtc": {"base": base, "clock": clock, **({"driftfix": driftfix} if driftfix else {})}}


def fw_cfg(name: str, *, file: str = "", string: str = "") -> dict[str, Any]:
    """Return one blob for the guest's firmware and kernel, from a file or given here; ``name`` begins with ``opt/``."""
    return {"fw_cfg": {"name": name, "file": file} if file else {"name": name, "string": string}}


def sandbox(**policies: str) -> dict[str, Any]:
    """Return ``-sandbox on``: ``obsolete``, ``elevateprivileges``, ``spawn``, ``resourcecontrol`` each allow or deny."""
    return {"sandbox": {"enable": "on", **policies}}


def incoming(source: str | Fd = "defer") -> dict[str, Any]:
    """Return ``-incoming``: a URI, a descriptor to read from, or ``defer`` to wait for ``migrate-incoming``."""
    return {"incoming": source}


def iothread(id: str, **properties: Any) -> Object:
    """Return a thread that devices may run on, named in their ``iothread``."""
    return Object({"qom-type": "iothread", "id": id, **properties})
