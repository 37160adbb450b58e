"""Displays: who looks at the guest's screen."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from qemustate.statemachine.state import VM, DisplayCell
from qemustate.statemachine.stepping import narrow, settle, step
from qemustate.statemachine.tables.display import THERE


def _name(protocol: str, client: dict[str, Any]) -> str:
    """Return what a client is called: its protocol and address, ``?`` for an address that says nothing."""
    host, service = str(client.get("host", "")), str(client.get("service") or client.get("port") or "")
    return f"{protocol} " + (f"{host}:{service}" if host else service or "?")


def _server(told: dict[str, Any]) -> str:
    return f"{told.get('host', '')}:{told.get('service') or told.get('port') or ''}"


def viewer(vm: VM, data: dict[str, Any], event: Any) -> None:
    """Somebody connected, was let in, or went, by VNC or one channel of SPICE."""
    protocol, _, what = str(event["event"]).lower().partition("_")
    name = _name(protocol, data["client"])
    cell = vm.displays.get(name)
    if cell is None:
        cell = vm.displays[name] = DisplayCell(vm.watch.display.all if vm.late else vm.watch.display.initial)
    cell.server = _server(data["server"])
    if vm.late and name.endswith("?"):  # how many of them were there before nobody knows
        settle(vm, "display", cell, vm.watch.display.all, what, name)
        return
    arrives = what == "connected" and cell.belief != vm.watch.display.bit["unannounced"]
    several = cell.clients > 1 or (arrives and cell.clients == 1)
    cell.clients = cell.clients - 1 if what == "disconnected" else max(cell.clients + arrives, 1)
    step(vm, "display", vm.watch.display, cell, f"{what} of several" if several else what, name)


def query_vnc(vm: VM, _data: dict[str, Any], answer: Any) -> None:
    """``query-vnc``: the clients of the first server."""
    if answer.get("enabled"):
        _listed(vm, "vnc", answer.get("clients", ()), server=_server(answer))


def query_vnc_servers(vm: VM, _data: dict[str, Any], answer: Any) -> None:
    """``query-vnc-servers``: the clients of every server."""
    _listed(vm, "vnc", [client for it in answer for client in it["clients"]])


def query_spice(vm: VM, _data: dict[str, Any], answer: Any) -> None:
    """``query-spice``: the channels that were let in; who has only connected is not among them (ui/spice-core.c)."""
    if answer.get("enabled"):
        _listed(vm, "spice", answer.get("channels", ()))


#: What it means to be listed, and not to be.
_LISTED: Final = {"vnc": THERE, "spice": ("initialized",)}
_ABSENT: Final = {"vnc": ("gone",), "spice": ("gone", "connected")}


def _listed(vm: VM, protocol: str, clients: Any, *, server: str = "") -> None:
    """Believe in the clients named, how many of each, and in no others of that server, or of any."""
    watcher = vm.watch.display
    there, absent = watcher.of(_LISTED[protocol]), watcher.of(_ABSENT[protocol])
    named = Counter(_name(protocol, client) for client in clients)
    said = f"query-{protocol}"
    for name, number in sorted(named.items()):
        cell = vm.displays.get(name)
        if cell is None:
            cell = vm.displays[name] = DisplayCell(watcher.initial)
        cell.clients = number
        if not cell.belief & there and cell.belief & watcher.initial:
            # Listed before it is announced, or it came where nobody looked.
            settle(vm, "display", cell, there if vm.late else watcher.bit["unannounced"], said, name)
        else:
            narrow(vm, "display", cell, there, name, said=(said, "names it"))
    for name, cell in vm.displays.items():
        if name not in named and name.startswith(f"{protocol} ") and server in ("", cell.server):
            narrow(vm, "display", cell, absent, name, said=(said, "does not name it"))
            cell.clients *= cell.belief != watcher.initial
