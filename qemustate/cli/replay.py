"""``qemustate replay``: what happened, and the state it led to."""

from __future__ import annotations

import argparse
from typing import Any

import msgspec

from qemustate.cli.common import Progress, complain, print_json, say
from qemustate.cli.common import add_parser as add
from qemustate.cli.follow import follow
from qemustate.cli.lines import Changes
from qemustate.errors import BadInput
from qemustate.replay.check import Report, Until, check
from qemustate.replay.life import Life, lives
from qemustate.replay.source import Source, Trace
from qemustate.replay.subject import Subject
from qemustate.statemachine import describe

_MORE = """\
Prints a line for each record that changed something, then the state, then what the rules found.
A time to the millisecond, as it is printed, includes that millisecond.
Of states joined by "|" each is possible: the facts so far do not tell which it is.

A WHAT is vm, device=ID, job=ID, node=ID (or netdev, chardev, object, export, fd), the name of a machine (runstate), or an
ID alone. --explain tells its life: every record that names or changes it, its state, and what is still missing.

exit status:
  0  done
  2  bad input or usage

examples:
  qemustate replay vm.log
  qemustate replay recorded.jsonl.xz --at 120 --json
  qemustate replay vm.log --at 2026-11-22T22:29:28.141Z
  qemustate replay libvirtd.log --only device=virtio-disk1
  qemustate replay vm.log --explain virtio-disk1
  qemustate replay vm.log --follow
"""


def add_parser(subparsers: Any) -> None:
    """Add ``replay`` to the command line."""
    parser = add(subparsers, "replay", "show what happened in a trace, and the state it led to", _MORE)
    parser.add_argument("trace", metavar="TRACE", help="a log, a foreign trace, or - for standard input")
    parser.add_argument(
        "--at", metavar="SEQ|TIME", help="stop after this record, or at this time (ISO 8601, UTC)"
    )
    parser.add_argument("--vm", metavar="NAME", help="only the VM of this name")
    parser.add_argument("--only", metavar="WHAT", help="only what changed, and the state, of this")
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--json", action="store_true", help="print the state as JSON, and no timeline")
    way.add_argument(
        "--follow", action="store_true", help="go on as the file grows, until ^C or the log is closed"
    )
    parser.add_argument("--explain", metavar="WHAT", help="tell the life of this, and nothing else")


def run(args: argparse.Namespace) -> int:
    """Replay; raises BadInput."""
    if args.follow and (args.at or args.explain):
        raise BadInput("--follow", expected="neither --at nor --explain", seen="one of them")
    until = Until.read(args.at, "--at")
    only = Subject.read(args.only) if args.only else None
    if args.follow:
        return follow(args.trace, args.vm, only)
    source = Source(args.trace)
    if until.time is not None and "times" in source.lacks:
        raise BadInput(args.trace, expected="a trace with times", seen=f"{source.format}, which has none")
    traces = source.vm(args.vm)
    if args.explain:
        _lives(lives(traces, args.explain, until), source, as_json=args.json)
    elif args.json:
        _document(source, [_json(trace, until, only) for trace in traces])
    else:
        for trace in traces:
            _text(trace, until, only)
    return 0


def _document(source: Source, vms: list[dict[str, Any]]) -> None:
    print_json({"schema": 1, "source": {"format": source.format, "lacks": list(source.lacks)}, "vms": vms})


def _json(trace: Trace, until: Until, only: Subject | None) -> dict[str, Any]:
    with Progress(trace.shown) as progress:
        report = check(trace, until, progress=progress)
    tell_skipped(trace)
    return report.to_json() if only is None else only.filtered(report.to_json())


def _lives(told: list[tuple[Trace, Life]], source: Source, *, as_json: bool) -> None:
    if as_json:
        _document(source, [{"name": it.name, "life": msgspec.to_builtins(life)} for it, life in told])
    for trace, life in told:
        if len(told) > 1 and not as_json:
            say(f"vm {trace.name}:")
        for line in () if as_json else life.lines():
            print(line)
        tell_skipped(trace)


def _text(trace: Trace, until: Until, only: Subject | None) -> None:
    lines = Changes(only)
    report: Report = check(trace, until, after=lines.see)
    if lines.shown:
        print()
    for line in describe.state(report.vm, None if only is None else only.covers):
        print(line)
    for group in report.groups:
        if group.severity != "note" and (only is None or only.concerns(group.subject)):
            print("  " + group.line())
    print(f"{lines.records} records, {lines.shown} of them changed {'something' if only is None else 'it'}")
    tell_skipped(trace)
    if until == Until() and trace.ending():
        say(f"{trace.shown}: {trace.ending()}")


def tell_skipped(trace: Trace) -> None:
    """Complain about the lines that could not be read."""
    for line in trace.skipped.lines():
        complain(line)
