"""libvirt's debug log of the QEMU driver, and its logs of the domains, as the traces of their VMs.

One file may tell of many VMs, by their monitors (``mon=``), and of several lives of the daemon. Each message is
told up to three times; one telling is taken: ``SEND_MSG`` and ``RECV_*``, which name the monitor. Greetings stand
only as ``Line [``. A log without ``RECV_*`` is read by its ``Line [`` (a VM for each thread: libvirt since 6.2
has one for each), one without ``SEND_MSG`` by its ``IO_WRITE``; one that has no event of a job, by what libvirt
says of the job's state.

A VM's name is the domain's, where the log tells it: in ``Entering monitor``, or in the path of the monitor's
socket (``domain-ID-NAME/monitor.sock``) that query-chardev answers with. Otherwise it is the monitor's pointer.
Monitors of one name are one VM's, in order. Where a daemon went away, or closed a monitor, ``lost`` stands, and
where the same QEMU was met again, ``opened``. The monitors by which libvirt asks a QEMU without a VM for its
capabilities are passed over where there are others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Final

from qemustate.events.importers import libvirt_domain, libvirt_marks
from qemustate.events.importers.conversation import Entry, Found, Skipped
from qemustate.events.importers.files import TraceFile, blocks
from qemustate.events.importers.libvirt_marks import EVERY, LINES, Blocks, Mark, marks, patterns_for
from qemustate.events.importers.libvirt_reading import Reading
from qemustate.events.importers.libvirt_sessions import THREAD, Session, Sessions, Uses

#: VIR_DOMAIN_SHORT_NAME_MAX
_SHORT: Final = 20

#: Marks of which one of a monitor is enough for a first look, as they stand in the log.
_REPEATED: Final = {"send": b"SEND_MSG", "write": b"IO_WRITE", "reply": b"RECV_REPLY", "act": b"act"}


def sniff(head: bytes) -> bool:
    """Say whether this is a log of libvirt's daemon or of a domain."""
    return libvirt_marks.sniff(head) or libvirt_domain.sniff(head)


def find(files: Sequence[TraceFile], cut: Blocks = blocks) -> list[Found]:
    """Return the VMs that the files tell of. Raises BadInput where a file cannot be read."""
    daemon: list[TraceFile] = []
    domains: dict[str, list[TraceFile]] = {}
    for file in files:
        head = file.head()
        if libvirt_domain.sniff(head) and not libvirt_marks.sniff(head):
            entries = libvirt_domain.read(file, Skipped())
            domains.setdefault(libvirt_domain.name_of(file, entries), []).append(file)
        else:
            daemon.append(file)
    survey = _Survey()
    for number, file in enumerate(daemon):
        survey.look(number, file, cut)
    vms = survey.vms(set(domains))
    lacks = [survey.lacks(sessions, told=name in domains) for name, sessions in vms.items()]
    for name in domains:
        if name not in vms:
            vms[name] = []
            lacks.append(("commands", "replies", "events"))
    log = _Log(daemon, domains, vms, survey.uses, cut)
    found = [
        Found(name, lacking, partial(log.one, number), log.together)
        for number, (name, lacking) in enumerate(zip(vms, lacks, strict=True))
    ]
    return found or [Found(files[0].stem, ("beginning", "process"), lambda _: iter(()))]


