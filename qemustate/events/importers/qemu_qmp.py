"""The debug log of QEMU's Python library ``qemu.qmp`` (qemu/qmp/protocol.py, message.py).

::

    DEBUG:qemu.qmp.qmp_client.testvm:--> {
      "execute": "query-status",
      "id": "__qmp#00000"
    }
    DEBUG:qemu.qmp.qmp_client.testvm:<-- {
    ...

Whatever the application puts before a message: the logger's name there tells the VM, and a time is read where
one begins the line. The library prints messages anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from qemustate.events.importers.conversation import Skipped
from qemustate.events.importers.files import LINE_LIMIT, TraceFile, lines
from qemustate.events.importers.telling import Fact, Said, finder
from qemustate.events.importers.times import read_time

_BEGIN: Final = re.compile(rb"([^\n{]{0,400}?)(-->|<--) (\{\}?)\r?\n?\Z")
_SNIFF: Final = re.compile(rb"^[^\n{]{0,400}?(?:-->|<--) \{\r?$", re.MULTILINE)
_LOGGER: Final = re.compile(rb"qmp_client(?:\.([\w.@+-]+))?")
_LEFT: Final = re.compile(rb"Task\.Reader: EOFError|Transitioning from '[\w.]+' to 'Runstate\.IDLE'")


def sniff(head: bytes) -> bool:
    """Say whether a pretty-printed message begins with an arrow."""
    return _SNIFF.search(head) is not None


def scan(file: TraceFile, skipped: Skipped) -> Iterator[Said | Fact]:
    """Yield the messages of a log, and where the library was disconnected."""
    begun: tuple[str, int, int, bool] | None = None
    text = bytearray()
    for number, line in lines(file):
        found = _BEGIN.match(line)
        if begun is not None and (found is not None or len(text) > LINE_LIMIT):
            skipped.add(file.name, begun[1], "a message without an end")
            begun = None
        if begun is not None:
            text += line
            if line.startswith(b"}"):
                yield Said(*begun, bytes(text), own=False)
                begun = None
        elif found is not None:
            before = found[1]
            begun = (_name(before), number, read_time(before), found[2] == b"-->")
            text = bytearray(found[3])
            if text == b"{}":
                yield Said(*begun, bytes(text), own=False)
                begun = None
        elif (left := _LEFT.search(line)) is not None:
            body = {} if b"EOF" in left[0] else {"by": "us"}
            yield Fact(_name(line), number, read_time(line), "lost", body)
    if begun is not None:
        skipped.add(file.name, begun[1], "a message without an end")


def _name(before: bytes) -> str:
    found = _LOGGER.search(before)
    return (found[1] or b"").decode() if found else ""


find = finder(scan)
