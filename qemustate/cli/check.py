"""``qemustate check``: the rules, applied to traces."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

from qemustate.cli.common import Progress, complain, print_json, say
from qemustate.cli.common import add_parser as add
from qemustate.cli.replay import tell_skipped
from qemustate.errors import QemustateError
from qemustate.replay.check import Report, check
from qemustate.replay.source import Source, Trace
from qemustate.statemachine.rules import RULES

_MORE = """\
Prints a line for each finding and below it the records it rests on, then a summary for each trace. A finding
is a violation (QEMU or its client broke a rule), a warning or a note. What was found more than once is told once,
with the first and the last time. A rule that needs what a trace lacks is not checked: neither passed nor violated.

rules:
"""

_STATUS = """
exit status:
  0  no violation
  1  a violation
  2  bad input or usage; the other traces were checked all the same

examples:
  qemustate check vm.log
  qemustate check --json *.jsonl.xz
"""


def add_parser(subparsers: Any) -> None:
    """Add ``check`` to the command line."""
    rules = "".join(f"  {it.severity:9} {it.name}: {it.sentence}\n" for it in RULES.values())
    parser = add(subparsers, "check", "apply the rules to traces", _MORE + rules + _STATUS)
    parser.add_argument(
        "traces", nargs="+", metavar="TRACE", help="a log, a foreign trace, or - for standard input"
    )
    parser.add_argument(
        "--json", action="store_true", help="print states, findings and what was not checked as JSON"
    )


def run(args: argparse.Namespace) -> int:
    """Check all traces; those that cannot be read are complained about."""
    done: list[tuple[Source, Trace, Report]] = []
    unread = False
    for path in args.traces:
        try:
            source = Source(path)
            for trace in source.vms:
                with Progress(path) as progress:
                    done.append((source, trace, check(trace, progress=progress)))
                if not args.json:
                    _text(trace, done[-1][2])
                tell_skipped(trace)
        except QemustateError as error:
            complain(str(error))
            unread = True
    if args.json and done:
        _json(done, several=len(args.traces) > 1)
    if unread:
        return 2
    return 1 if any(report.violated for _, _, report in done) else 0


def _json(done: list[tuple[Source, Trace, Report]], *, several: bool) -> None:
    """Print one document; of several traces each VM's entry says which it is from."""
    names = {source.format for source, _, _ in done}
    lacks = list(dict.fromkeys(it for source, _, _ in done for it in source.lacks))
    vms = [
        {**report.to_json(), **({"trace": source.shown, "source": _source(source)} if several else {})}
        for source, _, report in done
    ]
    name = names.pop() if len(names) == 1 else "several"
    print_json({"schema": 1, "source": {"format": name, "lacks": lacks}, "vms": vms})


def _source(source: Source) -> dict[str, Any]:
    return {"format": source.format, "lacks": list(source.lacks)}


def _text(trace: Trace, report: Report) -> None:
    for group in report.groups:
        say(f"{trace.shown}: {group.line()}")
        for line in group.records():
            print(line)
    counts = Counter(it.severity for it in report.findings)
    told = ", ".join(
        f"{counts[name]} {name}{'' if counts[name] == 1 else 's'}"
        for name in ("violation", "warning", "note")
    )
    say(f"{trace.shown}: {report.vm.seq} records, {told}")
    if report.not_checked:
        unchecked = ", ".join(
            f"{it['rule']} (needs {' and '.join(it['needs'])})" for it in report.not_checked
        )
        say(f"{trace.shown}: not checked: {unchecked}")
    if trace.ending():
        say(f"{trace.shown}: {trace.ending()}")
