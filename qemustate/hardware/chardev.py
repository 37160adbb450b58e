"""Character devices, the one kind of part that QMP nests differently from the command line.

::

    -chardev socket,id=c,path=p,server=on      flat, what a Chardev is
    chardev-add {"id": "c", "backend": {       nested
        "type": "socket", "data": {
            "addr": {"type": "unix", "data": {"path": "p"}}, "server": true}}}

Members are called the same but for those in :data:`RENAMED`, and addresses are a map of their own. What neither
table names passes through unchanged, in both directions.

Two defaults differ: ``server`` is off on the command line and on in QMP, so it is always said. ``wait`` (for the
first client of a server) is on on the command line and off in QMP; plugging leaves it out unless the map has it,
since ``wait`` stops QEMU, monitor and all, until a client comes.

Source: QEMU ``qapi/char.json``, ``qapi/sockets.json`` (SocketAddressLegacy), ``chardev/char-*.c`` (``parse``).
"""

from __future__ import annotations

from typing import Any, Final

from qemustate.errors import BadInput
from qemustate.hardware.properties import Chardev

#: Backend -> member on the command line -> member in QMP.
RENAMED: Final[dict[str, dict[str, str]]] = {
    "file": {"path": "out", "input-path": "in"},
    "serial": {"path": "device"},
    "parallel": {"path": "device"},
    "pipe": {"path": "device"},
    "spicevmc": {"name": "type"},
    "spiceport": {"name": "fqdn"},
}

#: Older names of backends on the command line, and what QMP calls them.
ALIASES: Final = {"tty": "serial", "parport": "parallel"}

#: Kind of address -> the member that tells it, and the members that go into it.
ADDRESSES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "unix": ("path", ("path", "abstract", "tight")),
    "fd": ("fd", ("fd",)),
    "vsock": ("cid", ("cid", "port")),
    "inet": ("host", ("host", "port", "numeric", "to", "ipv4", "ipv6", "keep-alive", "mptcp")),
}


def nested(part: Chardev) -> dict[str, Any]:
    """Return the arguments of the ``chardev-add`` that plugs it.

    Raises BadInput for a socket without exactly one kind of address, and for ``mux=on``, which QMP does not have
    (a mux is a chardev of its own there).
    """
    members = {name: value for name, value in part.items() if name not in ("id", "backend")}
    kind = ALIASES.get(part.kind, part.kind)
    if "mux" in members:
        raise _bad(part, "no `mux`: in QMP a chardev of the kind mux stands over another", "mux")
    if kind == "socket":
        data = _nest_socket(part, members)
    elif kind == "udp":
        data = _nest_udp(members)
    else:
        renamed = RENAMED.get(kind, {})
        data = {renamed.get(name, name): value for name, value in members.items()}
    return {"id": part.id, "backend": {"type": kind, "data": data}}


def flat(arguments: dict[str, Any]) -> Chardev:
    """Return the part that a ``chardev-add`` with these arguments plugs: the way back of :func:`nested`.

    Raises BadInput when they are not ``chardev-add``'s.
    """
    backend = arguments.get("backend")
    if not isinstance(backend, dict) or not isinstance(backend.get("data", {}), dict):
        raise BadInput("chardev-add", expected="backend {type, data}", seen=repr(backend))
    kind, data = str(backend.get("type", "")), dict(backend.get("data", {}))
    part = Chardev(backend=kind, id=arguments.get("id", ""))
    if kind == "socket":
        part.update(_flatten(data.pop("addr", {})))
        part["server"] = data.pop("server", True)
        if part["server"]:
            part["wait"] = data.pop("wait", False)
    elif kind == "udp":
        part.update(_flatten(data.pop("remote", {})))
        local = _flatten(data.pop("local", {}))
        part.update({f"local{to}": local[name] for name, to in _LOCAL.items() if name in local})
    names = {nested: flat for flat, nested in RENAMED.get(kind, {}).items()}
    part.update({names.get(name, name): value for name, value in data.items()})
    return part


_LOCAL: Final = {"host": "addr", "port": "port"}


def _nest_socket(part: Chardev, members: dict[str, Any]) -> dict[str, Any]:
    kinds = [kind for kind, (telling, _) in ADDRESSES.items() if telling in members]
    if len(kinds) != 1:
        raise _bad(part, "one of path, fd, cid, host", " and ".join(kinds) or "none of them")
    _, names = ADDRESSES[kinds[0]]
    addr = {name: members.pop(name) for name in names if name in members}
    if kinds[0] == "fd":
        addr = {"str": addr["fd"]}
    if "delay" in members:
        members["nodelay"] = not members.pop("delay")
    return {"addr": _address(kinds[0], addr), "server": members.pop("server", False), **members}


def _nest_udp(members: dict[str, Any]) -> dict[str, Any]:
    _, names = ADDRESSES["inet"]
    remote = {"host": "localhost"} | {name: members.pop(name) for name in names if name in members}
    data = {"remote": _address("inet", remote)}
    local = {name: members.pop(f"local{to}") for name, to in _LOCAL.items() if f"local{to}" in members}
    if local:
        data["local"] = _address("inet", {"host": "", "port": "0", **local})
    return data | members


def _address(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    # Ports may be names of services, so QAPI has them as text.
    texts = {name: str(data[name]) for name in ("port", "cid") if name in data}
    return {"type": kind, "data": data | texts}


def _flatten(address: dict[str, Any]) -> dict[str, Any]:
    data = dict(address.get("data", {}))
    return {"fd": data["str"]} if address.get("type") == "fd" and "str" in data else data


def _bad(part: Chardev, expected: str, seen: str) -> BadInput:
    return BadInput(f"chardev {part.id}", expected=expected, seen=seen)
