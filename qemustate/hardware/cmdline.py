"""The words of a QEMU command line: an option's value as its argument, and the argument as a value again.

==================  ===============================================================  =============================
an option of        has the value                                                    which reads as
==================  ===============================================================  =============================
no argument         True (False: not given)                                          ``-nodefaults``
plain text          a string, used as it is; a number                                ``-kernel /boot/vmlinuz``
``key=value``       a map; another value is that of its first key                    ``-machine q35,accel=tcg``
a part              a :class:`~qemustate.hardware.properties.Part`                   ``-device {"driver":...}``
==================  ===============================================================  =============================

A comma, a ``=`` or a quote in a value is nothing but that character. :mod:`qemustate.hardware.options` says which
option is what. ``-cpu`` is a form of its own: its features may be ``+name`` or ``-name``, and no comma can be
escaped (QEMU ``hw/core/cpu-common.c``).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from qemustate.errors import BadInput
from qemustate.hardware import keyval
from qemustate.hardware.hotplug import PATHS
from qemustate.hardware.options import FLAGS, JSON_READ, JSON_SINCE, KEYED, LISTS, NAMES, NESTED, name_of
from qemustate.hardware.properties import PARTS, Fd, Part, Text
from qemustate.qmp import jsontext

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

#: Sets of descriptors are numbered from here on, in 31 bits (QEMU ``util/osdep.c`` qemu_parse_fdset()).
_FIRST_SET: Final = 1 << 30

#: ``-global driver.property=value``, whose value is not escaped (QEMU ``util/qemu-config.c`` qemu_global_option()).
_GLOBAL: Final = re.compile(r"([^.=]{1,63})\.([^=]{1,63})=(.*)", re.DOTALL)


def words(argv: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Yield each option of a command line and its argument, None for one that has none; ``argv[0]`` is the program.

    A word that begins no option is a disk image, and ``hda`` to QEMU (``system/vl.c``). An option that is not
    known takes the next word unless that begins an option.
    """
    number, count = 1, len(argv)
    while number < count:
        word = argv[number]
        number += 1
        if not word.startswith("-"):
            yield "hda", word
            continue
        name = name_of(word)
        takes = name not in FLAGS and number < count
        if takes and (name in NAMES or not argv[number].startswith("-")):
            yield name, argv[number]
            number += 1
        else:
            yield name, None


def read(option: str, text: str | None) -> Any:
    """Return the value of an option with this argument, a :class:`Part` where it is one.

    Raises BadInput when the argument begins as JSON and is none.
    """
    if text is None:
        return True
    if option not in KEYED:
        return text
    if option in JSON_READ and text.startswith("{"):
        values = _read_json(option, text)
    elif option == "cpu":
        values = _read_cpu(text)
    elif option == "global" and (found := _GLOBAL.fullmatch(text)):
        values = dict(zip(("driver", "property", "value"), found.groups(), strict=True))
    else:
        values = keyval.read(text, KEYED[option], nested=option in NESTED, lists=option in LISTS)
    kind = PARTS.get(option)
    return values if kind is None else kind(values)


def _read_json(option: str, text: str) -> dict[str, Any]:
    try:
        value = jsontext.decode(text.encode("utf-8", "surrogateescape"))
    except jsontext.JsonError as error:
        raise BadInput("command line", f"-{option}", expected="JSON", seen=f"{error} in {text}") from error
    assert isinstance(value, dict)
    # What is deeper has more brackets, and those who look into it have an end to their stack.
    if text.count("{") + text.count("[") > keyval.DEEPEST:
        layer: list[Any] = [value]
        for _ in range(keyval.DEEPEST):
            layer = [item for outer in layer for item in _inner(outer)]
        if layer:
            raise BadInput(
                "command line", f"-{option}", expected=f"at most {keyval.DEEPEST} levels", seen="more"
            )
    return value


def _read_cpu(text: str) -> dict[str, Any]:
    model, *features = text.split(",")
    values: dict[str, Any] = {"model": model}
    for feature in filter(None, features):
        name, equals, value = feature.partition("=")
        values[name] = value if equals else True
    return values


def write(option: str, value: Any, version: tuple[int, int] | None = None) -> list[str]:
    """Return the words that give an option this value, none for False.

    ``version`` is QEMU's, (major, minor), if that is older than 7.2: it says what may be JSON. Raises BadInput for
    a value that the option's form cannot say.
    """
    if value is False:
        return []
    if value is True and option not in KEYED:
        return [f"-{option}"]
    return [f"-{option}", argument(option, value, version)]


