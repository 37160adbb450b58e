"""Every error this package raises on purpose, in one tree.

::

    QemustateError
    ├── BadInput              what we were given cannot be read: names file, place, expected, seen
    │   ├── LogDamaged        a log whose bytes are not what was written
    │   ├── LogBusy           a log another writer holds
    │   └── NoPlace           a device that has no place in this VM
    ├── ProtocolError         the wire broke QMP's rules
    │   ├── LocalProtocolError    we were about to (our caller's mistake; nothing was sent)
    │   └── JsonError             a text is no JSON: says why, and at which byte (qmp/jsonparse.py)
    ├── CommandRefused        QEMU answered a command with an error
    ├── OperationRefused      an operation ended, and what was asked for is not so: by whom, and why
    ├── OutcomeUnknown        no answer will come, or not in time: it may or may not have happened
    ├── MonitorUnavailable    no monitor to talk to: not there, held by another client, closed
    ├── LaunchFailed          QEMU did not come up: carries its stderr
    ├── QemuGone              QEMU has ended
    └── RecordingFailed       the log cannot be written
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


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


class NoPlace(BadInput):
    """There is no place for a device (``device`` is its id or driver); ``why`` says what is in the way."""

    def __init__(self, device: str, why: str) -> None:
        self.device, self.why = device, why
        super().__init__(f"device {device}", expected="a place for it", seen=why)


class ProtocolError(QemustateError):
    """A message broke QMP's rules."""


class LocalProtocolError(ProtocolError):
    """We were about to break the protocol; nothing was sent."""


class CommandRefused(QemustateError):
    """QEMU answered a command with an error: its class and desc, with the command and its arguments."""

    def __init__(self, command: str, arguments: dict[str, Any] | None, error_class: str, desc: str) -> None:
        self.command, self.arguments, self.error_class, self.desc = command, arguments, error_class, desc
        super().__init__(f"{command}: {error_class}: {desc}")


class OperationRefused(QemustateError):
    """An operation has ended, and what it was to bring about is not so.

    ``operation`` its name, ``subject`` what it was about, ``by`` who refused: "qemu", "guest", or "us" where nothing
    was sent; ``desc`` says why. Where QEMU did, ``error_class``, ``command`` and ``arguments`` are those of its refusal.
    ``state`` is what the subject is now (its entry of the ``--json`` contract), ``left`` the commands that would take
    back what could not be taken back. ``why`` is all that in a sentence.
    """

    def __init__(
        self,
        operation: str,
        subject: str,
        *,
        by: str,
        desc: str,
        error_class: str = "",
        command: str = "",
        arguments: dict[str, Any] | None = None,
        state: Any = None,
        left: Sequence[Any] = (),
    ) -> None:
        self.operation, self.subject, self.by, self.desc = operation, subject, by, desc
        self.error_class, self.command, self.arguments = error_class, command, arguments
        self.state, self.left = state, tuple(left)
        said = ": ".join(part for part in (command, error_class, desc) if part)
        self.why = f"by {by}: {said}"
        super().__init__(f"{operation}{' ' if subject else ''}{subject}: refused {self.why}")


class OutcomeUnknown(QemustateError):
    """A command was sent and its answer will not come (``why``): it may or may not have happened.

    Of an operation, that it has not ended in time; ``settles`` says what would tell, and its end still counts.
    """

    def __init__(
        self, command: str, arguments: dict[str, Any] | None, why: str, *, settles: str = ""
    ) -> None:
        self.command, self.arguments, self.why, self.settles = command, arguments, why, settles
        more = f"; settled by {settles}" if settles else ""
        super().__init__(f"{command}: outcome unknown: {why}{more}")


class MonitorUnavailable(QemustateError):
    """There is no monitor to talk to: no socket, nobody listening, held by another client, or closed."""


class LaunchFailed(QemustateError):
    """QEMU did not come up. ``stderr`` is what it said, ``returncode`` as of ``subprocess``."""

    def __init__(self, message: str, *, stderr: str = "", returncode: int | None = None) -> None:
        self.stderr, self.returncode = stderr, returncode
        super().__init__(f"{message}\n{stderr.rstrip()}" if stderr.strip() else message)


class QemuGone(QemustateError):
    """QEMU has ended: ``how`` is ``{"status": n}``, ``{"signal": n}``, or ``{}`` where nobody could see."""

    def __init__(self, how: dict[str, int]) -> None:
        self.how = how
        text = ", ".join(f"{name} {value}" for name, value in how.items())
        super().__init__(f"QEMU has ended ({text or 'nobody saw how'})")


class RecordingFailed(QemustateError):
    """The log cannot be written; see the failure policy in :mod:`qemustate.events.writer`."""
