r"""Kata Containers' logs, of four generations; several sandboxes may share one.

========================  ====================================================================================
runtime 1.x (Go)          ``msg="{\"execute\":\"quit\"}" ... subsystem=qmp``: commands, answers and events exactly
2.0 (Go)                  the same, and what was received after ``msg="read from QMP: ``
since 2.1 (Go)            events only: ``msg="got QMP event" event="{SHUTDOWN map[guest:false] 2021-... +0800 CST}"``
since 3.24 (Go)           commands too: ``msg="Executing QMP command: device_add: map[...]"``; no answers
runtime-rs                JSON lines: ``"msg":"The QMP received DEVICE_DELETED event for drive-1"``, and others
========================  ====================================================================================

A Go map is no JSON (:mod:`qemustate.events.importers.golang`). govmm takes QEMU's microseconds for nanoseconds:
the fraction of a second in ``event=`` is a thousandth of what QEMU said, which is undone here. The command
line stands in ``launching PATH with: [...]``, its words joined by spaces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from qemustate.events.importers.conversation import Skipped
from qemustate.events.importers.files import LINE_LIMIT, TraceFile, lines
from qemustate.events.importers.golang import fields, read_map
from qemustate.events.importers.telling import Fact, Said, finder
from qemustate.events.importers.times import read_time
from qemustate.events.redact import redact_argv
from qemustate.qmp.jsontext import print_qemu

_SNIFF: Final = re.compile(
    rb'subsystem=qmp|msg="got QMP event"|"msg":"(?:QMP initialized|The QMP received |hotplug_block_device\(\)|qemu args: )'
)
_SIGN: Final = re.compile(
    rb"subsystem=qmp|QMP|qmp|launching |device_add arguments|qemu args: |<- |-> execute "
)
_EVENT: Final = re.compile(
    r"\{(\w+) (map\[.*\]) (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(?:\.(\d{1,9}))? ([+-]\d{4})", re.DOTALL
)
_COMMAND: Final = re.compile(r"Executing QMP command: ([\w-]+): (map\[.*\])", re.DOTALL)
_LAUNCH: Final = re.compile(r"launching (\S+) with: \[?(.*?)\]?", re.DOTALL)
_DELETED: Final = re.compile(r'The QMP received DEVICE_DELETED event for "?([^\s"]+)')
_ADDED: Final = re.compile(r"device_add arguments: bus: ([^,]*), id: ([^,]*), driver: ([^,]*),")
_WIRE: Final = re.compile(r"(<-|-> execute) (?:([\w-]+): )?(\{.*)", re.DOTALL)
_RECEIVED: Final = "read from QMP: "


class _Line(msgspec.Struct):
    """A line of slog's JSON."""

    msg: str
    ts: str = ""
    sandbox: str = ""
    sandbox_id: str = msgspec.field(default="", name="sandbox-id")


_decode = msgspec.json.Decoder(_Line).decode


def sniff(head: bytes) -> bool:
    """Say whether a line is one of those that tell of QMP."""
    return _SNIFF.search(head) is not None


def scan(file: TraceFile, skipped: Skipped) -> Iterator[Said | Fact]:
    """Yield what a log tells of QMP and of the launch of QEMU."""
    for number, line in lines(file):
        if _SIGN.search(line) is None:
            continue
        if len(line) > LINE_LIMIT:
            skipped.add(file.name, number, f"longer than {LINE_LIMIT} bytes")
        elif line.startswith(b"{"):
            yield from _slog(line, number)
        else:
            yield from _logrus(line, number, file, skipped)


def _logrus(line: bytes, number: int, file: TraceFile, skipped: Skipped) -> Iterator[Said | Fact]:
    told = fields(line)
    text, vm = told.get("msg", ""), told.get("sandbox", "")
    time = read_time(told.get("time", "").encode())
    if text == "got QMP event":
        value = _event(told.get("event", ""))
        if value is None:
            skipped.add(file.name, number, "no event as Go prints it")
        else:
            yield Said(vm, number, time, client=False, text=print_qemu(value), own=False)
    elif found := _COMMAND.match(text):
        value = {"execute": found[1], "arguments": read_map(found[2])}
        yield Said(vm, number, time, client=True, text=print_qemu(value), own=False)
    elif found := _LAUNCH.fullmatch(text):
        yield _launched(vm, number, time, [found[1], *found[2].split(" ")])
    elif told.get("subsystem") == "qmp":
        received = text.startswith(_RECEIVED)
        text = text.removeprefix(_RECEIVED)
        if text.startswith("{"):
            client = False if received else None
            yield Said(vm, number, time, client, text.encode("utf-8", "surrogateescape"))


def _event(text: str) -> dict[str, Any] | None:
    """Return the event in a QMPEvent of govmm's, or None where there is none."""
    found = _EVENT.match(text)
    if found is None:
        return None
    name, data, clock, fraction, zone = found.groups()
    seconds = read_time(f"{clock} {zone}".encode()) // 1_000_000
    nanoseconds = int((fraction or "0").ljust(9, "0"))
    # A fraction beyond a thousandth of a second was never QEMU's microseconds.
    micro = nanoseconds if nanoseconds < 1_000_000 else nanoseconds // 1000
    value: dict[str, Any] = {"timestamp": {"seconds": seconds, "microseconds": micro}, "event": name}
    return {**value, "data": members} if (members := read_map(data)) else value


def _launched(vm: str, number: int, time: int, words: list[str]) -> Fact:
    """Return the launch of a command line that was joined by spaces: what begins no option goes on with a value."""
    argv: list[str] = []
    for word in words:
        if len(argv) > 2 and not word.startswith("-") and not argv[-1].startswith("-"):
            argv[-1] += f" {word}"
        else:
            argv.append(word)
    return Fact(vm, number, time, "spawned", {"argv": redact_argv(argv)})


def _slog(line: bytes, number: int) -> Iterator[Said | Fact]:
    try:
        it = _decode(line)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return
    vm, time, text = it.sandbox or it.sandbox_id, read_time(it.ts.encode("utf-8", "replace")), it.msg
    if found := _DELETED.match(text):
        value: dict[str, Any] = {"event": "DEVICE_DELETED", "data": {"device": found[1]}}
        yield Said(vm, number, time, client=False, text=print_qemu(value), own=False)
    elif found := _ADDED.search(text):
        bus, name, driver = (it.strip('"') for it in found.groups())
        value = {"execute": "device_add", "arguments": {"driver": driver, "id": name, "bus": bus}}
        yield Said(vm, number, time, client=True, text=print_qemu(value), own=False)
    elif text.startswith("qemu args: "):
        words = text.removeprefix("qemu args: ").split(" ")
        yield _launched(vm, number, time, words if not words[0].startswith("-") else ["qemu", *words])
    elif found := _WIRE.match(text):
        name, body = found[2], found[3].encode("utf-8", "surrogateescape")
        if name:
            body = b'{"execute": "' + name.encode() + b'", "arguments": ' + body + b"}"
        yield Said(vm, number, time, client=bool(name), text=body, own=not name)


find = finder(scan)
