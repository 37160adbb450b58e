r"""What matters in libvirt's debug log, line by line.

A line is ``TIME: THREAD: PRIORITY : FUNCTION:LINE : TEXT`` (libvirt ``src/util/virlog.c``); journald and syslog
keep only ``libvirtd[PID]: TEXT``. The texts that matter, with the format strings of ``src/qemu/qemu_monitor.c``,
``qemu_monitor_json.c``, ``qemu_domain.c`` and ``qemu_process.c``::

    QEMU_MONITOR_SEND_MSG: mon=%p msg=%s fd=%d            a command; its CR LF puts fd= on a second line
    QEMU_MONITOR_IO_WRITE: mon=%p buf=%s len=%zu ret=%d   the command again, as it is written
    QEMU_MONITOR_RECV_REPLY: mon=%p reply=%s
    QEMU_MONITOR_RECV_EVENT: mon=%p event=%s
    QEMU_MONITOR_NEW: mon=%p fd=%d, QEMU_MONITOR_CLOSE: mon=%p
    Line [%s]                                             reply, event or greeting again, of no named monitor
    .../domain-ID-NAME/monitor.sock                       within a reply: that to query-chardev
    Entering monitor (mon=%p vm=%p name=%s)
    job '%s'(domain: %p,%s) state changed to '%s'(%d)
    conn=... vm=%p name=%s id=%d asyncJob=...             of qemuProcessStart: a QEMU is launched
    Shutting down vm=%p name=%s id=%d pid=%lld, reason=%s
    libvirt version: %s                                   a daemon begins

The guest agent's messages stand as ``Line [%s]`` of ``qemuAgentIOProcessLine`` and are none of QEMU's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Final, TypeAlias

import msgspec

from qemustate.events.importers.files import TraceFile, blocks

Blocks: TypeAlias = Callable[[TraceFile], Iterator[tuple[int, bytes]]]


class Mark(msgspec.Struct, gc=False):
    """One line that matters: its kind, number, time as it stands, thread or process, monitor, and the rest of it.

    ``text`` is the JSON text of ``send``, ``write``, ``reply``, ``event`` and ``line`` marks, and the name of the
    domain of ``named``, ``socket``, ``starting``, ``stopped`` and ``job`` marks; ``more`` is what came behind:
    ``fd=3``, the reason of a stop, the number of the domain, the state of a job, whose id is ``job``. An ``act`` is a
    ``send`` once more: of a command that is more than a question about QEMU.
    """

    kind: str
    line: int
    when: bytes
    thread: bytes
    monitor: bytes
    text: bytes
    more: bytes = b""
    job: bytes = b""

    @property
    def greets(self) -> bool:
        """Whether it is QEMU's greeting, which only a line shows, and no line of whose monitor it is."""
        return self.kind == "line" and self.text.startswith(b'{"QMP"')


#: What stands before a text.
_HEAD: Final = re.compile(
    rb"(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}[+-]\d{4}): (?P<thread>\d+): \w+ : (?:(?P<func>\w+):\d+ : )?"
    rb"|[^\n{]{0,160}?(?:libvirtd|virtqemud)\[(?P<pid>\d+)\]: (?:(?P<func2>\w+):\d+ : )?|"
)

#: Patterns begin with plain text, which Python looks for ten times as fast as for anything else.
_MONITOR: Final = rb"QEMU_MONITOR_(?P<kind>%b): mon=(?P<mon>%b)(?![0-9a-f])(?P<rest>[^\n]*(?:\n [^\n]*)?)"
_DAEMON: Final = b"libvirt version: "
_LIFE: Final = (
    re.compile(
        rb"Shutting down vm=\S+ name=(?P<stopped>[^\n]*?) id=-?\d+ pid=-?\d+, reason=(?P<reason>[\w-]+)"
    ),
    re.compile(rb"(?P<daemon>%b)" % _DAEMON),
)

