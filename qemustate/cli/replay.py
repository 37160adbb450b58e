"""``qemustate replay``: what happened, and the state it led to."""

from __future__ import annotations

import argparse
import re
from datetime import UTC, datetime
from typing import Any, Final

from qemustate.cli.common import Progress, complain, print_json
from qemustate.cli.common import add_parser as add
from qemustate.cli.lines import Changes
from qemustate.errors import BadInput
from qemustate.replay.check import Report, Until, check, plain
from qemustate.replay.source import Source, Trace
from qemustate.statemachine import describe

_FRACTION: Final = re.compile(r"[.,]\d{3}(?!\d)")

_MORE = """\
Prints a line for each record that changed something, then the state, then what the rules found.
A time to the millisecond, as it is printed, includes that millisecond.
Of states joined by "|" each is possible: the facts so far do not tell which it is.

exit status:
  0  done
  2  bad input or usage

examples:
  qemustate replay vm.log
  qemustate replay recorded.jsonl.xz --at 120 --json
  qemustate replay vm.log --at 2026-11-22T22:29:28.141Z
"""


def add_parser(subparsers: Any) -> None:
    """Add ``replay`` to the command line."""
    parser = add(subparsers, "replay", "show what happened in a trace, and the state it led to", _MORE)
    parser.add_argument("trace", metavar="TRACE", help="a log, a foreign trace, or - for standard input")
    parser.add_argument(
        "--at", metavar="SEQ|TIME", help="stop after this record, or at this time (ISO 8601, UTC)"
    )
    parser.add_argument("--vm", metavar="NAME", help="only the VM of this name")
    parser.add_argument("--json", action="store_true", help="print the state as JSON, and no timeline")


def run(args: argparse.Namespace) -> int:
    """Replay; raises BadInput."""
    source = Source(args.trace)
    until = read_at(args.at)
    if until.time is not None and "times" in source.lacks:
        raise BadInput(args.trace, expected="a trace with times", seen=f"{source.format}, which has none")
    traces = source.vm(args.vm)
    if args.json:
        reports = [_json(trace, until) for trace in traces]
        print_json(
            {"schema": 1, "source": {"format": source.format, "lacks": list(source.lacks)}, "vms": reports}
        )
        return 0
    for trace in traces:
        _text(trace, until)
    return 0


def read_at(text: str | None) -> Until:
    """Return where to stop: a record's number, or a time. Raises BadInput for what is neither."""
    if text is None:
        return Until()
    try:
        if text.isascii() and text.isdigit():
            return Until(seq=int(text))
        when = datetime.fromisoformat(text)
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        # Times are shown to the millisecond: one that was copied from there means all of it.
        rest = 999 if when.microsecond % 1000 == 0 and _FRACTION.search(text) else 0
        return Until(time=round(when.timestamp() * 1_000_000) + rest)
    except (ValueError, OverflowError) as error:
        raise BadInput("--at", expected="a record's number or a time in ISO 8601", seen=text) from error


def _json(trace: Trace, until: Until) -> dict[str, Any]:
    with Progress(trace.shown) as progress:
        report = check(trace, until, progress=progress)
    tell_skipped(trace)
    return report.to_json()


def _text(trace: Trace, until: Until) -> None:
    lines = Changes()
    report: Report = check(trace, until, after=lines.see)
    if lines.shown:
        print()
    for line in describe.state(report.vm):
        print(line)
    for it in report.findings:
        if it.severity != "note":
            print("  " + describe.finding(plain(it)))
    print(f"{lines.records} records, {lines.shown} of them changed something")
    tell_skipped(trace)
    if until == Until() and trace.ending():
        print(f"{trace.shown}: {trace.ending()}")


def tell_skipped(trace: Trace) -> None:
    """Complain about the lines that could not be read."""
    for line in trace.skipped.lines():
        complain(line)
