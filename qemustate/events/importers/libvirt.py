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

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from qemustate.events.importers import libvirt_domain, libvirt_marks
from qemustate.events.importers.conversation import Entry, Found, Skipped
from qemustate.events.importers.files import TraceFile, blocks
from qemustate.events.importers.libvirt_marks import EVERY, Blocks, marks, patterns_for
from qemustate.events.importers.libvirt_reading import Reading
from qemustate.events.importers.libvirt_sessions import Session, Sessions, Uses
from qemustate.events.importers.libvirt_survey import Survey


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
    survey = Survey()
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
        for _, entries in self._read({number: skipped}):
            yield from entries

    def together(self, skipped: Sequence[Skipped]) -> Iterator[tuple[int, Entry]]:
        """Yield the entries of all VMs, each with the VM's number."""
        for number, entries in self._read(dict(enumerate(skipped))):
            for entry in entries:
                yield number, entry

    def _read(self, chosen: dict[int, Skipped]) -> Iterator[tuple[int, Iterable[Entry]]]:
        """Yield the entries of some VMs, each some with the VM's number: to be taken before the next are asked for."""
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
            yield number, reading.rest()

    def _entries(
        self, readings: dict[int, Reading], owners: dict[tuple[bytes, int], tuple[int, Session]]
    ) -> Iterator[tuple[int, Iterable[Entry]]]:
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
                            yield number, reading.daemon_began(file.name, mark)
                    elif kind == "stopped":
                        if (number := names.get(mark.text, -1)) >= 0:
                            yield number, readings[number].stopped(file.name, mark)
                    else:
                        if kind == "line" and (mark.greets or not uses.lines):
                            owner = greetings.get((at, mark.line))
                        else:
                            owner = owners.get(session.key) if session is not None else None
                        if owner is not None:
                            number, own = owner
                            if told := readings[number].see(own, file.name, mark, uses):
                                yield number, told
                for number, reading in readings.items():
                    yield number, reading.flush(file.name)
