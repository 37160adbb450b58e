"""The commands that are not answered yet, and which of them a reply is for.

QEMU echoes a command's id, which may be any JSON value, and prints it anew: ``1.0`` comes back as ``1``, an
integer beyond 64 bits as a double, an object's members in another order (``qobject/qnum.c``,
``json-writer.c``). Ids are compared as QEMU would print them. In-band replies come in the order of their
commands (``monitor/qmp.c``), so of several commands with the same id, or with none, the oldest is meant.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from qemustate.qmp.jsontext import print_compact

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from qemustate.qmp.messages import Command, Failure, Reply

#: The key of a message that has no id; unlike that of ``"id": null``.
_NO_ID: Final = ("no id",)

#: How QEMU begins the refusal of a text that it did not take for a command (json-parser.c, qmp-dispatch.c).
_NO_COMMAND: Final = ("JSON ", "QMP input ")


class Pending:
    """The unanswered commands of one monitor connection."""

    def __init__(self) -> None:
        self._commands: dict[Hashable, deque[Command]] = {}
        self._bearing_fds = 0

    def __iter__(self) -> Iterator[Command]:
        """Iterate over the commands, those of the oldest id first."""
        return (command for commands in self._commands.values() for command in commands)

    def __len__(self) -> int:
        return sum(map(len, self._commands.values()))

    @property
    def bearing_fds(self) -> int:
        """How many of them carry file descriptors."""
        return self._bearing_fds

    def add(self, command: Command) -> None:
        """Await an answer to this command."""
        self._bearing_fds += command.fds > 0
        key = _key(command.body)
        waiting = self._commands.get(key)
        if waiting is None:
            self._commands[key] = deque((command,))
        else:
            waiting.append(command)

    def withdraw(self, command: Command) -> None:
        """Forget a command that was not sent after all. Raises ValueError when it is not here."""
        key = _key(command.body)
        waiting = self._commands.get(key, deque())
        waiting.remove(command)
        self._bearing_fds -= command.fds > 0
        if not waiting:
            del self._commands[key]

    def take(self, answer: Reply | Failure) -> Command | None:
        """Return the command this is the answer to and forget it; None where it is to none of ours."""
        key = _key(answer.body)
        waiting = self._commands.get(key)
        if waiting is None:
            return None
        if (
            key is _NO_ID
            and "error" in answer.body
            and str(answer.body["error"].get("desc")).startswith(_NO_COMMAND)
        ):
            return None
        command = waiting.popleft()
        self._bearing_fds -= command.fds > 0
        if not waiting:
            del self._commands[key]
        return command


def _key(body: dict[str, Any]) -> Hashable:
    """Return what stands for a message's id in a table: equal for ids that QEMU prints alike."""
    if "id" not in body:
        return _NO_ID
    value = body["id"]
    # By far the most ids are strings.
    if type(value) is str:
        return value
    try:
        return _canonical(value)
    except RecursionError:
        return print_compact(value)


def _canonical(value: Any) -> Hashable:
    if isinstance(value, bool) or value is None:
        return ("literal", value)
    if isinstance(value, int) and -(1 << 63) <= value < 1 << 64:
        return ("number", b"%d" % value)
    if isinstance(value, int | float):
        return ("number", b"%.17g" % (_as_double(value) + 0.0))  # -0.0 comes back as 0
    if isinstance(value, list):
        return ("list", tuple(map(_canonical, value)))
    if isinstance(value, dict):
        return ("object", frozenset((name, _canonical(member)) for name, member in value.items()))
    return value if isinstance(value, str) else ("other", repr(value))


def _as_double(value: float) -> float:
    """Return what QEMU's strtod makes of a number that fits no integer of its own."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
