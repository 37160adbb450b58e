"""The exact JSON printers: QEMU's way and the compact way, for the values msgspec cannot print.

No recursion, so no nesting is too deep. QEMU's way is that of its ``qobject/json-writer.c``.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

_shortest = msgspec.json.Encoder().encode


def qemu(value: Any) -> bytes:
    """Print with ``", "`` and ``": "``, in ASCII; see jsontext.print_qemu."""
    return _print(value, ", ", ": ", _qemu_string, _qemu_float)


def compact(value: Any) -> bytes:
    """Print without spaces, in UTF-8; see jsontext.print_compact."""
    return _print(value, ",", ":", _compact_string, _compact_float)


class _Piece(str):
    """Text that is printed already, on the printer's stack beside values that are not."""

    __slots__ = ()


def _print(
    value: Any, comma: str, colon: str, string: Callable[[str], bytes], number: Callable[[float], bytes]
) -> bytes:
    out: list[bytes] = []
    stack: list[Any] = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, _Piece):
            out.append(item.encode())
        elif isinstance(item, str):
            out.append(string(item))
        elif item is None:
            out.append(b"null")
        elif isinstance(item, bool):
            out.append(b"true" if item else b"false")
        elif isinstance(item, int):
            out.append(b"%d" % item)
        elif isinstance(item, float):
            out.append(number(item))
        elif isinstance(item, dict):
            _push_members(stack, item, comma, colon)
        elif isinstance(item, list | tuple):
            _push_items(stack, item, comma)
        else:
            raise TypeError(f"{type(item).__name__} is no JSON value")
    return b"".join(out)


def _push_members(stack: list[Any], members: dict[Any, Any], comma: str, colon: str) -> None:
    pieces: list[Any] = []
    for name, member in members.items():
        if not isinstance(name, str):
            raise TypeError(f"a member's name must be a string, not {name!r}")
        pieces += (_Piece(comma if pieces else "{"), name, _Piece(colon), member)
    stack.append(_Piece("}" if pieces else "{}"))
    stack.extend(reversed(pieces))


def _push_items(stack: list[Any], items: list[Any] | tuple[Any, ...], comma: str) -> None:
    pieces: list[Any] = []
    for item in items:
        pieces += (_Piece(comma if pieces else "["), item)
    stack.append(_Piece("]" if pieces else "[]"))
    stack.extend(reversed(pieces))


_SHORT: Final = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_QEMU_ESCAPED = re.compile('["\\\\\x00-\x1f\x7f-\U0010ffff]')
_COMPACT_ESCAPED = re.compile('["\\\\\x00-\x1f]')
_SURROGATE = re.compile("[\ud800-\udfff]")
_SURROGATE_NO_BYTE = re.compile("[\ud800-\udc7f\udd00-\udfff]")


def _qemu_escape(match: re.Match[str]) -> str:
    char = match[0]
    if char in _SHORT:
        return _SHORT[char]
    point = ord(char)
    if point > 0xFFFF:
        point -= 0x10000
        return f"\\u{0xD800 + (point >> 10):04X}\\u{0xDC00 + (point & 0x3FF):04X}"
    return f"\\u{point:04X}"


def _qemu_string(text: str) -> bytes:
    return b'"' + _QEMU_ESCAPED.sub(_qemu_escape, text).encode() + b'"'


def _qemu_float(number: float) -> bytes:
    shortest = _compact_float(number)
    return b"%.17g" % number if b"." in shortest else shortest


def _compact_escape(match: re.Match[str]) -> str:
    char = match[0]
    return _SHORT.get(char) or f"\\u{ord(char):04x}"


def _compact_string(text: str) -> bytes:
    quoted = '"' + _COMPACT_ESCAPED.sub(_compact_escape, text) + '"'
    if _SURROGATE.search(quoted):
        # A surrogate goes out as a raw byte only where reading would make the same surrogate of it.
        kept = _SURROGATE_NO_BYTE.sub(_compact_escape, quoted)
        raw = kept.encode("utf-8", "surrogateescape")
        if raw.decode("utf-8", "surrogateescape") == kept:
            return raw
        quoted = _SURROGATE.sub(_compact_escape, quoted)
    return quoted.encode()


def _compact_float(number: float) -> bytes:
    if math.isfinite(number):
        return _shortest(number)
    # The spelling of C's printf, which shows the sign of a nan.
    word = b"inf" if math.isinf(number) else b"nan"
    return b"-" + word if math.copysign(1.0, number) < 0 else word