def argument(option: str, value: Any, version: tuple[int, int] | None = None) -> str:
    """Return the argument that gives an option this value; as :func:`write`."""
    if option not in KEYED:
        return f"fd:{int(value)}" if isinstance(value, Fd) else keyval.leaf(value, option)
    values = as_map(option, value)
    if option == "cpu":
        return _write_cpu(values)
    if option in JSON_SINCE and (version or (7, 2)) >= JSON_SINCE[option] and not _any_text(values):
        return _write_json(option, values)
    if paths(values):
        values = plain(values)
    return keyval.write(values, KEYED[option], nested=option in NESTED, lists=option in LISTS)


def as_map(option: str, value: Any) -> dict[str, Any]:
    """Return the value of an option of ``key=value`` as a map, a part as what it is: a lone value is that of the first key.

    Raises BadInput for a part of another option, and for a lone value where the option has no first key.
    """
    kind = PARTS.get(option)
    if isinstance(value, Part) and kind is not type(value):
        raise BadInput(
            "command line", f"-{option}", expected=f"a value of -{option}", seen=f"a {type(value).__name__}"
        )
    if isinstance(value, dict):
        return value if kind is None or isinstance(value, kind) else kind(value)
    if not KEYED[option] or kind is not None:
        raise BadInput("command line", f"-{option}", expected="a map of keys to values", seen=repr(value))
    return {KEYED[option]: value}


def _write_json(option: str, values: dict[str, Any]) -> str:
    try:
        return jsontext.print_compact(plain(values)).decode()
    except (TypeError, UnicodeError) as error:
        raise BadInput(
            "command line", f"-{option}", expected="what JSON can say", seen=repr(values)
        ) from error


def _write_cpu(values: dict[str, Any]) -> str:
    features = dict(values)
    if "model" not in features:
        raise BadInput("command line", "-cpu", expected="a model", seen=repr(values))
    pieces = [keyval.leaf(features.pop("model"), "model")]
    for name, value in features.items():
        signed = name.startswith(("+", "-")) and value is True
        pieces.append(name if signed else f"{name}={keyval.leaf(value, name)}")
    if wrong := [piece for piece in pieces if "," in piece]:
        raise BadInput("command line", "-cpu", expected="no comma: -cpu cannot escape one", seen=wrong[0])
    return ",".join(pieces)


def plain(value: Any) -> Any:
    """Return a value of QAPI's types alone: descriptors are strings, several of them joined by colons."""
    if isinstance(value, dict):
        return {key: plain(in_set(key, item)) for key, item in value.items()}
    if isinstance(value, list):
        if value and all(isinstance(item, Fd) for item in value):
            return keyval.descriptors(value)
        return [plain(item) for item in value]
    if isinstance(value, Text):
        return str(value)
    return str(int(value)) if isinstance(value, Fd) else value


def set_of(fd: int) -> int:
    """Return the number of the set that a descriptor is in at launch: far from those that are made later."""
    return _FIRST_SET + fd


def in_set(member: str, value: Any) -> Any:
    """Return a descriptor that stands for a path as the path that QEMU takes it by; anything else as it is.

    The path names a set of descriptors (``-add-fd``), see :func:`set_of`.
    """
    return f"/dev/fdset/{set_of(value)}" if isinstance(value, Fd) and member in PATHS else value


def paths(value: Any) -> list[Fd]:
    """Return every descriptor in a value that stands for a path."""
    if isinstance(value, dict):
        here = [item for member, item in value.items() if in_set(member, item) is not item]
        return here + [fd for item in value.values() for fd in paths(item)]
    return [fd for item in value for fd in paths(item)] if isinstance(value, list) else []


def _any_text(value: Any) -> bool:
    return any(isinstance(item, Text) for item in _scalars(value))


def descriptors(value: Any) -> list[Fd]:
    """Return every descriptor in a value."""
    return [item for item in _scalars(value) if isinstance(item, Fd)]


def _scalars(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        for item in _inner(value):
            yield from _scalars(item)
    else:
        yield value


def _inner(value: Any) -> Iterable[Any]:
    """Return what is in a map or list, nothing for anything else."""
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
