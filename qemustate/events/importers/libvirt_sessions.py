"""Which monitor a line of libvirt's log belongs to: pointers are used again, and daemons begin anew."""

from __future__ import annotations

from typing import Final

from qemustate.events.importers.libvirt_marks import Mark
from qemustate.events.importers.times import read_milliseconds


class Uses:
    """Which tellings of the messages a file has; noted on a first look, used on the second.

    ``times``: lines have a time; ``received``: there are RECV_*.
    """

    def __init__(self) -> None:
        self.times = False
        self.received = self._sent = self._job_events = False

    def note(self, mark: Mark) -> None:
        """Note what kind of line there is."""
        self.times = self.times or read_milliseconds(mark.when) > 0
        self._sent |= mark.kind == "send"
        self.received |= mark.kind in ("reply", "event")
        self._job_events |= mark.kind in ("line", "event") and b'"JOB_STATUS_CHANGE"' in mark.text

    @property
    def whole(self) -> bool:
        """Whether SEND_MSG and RECV_* tell all that is told."""
        return self._sent and self.received

    @property
    def writes(self) -> bool:
        """Whether commands are to be taken from IO_WRITE."""
        return not self._sent

    @property
    def lines(self) -> bool:
        """Whether answers and events are to be taken from ``Line [``."""
        return not self.received

    @property
    def jobs(self) -> bool:
        """Whether the states of jobs are to be taken from what libvirt says of them."""
        return not self.received and not self._job_events


class Session:
    """One monitor connection: its pointer, which one with that pointer it is (from 1), and what is known of it.

    ``place`` is how many marks came before it, ``uses`` are those of its first file. ``name`` and ``domain`` (the number libvirt gave the running domain)
    are empty where unknown, ``short`` says that the name may be a beginning only; ``fresh`` says that it is the first with a new QEMU, ``probe`` that only its abilities
    were asked for; ``seen`` are the kinds of its marks, and ``greetings`` the places (file, line) of its greeting.
    """

    def __init__(self, pointer: bytes, count: int, place: int, uses: Uses, *, opened: bool) -> None:
        self.pointer, self.count, self.place, self.uses, self.opened = pointer, count, place, uses, opened
        self.name = self.domain = b""
        self.fresh, self.short, self.probe = False, False, opened
        #: What it is known by in every reading of the log.
        self.key = pointer, count
        self.seen: set[str] = set()
        self.greetings: set[tuple[int, int]] = set()


#: Begins the pointer of a session of which only the thread is known.
THREAD: Final = b"thread-"

#: Marks that show a monitor to be open; others may come before it is, or after.
_OPEN: Final = frozenset({"new", "send", "write", "reply", "event"})


class Sessions:
    """Follows the monitors through a log; every reading that sees the marks of a monitor numbers them alike."""

    def __init__(self) -> None:
        #: Those of the file that is read.
        self.uses = Uses()
        self._open: dict[bytes, Session] = {}
        self._threads: dict[bytes, Session] = {}
        self._counts: dict[bytes, int] = {}
        #: Names told of monitors before their first message in the log.
        self._named: dict[bytes, bytes] = {}
        #: How many marks there were.
        self.place = 0

    def see(self, mark: Mark) -> Session | None:
        """Return the session that a mark belongs to, if it is any one's."""
        self.place += 1
        kind = mark.kind
        if kind in _OPEN:
            session = self._open.get(mark.monitor)
            if session is None or kind == "new":
                session = self._begin(mark.monitor, opened=kind == "new")
            if kind != "send":
                self._threads[mark.thread] = session
            return session
        if kind == "daemon":
            self._open.clear()
            self._threads.clear()
            self._named.clear()
            return None
        if kind in ("line", "job"):
            return None if mark.greets else self._of_thread(mark)
        if kind == "socket" and not mark.monitor:
            return self._of_thread(mark) if self.uses.lines else None
        if kind == "close":
            return self._open.pop(mark.monitor, None)
        session = self._open.get(mark.monitor)
        if session is None and kind == "named":
            self._named[mark.monitor] = mark.text
        return session

    def _begin(self, pointer: bytes, *, opened: bool) -> Session:
        count = self._counts[pointer] = self._counts.get(pointer, 0) + 1
        session = self._open[pointer] = Session(pointer, count, self.place, self.uses, opened=opened)
        name = self._named.pop(pointer, b"")
        session.name = b"" if opened else name
        return session

    def _of_thread(self, mark: Mark) -> Session | None:
        """Return the session whose messages this thread reads; without another sign the thread is the monitor."""
        session = self._threads.get(mark.thread)
        if session is None and self.uses.lines:
            told = [
                it for it in self._open.values() if it.uses is self.uses and not it.pointer.startswith(THREAD)
            ]
            session = told[0] if len(told) == 1 else self._begin(THREAD + mark.thread, opened=False)
            self._threads[mark.thread] = session
        return session
