r"""Logs of a message a line, behind a time: avocado-vt's and Incus's.

avocado-vt (``avocado-vt/virttest/qemu_monitor.py``, file ``MONITOR-VM-pid-PID.log``) writes local time and no
direction; Incus (``internal/server/instance/drivers/qmp``, file ``qemu.qmp.log``) writes both::

    2024-03-01 12:00:00: {"execute": "query-status", "id": "a1b2c3d4"}

    [2024-03-01T12:00:00Z] QUERY: {"execute":"query-status"}
    [2024-03-01T12:00:00Z] REPLY: {"return": {"status": "running", "running": true}}

    [2024-03-01T12:00:01Z] Event: {"event": "RTC_CHANGE", ...}
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from qemustate.events.importers.conversation import Found, Skipped
from qemustate.events.importers.files import TraceFile, lines
from qemustate.events.importers.telling import Said, finder
from qemustate.events.importers.times import read_time

_AVOCADO: Final = re.compile(rb"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d): ([{\[].*)", re.DOTALL)
_INCUS: Final = re.compile(rb"\[(\d{4}-\d\d-\d\dT[^\]\n]{8,40})\] (QUERY|REPLY|Event): (.*)", re.DOTALL)
_AVOCADO_HEAD: Final = re.compile(rb"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d: \{", re.MULTILINE)
_INCUS_HEAD: Final = re.compile(
    rb"^\[\d{4}-\d\d-\d\dT[^\]\n]{8,40}\] (?:QUERY|REPLY|Event): \{", re.MULTILINE
)
_AVOCADO_NAME: Final = re.compile(r".+?-(.+)-pid-\d+")


def sniff_avocado(head: bytes) -> bool:
    """Say whether a line is a time and a message."""
    return _AVOCADO_HEAD.search(head) is not None


def sniff_incus(head: bytes) -> bool:
    """Say whether a line is a time in brackets, who speaks, and a message."""
    return _INCUS_HEAD.search(head) is not None


def _scan_avocado(file: TraceFile, _skipped: Skipped) -> Iterator[Said]:
    for number, line in lines(file):
        if found := _AVOCADO.match(line):
            yield Said("", number, read_time(found[1]), None, found[2])


def _scan_incus(file: TraceFile, _skipped: Skipped) -> Iterator[Said]:
    for number, line in lines(file):
        if found := _INCUS.match(line):
            yield Said("", number, read_time(found[1]), found[2] == b"QUERY", found[3])


_avocado = finder(_scan_avocado)
_incus = finder(_scan_incus)


def find_avocado(files: Sequence[TraceFile]) -> list[Found]:
    """Return the VM, by the name that stands in the file's."""
    named = _AVOCADO_NAME.fullmatch(files[0].stem)
    return [msgspec.structs.replace(it, name=named[1]) if named else it for it in _avocado(files)]


def find_incus(files: Sequence[TraceFile]) -> list[Found]:
    """Return the VM, by the name of the folder: every instance's log is called ``qemu.qmp.log``."""
    folder = Path(files[0].shown).parent.name
    named = folder if files[0].stem == "qemu" and folder else ""
    return [msgspec.structs.replace(it, name=named) if named else it for it in _incus(files)]
