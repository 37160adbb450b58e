r"""JSON exactly: text to values and back, with nothing altered in silence.

msgspec does nearly all of it, at a few hundred nanoseconds a message. What it refuses but QEMU prints or
accepts goes to the exact parser and printers beside this module:

================================  =========================================================================
text                              value
================================  =========================================================================
``inf``, ``-inf``, ``nan``        the float: QEMU prints doubles with ``%.17g``, JSON or not (json-writer.c)
``1e400``                         ``inf``, as QEMU's own parser reads it
``"\ud83d"`` (half a pair)        the lone surrogate U+D83D
bytes that are no UTF-8           one surrogate a byte, U+DC80 to U+DCFF (Python's ``surrogateescape``)
``'text'``, ``\'``                strings as QEMU's lexer takes them (json-lexer.c)
deep nesting                      the value, however deep
================================  =========================================================================

Integers are exact whatever their size, to Python's own limit of 4,300 digits. Of members with the same
name the last wins, as in every common parser; ``strict`` refuses them, as QEMU does.
"""

from __future__ import annotations

import re
from operator import itemgetter
from typing import Any, Final, Literal

import msgspec

from qemustate.qmp import jsonparse, jsonprint
from qemustate.qmp.jsonparse import MAX_NESTING, JsonError

__all__ = [
    "MAX_NESTING",
    "JsonError",
    "Sender",
    "decode",
    "decode_objects",
    "print_compact",
    "print_qemu",
    "prints_alike",
    "reproduces",
]

#: How a sender prints: QEMU with spaces and in ASCII, a client compactly in UTF-8.
Sender = Literal["qemu", "client"]

_decode = msgspec.json.Decoder().decode
_decode_lines = msgspec.json.Decoder().decode_lines
_encode = msgspec.json.Encoder().encode
_spaced = msgspec.json.format

#: What msgspec raises where it will not read or print.
_REFUSED = (msgspec.MsgspecError, UnicodeError, RecursionError)


def decode(text: bytes, *, strict: bool = False) -> Any:
    """Return the value of one JSON text; white space around it is allowed.

    ``strict`` takes what QEMU's parser takes and no more: it refuses duplicate members, infinities, lone
    surrogates, invalid UTF-8 and nesting beyond 1,024. Raises JsonError with reason and offset.
    """
    try:
        value = _decode(text)
    except _REFUSED:
        return jsonparse.parse(text, strict=strict)
    # msgspec keeps the last of duplicate members without a word; a value that prints as its text had none.
    if strict and not (reproduces(value, text, "client") or reproduces(value, text, "qemu")):
        return jsonparse.parse(text, strict=True)
    return value


def decode_objects(texts: list[bytes]) -> list[Any] | None:
    """Return the values of many texts at once, each that of one object; None where one of them takes a closer look.

    No text has white space around it. Members that came twice are not refused.
    """
    together = b"\n".join(texts)
    # A line that ends in "}" within a text can't be followed by one that begins with "{".
    if (
        together.count(b"\n") != len(texts) - 1
        or not all(texts)
        or {*map(_first, texts)} != {0x7B}
        or {*map(_last, texts)} != {0x7D}
    ):
        return None
    try:
        values: list[Any] = _decode_lines(together)
    except _REFUSED:
        return None
    return values if len(values) == len(texts) else None


_first: Final = itemgetter(0)
_last: Final = itemgetter(-1)


def print_qemu(value: Any) -> bytes:
    r"""Print as QEMU does: ``", "`` and ``": "``, ASCII, upper-case ``\uXXXX``, doubles by ``%.17g``.

    One exception: a float whose shortest form has an exponent and no point (1e+20) prints as ``1e20``.
    Raises TypeError for what is no JSON value.
    """
    try:
        text = _spaced(_encode(value), indent=0)
    except _REFUSED:
        return jsonprint.qemu(value)
    # msgspec prints an infinity as null.
    return text if prints_alike(text) and text.find(b"null") < 0 else jsonprint.qemu(value)


def print_compact(value: Any) -> bytes:
    r"""Print as a thrifty client does: no spaces, UTF-8, floats in their shortest form.

    Surrogates that stand for bytes come out as those bytes, other lone ones as ``\ud83d``.
    Raises TypeError for what is no JSON value.
    """
    try:
        text = _encode(value)
    except _REFUSED:
        return jsonprint.compact(value)
    return jsonprint.compact(value) if text.find(b"null") >= 0 else text


def reproduces(value: Any, text: bytes, sender: Sender) -> bool:
    """Say whether ``value``, which decode made of ``text``, prints as ``text`` in the way of ``sender``."""
    if sender == "client":
        return print_compact(value) == text
    try:
        if _spaced(_encode(value), indent=0) == text and prints_alike(text):
            return True
    except _REFUSED:
        pass
    return print_qemu(value) == text


#: A point between digits: looked for many times as fast as a number is.
_POINT = re.compile(rb"\.(?<=[0-9]\.)[0-9]")
#: What stands before the point of a float, where a value may begin; or in a string, after a space or a bracket.
_FLOAT = re.compile(rb"(?:[\[ ]|\A)-?[0-9]++\.\Z")
#: More digits than any float is printed with before its point.
_DIGITS = 32


def prints_alike(text: bytes) -> bool:
    """Say whether a text that msgspec printed, with spaces, is surely what QEMU prints.

    Nothing but ASCII, no numbered escapes, no floats with a point.
    """
    # Single bytes are looked for as integers: seven times as fast as looking for bytes of length one.
    return (
        text.isascii()
        and 0x7F not in text
        and (0x5C not in text or b"\\u" not in text)
        and not any(
            _FLOAT.search(text, max(it.start() - _DIGITS, 0), it.start() + 1) for it in _POINT.finditer(text)
        )
    )
