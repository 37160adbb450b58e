"""From parts to the QMP commands that plug and unplug them, in order, each with the command that takes it back.

A part's backends come before it, so that undoing in reverse never takes away what is still used. Descriptors
are sent just before the part that uses them; which way is told by the member. One of :data:`NAMES` gets the name of a
``getfd``, several joined with ``:``. One of :data:`PATHS` gets ``/dev/fdset/N`` of an ``add-fd``: the
descriptor must be open in the mode in which QEMU would open the file (read-only, write-only, or both).

When QEMU takes them away (seen with 7.2 and 10.0):

=====================================  ===============================================================================
a name used by                         is gone
=====================================  ===============================================================================
``netdev_add`` (tap, socket, dgram)    when the command has looked it up, also if it then fails; not if the id is taken
``chardev-add`` (socket)               the same
``blockdev-add`` (nbd ``server``)      the same
``object-add`` (iommufd ``fd``)        the same
``device_add`` (``vhostfd``)           the same
nothing (``netdev_add`` stream)        never: it looks the name up where there is no monitor, and fails in silence
=====================================  ===============================================================================

A tap refused for one of several ``fds`` leaves it open in QEMU (net/tap.c), where no command reaches it.
So after a plug no name is left to close, and a ``closefd`` that undoes a failed one may find none. A set
of ``add-fd`` stays until ``remove-fd``, whoever uses it; 7.2 removes it only while the VM runs, and one whose
``remove-fd`` came earlier when it is asked again.

Source: QEMU ``qapi/{qdev,block-core,net,char,qom,misc}.json``, ``system/qdev-monitor.c``, ``monitor/fds.c``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from qemustate.errors import BadInput
from qemustate.hardware import chardev
from qemustate.hardware.properties import Blockdev, Chardev, Device, Fd, Fsdev, Netdev, Object, Part, Text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Members whose value names a descriptor (``monitor_fd_param``, ``socket_get_fd`` in QEMU); ``str`` is a SocketAddress's.
NAMES: Final = frozenset(("fd", "fds", "vhostfd", "vhostfds", "sock-fds", "str"))
#: Members whose value is a path that QEMU opens itself: a descriptor goes there as ``/dev/fdset/N``.
PATHS: Final = frozenset(("filename", "path", "input-path", "logfile", "vhostdev"))

#: Class of part -> the command that plugs it, the one that takes it away, and what that calls the id.
#: Classes stand in the order in which they are plugged.
COMMANDS: Final[dict[type[Part], tuple[str, str, str]]] = {
    Object: ("object-add", "object-del", "id"),
    Chardev: ("chardev-add", "chardev-remove", "id"),
    Blockdev: ("blockdev-add", "blockdev-del", "node-name"),
    Netdev: ("netdev_add", "netdev_del", "id"),
    Device: ("device_add", "device_del", "id"),
}

_FDSET: Final = "/dev/fdset/"


class Step(msgspec.Struct, frozen=True):
    """One QMP command of a plug or unplug.

    ``undo`` is the command (name, arguments) that takes it back, None if nothing does. ``fds`` are
    descriptors of this process that go with it (``getfd``, ``add-fd``).
    """

    command: str
    arguments: dict[str, Any]
    undo: tuple[str, dict[str, Any]] | None = None
    fds: tuple[int, ...] = ()


def plug_steps(parts: Sequence[Part], *, fd_prefix: str = "fd", fdset: int = 1) -> tuple[Step, ...]:
    """Return the commands that plug these parts.

    Descriptors are named ``{fd_prefix}-0``, ``-1``, ...; one sent under a name that QEMU still has replaces
    that. ``fdset`` is the number of the first set for descriptors that go where a path is wanted. Both are to
    be free in this QEMU. Raises BadInput for a part without an id (nothing could unplug it), one that QMP
    cannot plug (Fsdev), a descriptor where none can go, a prefix that begins with a digit, and what
    :func:`chardev.nested` refuses.
    """
    if not fd_prefix or fd_prefix[0].isdigit():
        raise BadInput("fd_prefix", expected="a name that does not begin with a digit", seen=repr(fd_prefix))
    sender = _Sender(fd_prefix, fdset)
    steps: list[Step] = []
    for part in ordered(parts):
        plug, unplug, key = COMMANDS[type(part)]
        named, sent = sender.send(part)
        arguments = chardev.nested(named) if isinstance(named, Chardev) else dict(named)
        steps += sent
        steps.append(Step(plug, arguments, undo=(unplug, {key: part.id})))
    return tuple(steps)


def unplug_steps(parts: Sequence[Part]) -> tuple[Step, ...]:
    """Return the commands that take these parts away: devices first, then backends in reverse.

    What ``device_del`` answers does not free the backends: see :mod:`qemustate.hardware.release`. A
    descriptor set that a value names (``/dev/fdset/N``, as plugged) is removed after the part. Raises
    BadInput as :func:`plug_steps` does. QEMU 7.2 never lets go of a mux chardev ("busy", chardev/char.c).
    """
    steps: list[Step] = []
    for part in reversed(ordered(parts)):
        _, unplug, key = COMMANDS[type(part)]
        steps.append(Step(unplug, {key: part.id}))
        sets = sorted({int(text[len(_FDSET) :]) for text in _texts(part) if _is_fdset(text)})
        steps += (Step("remove-fd", {"fdset-id": number}) for number in sets)
    return tuple(steps)


def ordered(parts: Sequence[Part]) -> list[Part]:
    """Return the parts in plugging order: what a part refers to before it, else by class, else as given.

    Raises BadInput for a part that cannot be plugged or has no id.
    """
    ranks = {kind: rank for rank, kind in enumerate(COMMANDS)}
    for part in parts:
        if type(part) not in ranks:
            seen = "Fsdev, which is for the command line only" if isinstance(part, Fsdev) else repr(part)
            raise BadInput(f"{part.option} {part.id}", expected="a part that QMP can plug", seen=seen)
        if not part.id:
            raise BadInput(f"{part.option} {part.kind}", expected=part.named_by, seen="none")
    waiting = sorted(parts, key=lambda part: ranks[type(part)])
    found: list[Part] = []
    entered: set[int] = set()

    def enter(part: Part) -> None:
        if id(part) in entered:
            return
        entered.add(id(part))
        names = set(_references(part))
        for other in waiting:
            # Backends may have a device's id, and know of no device.
            if other.id in names and (isinstance(part, Device) or not isinstance(other, Device)):
                enter(other)
        found.append(part)

    for part in waiting:
        enter(part)
    return found


def _references(part: Part) -> Iterator[str]:
    """Yield every text in a part's values that may be another's id; a bus is also that of the device before its dot."""
    for key, value in part.items():
        if key in PATHS or key in (part.named_by, part.kind_key):
            continue
        for text in _texts(value):
            yield text
            if key == "bus":
                yield text.rpartition(".")[0]


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for key, inner in value.items():
                if not (key in PATHS and isinstance(inner, str)) or _is_fdset(inner):
                    yield from _texts(inner)
        case list() | tuple():
            for inner in value:
                yield from _texts(inner)
        case _:
            pass


def _is_fdset(text: str) -> bool:
    return text.startswith(_FDSET) and text[len(_FDSET) :].isdecimal()


class _Sender:
    """Gives each descriptor a name or a set, and the command that sends it."""

    def __init__(self, prefix: str, fdset: int) -> None:
        self._prefix, self._names, self._fdset = prefix, 0, fdset
        self._sent: list[Step] = []
        self._part = Part()

    def send(self, part: Part) -> tuple[Part, list[Step]]:
        """Return the part with names for descriptors, and the steps that send them."""
        self._sent, self._part = [], part
        named = type(part)({key: self._named(key, value) for key, value in part.items()})
        return named, self._sent

    def _named(self, key: str, value: Any) -> Any:
        match value:
            case Fd():
                return self._path(value) if key in PATHS else self._name(key, value)
            case [*items] if items and all(isinstance(item, Fd) for item in items):
                return ":".join(self._name(key, item) for item in items)
            case list():
                return [self._named(key, item) for item in value]
            case dict():
                return {name: self._named(name, inner) for name, inner in value.items()}
            case Text():
                return str(value)  # untyped, as QEMU before 9.2 takes it; Capabilities.typed gives it a type
            case _:
                return value

    def _name(self, key: str, fd: Fd) -> str:
        stream = isinstance(self._part, Netdev) and self._part.kind == "stream"
        if key not in NAMES or stream:
            expected = (
                "no descriptor: a stream netdev does not find one by name" if stream else "no descriptor"
            )
            raise BadInput(f"{self._part.option} {self._part.id}", key, expected=expected, seen=repr(fd))
        name = f"{self._prefix}-{self._names}"
        self._names += 1
        arguments = {"fdname": name}
        self._sent.append(Step("getfd", arguments, undo=("closefd", arguments), fds=(int(fd),)))
        return name

    def _path(self, fd: Fd) -> str:
        arguments = {"fdset-id": self._fdset}
        self._sent.append(Step("add-fd", arguments, undo=("remove-fd", arguments), fds=(int(fd),)))
        self._fdset += 1
        return f"{_FDSET}{arguments['fdset-id']}"
