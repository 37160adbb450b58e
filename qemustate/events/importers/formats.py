"""The foreign formats we read, and which of them a file is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final, Protocol

import msgspec

from qemustate.errors import BadInput
from qemustate.events.importers import (
    iotests,
    kata,
    kubevirt,
    libvirt,
    libvirt_follow,
    qemu_qmp,
    qemu_trace,
    qmp_jsonl,
    qmp_shell,
    qmp_text,
    stamped,
)
from qemustate.events.importers.conversation import Entry, Found, Skipped
from qemustate.events.importers.files import TraceFile
from qemustate.events.records import MESSAGE_KINDS

#: Return the VMs that some files tell of. Raises BadInput where a file cannot be read.
Find = Callable[[Sequence[TraceFile]], list[Found]]


class Format(msgspec.Struct, frozen=True):
    """A foreign format: its name, what it is in one line, how to know it, and the VMs that files of it tell of.

    ``sniff(head)`` looks at the first bytes of a file. A trace without any record of the kinds ``proof`` is none.
    ``follow``, where there is one, yields the entries of a growing file's VMs, of which more may come, with their
    names; it returns None where a file of this format tells of one VM only.
    """

    name: str
    what: str
    sniff: Callable[[bytes], bool]
    find: Find
    proof: frozenset[str] = MESSAGE_KINDS
    follow: Callable[[TraceFile, Skipped], Iterator[tuple[str, Entry]] | None] | None = None


class _Single(Protocol):
    """A module that reads files of which all tell of one VM."""

    def lacks(self, files: Sequence[TraceFile], head: bytes, /) -> tuple[str, ...]:
        """Return what these files cannot show, of :data:`qemustate.events.records.LACKS`."""
        ...

    def read(self, files: Sequence[TraceFile], skipped: Skipped, /) -> Iterator[Entry]:
        """Yield the entries."""
        ...


def _single(module: _Single) -> Find:
    """Return a finder of the one VM, named as the first file is."""

    def find(files: Sequence[TraceFile]) -> list[Found]:
        return [Found(files[0].stem, module.lacks(files, files[0].head()), partial(module.read, files))]

    return find


#: Some traces tell of a launch, and of nothing else of a VM.
_LAUNCHES: Final = MESSAGE_KINDS | {"spawned", "exited"}

#: In the order they are asked: the loosest last.
FORMATS: Final = (
    Format(
        "qmp-jsonl",
        'lines {"t", "dir", "raw"} of a recorded socket, with NAME.meta.json beside',
        qmp_jsonl.sniff,
        _single(qmp_jsonl),
    ),
    Format(
        "libvirt",
        "libvirt's debug log, and its logs of the domains",
        libvirt.sniff,
        libvirt.find,
        _LAUNCHES,
        libvirt_follow.follow,
    ),
    Format(
        "kubevirt",
        "libvirt's log as KubeVirt's virt-launcher wraps it",
        kubevirt.sniff,
        kubevirt.find,
        follow=kubevirt.follow,
    ),
    Format(
        "qemu-trace",
        "QEMU's -trace handle_qmp_command and monitor_qmp_respond",
        qemu_trace.sniff,
        _single(qemu_trace),
    ),
    Format("kata", "logs of Kata Containers, Go or Rust", kata.sniff, kata.find, _LAUNCHES),
    Format("incus", "Incus's qemu.qmp.log", stamped.sniff_incus, stamped.find_incus),
    Format("avocado-vt", "avocado-vt's log of a monitor", stamped.sniff_avocado, stamped.find_avocado),
    Format("qemu.qmp", "the debug log of the library qemu.qmp", qemu_qmp.sniff, qemu_qmp.find),
    Format("qmp-shell", "transcripts of qmp-shell -v, and its -l log", qmp_shell.sniff, _single(qmp_shell)),
    Format("iotests", "outputs of QEMU's iotests", iotests.sniff, _single(iotests)),
    Format("qmp-text", "plain QMP messages, as socat leaves them", qmp_text.sniff, _single(qmp_text)),
)

BY_NAME: Final = {it.name: it for it in FORMATS}

#: The names, for messages and options.
NAMES: Final = tuple(BY_NAME)

#: Formats of which all files of a directory are read as one trace.
TOGETHER: Final = frozenset({"libvirt"})


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


def read(form: Format, found: Found, shown: str, skipped: Skipped) -> Iterator[Entry]:
    """Yield the entries of one VM of files shown by a name. Raises BadInput, at the end, where there was none."""
    entries = found.read(skipped)
    for entry in entries:
        yield entry
        if entry[0] in form.proof:
            yield from entries
            return
    seen = f"none; {next(skipped.lines())}" if skipped.count else "none"
    raise BadInput(shown, expected=f"QMP messages ({form.name})", seen=seen)
