"""A whole QEMU command line as data: the program, and a map of QEMU's own option names to values.

The same in Python, and in TOML::

    Config("qemu-system-x86_64", {"machine": {"type": "q35"}, "nodefaults": True,      qemu = "qemu-system-x86_64"
           "device": [Device(driver="pcie-root-port", id="rp0")]})                     nodefaults = true
                                                                                       [machine]
                                                                                       type = "q35"
                                                                                       [[device]]
                                                                                       driver = "pcie-root-port"
                                                                                       id = "rp0"

What forms values take is in :mod:`qemustate.hardware.cmdline`. Options go to QEMU in the order of the map, which matters only
among those of one name. QEMU makes devices that came as ``key=value`` before those that came as JSON (``system/vl.c``
qemu_create_cli_devices()), so what is added to a command line that was read comes after it.
"""

from __future__ import annotations

import copy
import difflib
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from qemustate.errors import BadInput
from qemustate.hardware import cmdline
from qemustate.hardware.options import FLAGS, KEYED, NAMES, REPEATED
from qemustate.hardware.properties import Part

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

#: The program where none is named.
QEMU = "qemu-system-x86_64"


@dataclass(frozen=True)
class Config:
    """A command line: ``qemu`` is the program, ``options`` maps an option's name to its value, or to a list of values.

    It does not change; :meth:`add` and :meth:`without` return another one. Raises BadInput for a value that its
    option cannot have.
    """

    qemu: str = QEMU
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kept = {name: _value(name, value) for name, value in self.options.items()}
        object.__setattr__(self, "options", MappingProxyType(kept))

    def all(self, option: str) -> list[Any]:
        """Return every value of an option, in order; none for one that is not given."""
        if option not in self.options:
            return []
        value = self.options[option]
        return list(value) if isinstance(value, list) else [value]

    def parts(self) -> list[Part]:
        """Return every device and backend, in the order of the options."""
        return [value for name in self.options for value in self.all(name) if isinstance(value, Part)]

    @property
    def fds(self) -> tuple[int, ...]:
        """The descriptors that QEMU must inherit under the same numbers: every Fd in a value, once."""
        return tuple(dict.fromkeys(int(fd) for fd in cmdline.descriptors(dict(self.options))))

    def argv(self, version: tuple[int, int] | None = None) -> list[str]:
        """Return the command line; ``version`` is QEMU's, (major, minor), where that is older than 7.2.

        A descriptor that stands for a path goes in a set of its own (``-add-fd``).
        Raises BadInput for a value that no form of its option can say.
        """
        given = [(name, value) for name in self.options for value in self.all(name)]
        sets = dict.fromkeys(fd for _, value in given for fd in cmdline.paths(value))
        words = [
            *(cmdline.write("add-fd", {"fd": fd, "set": cmdline.set_of(fd)}) for fd in sets),
            *(cmdline.write(name, value, version) for name, value in given),
        ]
        return [self.qemu, *(word for option in words for word in option)]

    def add(self, *more: Part | Mapping[str, Any]) -> Self:
        """Return this with more: parts, and maps of options.

        An option that may be given more than once gets one more value, a map is merged, and any other is replaced.
        """
        options = dict(self.options)
        for it in more:
            for name, value in ((it.option, it),) if isinstance(it, Part) else it.items():
                options[name] = _merged(name, options.get(name), value)
        return type(self)(self.qemu, options)

    def without(self, *names: str) -> Self:
        """Return this without these options."""
        return type(self)(
            self.qemu, {name: value for name, value in self.options.items() if name not in names}
        )

    @classmethod
    def from_argv(cls, argv: Sequence[str]) -> Self:
        """Read a command line; ``argv[0]`` is the program. Raises BadInput for broken JSON, and for no words at all."""
        if not argv:
            raise BadInput("command line", expected="a program and its options", seen="nothing")
        options: dict[str, Any] = {}
        for name, text in cmdline.words(argv):
            value = cmdline.read(name, text)
            if name in options or name in REPEATED:
                options[name] = [*_listed(options.get(name)), value]
            else:
                options[name] = value
        return cls(argv[0], options)

    @classmethod
    def from_toml(cls, source: str | Path) -> Self:
        """Read TOML, a file of this path or, if it is a string, the text itself.

        Raises BadInput, which names file and line or key, for what is no TOML, no option of QEMU, or no value for its
        option.
        """
        name, text = ("TOML", source) if isinstance(source, str) else (str(source), _text(source))
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise BadInput(name, expected="TOML", seen=str(error)) from error
        except RecursionError:
            raise BadInput(name, expected="TOML", seen="lists or tables too deep in each other") from None
        qemu = table.pop("qemu", QEMU)
        if not isinstance(qemu, str):
            raise BadInput(name, "key qemu", expected="the name of a program", seen=repr(qemu))
        for option in table:
            if option not in NAMES:
                close = difflib.get_close_matches(option, NAMES, 3)
                expected = "an option of QEMU" + (f", {' or '.join(close)}" if close else "")
                raise BadInput(name, f"key {option}", expected=expected, seen="no such option")
        return cls(qemu, {option: _value(option, value, name) for option, value in table.items()})


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise BadInput(str(path), expected="a file that can be read", seen=str(error.strerror)) from error
    except UnicodeDecodeError as error:
        raise BadInput(
            str(path), f"byte {error.start}", expected="UTF-8", seen=repr(error.object[error.start])
        ) from error


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _merged(name: str, old: Any, new: Any) -> Any:
    if name in REPEATED:
        return [*_listed(old), *_listed(new)]
    if name in KEYED and old is not None and not isinstance(old, list) and not isinstance(new, list):
        return {**cmdline.as_map(name, old), **cmdline.as_map(name, new)}
    return new


def _value(option: str, value: Any, source: str = "command line") -> Any:
    """Return a value as it is kept: maps for ``key=value``, parts for parts, lists for what may be given twice."""
    if isinstance(value, list):
        return [_single(option, item, source, f"key {option}[{number}]") for number, item in enumerate(value)]
    single = _single(option, value, source, f"key {option}")
    return [single] if option in REPEATED else single


def _single(option: str, value: Any, source: str, where: str) -> Any:
    if option in FLAGS:
        if not isinstance(value, bool):
            raise BadInput(source, where, expected="true or false: it takes no argument", seen=repr(value))
        return value
    if option in KEYED:
        try:
            return _checked(copy.deepcopy(cmdline.as_map(option, value)), source, where)
        except BadInput as error:
            if error.source == source:
                raise
            raise BadInput(source, where, expected=error.expected, seen=error.seen) from None
    if option not in NAMES and value is True:
        return value  # a newer QEMU's, without an argument
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise BadInput(source, where, expected="a string or a number", seen=repr(value))
    return value


def _checked(value: Any, source: str, where: str) -> Any:
    """Return a map whose values are all such as an option can have."""
    items: Iterable[tuple[str, Any]]
    if isinstance(value, dict):
        items = ((f"{where}.{key}", item) for key, item in value.items())
    elif isinstance(value, list):
        items = ((f"{where}[{number}]", item) for number, item in enumerate(value))
    elif value is None or isinstance(value, str | int | float):
        return value  # null is JSON's: a block node without a backing one
    else:
        raise BadInput(source, where, expected="a string, number, boolean, list or table", seen=str(value))
    for place, item in items:
        _checked(item, source, place)
    return value
