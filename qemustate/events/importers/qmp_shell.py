"""Transcripts of ``qmp-shell`` (QEMU's qemu/qmp/qmp_shell.py): what ``-v`` prints, and what ``-l`` logs.

::

    (QEMU) {"execute": "cont", "arguments": {}}
    {"return": {}}
    (QEMU) {'timestamp': {'seconds': 1795387520, 'microseconds': 664753}, 'event': 'RESUME'}

    {"execute": "cont", "arguments": {}, "return": {}}

Events are printed as Python prints them, when the next line is entered. A log has command and answer in one
object, and no events.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from qemustate.events.importers.conversation import Entry, Skipped
from qemustate.events.importers.files import TraceFile
from qemustate.events.importers.qmp_text import Dialect, read_dialect
from qemustate.qmp.framing import Document
from qemustate.qmp.jsontext import print_compact, print_qemu

_PROMPT: Final = re.compile(rb"\(QEMU\) ?")
_PROMPTS: Final = re.compile(rb"^\(QEMU\) ", re.MULTILINE)
_MERGED: Final = re.compile(
    rb'^\{"execute": "[\w-]+", "arguments": \{.*\}, "(?:return|error)": ', re.MULTILINE
)
_PYTHON: Final = re.compile(rb"(?<![\w'\"])(?:True|False|None)(?![\w'\"])")

#: The longest event in Python's words that is taken, in bytes: Python's parser takes much memory.
_REPR_LIMIT: Final = 1 << 20


def sniff(head: bytes) -> bool:
    """Say whether there is a prompt, or a command and its answer in one object."""
    return _PROMPTS.search(head) is not None or _MERGED.search(head) is not None


def lacks(_files: Sequence[TraceFile], head: bytes) -> tuple[str, ...]:
    """Return what such a transcript cannot show."""
    missing = ("times", "beginning", "process")
    return missing if _PROMPTS.search(head) else ("events", *missing)


def read(files: Sequence[TraceFile], skipped: Skipped) -> Iterator[Entry]:
    """Yield the entries of a VM's files. Raises BadInput where a file cannot be read at all."""
    return read_dialect(_DIALECT, files, skipped)


def _repair(line: bytes) -> bytes:
    """Return a line in JSON, where it is an event as Python prints it."""
    if not line.startswith(b"{'") or len(line) > _REPR_LIMIT or _PYTHON.search(line) is None:
        return line
    try:
        return print_qemu(ast.literal_eval(line.decode()))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return line


def _split(document: Document) -> Iterable[Document]:
    """Yield command and answer one after the other."""
    value = document.value
    answer = next((it for it in ("return", "error") if isinstance(value, dict) and it in value), "")
    if not answer or "execute" not in value:
        yield document
        return
    command = {name: it for name, it in value.items() if name != answer}
    yield Document(command, print_compact(command), document.offset)
    yield Document({answer: value[answer]}, print_qemu({answer: value[answer]}), document.offset)


_LATE: Final = "qmp-shell shows events when the next line is entered, or not at all"

_DIALECT: Final = Dialect(_PROMPT, quiet=True, repair=_repair, split=_split, exact=False, gap=_LATE)
