"""Outputs of QEMU's own tests, ``tests/qemu-iotests/*.out``: QMP with masks in it, among other text.

Masked are times (``"seconds":  TIMESTAMP``, or ``"SECS"``), numbers (``"len": LEN``), names, and the greeting
(``QMP_VERSION``) (common.filter, iotests.py). Commands stand in QEMU's own JSON, with single quotes, over
several lines, where they stand at all. A test runs several QEMUs, one after the other or at the same time,
prints an event when it has waited for it and leaves others out: there is a ``gap`` before each command, and before
what comes while no command waits for its answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from qemustate.events.importers import qmp_text
from qemustate.events.importers.conversation import Entry, Skipped
from qemustate.events.importers.files import TraceFile
from qemustate.events.importers.qmp_text import Dialect, read_dialect
from qemustate.qmp.jsontext import JsonError, decode, print_qemu

#: A mask, or what the tests and QEMU's image tools print besides QMP.
_SNIFF: Final = re.compile(
    rb'^QA output created by |^ *QMP_VERSION\r?$|:\s+TIMESTAMP[,}\r\n]|"(?:SECS|USECS)"|TEST_(?:DIR|IMG)|SOCK_DIR|IMGFMT'
    rb"|^Launching VM|^Job failed: |^(={2,3}|-{3}) .+ \1\r?$|^(?:wrote|read|discard) \d+/\d+ bytes at",
    re.MULTILINE,
)
#: A string, which stays as it is, or a mask.
_MASKED: Final = re.compile(
    rb"""("(?:[^"\\]|\\.)*+"|'(?:[^'\\]|\\.)*+')|(?<=[:,\[\s])([A-Z][A-Z_]+|\(filtered\))(?=\s*(?:[,}\]]|\Z))"""
)


def sniff(head: bytes) -> bool:
    """Say whether there is QMP, and a mask or other text of a test."""
    return qmp_text.sniff(head) and _SNIFF.search(head) is not None


def lacks(files: Sequence[TraceFile], head: bytes) -> tuple[str, ...]:
    """Return what such an output cannot show; ``head`` is its first bytes."""
    return qmp_text.lacks(files, head)


def read(files: Sequence[TraceFile], skipped: Skipped) -> Iterator[Entry]:
    """Yield the entries of a VM's files. Raises BadInput where a file cannot be read at all."""
    return read_dialect(_DIALECT, files, skipped)


def _repair(line: bytes) -> bytes:
    if line.rstrip().endswith(b"QMP_VERSION"):
        # Alone, or in the braces of a pretty-printed greeting.
        return b'"QMP": {}\n' if line.startswith(b" ") else b'{"QMP": {}}\n'
    line = _MASKED.sub(_quoted, line)
    return _unlisted(line) if line.startswith(b'[{"') and b'"event"' in line else line


def _unlisted(line: bytes) -> bytes:
    """Return the messages of a list one after the other: so are several events of one kind printed."""
    try:
        return b"\n".join(print_qemu(it) for it in decode(line)) + b"\n"
    except JsonError:
        return line


def _quoted(found: re.Match[bytes]) -> bytes:
    return found[1] or b'"' + found[2] + b'"'


_LATE: Final = "a test prints an event when it has waited for it, and not every one"

#: Python's test runner prints a point for each test.
_MARK: Final = re.compile(rb"\.+(?=\{)")

_DIALECT: Final = Dialect(_MARK, quiet=True, repair=_repair, exact=False, gap=_LATE)
