"""A first look at libvirt's log: which monitors there are, what they are named, and which tellings it has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Final

from qemustate.events.importers.files import TraceFile
from qemustate.events.importers.libvirt_marks import EVERY, LINES, Blocks, Mark, marks
from qemustate.events.importers.libvirt_sessions import THREAD, Session, Sessions, Uses

#: VIR_DOMAIN_SHORT_NAME_MAX
_SHORT: Final = 20

#: Marks of which one of a monitor is enough for a first look, as they stand in the log.
_REPEATED: Final = {"send": b"SEND_MSG", "write": b"IO_WRITE", "reply": b"RECV_REPLY", "act": b"act"}


def _whole(name: str, names: Sequence[str]) -> str:
    """Return the name that begins so: the path of a socket holds at most 20 characters (domain_conf.c)."""
    if len(name) < _SHORT:
        return name
    return next((it for it in names if it.startswith(name) and it != name), name)


#: Marks of what QEMU said; and with writes, those by which a thread shows whose monitor it serves.
_RECEIVED: Final = frozenset({"reply", "event", "line"})
_SERVED: Final = _RECEIVED | {"write"}


class Survey:
    """A first look: which monitors there are, what they are named, and which telling of messages is complete."""

    def __init__(self) -> None:
        self.uses: list[Uses] = []
        self._sessions = Sessions()
        self._all: dict[tuple[bytes, int], Session] = {}
        self._starts: dict[bytes, list[int]] = {}
        self._greetings: dict[bytes, list[tuple[int, int]]] = {}
        self._told_by_lines: dict[bytes, tuple[int, int]] = {}
        self._known: set[tuple[bytes, bytes]] = set()

    def look(self, number: int, file: TraceFile, cut: Blocks) -> None:
        """Look at a file, the first, second, ... by its number; what repeats itself is passed over."""
        self._known.clear()
        self.begin()
        for mark in chain.from_iterable(marks(file, cut, EVERY, self._known)):
            self.note(number, mark)

    def begin(self) -> Uses:
        """Begin with another file; return which tellings it has, as they come to be known."""
        uses = self._sessions.uses = Uses()
        self.uses.append(uses)
        return uses

    def note(self, number: int, mark: Mark) -> Session | None:
        """Note a mark of a file by its number; return the session that it belongs to, if it is any one's."""
        self._sessions.uses.note(mark)
        if mark.kind == "starting":
            self._starts.setdefault(mark.text, []).append(self._sessions.place)
        elif mark.kind in ("new", "close", "daemon"):
            self._known -= {it for it in self._known if not mark.monitor or it[1] == mark.monitor}
        session = self._sessions.see(mark)
        if mark.greets:
            self._greetings.setdefault(mark.thread, []).append((number, mark.line))
        if session is not None:
            self._all[session.key] = session
            self._note(session, mark)
        return session

    def _note(self, session: Session, mark: Mark) -> None:
        kind = mark.kind
        begins = not session.seen & _RECEIVED
        session.seen.add(kind)
        if kind in _REPEATED:
            self._known.add((_REPEATED[kind], mark.monitor))
        if kind == "named":
            session.name, session.short = mark.text, False
        elif kind == "job":
            # Of its thread, which is no VM's own where only the process is told.
            session.name = session.name or mark.text
        elif kind == "socket":
            session.domain = mark.more
            if not session.name:
                session.name, session.short = mark.text, True
        elif kind == "act":
            session.probe = False
        elif kind in _SERVED:
            if kind == "event" and b'"SHUTDOWN"' not in mark.text:
                session.probe = False
                self._known.add((b"RECV_EVENT", mark.monitor))
            if begins:
                self._greet(session, mark)
        if self._sessions.uses.received:
            self._known.add(LINES)

    def _greet(self, session: Session, mark: Mark) -> None:
        """Note that the oldest greeting that its thread read was this session's."""
        waiting = self._greetings.get(mark.thread, [])
        if mark.kind == "line" and waiting:
            # It is told once more, of a named monitor, unless the log has nothing but lines.
            self._told_by_lines[mark.thread] = waiting[0]
        elif mark.thread in self._told_by_lines:
            session.greetings.add(self._told_by_lines.pop(mark.thread))
            return
        if waiting:
            session.greetings.add(waiting.pop(0))

    def vms(self, logged: set[str]) -> dict[str, list[Session]]:
        """Return the sessions of each VM by its name; ``logged`` are the names of domains with logs of their own."""
        wanted = [it for it in self._all.values() if it.seen & {"send", "write", "reply", "event", "line"}]
        wanted = [it for it in wanted if it.uses.lines or not it.pointer.startswith(THREAD)]
        wanted = [it for it in wanted if it.name or not it.probe or "close" not in it.seen] or wanted
        names = sorted(logged | {it.name.decode(errors="replace") for it in self._all.values()})
        vms: dict[str, list[Session]] = {}
        pointers: Counter[bytes] = Counter()
        for it in wanted:
            if it.name:
                name = it.name.decode(errors="replace")
                name = _whole(name, names) if it.short else name
            else:
                pointers[it.pointer] += 1
                count = pointers[it.pointer]
                name = it.pointer.decode() + (f"#{count}" if count > 1 else "")
            vms.setdefault(name, []).append(it)
        for sessions in vms.values():
            self._tell_processes(sessions)
        return vms

    def _tell_processes(self, sessions: list[Session]) -> None:
        """Note which sessions are the first with a new QEMU."""
        before: Session | None = None
        for it in sessions:
            since = before.place if before else 0
            started = any(since <= at <= it.place for at in self._starts.get(it.name, ()))
            other = before is not None and it.domain and before.domain and it.domain != before.domain
            it.fresh = started or bool(other)
            before = it

    def lacks(self, sessions: list[Session], *, told: bool) -> tuple[str, ...]:
        """Return what a VM's sessions cannot show; ``told``: there is a log of the domain."""
        seen = set().union(*(it.seen for it in sessions))
        missing = []
        if not seen & {"send", "write"}:
            missing.append("commands")
        if not seen & {"reply", "line"}:
            missing.append("replies")
        if not any(uses.times for uses in self.uses):
            missing.append("times")
        if not (told and sessions[0].fresh):
            missing.append("beginning")
        if not told:
            missing.append("process")
        return tuple(missing)
