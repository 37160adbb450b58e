"""QMP messages to records and back: the only bridge to :mod:`qemustate.qmp`.

What must not be kept is replaced here (:mod:`qemustate.events.redact`), and nowhere else. A message's exact
text is kept where printing the object would not give it back; a redacted message's text is that of the
redacted object.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from qemustate.errors import BadInput
from qemustate.events.format import MAX_DEPTH
from qemustate.events.redact import redact_message
from qemustate.qmp.jsontext import (
    JsonError,
    Sender,
    decode,
    print_compact,
    print_qemu,
    prints_alike,
    reproduces,
)
from qemustate.qmp.messages import Command, Event, Failure, Greeting, Message, Reply

if TYPE_CHECKING:
    from qemustate.events.records import Record

#: The kind of a message's record, and whose way of printing its text is compared with.
KINDS: Final[dict[type[Message], tuple[str, Sender]]] = {
    Event: ("event", "qemu"),
    Reply: ("reply", "qemu"),
    Failure: ("failure", "qemu"),
    Command: ("command", "client"),
    Greeting: ("greeting", "qemu"),
}
_TYPES: Final = {kind: cls for cls, (kind, _) in KINDS.items()}

_to_json = msgspec.json.Encoder().encode
_to_msgpack = msgspec.msgpack.Encoder().encode
_spaced = msgspec.json.format
#: What the encoders raise where they cannot hold a value.
_CANNOT = (OverflowError, UnicodeError, RecursionError)


def observed(message: Message) -> tuple[str, dict[str, Any]]:
    """Return the kind and the body of the record that keeps ``message``."""
    kind, sender = KINDS[type(message)]
    given, text = message.body, message.text
    asked: Command | None = getattr(message, "command", None)
    qmp = redact_message(kind, given, text, None if asked is None else asked.body)
    if qmp is given and _is_plain(qmp, text, sender):
        body: dict[str, Any] = {"qmp": qmp}
    elif sender == "client" and qmp is given and _is_plain(qmp, text, "qemu"):
        # As Python's json prints: many clients do.
        body = {"qmp": qmp, "text": text.decode()}
    else:
        body = _body(qmp, text if qmp is given else _print(qmp, sender), sender)
    if kind == "command" and (fds := cast("Command", message).fds):
        body["fds"] = fds
    return kind, body


def _is_plain(qmp: dict[str, Any], text: bytes, sender: Sender) -> bool:
    """Say whether the object surely gives the text back, and surely fits into a log. Right for most messages."""
    return _prints_as(qmp, text, sender) and is_shallow(text)


def _prints_as(qmp: dict[str, Any], text: bytes, sender: Sender) -> bool:
    return (sender != "qemu" or prints_alike(text)) and prints_back(qmp, text, sender)


def prints_back(value: Any, text: bytes, sender: Sender) -> bool:
    """Say whether a value surely prints as the text, if that prints alike, and consists of what a log can hold.

    Infinities msgspec prints as null, which is not the text; integers beyond 64 bits only as JSON.
    """
    try:
        printed = _to_json(value)
        _to_msgpack(value)
    except _CANNOT:
        return False
    return (_spaced(printed, indent=0) if sender == "qemu" else printed) == text


def _body(qmp: dict[str, Any], text: bytes, sender: Sender) -> dict[str, Any]:
    """Return the body for any message."""
    if not _can_keep(qmp):
        return {"text": _plain(text)}
    if reproduces(qmp, text, sender):
        return {"qmp": qmp}
    return {"qmp": qmp, "text": _plain(text)}


def parsed(body: dict[str, Any]) -> dict[str, Any]:
    """Return the QMP object of a message's record. Raises BadInput where the body holds none."""
    qmp = body.get("qmp")
    if qmp is None:
        try:
            qmp = decode(_bytes(body.get("text", b"")))
        except (JsonError, TypeError) as error:
            raise BadInput("record", expected="a QMP message", seen=str(error)) from error
    if not isinstance(qmp, dict):
        raise BadInput("record", expected="a QMP message", seen=type(qmp).__name__)
    return cast("dict[str, Any]", qmp)


def qmp_of(body: dict[str, Any]) -> dict[str, Any]:
    """Return the QMP object of a message's record, for whoever shows it: an empty one where the body holds none."""
    qmp = body.get("qmp")
    if qmp.__class__ is dict:
        return cast("dict[str, Any]", qmp)
    try:
        return parsed(body)
    except BadInput:
        return {}


def message(record: Record) -> Message:
    """Return the message that a record keeps, its text exactly as it was sent, but for what was redacted.

    A reply comes without its command. Raises BadInput where the record keeps no message.
    """
    cls = _TYPES.get(record.kind)
    if cls is None:
        raise BadInput(f"record {record.seq}", expected="a QMP message", seen=record.kind)
    qmp = parsed(record.body)
    kept = record.body.get("text")
    text = _print(qmp, KINDS[cls][1]) if kept is None else _bytes(kept)
    if cls is Command:
        return Command(qmp, text, record.body.get("fds", 0))
    return cls(qmp, text)


def _print(qmp: dict[str, Any], sender: Sender) -> bytes:
    return print_compact(qmp) if sender == "client" else print_qemu(qmp)


def _plain(text: bytes) -> str | bytes:
    """Return text as a string, or as it is where it is no UTF-8."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _can_keep(qmp: dict[str, Any]) -> bool:
    """Say whether a log can hold the object: integers of 64 bits, UTF-8, finite, not too deep."""
    try:
        _to_msgpack(qmp)
    except _CANNOT:
        return False
    level: list[Any] = [qmp]
    # One level is the record's own body, in which the object stands.
    for _ in range(MAX_DEPTH - 1):
        values = [
            value for outer in level for value in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if any(isinstance(value, float) and not math.isfinite(value) for value in values):
            return False
        level = [value for value in values if isinstance(value, dict | list)]
        if not level:
            return True
    return False


def is_shallow(text: bytes) -> bool:
    """Say whether a JSON text is surely nested no deeper than a log can hold."""
    return len(text) < MAX_DEPTH or text.count(b"[") + text.count(b"{") < MAX_DEPTH