class _Log:
    """What a first look has found: the files, and the sessions of each VM."""

    def __init__(
        self,
        daemon: list[TraceFile],
        domains: dict[str, list[TraceFile]],
        vms: dict[str, list[Session]],
        uses: list[Uses],
        cut: Blocks,
    ) -> None:
        self._daemon, self._domains, self._uses, self._cut = daemon, domains, uses, cut
        self._vms = list(vms.items())

    def one(self, number: int, skipped: Skipped) -> Iterator[Entry]:
        """Yield the entries of one VM."""
        return (entry for _, entry in self._read({number: skipped}))

    def together(self, skipped: Sequence[Skipped]) -> Iterator[tuple[int, Entry]]:
        """Yield the entries of all VMs, each with the VM's number."""
        return self._read(dict(enumerate(skipped)))

    def _read(self, chosen: dict[int, Skipped]) -> Iterator[tuple[int, Entry]]:
        readings: dict[int, Reading] = {}
        owners: dict[tuple[bytes, int], tuple[int, Session]] = {}
        for number, skipped in chosen.items():
            name, sessions = self._vms[number]
            launches = [
                entry for file in self._domains.get(name, ()) for entry in libvirt_domain.read(file, skipped)
            ]
            timed = any(uses.times for uses in self._uses)
            readings[number] = Reading(launches, skipped, timed=timed)
            owners |= {it.key: (number, it) for it in sessions}
        yield from self._entries(readings, owners)
        for number, reading in readings.items():
            yield from ((number, entry) for entry in reading.rest())

    def _entries(
        self, readings: dict[int, Reading], owners: dict[tuple[bytes, int], tuple[int, Session]]
    ) -> Iterator[tuple[int, Entry]]:
        """Yield what the daemon's log tells of some VMs."""
        names = {self._vms[number][0].encode(): number for number in readings}
        greetings = {place: it for it in owners.values() for place in it[1].greetings}
        few = patterns_for({pointer for pointer, _ in owners})
        sessions = Sessions()
        for at, (file, uses) in enumerate(zip(self._daemon, self._uses, strict=True)):
            sessions.uses = uses
            for block in marks(file, self._cut, few if uses.whole else EVERY):
                for mark in block:
                    session, kind = sessions.see(mark), mark.kind
                    if kind == "daemon":
                        for number, reading in readings.items():
                            yield from ((number, entry) for entry in reading.daemon_began(file.name, mark))
                    elif kind == "stopped":
                        if (number := names.get(mark.text, -1)) >= 0:
                            yield from ((number, it) for it in readings[number].stopped(file.name, mark))
                    else:
                        if kind == "line" and not uses.lines:
                            owner = greetings.get((at, mark.line))
                        else:
                            owner = owners.get(session.key) if session is not None else None
                        if owner is not None:
                            number, own = owner
                            for entry in readings[number].see(own, file.name, mark, uses):
                                yield number, entry
                for number, reading in readings.items():
                    yield from ((number, entry) for entry in reading.flush(file.name))


def _whole(name: str, names: Sequence[str]) -> str:
    """Return the name that begins so: the path of a socket holds at most 20 characters (domain_conf.c)."""
    if len(name) < _SHORT:
        return name
    return next((it for it in names if it.startswith(name) and it != name), name)


class _Survey:
    """A first look: which monitors there are, what they are named, and which telling of messages is complete."""

    def __init__(self) -> None:
        self.uses: list[Uses] = []
        self._sessions = Sessions()
        self._all: dict[tuple[bytes, int], Session] = {}
        self._starts: dict[bytes, list[int]] = {}
        self._greetings: dict[bytes, list[tuple[int, int]]] = {}
        self._known: set[tuple[bytes, bytes]] = set()

    def look(self, number: int, file: TraceFile, cut: Blocks) -> None:
        """Look at a file, the first, second, ... by its number; what repeats itself is passed over."""
        uses = self._sessions.uses = Uses()
        self.uses.append(uses)
        self._known.clear()
        for mark in chain.from_iterable(marks(file, cut, EVERY, self._known)):
            uses.note(mark)
            if mark.kind == "starting":
                self._starts.setdefault(mark.text, []).append(self._sessions.place)
            elif mark.kind in ("new", "close", "daemon"):
                self._known -= {it for it in self._known if not mark.monitor or it[1] == mark.monitor}
            session = self._sessions.see(mark)
            if mark.kind == "line" and mark.text.startswith(b'{"QMP"'):
                self._greetings.setdefault(mark.thread, []).append((number, mark.line))
            if session is not None:
                self._all[session.key] = session
                self._note(session, mark)

    def _note(self, session: Session, mark: Mark) -> None:
        kind = mark.kind
        session.seen.add(kind)
        if kind in _REPEATED:
            self._known.add((_REPEATED[kind], mark.monitor))
        if kind in ("named", "job"):
            session.name, session.short = mark.text, False
        elif kind == "socket":
            session.domain = mark.more
            session.short = not session.name
            session.name = session.name or mark.text
        elif kind == "act":
            session.probe = False
        elif kind in ("reply", "event", "write"):
            if kind == "event" and b'"SHUTDOWN"' not in mark.text:
                session.probe = False
                self._known.add((b"RECV_EVENT", mark.monitor))
            for greeting in self._greetings.pop(mark.thread, ()):
                session.greetings.add(greeting)
        if self._sessions.uses.received:
            self._known.add(LINES)

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
