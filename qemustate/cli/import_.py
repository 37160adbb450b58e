"""``qemustate import``: foreign traces to a log of ours."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, Final

from qemustate.cli.common import Progress, complain, say
from qemustate.cli.common import add_parser as add
from qemustate.cli.replay import tell_skipped
from qemustate.errors import BadInput, RecordingFailed
from qemustate.events.format import segment_numbers, segment_path
from qemustate.events.importers.conversation import Entry
from qemustate.events.importers.formats import FORMATS, NAMES
from qemustate.events.writer import LogWriter, WriterState
from qemustate.replay.source import ForeignTrace, open_foreign

_BATCH: Final = 512

_MORE = """\
Several files are the successive parts of one trace; those of a rotated log are put in their order. A directory
stands for all traces in it. Files may be compressed with gzip, xz or Zstandard. Where a trace tells of several
VMs, LOG becomes a directory with a log for each, named as the VM. Secrets are replaced before anything is
written. A line that should be read and cannot be is told, and left out.

formats:
"""

_STATUS = """
exit status:
  0  done
  2  bad input or usage, and no log was written; with --strict also when a line was left out

examples:
  qemustate import recorded.jsonl -o vm.log
  qemustate import libvirtd.log.1.gz libvirtd.log qemu/vm.log -o vm.log
  qemustate import /var/log/libvirt/ -o logs
  socat -u UNIX:qmp.sock - | qemustate import - -o vm.log
"""

_PLAIN: Final = re.compile(r"[^\w.+=@#-]|^\.", re.ASCII)


def add_parser(subparsers: Any) -> None:
    """Add ``import`` to the command line."""
    formats = "".join(f"  {it.name:11} {it.what}\n" for it in FORMATS)
    parser = add(subparsers, "import", "turn foreign traces into a log", _MORE + formats + _STATUS)
    parser.add_argument("files", nargs="+", metavar="FILE", help="a foreign trace, or - for standard input")
    parser.add_argument(
        "-o", "--output", required=True, metavar="LOG", help="the log to write; must not exist"
    )
    parser.add_argument(
        "--format", choices=NAMES, metavar="NAME", help="the format, where looking does not tell"
    )
    parser.add_argument("--strict", action="store_true", help="exit with 2 when a line was left out")


def run(args: argparse.Namespace) -> int:
    """Import; raises BadInput, RecordingFailed."""
    output = Path(args.output)
    if output.exists() or segment_numbers(output):
        raise BadInput(args.output, expected="no file there yet", seen="one")
    traces = open_foreign(args.files, args.format)
    outputs = [output] if len(traces) == 1 else _outputs(output, traces)
    try:
        if len(traces) > 1:
            output.mkdir()
        records = _write(traces, outputs)
    except BaseException:
        _remove(output, outputs)
        raise
    for trace, path, count in zip(traces, outputs, records, strict=True):
        lacks = f"; lacks {', '.join(trace.lacks)}" if trace.lacks else ""
        say(f"{path}: {count} records of VM {trace.name} from {trace.format}{lacks}")
    for trace in traces:
        tell_skipped(trace)
    left_out = sum(trace.skipped.count for trace in traces)
    if left_out and args.strict:
        complain(f"{args.files[0]}: expected no line left out (--strict), saw {left_out}")
        return 2
    return 0


def _outputs(folder: Path, traces: list[ForeignTrace]) -> list[Path]:
    """Return the paths of the VMs' logs in a folder: their names, without what a file's name should not have."""
    paths: list[Path] = []
    for trace in traces:
        path = folder / f"{_PLAIN.sub('_', trace.name)[:200]}.log"
        while path in paths:
            path = path.with_stem(path.stem + "_")
        paths.append(path)
    return paths


def _remove(output: Path, outputs: list[Path]) -> None:
    """Remove what was written."""
    for path in outputs:
        for number in segment_numbers(path):
            segment_path(path, number).unlink(missing_ok=True)
    if output.is_dir():
        output.rmdir()


def _write(traces: list[ForeignTrace], outputs: list[Path]) -> list[int]:
    """Write the logs; return how many records each has."""
    done = 0
    with Progress(traces[0].shown) as progress, ExitStack() as stack:
        writers = [
            stack.enter_context(LogWriter(path, trace.name, "os", header_extra=trace.header_extra()))
            for trace, path in zip(traces, outputs, strict=True)
        ]
        for number, batch in _batches(traces):
            done += len(batch)
            progress(done)
            writer = writers[number]
            writer.append_many([(kind, body, time) for kind, time, body in batch])
            if writer.state is WriterState.FAILED:
                raise RecordingFailed(f"{outputs[number]}: {writer.why}")
        for writer in writers:
            writer.sync()
    return [writer.seq for writer in writers]


def _batches(traces: list[ForeignTrace]) -> Iterator[tuple[int, list[Entry]]]:
    """Yield the entries of all traces, many of one trace at a time, with the trace's number."""
    if len(traces) == 1:
        entries = traces[0].entries()
        while batch := list(islice(entries, _BATCH)):
            yield 0, batch
        return
    batches: list[list[Entry]] = [[] for _ in traces]
    for number, entry in ForeignTrace.entries_together(traces):
        batch = batches[number]
        batch.append(entry)
        if len(batch) == _BATCH:
            yield number, batch
            batches[number] = []
    yield from enumerate(batches)
