"""What the subcommands share: their parsers, and how they print."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
import time
from typing import Any, Final, Self

from qemustate.statemachine.printable import printable

#: Nesting of an id beyond this is left out of JSON.
_DEPTH: Final = 50

#: Seconds before progress is shown.
_PATIENCE: Final = 1.0


def add_parser(subparsers: Any, name: str, what: str, more: str) -> argparse.ArgumentParser:
    """Add and return a subcommand's parser: ``what`` in one line, ``more`` as it stands below the options."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name,
        help=what,
        description=what[0].upper() + what[1:] + ".",
        epilog=more,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def complain(text: str) -> None:
    """Print one line on standard error, if that can be written."""
    with contextlib.suppress(OSError):
        print(printable(" ".join(["qemustate:", *text.split("\n")])), file=sys.stderr)


def say(text: str) -> None:
    """Print one line on standard output, whatever the text."""
    print(printable(text))


class Progress:
    """Shows on a terminal how far a long work is; silent elsewhere, and for the first second.

    A context manager; calling it with a record's number shows that number.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._next = time.monotonic() + _PATIENCE if sys.stderr.isatty() else math.inf
        self._shown = False

    def __call__(self, seq: int) -> None:
        """Show a number, unless the last one is quite new."""
        now = time.monotonic()
        if now >= self._next:
            self._next, self._shown = now + _PATIENCE / 4, True
            print(f"\r{self._what}: {seq} records", end="", file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def print_json(document: dict[str, Any]) -> None:
    """Print a JSON document: plain ASCII, two spaces a level."""
    try:
        text = json.dumps(document, indent=2, allow_nan=False)
    except (ValueError, TypeError, RecursionError):
        text = json.dumps(_plain(document, 0), indent=2)
    print(text)


def _plain(it: Any, depth: int) -> Any:
    """Return what JSON can say of a value: QEMU may send infinities, and any nesting, as an id."""
    if depth > _DEPTH:
        return "..."
    if isinstance(it, dict):
        return {str(key): _plain(value, depth + 1) for key, value in it.items()}
    if isinstance(it, list | tuple):
        return [_plain(value, depth + 1) for value in it]
    if isinstance(it, float) and not math.isfinite(it):
        return str(it)
    return it if isinstance(it, str | int | float | None) else repr(it)
