r"""Find where a JSON text ends, piece by piece, with the rules of QEMU's lexer.

Nothing is parsed here: strings, brackets and bytes that belong to no token are all that matters. The rules
are those of QEMU's ``qobject/json-lexer.c`` and ``json-streamer.c``; framing tells them in words.
"""

from __future__ import annotations

import re
from typing import Final

from qemustate.qmp.jsonparse import MAX_NESTING

#: Control characters that are no white space, and the bytes UTF-8 never has: they reset QEMU's lexer.
RESET: Final = bytes(sorted({*range(0x20), 0xFE, 0xFF} - set(b"\t\r\n")))

# Inside a text, outside strings: bytes that neither open nor close anything and belong to some token ...
_PLAIN = rb"""[^{}\[\]"'\x00-\x08\x0b\x0c\x0e-\x1f!#$%&()*/;<=>?@A-DF-Z\\^_`|~\x7f-\xff]++"""
# ... strings without escapes, and containers of nothing else: all passed over at once, for speed alone.
_SIMPLE = rb'"[^"\\\x00-\x1f\xfe\xff]*+"|' + _PLAIN
_FLAT = rb"\{(?:" + _SIMPLE + rb")*+\}|\[(?:" + _SIMPLE + rb")*+\]"
_SAME_DEPTH: Final = re.compile(rb"(?:" + _SIMPLE + rb"|" + _FLAT + rb")*+")
_DEEPEST: Final = re.compile(rb"(?:" + _SIMPLE + rb")*+")
#: A keyword or a number.
_WORD: Final = re.compile(rb"[a-zE0-9+.\-]*+")
#: The rest of a string, up to its end or to what may not be in it.
_STRING: Final = {
    0x22: re.compile(rb'[^"\\\x00-\x1f\xfe\xff]*+(?:\\[\x20-\xfd][^"\\\x00-\x1f\xfe\xff]*+)*+'),
    0x27: re.compile(rb"[^'\\\x00-\x1f\xfe\xff]*+(?:\\[\x20-\xfd][^'\\\x00-\x1f\xfe\xff]*+)*+"),
}
#: After damage: up to where reading may resume (IN_RECOVERY in json-lexer.c).
_RECOVERY: Final = re.compile(rb"[^{}\[\]:,\x00-\x08\x0a-\x1f\xfe\xff]*+")


class Scanner:
    """How far one text was read. ``error`` says what damage ended it, and is empty while there is none."""

    __slots__ = (
        "_at",
        "_braces",
        "_brackets",
        "_ended",
        "_escape",
        "_max_nesting",
        "_quote",
        "_word",
        "error",
    )

    def __init__(self, max_nesting: int = MAX_NESTING) -> None:
        self.error = ""
        self._max_nesting = max_nesting
        self._at = 0  # read up to here, counted from the text's first byte
        self._braces = self._brackets = 0
        self._quote = 0  # that of the string we are in
        self._escape = False  # right after a backslash
        self._word = False  # the text is a bare word or number
        self._ended = False

    def find_end(self, data: bytes | bytearray, start: int, *, final: bool = False) -> int:
        """Return where the text that begins at ``start`` ends, or -1 where the data ends before.

        A later call, with the same text and more data, goes on where this one stopped. ``final``: no more
        data will come, which ends a bare word.
        """
        at = start + self._at
        if not self._at:
            if data[start] in b":,":
                return start + 1
            self._word = _end(_WORD, data, start) > start
        while at < len(data) and not self._ended:
            if self._word or self.error:
                at = _end(_WORD if self._word else _RECOVERY, data, at)
                self._ended = at < len(data)
            elif self._quote:
                at = self._in_string(data, at)
            else:
                at = self._outside(data, at)
        if self._ended or (final and (self._word or self.error)):
            return at
        self._at = at - start
        return -1

    def _in_string(self, data: bytes | bytearray, at: int) -> int:
        if not self._escape:
            at = _end(_STRING[self._quote], data, at)
            if at == len(data):
                return at
        byte = data[at]
        if byte < 0x20 or byte > 0xFD:
            return self._damage(data, at)
        if self._escape:
            self._escape = False
        elif byte == self._quote:
            self._quote = 0
            self._ended = not self._braces and not self._brackets
        else:
            self._escape = True
        return at + 1

    def _outside(self, data: bytes | bytearray, at: int) -> int:
        depth = self._braces + self._brackets
        if depth:
            at = _end(_SAME_DEPTH if depth < self._max_nesting else _DEEPEST, data, at)
            if at == len(data):
                return at
        byte = data[at]
        if byte in (0x22, 0x27):
            self._quote = byte
        elif byte == 0x7B:
            self._braces += 1
        elif byte == 0x7D:
            self._braces -= 1
        elif byte == 0x5B:
            self._brackets += 1
        elif byte == 0x5D:
            self._brackets -= 1
        else:
            return self._damage(data, at)
        if not self._quote:
            depth = self._braces + self._brackets
            self._ended = depth == 0 or self._braces < 0 or self._brackets < 0
            if depth > self._max_nesting:
                self.error, self._ended = "JSON nesting depth limit exceeded", True
        return at + 1

    def _damage(self, data: bytes | bytearray, at: int) -> int:
        """Note a byte that may not be where it is; it is part of the damaged text unless it is a line end."""
        byte = data[at]
        # QEMU shows all of the token that the byte spoils, up to a NUL.
        self.error = (
            f"JSON parse error, stray '{chr(byte) if 0 < byte < 0x80 else chr(0xFFFD) if byte else ''}'"
        )
        # Out of a string a reset byte ends the text at once, so that who sends one need not send more.
        self._ended = byte in b"\r\n" or (byte in RESET and not self._quote)
        return at if byte in b"\r\n" else at + 1


def _end(pattern: re.Pattern[bytes], data: bytes | bytearray, at: int) -> int:
    """Return where a pattern that may match nothing stops matching."""
    match = pattern.match(data, at)
    assert match is not None
    return match.end()
