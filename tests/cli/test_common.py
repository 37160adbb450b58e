"""What subcommands share: JSON of anything, progress on a terminal."""

import io
import json
import math
import sys

import pytest

from qemustate.cli import common
from qemustate.cli.common import Progress, complain, print_json

DEEP = []
for _ in range(5000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1.5, 1.5),
        (2**70, 2**70),
        (math.inf, "inf"),
        ([math.nan], ["nan"]),
        (b"x", "b'x'"),
        ("\ud83d", "\ud83d"),
        ({"a": {"b": -math.inf}}, {"a": {"b": "-inf"}}),
    ],
)
def test_json_is_json_whatever_qemu_sent(capsys, value, shown):
    """What JSON cannot say is said as text, and the rest stays as it is."""
    print_json({"id": value, "seq": 1})
    text = capsys.readouterr().out
    assert text.isascii()
    assert json.loads(text, parse_constant=pytest.fail) == {"id": shown, "seq": 1}


def test_json_of_deep_nesting_ends(capsys):
    """Nesting beyond any reader's limit is cut off."""
    print_json({"id": DEEP})
    assert "..." in capsys.readouterr().out


def test_a_complaint_is_one_line(capsys):
    """A message of several lines is told on one."""
    complain("first\nsecond")
    assert capsys.readouterr().err == "qemustate: first second\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "patience", "shown"),
    [(Terminal(), -1, True), (Terminal(), 1e9, False), (io.StringIO(), -1, False)],
)
def test_progress_is_for_terminals(monkeypatch, stream, patience, shown):
    """Long work shows on a terminal how far it is and wipes it at the end; elsewhere nothing is written."""
    monkeypatch.setattr(common, "_PATIENCE", patience)
    monkeypatch.setattr(sys, "stderr", stream)
    with Progress("x.log") as progress:
        progress(512)
    assert stream.getvalue() == ("\rx.log: 512 records\r\x1b[K" if shown else "")
