"""The foreign formats we read, and which of them a file is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec

from qemustate.errors import BadInput
from qemustate.events.importers import qemu_trace, qmp_jsonl, qmp_text
from qemustate.events.importers.conversation import Entry, Skipped
from qemustate.events.importers.files import TraceFile
from qemustate.events.records import MESSAGE_KINDS


class Format(msgspec.Struct, frozen=True):
    """A foreign format: its name, what it is in one line, how to know, describe and read it.

    ``sniff(head)`` looks at the first bytes; ``lacks(files, head)`` names what these files cannot show, of
    :data:`qemustate.events.records.LACKS`; ``read(files, skipped)`` yields the entries of one VM's files.
    """

    name: str
    what: str
    sniff: Callable[[bytes], bool]
    lacks: Callable[[Sequence[TraceFile], bytes], tuple[str, ...]]
    read: Callable[[Sequence[TraceFile], Skipped], Iterator[Entry]]


#: In the order they are asked: the loosest last.
FORMATS: Final = tuple(
    Format(name, what, module.sniff, module.lacks, module.read)
    for name, what, module in (
        (
            "qmp-jsonl",
            'lines {"t", "dir", "raw"} of a recorded socket, with NAME.meta.json beside',
            qmp_jsonl,
        ),
        ("qemu-trace", "QEMU's -trace handle_qmp_command and monitor_qmp_respond", qemu_trace),
        ("qmp-text", "plain QMP messages, as socat leaves them", qmp_text),
    )
)

#: The names, for messages and options.
NAMES: Final = tuple(it.name for it in FORMATS)


def recognise(file: TraceFile, name: str | None = None) -> Format:
    """Return the format of a file by its content, or the format of that name.

    Raises BadInput where the file cannot be read, or is none of them.
    """
    head = file.head()
    for it in FORMATS:
        if it.name == name or (name is None and it.sniff(head)):
            return it
    expected = f"a qemustate log or one of {', '.join(NAMES)}"
    raise BadInput(file.shown, expected=expected, seen=f"{head[:40]!r}")


def read(form: Format, files: Sequence[TraceFile], skipped: Skipped) -> Iterator[Entry]:
    """Yield the entries of one VM's files. Raises BadInput, at the end, where there was no QMP message."""
    none = True
    for entry in form.read(files, skipped):
        if none and entry[0] in MESSAGE_KINDS:
            none = False
        yield entry
    if none:
        seen = f"{skipped.count} lines that are none" if skipped.count else "none"
        raise BadInput(files[-1].shown, expected=f"QMP messages ({form.name})", seen=seen)
