"""``qemustate import``: foreign traces to a log of ours."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

from qemustate.cli.common import Progress, complain
from qemustate.cli.common import add_parser as add
from qemustate.cli.replay import tell_skipped
from qemustate.errors import BadInput, RecordingFailed
from qemustate.events.format import segment_numbers, segment_path
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
    written: list[str] = []
    try:
        if len(traces) > 1:
            output.mkdir()
        for trace, path in zip(traces, outputs, strict=True):
            records = _write(trace, path)
            lacks = f"; lacks {', '.join(trace.lacks)}" if trace.lacks else ""
            written.append(f"{path}: {records} records of VM {trace.name} from {trace.format}{lacks}")
    except BaseException:
        _remove(output, outputs)
        raise
    for line in written:
        print(line)
    skipped = {id(trace.skipped): trace.skipped for trace in traces}
    for trace in traces:
        tell_skipped(trace)
    count = sum(it.count for it in skipped.values())
    if count and args.strict:
        complain(f"{args.files[0]}: expected no line left out (--strict), saw {count}")
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


def _write(trace: ForeignTrace, output: Path) -> int:
    """Write the log; return how many records it has."""
    extra = trace.header_extra()
    with Progress(trace.shown) as progress, LogWriter(output, trace.name, "os", header_extra=extra) as writer:
        for batch in _batches(trace):
            progress(writer.seq)
            writer.append_many(batch)
            if writer.state is WriterState.FAILED:
                raise RecordingFailed(f"{output}: {writer.why}")
        writer.sync()
    return writer.seq


def _batches(trace: ForeignTrace) -> Iterator[list[tuple[str, dict[str, Any], int]]]:
    entries = ((kind, body, time) for kind, time, body in trace.entries())
    while batch := list(islice(entries, _BATCH)):
        yield batch
