r"""Values as Go prints them: logrus's ``key=value`` lines, quoted strings, and maps by ``%v``.

A map is printed ``map[key:value key:value]`` with its keys sorted and its strings bare (Go ``fmt``): what has a
space or a bracket in it can't be told apart from structure. So reading one is a guess, made as follows: a value
ends where a space, a word and a colon follow.
"""

from __future__ import annotations

import re
from typing import Any, Final

#: ``key=bare`` or ``key="quoted"``, as logrus's text formatter writes them.
_FIELD: Final = re.compile(rb'([A-Za-z_][\w.-]*)=(?:"((?:[^"\\]|\\.)*+)"|([^\s"]*))')
_ESCAPE: Final = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|([0-7]{3})|(.))", re.DOTALL)
_SIMPLE: Final = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_KEY: Final = re.compile(r"(?:^| )([\w.-]+):")
_INTEGER: Final = re.compile(r"-?(?:0|[1-9]\d{0,17})")

#: Members that QAPI and QEMU's devices take as strings, also where they look like numbers.
_STRINGS: Final = frozenset(
    [
        "id", "device", "driver", "bus", "addr", "path", "qom-path", "qom-type", "node-name", "name", "fdname", "netdev",
        "chardev", "drive", "memdev", "serial", "reason", "status", "mac", "romfile", "backend", "uri", "command-line",
    ]
)  # fmt: skip

#: Deeper maps are kept as the text they are.
_DEPTH: Final = 20


def fields(line: bytes) -> dict[str, str]:
    """Return the fields of a line of logrus's text formatter; empty where there are none."""
    found: dict[str, str] = {}
    for name, quoted, bare in _FIELD.findall(line):
        value = unquote(quoted.decode(errors="replace")) if quoted else bare.decode(errors="replace")
        found.setdefault(name.decode(), value)
    return found


def unquote(text: str) -> str:
    """Return what a string between Go's quotes is (``%q``)."""
    return _ESCAPE.sub(_unescaped, text) if "\\" in text else text


def _unescaped(found: re.Match[str]) -> str:
    hexadecimal = found[1] or found[2] or found[3]
    code = int(hexadecimal, 16) if hexadecimal else int(found[4], 8) if found[4] else -1
    if code >= 0:
        return chr(code) if code < 0x110000 else "\ufffd"
    return _SIMPLE.get(found[5], found[5])


def read_map(text: str, depth: int = 0) -> dict[str, Any]:
    """Return the map that ``map[...]`` prints, as far as that can be told."""
    inner = text.removeprefix("map[").removesuffix("]")
    found: dict[str, Any] = {}
    starts = list(_top_keys(inner))
    for (key, start), end in zip(starts, [*(it[1] for it in starts[1:]), None], strict=False):
        # ``end`` is where the next key's value begins: its name, colon and space go off.
        value = inner[start:end] if end is None else inner[start:end].rpartition(" ")[0]
        found[key] = _value(key, value, depth)
    return found


def _top_keys(text: str) -> list[tuple[str, int]]:
    """Return the keys that stand outside any bracket, and where their values begin."""
    found: list[tuple[str, int]] = []
    level = at = 0
    for match in _KEY.finditer(text):
        level += text.count("[", at, match.start()) - text.count("]", at, match.start())
        at = match.start()
        if level <= 0:
            found.append((match[1], match.end()))
    return found


def _value(key: str, text: str, depth: int) -> Any:
    if text.startswith("map[") and depth < _DEPTH:
        return read_map(text, depth + 1)
    if text.startswith("[") and text.endswith("]"):
        return [_value(key, it, _DEPTH) for it in text[1:-1].split(" ")] if text != "[]" else []
    if text in ("true", "false"):
        return text == "true"
    if text == "<nil>":
        return None
    if key not in _STRINGS and _INTEGER.fullmatch(text):
        return int(text)
    return text
