"""The entries of one VM from the marks of libvirt's log, and from the log of its domain."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Final

import msgspec

from qemustate.events.importers.conversation import Conversation, Entry, Skipped
from qemustate.events.importers.files import LINE_LIMIT
from qemustate.events.importers.libvirt_marks import Mark
from qemustate.events.importers.libvirt_sessions import Session, Uses
from qemustate.events.importers.times import read_milliseconds
from qemustate.qmp.classify import from_client, from_qemu
from qemustate.qmp.framing import Document, Malformed
from qemustate.qmp.jsontext import JsonError, decode, decode_objects, print_qemu
from qemustate.qmp.messages import Command, Message

_FD: Final = re.compile(rb"\bfd=(\d+)")
_WRITTEN: Final = re.compile(rb"\blen=(\d{1,18}) ret=(-?\d{1,18})")

#: What needs no look beyond it once its monitor is open.
_PLAIN: Final = frozenset({"send", "reply", "event"})


class Reading:
    """Takes the marks of one VM in order, and yields its entries; ``launches`` are those of its domain's log.

    ``timed`` says that the marks have times, by which the launches can be put among them.
    """

    def __init__(self, launches: list[Entry], skipped: Skipped, *, timed: bool) -> None:
        self._skipped, self._timed = skipped, timed
        self._launches = launches[::-1]
        self._logged = bool(launches)
        self._conversation = Conversation()
        self._session: Session | None = None  # the one that is open
        self._running = self._ending = False
        self._unwritten = 0
        self._waiting: list[Mark] = []

    def see(self, session: Session, name: str, mark: Mark, uses: Uses) -> Iterable[Entry]:
        """Return the entries that a mark of one of the VM's sessions means; name and uses are the file's."""
        if session is self._session and not self._launches and mark.kind in _PLAIN:
            self._waiting.append(mark)
            return ()
        return chain(self.flush(name), self._own(session, mark, (name, mark.line), uses))

    def flush(self, name: str) -> list[Entry]:
        """Return the entries of the marks of a file, seen since the last time, that wait to be read together."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return []
        messages = _messages(waiting)
        if messages is None:
            return [
                entry
                for it in waiting
                for entry in self._message(it, (name, it.line), client=it.kind == "send")
            ]
        self._ending |= any(it.kind == "event" and _SHUTDOWN in it.text for it in waiting)
        times = [read_milliseconds(it.when) for it in waiting]
        return self._conversation.all_said(name, [it.line for it in waiting], times, messages)

    def daemon_began(self, name: str, mark: Mark) -> Iterator[Entry]:
        """Yield the end of the connection that the daemon before had."""
        yield from self.flush(name)
        yield from self._lose(read_milliseconds(mark.when), (name, mark.line), "libvirt was started again")

    def stopped(self, name: str, mark: Mark) -> Iterator[Entry]:
        """Yield that libvirt gave the domain up: it kills the QEMU, if it is still there (qemu_process.c)."""
        yield from self.flush(name)
        if self._logged:
            return  # its own log tells
        time, origin, reason = read_milliseconds(mark.when), (name, mark.line), mark.more.decode()
        self._ending |= reason == "crashed"
        yield from self._lose(time, origin, f"libvirt shut it down: {reason}")
        if self._running:
            self._running = False
            yield "exited", time, {"origin": [*origin]}

    def rest(self) -> Iterator[Entry]:
        """Yield what the domain's log tells after the last mark."""
        while self._launches:
            yield self._launches.pop()

    def _own(self, session: Session, mark: Mark, origin: tuple[str, int], uses: Uses) -> Iterator[Entry]:
        """Yield the entries of a mark of one of the VM's sessions."""
        kind = mark.kind
        while self._launches and (read_milliseconds(mark.when) >= self._launches[-1][1] or not self._timed):
            yield from self._told(self._launches.pop())
        if kind == "close":
            yield from self._lose(read_milliseconds(mark.when), origin, "libvirt closed its monitor")
            return
        if self._session is not session:
            yield from self._open(session, read_milliseconds(mark.when), origin)
        if kind == "send" or (kind == "write" and uses.writes and self._is_whole(mark)):
            yield from self._message(mark, origin, client=True)
        elif kind in ("reply", "event", "line"):
            yield from self._message(mark, origin, client=False)
        elif kind == "job" and uses.jobs:
            yield from self._job(mark, origin)

    def _told(self, entry: Entry) -> Iterator[Entry]:
        """Yield an entry of the domain's log."""
        kind, time, body = entry
        if kind == "lost":
            yield from self._lose(time, (body["origin"][0], body["origin"][1]), body["why"])
            return
        self._running = kind == "spawned"
        yield entry

    def _open(self, session: Session, time: int, origin: tuple[str, int]) -> Iterator[Entry]:
        """Yield that a monitor was opened, and that of a new QEMU, where it is one."""
        yield from self._lose(time, origin, "libvirt made another connection")
        self._session = session
        if session.fresh and not self._logged:
            if self._running:
                yield "exited", time, {"origin": [*origin]}
            yield "spawned", time, {"late": True, "origin": [*origin]}
        self._running = True
        # Only a debug log shows greetings, and an opened connection without one would be no whole story.
        if session.greetings:
            yield self._conversation.opened(time, origin, first=session.fresh and session.opened)

    def _lose(self, time: int, origin: tuple[str, int], why: str) -> Iterator[Entry]:
        if self._session is not None:
            # QEMU said that it goes: what comes of the connection is no loss of facts.
            by_us, self._session, self._ending = not self._ending, None, False
            yield self._conversation.lost(time, origin, why, by_us=by_us)

    def _message(self, mark: Mark, origin: tuple[str, int], *, client: bool) -> list[Entry]:
        text, when = mark.text, read_milliseconds(mark.when)
        if len(text) > LINE_LIMIT:
            self._skipped.add(*origin, f"longer than {LINE_LIMIT} bytes")
            return []
        try:
            document = Document(decode(text), text, 0)
        except JsonError as error:
            self._skipped.add(*origin, str(error))
            return []
        if client:
            return self._conversation.entries(document, when, origin, client=True, fds=_fds(mark))
        if mark.kind != "reply":
            self._ending |= _SHUTDOWN in text
        return self._conversation.entries(document, when, origin, client=False)

    def _is_whole(self, mark: Mark) -> bool:
        """Say whether this is the first write of a command: after a short one comes the rest."""
        whole = self._unwritten <= 0
        if found := _WRITTEN.search(mark.more):
            length, written = map(int, found.groups())
            self._unwritten = (length if whole else self._unwritten) - max(written, 0)
        return whole

    def _job(self, mark: Mark, origin: tuple[str, int]) -> list[Entry]:
        """Return the event that libvirt handled when it said this of a job."""
        name, status = mark.job.decode(errors="replace"), mark.more.decode()
        value = {"event": "JOB_STATUS_CHANGE", "data": {"status": status, "id": name}}
        document = Document(value, print_qemu(value), 0)
        return self._conversation.entries(
            document, read_milliseconds(mark.when), origin, client=False, own=False
        )


def _messages(found: list[Mark]) -> list[Message] | None:
    """Return the messages of some marks; None where one of them takes a closer look."""
    texts = [it.text for it in found]
    values = decode_objects(texts) if max(map(len, texts)) <= LINE_LIMIT else None
    if values is None:
        return None
    messages: list[Any] = []
    for mark, value in zip(found, values, strict=True):
        document = Document(value, mark.text, 0)
        if mark.kind != "send":
            messages.append(from_qemu(document))
            continue
        message = from_client(document, oob=True)
        if type(message) is Command and (fds := _fds(mark)):
            message = msgspec.structs.replace(message, fds=fds)
        messages.append(message)
    return None if Malformed in {*map(type, messages)} else messages


def _fds(mark: Mark) -> int:
    """Return how many descriptors went with a command: libvirt sends one or none."""
    more = mark.more
    return int(mark.kind == "send" and not more.endswith(b"fd=-1") and _FD.search(more) is not None)


_SHUTDOWN: Final = b'"event": "SHUTDOWN"'
