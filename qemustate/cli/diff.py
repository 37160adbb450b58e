"""``qemustate diff``: where two traces first differ."""

from __future__ import annotations

import argparse
from typing import Any

import msgspec

from qemustate.cli.common import add_parser as add
from qemustate.cli.common import print_json, say
from qemustate.replay.diff import Difference, Side, diff

_MORE = """\
Two traces are alike when the same was asked, in the same order, with the same outcome, and the same was said of each
device, job and backend, in the same order. Ids, times, questions, and events that QEMU holds back are not compared.
What one of the traces lacks (see qemustate check) is not compared either.

Prints the first record that has no match, from both traces, what was different there, and both states.

exit status:
  0  alike
  1  a difference
  2  bad input or usage

examples:
  qemustate diff good.log bad.log
  qemustate diff --json vm.log libvirtd.log
"""


def add_parser(subparsers: Any) -> None:
    """Add ``diff`` to the command line."""
    parser = add(subparsers, "diff", "show where two traces first differ, and the states there", _MORE)
    parser.add_argument("a", metavar="A", help="a log, or a foreign trace")
    parser.add_argument("b", metavar="B", help="the other one")
    parser.add_argument("--json", action="store_true", help="print the differences as JSON")


def run(args: argparse.Namespace) -> int:
    """Compare; raises BadInput, LogDamaged."""
    found = diff(args.a, args.b)
    if args.json:
        print_json({"schema": 1, "differences": [_plain(it) for it in found]})
    else:
        for it in found:
            _text(it)
        if not found:
            print("alike")
    return 1 if found else 0


def _plain(it: Difference) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(it)
    for side in (told["a"], told["b"]):
        del side["told"]
    return told


def _text(it: Difference) -> None:
    say(f"vm {it.vm}: first difference in {it.lane}, after {it.alike} records alike")
    for side in (it.a, it.b):
        say(f"{side.trace}: {side.line or _nothing(side, it.lane)}")
    for state in it.states:
        say(f"  {state}")
    for side in (it.a, it.b):
        print()
        say(f"{side.trace}:")
        for line in side.told:
            print(line)


def _nothing(side: Side, lane: str) -> str:
    return (
        "the state at its end"
        if lane == "states"
        else f"nothing more, up to its end at record {side.state['records']}"
    )
