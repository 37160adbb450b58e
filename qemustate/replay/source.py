"""Opening any trace: our own log or a foreign format, found by looking at the content, not at the name."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeAlias

from qemustate.errors import BadInput
from qemustate.events.format import FORMAT_NAME, FORMAT_VERSION, looks_like_log, segment_numbers
from qemustate.events.importers import formats
from qemustate.events.importers.conversation import Entry, Found, Skipped
from qemustate.events.importers.files import TraceFile, is_compressed, pieces
from qemustate.events.reader import LogReader
from qemustate.events.records import Record
from qemustate.statemachine.state import VM
from qemustate.statemachine.tables import HASH

#: ``(seq, time, kind, body, checksum)``; the checksum of what is no log of ours is 0.
Item: TypeAlias = tuple[int, int, str, dict[str, Any], int]

_BATCH: Final = 512
_MOST_FILES: Final = 10_000


class LogTrace:
    """The records of one VM, from a log of ours."""

    def __init__(self, reader: LogReader, file: TraceFile) -> None:
        self._reader, self._file = reader, file
        self.shown = file.shown
        self.name = reader.vm
        self.format: str = FORMAT_NAME
        self.lacks: tuple[str, ...] = tuple(str(it) for it in reader.header.get("lacks", ()))
        self.skipped = Skipped()

    def start(self) -> VM:
        """Return the state before the first record: nothing, or the snapshot that heads a truncated log."""
        first = self._reader.first_seq
        snapshot = self._reader.nearest_snapshot(first + 1) if first > 1 else None
        return VM(self.name) if snapshot is None else VM.from_plain(snapshot.body["state"])

    def snapshot(self, seq: int) -> VM | None:
        """Return the latest state the log keeps that is not behind record ``seq``; None without one to be believed."""
        kept = self._reader.nearest_snapshot(seq + 1)
        if kept is None or kept.body["state"]["tables"] != HASH:
            return None
        return VM.from_plain(kept.body["state"])

    def batches(self, start_seq: int = 0) -> Iterator[list[Item]]:
        """Yield lists of items from ``start_seq`` on. Raises LogDamaged after the last whole one."""
        return self._reader.batches(start_seq)

    def follow(self, stop: threading.Event) -> Iterator[Record]:
        """Yield all records, and those a writer appends, until ``stop`` is set or the log is closed."""
        return self._reader.follow(stop)

    def ending(self) -> str:
        """Say how the log ends, once it was read to its end; "" where its writer closed it."""
        if self._reader.tail is not None:
            return f"not closed, and torn: {self._reader.tail}"
        return "" if self._reader.closed else "not closed: its writer still runs, or died"


class ForeignTrace:
    """The records of one VM, from files of a foreign format; numbered as an import would number them."""

    def __init__(self, form: formats.Format, found: Found, shown: str) -> None:
        self._form, self.found = form, found
        self.shown = shown
        self.name = found.name
        self.format = form.name
        self.lacks = found.lacks
        #: What the last reading could not read.
        self.skipped = Skipped()

    def start(self) -> VM:
        """Return the state before the first record."""
        return VM(self.name)

    def snapshot(self, _seq: int) -> VM | None:
        """Return None: foreign formats keep no states."""
        return None

    def header_extra(self) -> dict[str, Any]:
        """Return what the ``segment`` record of an import says of its origin."""
        return {"source": self.format, "lacks": list(self.lacks)}

    def entries(self) -> Iterator[Entry]:
        """Yield the entries, see :mod:`qemustate.events.importers.formats`; ``skipped`` is counted anew."""
        self.skipped = Skipped()
        return formats.read(self._form, self.found, self.shown, self.skipped)

    @staticmethod
    def entries_together(traces: Sequence[ForeignTrace]) -> Iterator[tuple[int, Entry]]:
        """Yield the entries of all VMs of some files with the number of the trace, in one reading where possible."""
        together = traces[0].found.together
        same = all(trace.found.together == together for trace in traces)
        if len(traces) == 1 or together is None or not same:
            yield from ((number, entry) for number, trace in enumerate(traces) for entry in trace.entries())
            return
        for trace in traces:
            trace.skipped = Skipped()
        yield from together([trace.skipped for trace in traces])

    def batches(self, start_seq: int = 0) -> Iterator[list[Item]]:
        """Yield lists of items from ``start_seq`` on. Raises BadInput where the file cannot be read on."""
        items = (item for item in self._items() if item[0] >= start_seq)
        while batch := list(islice(items, _BATCH)):
            yield batch

    def _items(self) -> Iterator[Item]:
        head = {"format": FORMAT_NAME, "version": FORMAT_VERSION, "vm": self.name, "segment": 1, "chain": 0}
        yield 1, 0, "segment", {**head, **self.header_extra()}, 0
        for seq, (kind, time, body) in enumerate(self.entries(), 2):
            yield seq, time, kind, body, 0

    def ending(self) -> str:
        """Say how the trace ends: nothing is known of that."""
        return ""


Trace: TypeAlias = LogTrace | ForeignTrace


def records(trace: Trace, start_seq: int = 0) -> Iterator[Record]:
    """Yield a trace's records from ``start_seq`` on."""
    for items in trace.batches(start_seq):
        for seq, time, kind, body, _ in items:
            yield Record(seq, time, kind, body)


