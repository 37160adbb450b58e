"""``key=value,key=value``: QEMU's two dialects of it, read and written.

In both, ``,,`` is a comma within a value, and the first value may leave out its key. QemuOpts
(QEMU ``util/qemu-option.c``) is flat and lets a key come more than once; keyval (``util/keyval.c``) has paths for keys,
``server.0.host=h``, and numbers for items of a list. All that is read is text: only QEMU knows which of it
is a number. A value that is read is therefore a :class:`~qemustate.hardware.properties.Text`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from qemustate.errors import BadInput
from qemustate.hardware.properties import Fd, Text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: How deep maps and lists may be; QEMU's own are not deeper than ten.
DEEPEST: Final = 100

#: One piece: a key with its ``=``, or neither, and a value up to a comma that is not doubled.
_PIECE: Final = re.compile(r"(?:([^=,]*)=)?((?:[^,]++|,,)*)(?:,|\Z)", re.DOTALL)

#: What the first value must be to go without its key in either dialect, and not to be taken for JSON.
_BARE: Final = re.compile(r"[^={,][^=,]*", re.DOTALL)


def read(text: str, first: str = "", *, nested: bool = False, lists: bool = False) -> dict[str, Any]:
    """Return what a text says, all values as text; a key without a value is "on".

    ``first`` names the key of a first value without one. ``nested`` reads keys as paths; ``lists`` makes a list of
    a key's values where it comes more than once, else the last one counts, of ids the first. Any text at all can be read.
    """
    found: dict[str, Any] = {}
    for key, value in _pieces(text, first):
        if key == "id" and key in found and (lists or not nested):
            continue  # of QemuOpts' ids the first one counts (opts_parse_id())
        if not lists or key not in found:
            found[key] = value
        elif isinstance(found[key], list):
            found[key].append(value)
        else:
            found[key] = [found[key], value]
    return _nest(found) if nested else found


def _pieces(text: str, first: str) -> Iterator[tuple[str, Text]]:
    number = 0
    for key, value in _split(text):
        if key is not None:
            yield key, Text(value)
        elif number == 0 and first and value:
            yield first, Text(value)
        elif value:
            yield value, Text("on")
        number = 1


def _split(text: str) -> Iterator[tuple[str | None, str]]:
    """Yield key (None where there is none) and value of each piece."""
    if ",," in text:
        for match in _PIECE.finditer(text):
            yield match[1], match[2].replace(",,", ",")
        return
    for piece in text.split(","):  # the same, five times as fast
        key, equals, value = piece.partition("=")
        yield (key, value) if equals else (None, key)


def _nest(flat: dict[str, Any]) -> dict[str, Any]:
    """Return a map whose keys are no paths any more; as it was where two paths contradict each other, or one is endless."""
    if not any("." in key for key in flat) or any(key.count(".") > DEEPEST for key in flat):
        return flat
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, last = path.split(".")
        at = tree
        for name in parents:
            at = at.setdefault(name, {})
            if not isinstance(at, dict):
                return flat
        if isinstance(at.get(last), dict):
            return flat
        at[last] = value
    return {key: _listed(value) for key, value in tree.items()}


def _listed(value: Any) -> Any:
    """Return a list where the keys are 0, 1, 2, ..., as keyval has it."""
    if not isinstance(value, dict):
        return value
    if value.keys() == {str(number) for number in range(len(value))}:
        return [_listed(value[str(number)]) for number in range(len(value))]
    return {key: _listed(item) for key, item in value.items()}


def write(values: Mapping[str, Any], first: str = "", *, nested: bool = False, lists: bool = False) -> str:
    """Return the text that says ``values``, which QEMU reads as they are, commas and all; options as for :func:`read`.

    Booleans are ``on`` and ``off``, descriptors of one list are joined by colons (QEMU ``net/tap.c``). Raises
    BadInput for what the dialect cannot say: a map in a map or None, an empty list, a key with ``=`` in it.
    """
    pieces = []
    rest = dict(values)
    if first and first in rest and not isinstance(rest[first], list | dict):
        text = leaf(rest.pop(first), first)
        pieces.append(escape(text) if _BARE.fullmatch(text) else f"{first}={escape(text)}")
    for key, value in rest.items():
        if not key or "=" in key or "," in key:
            raise BadInput("option", f"key {key!r}", expected="a key without = and ,", seen=key)
        for path, item in _leaves(key, value, nested=nested, lists=lists):
            pieces.append(f"{path}={escape(leaf(item, path))}")
    return ",".join(pieces)


def _leaves(path: str, value: Any, *, nested: bool, lists: bool) -> Iterator[tuple[str, Any]]:
    """Yield path and value of each piece that says a value."""
    if not value and isinstance(value, list | dict):
        raise BadInput(
            "option", f"key {path!r}", expected="a value, which key=value can say", seen=repr(value)
        )
    if isinstance(value, list) and all(isinstance(item, Fd) for item in value):
        yield path, descriptors(value)
    elif isinstance(value, list):
        again = lists or not nested
        for number, item in enumerate(value):
            yield from _leaves(path if again else f"{path}.{number}", item, nested=nested, lists=lists)
    elif isinstance(value, dict) and nested:
        for key, item in value.items():
            yield from _leaves(f"{path}.{key}", item, nested=nested, lists=lists)
    else:
        yield path, value


def leaf(value: Any, path: str = "") -> str:
    """Return a single value as text. Raises BadInput for what is none."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, str | int | float):
        return str(value)
    raise BadInput("option", f"key {path!r}", expected="a string, number or boolean", seen=repr(value))


def descriptors(fds: list[Fd]) -> str:
    """Return several descriptors as QEMU reads them from one value: ``3:4`` (QEMU ``net/tap.c`` get_fds())."""
    return ":".join(str(int(fd)) for fd in fds)


def escape(text: str) -> str:
    """Return a value as it stands in ``key=value``."""
    return text.replace(",", ",,")
