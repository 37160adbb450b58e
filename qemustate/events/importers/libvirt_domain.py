r"""libvirt's log of one domain, ``/var/log/libvirt/qemu/NAME.log``: its launches and its ends.

::

    2026-11-23 14:25:23.317+0000: starting up libvirt version: 9.0.0, ..., qemu version: 7.2.22, ...
    LC_ALL=C \
    PATH=... \
    /usr/bin/qemu-system-x86_64 \
    -name guest=ho2,debug-threads=on \
    ...
    2026-11-23 14:25:51.764+0000: shutting down, reason=destroyed

The rest is what QEMU wrote to its standard error, and is passed over. How a process ended, nobody tells.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from qemustate.events.importers.conversation import Entry, Skipped
from qemustate.events.importers.files import TraceFile, lines
from qemustate.events.importers.times import read_time
from qemustate.events.redact import redact_argv

_STAMP: Final = rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}[+-]\d{4}: "
_SNIFF: Final = re.compile(rb"^" + _STAMP + rb"(?:starting up|shutting down|Domain id=)", re.MULTILINE)
_LINE: Final = re.compile(_STAMP + rb"(starting up|shutting down(?:, reason=([\w-]+))?)")
_VARIABLE: Final = re.compile(r"\w+=")

#: The longest command line taken, in bytes: Linux takes 2 MiB (execve(2)).
_COMMAND_LIMIT: Final = 4 << 20


def sniff(head: bytes) -> bool:
    """Say whether a line tells of a domain's start or end."""
    return _SNIFF.search(head) is not None


def name_of(file: TraceFile, entries: Sequence[Entry]) -> str:
    """Return the domain's name: that of its command line, else that of the file."""
    for _, _, body in entries:
        argv = body.get("argv", [])
        for option, value in pairwise(argv):
            if option == "-name":
                words = re.split(r"(?<!,),(?!,)", value)
                named = next((it for it in words if it.startswith("guest=")), words[0])
                return str(named.removeprefix("guest=").replace(",,", ","))
    return file.stem


def read(file: TraceFile, skipped: Skipped) -> list[Entry]:
    """Return the entries of a domain's log: ``spawned``, ``lost`` and ``exited``, each with its time.

    Raises BadInput where the file cannot be read.
    """
    return list(_entries(file, skipped))


def _entries(file: TraceFile, skipped: Skipped) -> Iterator[Entry]:
    told = lines(file)
    running = False
    for number, line in told:
        found = _LINE.match(line)
        if found is None:
            continue
        origin, time = [file.name, number], read_time(line)
        if found[1] == b"starting up":
            argv = _argv(told)
            if isinstance(argv, str):
                skipped.add(file.name, number, argv)
                continue
            if running:
                yield "exited", time, {"origin": origin}
            running = True
            yield "spawned", time, {"argv": redact_argv(argv), "origin": origin}
        elif running:
            running = False
            yield "lost", time, {"by": "us", "why": _why(found[2]), "origin": origin}
            yield "exited", time, {"origin": origin}


def _why(reason: bytes | None) -> str:
    return "libvirt shut it down" + (f": {reason.decode()}" if reason else "")


def _argv(told: Iterator[tuple[int, bytes]]) -> list[str] | str:
    """Return the command line on the next lines, without the environment before it, or why there is none."""
    text = b""
    for _, line in told:
        part = line.rstrip(b"\r\n")
        text += part.removesuffix(b"\\")
        if len(text) > _COMMAND_LIMIT:
            return f"a command line longer than {_COMMAND_LIMIT} bytes"
        if not part.endswith(b"\\"):
            break
    try:
        words = shlex.split(text.decode(errors="replace"))
    except ValueError as error:
        return f"no command line: {error}"
    while words and _VARIABLE.match(words[0]):
        del words[0]
    return words or "no command line"
