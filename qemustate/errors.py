"""Every error this package raises on purpose, in one tree.

::

    QemustateError
    ├── BadInput              what we were given cannot be read: names file, place, expected, seen
    │   ├── LogDamaged        a log whose bytes are not what was written
    │   └── LogBusy           a log another writer holds
    ├── ProtocolError         the wire broke QMP's rules
    │   ├── LocalProtocolError    we were about to (our caller's mistake; nothing was sent)
    │   └── RemoteProtocolError   the peer did: carries the bytes and their offset
    ├── CommandRefused        QEMU answered a command with an error
    ├── OutcomeUnknown        no answer will come: the command may or may not have happened
    ├── MonitorUnavailable    no monitor to talk to: not there, held by another client, closed
    ├── LaunchFailed          QEMU did not come up: carries its stderr
    └── RecordingFailed       the log cannot be written
"""

from __future__ import annotations

from typing import Any


class QemustateError(Exception):
    """The root: catch this to catch everything raised on purpose."""


class BadInput(QemustateError):
    """Something we were asked to read is not what it should be.

    ``source`` names the file or stream, ``where`` the line or byte (``"line 12"``, ``"byte 4096"``)
    or is empty, ``expected`` and ``seen`` say what was looked for and what was found.
    """

    def __init__(self, source: str, where: str = "", *, expected: str, seen: str) -> None:
        self.source, self.where, self.expected, self.seen = source, where, expected, seen
        place = f"{source}, {where}" if where else source
        super().__init__(f"{place}: expected {expected}, saw {seen}")


class LogDamaged(BadInput):
    """A log is damaged before its end; ``offset`` is the first byte that cannot be trusted."""

    def __init__(self, source: str, offset: int, *, expected: str, seen: str) -> None:
        self.offset = offset
        super().__init__(source, f"byte {offset}", expected=expected, seen=seen)


class LogBusy(BadInput):
    """Another writer holds the log's lock."""


class ProtocolError(QemustateError):
    """A message broke QMP's rules."""


class LocalProtocolError(ProtocolError):
    """We were about to break the protocol; nothing was sent."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol. ``data`` is what it sent, ``offset`` where in its stream (bytes)."""

    def __init__(self, message: str, *, data: bytes, offset: int) -> None:
        self.data, self.offset = data, offset
        shown = data if len(data) <= 80 else data[:77] + b"..."
        super().__init__(f"{message} at byte {offset}: {shown!r}")


class CommandRefused(QemustateError):
    """QEMU answered a command with an error: its class and desc, with the command and its arguments."""

    def __init__(self, command: str, arguments: dict[str, Any] | None, error_class: str, desc: str) -> None:
        self.command, self.arguments, self.error_class, self.desc = command, arguments, error_class, desc
        super().__init__(f"{command}: {error_class}: {desc}")


class OutcomeUnknown(QemustateError):
    """A command was sent and its answer will not come (``why``): it may or may not have happened."""

    def __init__(self, command: str, arguments: dict[str, Any] | None, why: str) -> None:
        self.command, self.arguments, self.why = command, arguments, why
        super().__init__(f"{command}: outcome unknown: {why}")


class MonitorUnavailable(QemustateError):
    """There is no monitor to talk to: no socket, nobody listening, held by another client, or closed."""


class LaunchFailed(QemustateError):
    """QEMU did not come up. ``stderr`` is what it said, ``returncode`` as of ``subprocess``."""

    def __init__(self, message: str, *, stderr: str = "", returncode: int | None = None) -> None:
        self.stderr, self.returncode = stderr, returncode
        super().__init__(f"{message}\n{stderr.rstrip()}" if stderr.strip() else message)


class RecordingFailed(QemustateError):
    """The log cannot be written; see the failure policy in :mod:`qemustate.events.writer`."""
