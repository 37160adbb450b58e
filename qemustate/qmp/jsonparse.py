r"""The exact JSON parser: slower than msgspec, but it takes all that QEMU prints or accepts.

No recursion, so no nesting is too deep. The grammar is that of QEMU's ``qobject/json-lexer.c`` and
``json-parser.c`` (strings in single quotes, ``\'``), and the reasons given for a refusal are QEMU's words
where it has some.
"""

from __future__ import annotations

import math
import re
from typing import Any, Final

from qemustate.errors import ProtocolError

#: The deepest nesting QEMU's parser takes: MAX_NESTING in json-streamer.c.
MAX_NESTING: Final = 1024


class JsonError(ProtocolError, ValueError):
    """A text is not JSON: ``reason`` in QEMU's words where it has some, ``offset`` in bytes."""

    def __init__(self, reason: str, offset: int) -> None:
        self.reason, self.offset = reason, offset
        super().__init__(f"{reason} at byte {offset}")


_TOKEN = re.compile(
    rb"[ \t\r\n]*+(?:"
    rb"([{}\[\]:,])"
    rb'|("[^"\\\x00-\x1f]*+(?:\\[^\x00-\x1f][^"\\\x00-\x1f]*+)*+")'
    rb"|('[^'\\\x00-\x1f]*+(?:\\[^\x00-\x1f][^'\\\x00-\x1f]*+)*+')"
    rb"|(-?+(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][-+]?+[0-9]++)?+)"
    rb"|(-?+[a-z]++)"
    rb"|(\Z))"
)
_PUNCTUATION, _DOUBLE, _SINGLE, _NUMBER, _WORD, _END = range(1, 7)

_KEYWORDS: Final = {b"true": True, b"false": False, b"null": None}
_NOT_FINITE: Final = {b"inf": math.inf, b"-inf": -math.inf, b"nan": math.nan, b"-nan": -math.nan}

# What must come next, and what is said when it does not.
_VALUE, _NAME, _COLON, _AFTER_MEMBER, _AFTER_ITEM, _NOTHING = range(6)
_MISSING: Final = (
    "expecting value",
    "key is not a string in object",
    "missing : in object pair",
    "expected separator in dict",
    "expected separator in list",
    "text after the value",
)


def parse(text: bytes, *, strict: bool) -> Any:
    """Return the value of one JSON text; ``strict`` takes only what QEMU's own parser takes.

    Raises JsonError.
    """
    opened: list[Any] = []  # the containers that are open, outermost first
    names: list[str] = []  # for each of them the member its next value is for
    value: Any = None
    expect, empty, position = _VALUE, False, 0  # empty: right after { or [, where } or ] may follow
    while True:
        kind, token, position = _token(text, position)
        offset = position - len(token)
        if kind == _END:
            if expect == _NOTHING:
                return value
            raise JsonError("premature end of text", offset)
        if expect == _VALUE and token in (b"{", b"["):
            opened.append({} if token == b"{" else [])
            names.append("")
            if strict and len(opened) > MAX_NESTING:
                raise JsonError("JSON nesting depth limit exceeded", offset)
            expect, empty = (_NAME if token == b"{" else _VALUE), True
            continue
        if (token == b"}" and (expect == _AFTER_MEMBER or (empty and expect == _NAME))) or (
            token == b"]" and (expect == _AFTER_ITEM or (empty and expect == _VALUE))
        ):
            value = opened.pop()
            names.pop()
        elif expect == _VALUE:
            value = _scalar(kind, token, offset, strict=strict)
        elif expect == _NAME and kind in (_DOUBLE, _SINGLE):
            name = _string(token, offset, strict=strict)
            if strict and name in opened[-1]:
                raise JsonError("duplicate key", offset)
            names[-1], expect = name, _COLON
            continue
        elif (expect == _COLON and token == b":") or (expect == _AFTER_ITEM and token == b","):
            expect, empty = _VALUE, False
            continue
        elif expect == _AFTER_MEMBER and token == b",":
            expect, empty = _NAME, False
            continue
        else:
            # A name is parsed as any value, and only then must be a string.
            missing = _VALUE if expect == _NAME and kind == _PUNCTUATION else expect
            raise JsonError(_MISSING[missing], offset)
        if not opened:
            expect = _NOTHING
        elif isinstance(opened[-1], list):
            opened[-1].append(value)
            expect = _AFTER_ITEM
        else:
            opened[-1][names[-1]] = value
            expect = _AFTER_MEMBER


def _token(text: bytes, position: int) -> tuple[int, bytes, int]:
    """Return the next token: its kind, its bytes, where it ends."""
    match = _TOKEN.match(text, position)
    if match is None:
        stray = re.compile(rb"[ \t\r\n]*+(.?)", re.DOTALL).match(text, position)
        assert stray is not None
        seen = stray[1].decode("ascii", "replace")
        reason = "premature end of text" if seen in ('"', "'") else f"stray '{seen}'"
        raise JsonError(reason, stray.start(1))
    kind = match.lastindex or _END
    return kind, match[kind], match.end()


def _scalar(kind: int, token: bytes, offset: int, *, strict: bool) -> Any:
    if kind in (_DOUBLE, _SINGLE):
        return _string(token, offset, strict=strict)
    if kind == _NUMBER:
        return _number(token, offset)
    if token in _KEYWORDS:
        return _KEYWORDS[token]
    if token in _NOT_FINITE and not strict:
        return _NOT_FINITE[token]
    if kind == _WORD:
        raise JsonError(f"invalid keyword '{token.decode()}'", offset)
    raise JsonError(_MISSING[_VALUE], offset)


def _number(token: bytes, offset: int) -> int | float:
    if not token.lstrip(b"-").isdigit():
        return float(token)
    try:
        return int(token)
    except ValueError:  # the interpreter's own limit, sys.get_int_max_str_digits
        raise JsonError(f"an integer of {len(token)} digits", offset) from None


_ESCAPE = re.compile(
    r"\\(?:u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|(.))", re.DOTALL
)
_ESCAPED: Final = {
    '"': '"', "'": "'", "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t",
}  # fmt: skip


def _string(token: bytes, offset: int, *, strict: bool) -> str:
    """Unquote a string token."""
    try:
        text = token[1:-1].decode("utf-8", "strict" if strict else "surrogateescape")
    except UnicodeDecodeError as error:
        raise JsonError("invalid UTF-8 sequence in string", offset + 1 + error.start) from None
    if "\\" not in text:
        return text

    def unescape(match: re.Match[str]) -> str:
        high, low, single, short = match.groups()
        if high:
            return chr(0x10000 + ((int(high, 16) & 0x3FF) << 10) + (int(low, 16) & 0x3FF))
        if short in _ESCAPED:
            return _ESCAPED[short]
        if short and short != "u":
            raise JsonError("invalid escape sequence in string", offset)
        if short or (strict and 0xD800 <= int(single, 16) < 0xE000):
            # QEMU shows six characters, the closing quote among them if need be.
            shown = (text + token[-1:].decode())[match.start() : match.start() + 6]
            raise JsonError(f"{shown} is not a valid Unicode character", offset)
        return chr(int(single, 16))

    return _ESCAPE.sub(unescape, text)
