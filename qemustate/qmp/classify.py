"""Which message a JSON text is, in either direction.

Shapes from QEMU's ``docs/interop/qmp-spec.rst``; what is refused on the way to QEMU, and in which words,
from ``qmp_dispatch_check_obj`` in ``qapi/qmp-dispatch.c``.
"""

from __future__ import annotations

from typing import Any, Final

from qemustate.qmp.framing import Document, Malformed
from qemustate.qmp.messages import Command, Event, Failure, Greeting, Reply

_NOTHING: Final[dict[str, Any]] = {}


def from_qemu(found: Document | Malformed) -> Greeting | Reply | Failure | Event | Malformed:
    """Return the message QEMU sent; Malformed where the text is none of the four. ``command`` is not set."""
    if type(found) is Malformed:
        return found
    assert isinstance(found, Document)
    body = found.value
    if type(body) is not dict:
        return _no_message(found, "a message must be a JSON object")
    if "event" in body:
        if type(body["event"]) is str and type(body.get("data", _NOTHING)) is dict:
            return Event(body, found.text)
        return _no_message(found, "an event needs a name, and an object as its data")
    if "return" in body:
        return Reply(body, found.text)
    if "error" in body:
        if type(body["error"]) is dict:
            return Failure(body, found.text)
        return _no_message(found, "an error must be an object")
    if "QMP" in body:
        if type(body["QMP"]) is dict:
            return Greeting(body, found.text)
        return _no_message(found, "a greeting must hold an object")
    return _no_message(found, "a message needs one of the members event, return, error, QMP")


def from_client(found: Document | Malformed, *, oob: bool) -> Command | Malformed:
    """Return the command a client sent; Malformed, in QEMU's words, where QEMU would not take it as one.

    ``oob``: whether that capability is enabled; without it ``exec-oob`` is refused.
    """
    if isinstance(found, Malformed):
        return found
    body = found.value
    if type(body) is not dict:
        return _no_message(found, "QMP input must be a JSON object")
    execute = ""
    for member, value in body.items():
        if member == "execute" or (member == "exec-oob" and oob):
            if type(value) is not str:
                return _no_message(found, f"QMP input member '{member}' must be a string")
            if execute:
                return _no_message(found, f"QMP input member '{member}' clashes with '{execute}'")
            execute = member
        elif member == "arguments":
            if type(value) is not dict:
                return _no_message(found, "QMP input member 'arguments' must be an object")
        elif member != "id":
            return _no_message(found, f"QMP input member '{member}' is unexpected")
    if not execute:
        return _no_message(found, "QMP input lacks member 'execute'")
    return Command(body, found.text)


def _no_message(found: Document, error: str) -> Malformed:
    return Malformed(found.text, found.offset, error, found.value)
