"""What options refer to: devices, block nodes, netdevs, objects and exports name the backends they use.

Source: the members of QAPI ``BlockdevOptions``, ``Netdev``, ``ObjectOptions`` and ``BlockExportOptions`` that name something, and the
properties of devices that do (hw/core/qdev-properties-system.c, hw/mem/, hw/virtio/).
"""

from __future__ import annotations

from typing import Any, Final

#: What is meant: its kind (``node``, ``netdev``, ``chardev``, ``object``, ``export``, ``device``) and its name.
Reference = tuple[str, str]

#: Property of a device -> the kind of backend it names.
DEVICE: Final = {
    "drive": "node", "netdev": "netdev", "chardev": "chardev", "memdev": "object", "iothread": "object", "rng": "object",
    "cryptodev": "object", "hostmem": "object",
}  # fmt: skip
#: Members of block options that name a node, where they are not options themselves.
_NODES: Final = frozenset(
    (
        "file",
        "backing",
        "data-file",
        "image",
        "log",
        "raw",
        "test",
        "target",
        "children",
        "bottom",
        "header",
        "top",
    )
)
#: Members that name something else.
_MEMBERS: Final = {
    "throttle-group": "object", "key-secret": "object", "tls-creds": "object", "iothread": "object",
    "chardev": "chardev", "netdev": "netdev", "secondary": "chardev", "primary_in": "chardev", "secondary_in": "chardev",
    "outdev": "chardev", "indev": "chardev",
}  # fmt: skip


def of(kind: str, told: Any) -> tuple[Reference, ...]:
    """Return what a backend or an export of that kind refers to, by its options."""
    return read(kind, told)[0]


def read(kind: str, told: Any) -> tuple[tuple[Reference, ...], list[str]]:
    """Return what it refers to, and the names of the nodes that its options define inside."""
    found: list[Reference] = []
    inner: list[str] = []
    if told.__class__ is dict:
        _gather(kind, told, found, inner)
    return tuple(dict.fromkeys(found)) if len(found) > 1 else tuple(found), inner


def _gather(kind: str, told: dict[str, Any], found: list[Reference], inner: list[str]) -> None:
    for key, value in told.items():
        if value.__class__ is str:
            if key in _MEMBERS and value:
                found.append((_MEMBERS[key], value))
            elif (kind == "node" and key in _NODES and value) or (kind == "export" and key == "node-name"):
                found.append(("node", value))
        elif value.__class__ is dict:
            name = value.get("node-name") if kind == "node" else None
            if name:
                found.append(("node", name))
                inner.append(name)
            _gather(kind, value, [] if name else found, inner)
        elif value.__class__ is list and kind == "node" and key in _NODES:
            for child in value:
                _gather(kind, {key: child}, found, inner)
