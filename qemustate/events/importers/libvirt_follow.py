"""libvirt's debug log as it grows: monitors come and go, and what they are named is told while it is read.

The log that has grown tells of the same VMs, and of the same records of each. A monitor that is just opened is held
back until its greeting or its first answer, and until its domain is named or it does more than ask what a QEMU can do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from qemustate.events.importers import libvirt_marks
from qemustate.events.importers.conversation import Entry, Skipped
from qemustate.events.importers.files import TraceFile, blocks
from qemustate.events.importers.libvirt_marks import EVERY, Blocks, Mark, marks
from qemustate.events.importers.libvirt_reading import Reading
from qemustate.events.importers.libvirt_sessions import Session
from qemustate.events.importers.libvirt_survey import Survey

#: After these a monitor that has acted, and is not named, will not be.
_ANSWERS: Final = frozenset({"reply", "event", "line"})


def follow(file: TraceFile, skipped: Skipped) -> Iterator[tuple[str, Entry]] | None:
    """Return the entries of a growing log's VMs, each with the VM's name; None where it is a domain's own log.

    Raises BadInput where the file cannot be read.
    """
    if not libvirt_marks.sniff(file.head()):
        return None
    return read(file, skipped, blocks)


def read(file: TraceFile, skipped: Skipped, cut: Blocks) -> Iterator[tuple[str, Entry]]:
    """Yield the entries of a growing log's VMs, which ``cut`` cuts into blocks, each with the VM's name."""
    growing = _Growing(file.name, skipped)
    for block in marks(file, cut, EVERY):
        yield from growing.entries([*block])


class _Growing:
    """Who owns which monitor, as far as that was told."""

    def __init__(self, file: str, skipped: Skipped) -> None:
        self._file, self._skipped = file, skipped
        self._survey = Survey()
        self._uses = self._survey.begin()
        self._readings: dict[str, Reading] = {}
        self._owners: dict[tuple[bytes, int], str] = {}
        self._held: dict[tuple[bytes, int], list[Mark]] = {}
        self._greetings: dict[int, Mark] = {}

    def entries(self, found: list[Mark]) -> Iterator[tuple[str, Entry]]:
        """Yield what the marks of a block tell, with the name of the VM."""
        # A name may stand behind the first messages.
        sessions = [self._survey.note(0, mark) for mark in found]
        self._greetings |= {
            it.line: it for it in found if it.kind == "line" and it.text.startswith(b'{"QMP"')
        }
        for mark, session in zip(found, sessions, strict=True):
            if mark.kind == "daemon":
                for name, reading in self._readings.items():
                    yield from ((name, it) for it in reading.daemon_began(self._file, mark))
            elif mark.kind == "stopped":
                name = mark.text.decode(errors="replace")
                if name in self._readings:
                    yield from ((name, it) for it in self._readings[name].stopped(self._file, mark))
            elif session is not None and (mark.kind != "line" or self._uses.lines):
                yield from self._see(session, mark)
        for name, reading in self._readings.items():
            yield from ((name, it) for it in reading.flush(self._file))

    def _see(self, session: Session, mark: Mark) -> Iterator[tuple[str, Entry]]:
        """Yield what a mark of a session tells, and before it what was held back."""
        key, told = session.key, [mark]
        # A greeting is known to be this monitor's by the next message of its thread.
        earlier = [
            line for _, line in sorted(session.greetings) if line in self._greetings and line < mark.line
        ]
        told[:0] = [self._greetings.pop(line) for line in earlier]
        if key not in self._owners:
            held = self._held.setdefault(key, [])
            held += told
            if session.opened and not session.greetings and mark.kind not in _ANSWERS:
                return  # whether the log shows greetings is known by the first answer, before which one stands
            if not session.name and (session.probe or mark.kind not in _ANSWERS):
                return
            owner = self._owner(session)
            if owner is None:
                return
            self._owners[key], told = owner, self._held.pop(key)
        yield from self._read(self._owners[key], session, told)

    def _owner(self, session: Session) -> str | None:
        return next((name for name, own in self._survey.vms(set()).items() if session in own), None)

    def _read(self, name: str, session: Session, told: Iterable[Mark]) -> Iterator[tuple[str, Entry]]:
        reading = self._readings.get(name)
        if reading is None:
            reading = self._readings[name] = Reading([], self._skipped, timed=self._uses.times)
        for mark in told:
            yield from ((name, it) for it in reading.see(session, self._file, mark, self._uses))
