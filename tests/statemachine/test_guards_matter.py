"""What the guards are worth: the same table with its silent rows unguarded."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from support.verdict import Truth, Verdict, judge, stories

from qemustate.replay.source import Source, records
from qemustate.statemachine import observer
from qemustate.statemachine.tables import TABLES

STORIES = Path(__file__).parents[1] / "stories"


@pytest.fixture
def unguarded(monkeypatch):
    """Take the guards off the silent rows of the run state, for one test."""

    def take():
        table = TABLES["runstate"]
        rows = tuple(msgspec.structs.replace(r, when=()) if r.silent else r for r in table.rows)
        monkeypatch.setitem(TABLES, "runstate", msgspec.structs.replace(table, rows=rows))
        forget()

    def forget():
        observer.observer.cache_clear()
        observer.watchers.cache_clear()

    yield take
    monkeypatch.undo()
    forget()


def judged(version):
    total = Verdict()
    for path in stories(STORIES / version):
        truth = Truth(path.with_name(path.name.replace(".jsonl.xz", ".truth.json.xz")))
        told = [(r.kind, r.time, r.body) for r in records(Source(path).vms[0])]
        total.add(judge(told, truth, path.name))
    return total


@pytest.mark.parametrize("version", ["7.2", "10.0"])
def test_unguarded_silent_rows_blur_the_belief(version, unguarded, figures):
    """Without guards the belief is still sound, and much less sharp: guards narrow, and never exclude the truth."""
    with_guards = judged(version)
    unguarded()
    without = judged(version)
    share = {
        name: v.sharp["runstate"] / v.checked["runstate"]
        for name, v in (("with", with_guards), ("without", without))
    }
    figures.append(
        f"{version}: run state sharp with guards {share['with']:.1%}, with silent rows unguarded {share['without']:.1%}"
    )

    assert without.unsound["runstate"] == 0
    assert share["without"] < share["with"]
