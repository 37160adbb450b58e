"""``qemustate log``: what a log holds, whether it is whole, mending it, and handing it on."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any, Final

from qemustate.cli.common import add_parser as add
from qemustate.cli.common import complain, say
from qemustate.events.observe import qmp_of
from qemustate.events.reader import LogReader
from qemustate.events.recovery import Mode, Report, repair, verify
from qemustate.replay.answers import Answers
from qemustate.replay.export import export
from qemustate.statemachine import describe
from qemustate.statemachine.state import iso

_MORE = """\
  stat     how many records of which kind, from when to when
  verify   read everything, name each damage with file and byte
  repair   --mode cut-tail     cut what a crash left behind the last whole record, in place
           --mode skip-damage  write the records that are whole to another log (-o); gaps say what is missing
  cat      a line for every record
  export   write what was said as qmp-jsonl (-o FILE.jsonl), which other tools read and qemustate import too,
           and what is known of the process to FILE.meta.json beside it

exit status:
  0  done; for verify: nothing is damaged
  1  verify found damage, which includes what a crash left at the end
  2  bad input or usage

examples:
  qemustate log verify vm.log
  qemustate log repair vm.log --mode skip-damage -o mended.log
  qemustate log export vm.log -o vm.jsonl
"""


def add_parser(subparsers: Any) -> None:
    """Add ``log`` to the command line."""
    parser = add(subparsers, "log", "look at, verify, repair or export a log", _MORE)
    parser.add_argument("action", choices=tuple(_ACTIONS), metavar="|".join(_ACTIONS), help="see below")
    parser.add_argument("log", metavar="LOG", help="a log of qemustate")
    parser.add_argument(
        "--mode",
        choices=[mode.value for mode in Mode],
        default=Mode.CUT_TAIL.value,
        help="for repair; cut-tail by default",
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="for skip-damage and export: the file to write; must not exist"
    )


def run(args: argparse.Namespace) -> int:
    """Do it; raises BadInput, LogDamaged."""
    return _ACTIONS[args.action](args)


def _stat(args: argparse.Namespace) -> int:
    reader = LogReader(args.log)
    kinds: Counter[str] = Counter()
    events: Counter[str] = Counter()
    first = last = seq = 0
    for record in reader:
        kinds[record.kind] += 1
        if record.kind == "event":
            events[str(qmp_of(record.body).get("event", "?"))] += 1
        seq = record.seq
        first, last = first or record.time, record.time or last
    source = reader.header.get("source")
    lacks = reader.header.get("lacks")
    told = {
        "vm": reader.vm,
        "records": f"{kinds.total()}, numbered {reader.first_seq} to {seq}",
        "time": f"{iso(first)} to {iso(last)}" if first else "",
        "closed": "yes" if reader.closed else str(reader.tail or "no"),
        "source": source and str(source),
        "lacks": ", ".join(map(str, lacks)) if isinstance(lacks, list) else "",
        "kinds": _counts(kinds),
        "events": _counts(events),
    }
    for name, text in told.items():
        if text:
            say(f"{name:<8} {text}")
    return 0


def _counts(counted: Counter[str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in counted.most_common())


def _verify(args: argparse.Namespace) -> int:
    report = verify(args.log)
    _tell(report)
    return 0 if report.sound else 1


def _repair(args: argparse.Namespace) -> int:
    mode = Mode(args.mode)
    if (mode is Mode.SKIP_DAMAGE) != (args.output is not None):
        complain("log repair: -o LOG goes with --mode skip-damage, and with nothing else")
        return 2
    report = repair(args.log, mode, args.output)
    _tell(report)
    if mode is Mode.SKIP_DAMAGE:
        say(f"{args.output}: written")
    else:
        say(f"{args.log}: {'nothing to repair' if report.sound else 'cut at its last whole record'}")
    return 0


def _tell(report: Report) -> None:
    """Print a line for each damage, and a summary."""
    for fault in report.faults:
        say(str(fault))
    segments = f"{report.segments} segment{'' if report.segments == 1 else 's'}"
    ending = "closed" if report.closed else "not closed"
    lost = f", {report.lost} lost between them" if report.lost else ""
    say(f"{report.path}: {report.records} whole records{lost}, {report.bytes} bytes in {segments}, {ending}")


def _cat(args: argparse.Namespace) -> int:
    answers = Answers()
    reader = LogReader(args.log)
    for record in reader:
        print(
            describe.line(record.seq, record.time, answers.describe(record.seq, record.kind, record.body), [])
        )
    if reader.tail is not None:
        complain(str(reader.tail))
    return 0


def _export(args: argparse.Namespace) -> int:
    if args.output is None:
        complain("log export: expected -o FILE.jsonl, saw none")
        return 2
    reader = LogReader(args.log)
    left = export(reader, Path(args.output))
    if reader.tail is not None:
        complain(str(reader.tail))
    if left:
        complain(f"{args.log}: qmp-jsonl has no place for {_counts(left)}")
    say(f"{args.output}: written")
    return 0


_ACTIONS: Final = {"stat": _stat, "verify": _verify, "repair": _repair, "cat": _cat, "export": _export}