#: In a reply to query-chardev, also where only a line tells it: the number and the name of the domain.
_SOCKET: Final = re.compile(rb"/domain-(?P<number>\d+)-(?P<short>[^\"/\\\n]+)/monitor\.sock")
#: A command that is not for learning what a QEMU can do (libvirt src/qemu/qemu_capabilities.c).
_ACT: Final = re.compile(
    rb"QEMU_MONITOR_SEND_MSG: mon=(?P<actor>0x[0-9a-f]+) msg=\{\"execute\":\""
    rb"(?!query-(?!chardev|status)|qom-list|device-list-|qmp_capabilities)"
)

_REPLY: Final = b"QEMU_MONITOR_RECV_REPLY: mon="
_LINE: Final = b"Line [{"
_POINTER: Final = re.compile(rb"0x[0-9a-f]+")

#: Greetings, which only a line shows.
_GREETINGS: Final = re.compile(rb'Line \[(?P<json>\{"QMP"[^\n]*)')

#: What finds every mark.
EVERY: Final = (
    re.compile(_MONITOR % (b"SEND_MSG|IO_WRITE|RECV_REPLY|RECV_EVENT|NEW|CLOSE", b"0x[0-9a-f]+")),
    re.compile(rb"Line \[(?P<json>\{[^\n]*)"),
    re.compile(rb"Entering monitor \(mon=(?P<at>0x[0-9a-f]+) vm=0x[0-9a-f]+ name=(?P<name>[^\n]*)\)"),
    re.compile(rb"conn=\S+ driver=\S+ vm=\S+ name=(?P<starting>[^\n]*?) id=-?\d+ asyncJob="),
    re.compile(
        rb"job '(?P<job>[^'\n]+)'\(domain: 0x[0-9a-f]+,(?P<domain>[^\n]*?)\) state changed to '(?P<state>[\w-]+)'"
    ),
    _SOCKET,
    _ACT,
    *_LIFE,
)


def patterns_for(pointers: Iterable[bytes]) -> Sequence[re.Pattern[bytes]]:
    """Return what finds the marks of some monitors, where SEND_MSG and RECV_* tell all: much less to look at."""
    named = b"|".join(sorted(pointers)) or b"(?!)"
    own = _MONITOR % (b"SEND_MSG|RECV_REPLY|RECV_EVENT|NEW|CLOSE", b"(?:" + named + b")")
    return re.compile(own), _GREETINGS, *_LIFE


_KINDS: Final = {
    b"SEND_MSG": "send",
    b"IO_WRITE": "write",
    b"RECV_REPLY": "reply",
    b"RECV_EVENT": "event",
    b"NEW": "new",
    b"CLOSE": "close",
}
_SNIFF: Final = re.compile(
    rb"^(?:\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}[+-]\d{4}: \d+: (?:debug|info|warning|error) : "
    rb"|[^\n{]{0,160}?QEMU_MONITOR_[A-Z_]+: mon=0x)",
    re.MULTILINE,
)

#: What says, without a function's name, that a line is of QEMU's monitor: the guest agent's have none of these.
_OURS: Final = (b'"id": "libvirt-', b'"event": ', b'{"QMP"')


def sniff(head: bytes) -> bool:
    """Say whether a line begins as one of libvirt's log does."""
    return _SNIFF.search(head) is not None


def marks(
    file: TraceFile,
    cut: Blocks = blocks,
    patterns: Sequence[re.Pattern[bytes]] = EVERY,
    known: Collection[tuple[bytes, bytes]] = (),
) -> Iterator[Iterator[Mark]]:
    """Yield the marks of each block of lines that ``cut`` cuts a file into. Raises BadInput as that does.

    Passed over are lines of a kind and a monitor that are ``known``, and with LINES those that only repeat; whoever
    takes the marks may change what is known between two of them.
    """
    heads = _Heads()
    for number, block in cut(file):
        yield _of_block(number, block, heads, patterns, known)