class Source:
    """What one path holds: its ``format``, what it ``lacks``, and its VMs.

    A directory holds the traces in it, the parts of a rotated log as one; what is no trace is passed over.
    ``-`` is standard input. Pipes and compressed logs are copied to a temporary file, which is gone with
    the source. Raises BadInput when the path cannot be read, or holds no trace that we know.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.shown = os.fspath(path)
        self.vms: list[Trace] = _directory(self.shown) if Path(self.shown).is_dir() else _open(self.shown)
        names = {vm.format for vm in self.vms}
        self.format = names.pop() if len(names) == 1 else "several"
        self.lacks = tuple(dict.fromkeys(it for vm in self.vms for it in vm.lacks))

    def vm(self, name: str | None) -> list[Trace]:
        """Return the VMs of that name, all without a name. Raises BadInput when there is none."""
        chosen = [vm for vm in self.vms if name is None or vm.name == name]
        if not chosen:
            seen = ", ".join(vm.name for vm in self.vms)
            raise BadInput(self.shown, expected=f"a VM named {name}", seen=seen)
        return chosen


def open_foreign(paths: Sequence[str], form: str | None = None) -> list[ForeignTrace]:
    """Return the traces of the VMs that several files tell of together; ``form`` names their format.

    The parts of one rotated log are put in their order, other files stay in the order given. A directory stands
    for the traces in it. Raises BadInput when a file cannot be read, is of no format that we know, or they are of
    several formats.
    """
    if len(paths) == 1 and Path(paths[0]).is_dir():
        traces = [it for it in _directory(paths[0], form) if isinstance(it, ForeignTrace)]
        if not traces:
            raise BadInput(paths[0], expected="foreign traces", seen="logs of our own")
        return traces
    files = [_file(path) for path in paths]
    if len({file.part[0] for file in files}) == 1:
        files.sort(key=lambda file: file.part[1])
    found = [_foreign(file, form) for file in files]
    for file, it in zip(files, found, strict=True):
        if it is not found[0]:
            raise BadInput(file.shown, expected=f"{found[0].name}, as the first file", seen=it.name)
    return _traces(found[0], files)


def _traces(form: formats.Format, files: list[TraceFile]) -> list[ForeignTrace]:
    found = form.find(files)
    shown = files[0].shown
    if len(found) == 1:
        return [ForeignTrace(form, found[0], shown)]
    folders = {str(Path(file.shown).parent) for file in files}
    if len(files) > 1 and len(folders) == 1:
        (shown,) = folders
    return [ForeignTrace(form, it, f"{shown} ({it.name})") for it in found]


def _foreign(file: TraceFile, form: str | None) -> formats.Format:
    if looks_like_log(file.head()):
        raise BadInput(file.shown, expected="a foreign trace", seen="a qemustate log")
    return formats.recognise(file, form)


def _open(shown: str) -> list[Trace]:
    file = _file(shown)
    if not file.path.exists() and segment_numbers(file.path):
        return [LogTrace(LogReader(file.path), file)]  # its first segments were deleted
    if not looks_like_log(file.head()):
        return [*_traces(formats.recognise(file), [file])]
    if _is_compressed(file.path):
        file = _spool(pieces(file), shown)
    return [LogTrace(LogReader(file.path), file)]


def _directory(shown: str, form: str | None = None) -> list[Trace]:
    """Return the traces in a directory. Raises BadInput where it cannot be read, or there are none."""
    try:
        paths = sorted(islice(_files(Path(shown)), _MOST_FILES + 1))
    except OSError as error:
        raise BadInput(shown, expected="a directory that can be read", seen=str(error)) from error
    if len(paths) > _MOST_FILES:
        raise BadInput(shown, expected=f"at most {_MOST_FILES} files", seen="more")
    traces: list[Trace] = []
    groups: dict[tuple[str, str], list[TraceFile]] = {}
    for path in paths:
        file = TraceFile.at(path)
        if _is_segment(path):
            continue  # a part of the log whose first segment it follows
        try:
            if looks_like_log(file.head()):
                traces += _open(str(path))
                continue
            name = formats.recognise(file, form).name
        except BadInput:
            continue
        # libvirt's logs tell of the same VMs together: the daemon's and those of the domains.
        base = "" if name in formats.TOGETHER else file.part[0]
        groups.setdefault((name, base), []).append(file)
    for (name, _), files in groups.items():
        files.sort(key=lambda file: file.part)
        traces += _traces(formats.BY_NAME[name], files)
    if not traces:
        raise BadInput(shown, expected="traces in it", seen=f"{len(paths)} files that are none")
    return traces


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files in a directory and those below it."""
    for where, _, names in os.walk(folder, onerror=_raise):
        yield from (path for name in names if (path := Path(where, name)).is_file())


def _raise(error: OSError) -> None:
    raise error


def _is_segment(path: Path) -> bool:
    """Say whether a file is a later segment of a log: ``NAME.000002``."""
    base, _, number = path.name.rpartition(".")
    return len(number) >= 6 and number.isdigit() and bool(base) and path.with_name(base).exists()


def _file(shown: str) -> TraceFile:
    """Return the file at a path, as one that can be read more than once."""
    try:
        if shown == "-":
            return _spool(iter(lambda: sys.stdin.buffer.read(1 << 20), b""), shown)
        if stat.S_ISFIFO(Path(shown).stat().st_mode):
            with Path(shown).open("rb") as pipe:
                return _spool(iter(lambda: pipe.read(1 << 20), b""), shown)
    except FileNotFoundError:
        pass  # said where it is read
    except (OSError, ValueError) as error:
        raise BadInput(shown, expected="a file that can be read", seen=str(error)) from error
    return TraceFile.at(shown)


class _Held:
    """A temporary file that is gone with the last reference to this."""

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile()  # noqa: SIM115
        weakref.finalize(self, self.file.close)


def _spool(content: Iterator[bytes], shown: str) -> TraceFile:
    held = _Held()
    for piece in content:
        held.file.write(piece)
    held.file.flush()
    return TraceFile(Path(f"/proc/self/fd/{held.file.fileno()}"), shown, held)


def _is_compressed(path: Path) -> bool:
    with path.open("rb") as file:
        return is_compressed(file.read(6))