def _of_block(
    number: int,
    block: bytes,
    heads: _Heads,
    patterns: Sequence[re.Pattern[bytes]],
    known: Collection[tuple[bytes, bytes]],
) -> Iterator[Mark]:
    monitors, lines, *others = patterns
    if LINES in known and block.find(_DAEMON) < 0:
        # They stay known in all of this block: none needs to be found to be passed over.
        lines = _GREETINGS
        patterns = monitors, lines, *others
    found = [it for pattern in patterns for it in pattern.finditer(block)]
    if found and found[-1].re is not monitors:
        found.sort(key=_start)
    last = 0
    for it in found:
        if known:
            if it.re is monitors:
                if it.group(1, 2) in known:
                    continue
            elif it.re is _ACT:
                if (b"act", it[1]) in known:
                    continue
            elif it.re is lines and LINES in known and not block.startswith(b'{"QMP"', it.start(1)):
                continue
        at = block.rfind(b"\n", 0, it.start()) + 1
        # A socket's path stands within a reply, all else where a text begins.
        begin = _reply_before(block, at, it.start()) if it.re is _SOCKET else it.start()
        head = heads.read(block[at:begin]) if begin >= 0 else None
        if head is None:
            continue
        number += block.count(b"\n", last, at)
        last = at
        mark = _message(it, head, number) if it.re is monitors else _mark(it, head, number)
        if mark is not None:
            yield mark


def _reply_before(block: bytes, line: int, end: int) -> int:
    """Return where the text of the line begins in which a reply reaches up to ``end``; -1 where there is none."""
    begin = block.find(_REPLY, line, end)
    return begin if begin >= 0 else block.find(_LINE, line, end)


#: Known when the log has RECV_*, which ``Line [`` only repeats.
LINES: Final = (b"Line", b"")


def _start(found: re.Match[bytes]) -> int:
    return found.start()


class _Heads:
    """What stands before the texts: of few kinds, but for the time, so that each kind is looked at once."""

    #: So many kinds are kept.
    _MOST: Final = 4096

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[bytes, bytes | None]] = {}

    def read(self, head: bytes) -> tuple[bytes, bytes, bytes | None] | None:
        """Return time, thread and function (None where it does not say); None where this is no head."""
        known = self._known.get(head[_TIME:])
        if known is not None:
            return head[:_TIME], *known
        found = _HEAD.fullmatch(head)
        if found is None:
            return None
        when, thread, function, pid, function2 = found.groups()
        if when is None:
            return head[:_STAMP], pid or b"", function2
        if len(self._known) == self._MOST:
            self._known.clear()
        self._known[head[_TIME:]] = thread, function
        return when, thread, function


#: How long libvirt's time is; and any time at the beginning of a line, at most.
_TIME: Final = len("2026-11-23 14:25:15.038+0000")
_STAMP: Final = 40


def _message(found: re.Match[bytes], head: tuple[bytes, bytes, bytes | None], line: int) -> Mark:
    kind, pointer, rest = found.groups()
    # What follows the text, " fd=-1" or " len=79 ret=79 errno=0", has no brace.
    end = rest.rfind(b"}") + 1
    text = rest[rest.find(b"{") : end] if end else rest[rest.find(b"=") + 1 :]
    return Mark(_KINDS[kind], line, head[0], head[1], pointer, text, rest[end:])


def _mark(found: re.Match[bytes], head: tuple[bytes, bytes, bytes | None], line: int) -> Mark | None:
    group = found.lastgroup
    when, thread, function = head
    if group == "json":
        text = found["json"]
        if function is None and not any(sign in text for sign in _OURS):
            return None
        if function == b"qemuAgentIOProcessLine":
            return None
        return Mark("line", line, when, thread, b"", text[: text.rfind(b"]")])
    if group == "short":
        begin = found.string.rfind(b"\n", 0, found.start()) + 1
        named = found.string.find(_REPLY, begin, found.start()) >= 0
        pointer = _POINTER.search(found.string, begin, found.start()) if named else None
        return Mark(
            "socket", line, when, thread, pointer[0] if pointer else b"", found["short"], found["number"]
        )
    if group == "actor":
        return Mark("act", line, when, thread, found["actor"], b"")
    if group == "name":
        return Mark("named", line, when, thread, found["at"], found["name"])
    if group == "state":
        return Mark("job", line, when, thread, b"", found["domain"], found["state"], found["job"])
    if group == "reason":
        return Mark("stopped", line, when, thread, b"", found["stopped"], found["reason"])
    if group == "starting":
        return Mark("starting", line, when, thread, b"", found["starting"])
    return Mark("daemon", line, when, thread, b"", b"")
