"""Real recordings with one thing wrong: the rules find what a careful reader would, where a careful reader would.

Each entry of ``corpus/*.json`` names a story, a mutation (see ``support/mutate.py``), what it must give rise to as
``[rule, number of the record in the mutated recording]``, and why. An entry that gives rise to nothing says ``accepted``
(QEMU could have sent just this) or ``missed`` (it could not, and no rule sees it).
"""

from __future__ import annotations

import json
from collections import Counter
from functools import lru_cache
from pathlib import Path

import pytest
from support.mutate import mutated
from support.told import STORIES, Told, read

CORPUS = [
    pytest.param(entry, id=f"{path.stem}-{number}")
    for path in sorted(Path(__file__).with_name("corpus").glob("*.json"))
    for number, entry in enumerate(json.loads(path.read_text()), 1)
]


@lru_cache(maxsize=256)
def original(story):
    """Return a story's records and what the rules find in it as it is: (rule, subject, record)."""
    found = read(STORIES / f"{story}.jsonl.xz")
    return found, frozenset((f.rule, f.subject, f.seq) for f in Told(found).findings)


def new_findings(entry):
    """Return what a mutation gives rise to: (rule, number in the mutated recording)."""
    found, before = original(entry["story"])
    entries = mutated(found, entry["mutation"])
    was = [number for number, _ in entries]
    return sorted(
        [f.rule, f.seq]
        for f in Told([record for _, record in entries]).findings
        if (f.rule, f.subject, was[f.seq - 1]) not in before
    )


@pytest.mark.parametrize("entry", CORPUS)
def test_the_rules_find_what_is_wrong(entry):
    """What a mutation gives rise to is what its label says: these rules, at these records, and no others."""
    assert new_findings(entry) == sorted(entry["finds"]), entry["why"]


def test_the_corpus_is_a_hundred_and_most_are_killed(figures):
    """A hundred mutations and more, each different; nine in ten of those that QEMU could not have sent are found."""
    entries = [param.values[0] for param in CORPUS]
    verdicts = Counter(
        "killed" if e["finds"] else "accepted" if e.get("accepted") else "missed" for e in entries
    )
    wrong = verdicts["killed"] + verdicts["missed"]
    figures.append(
        f"mutated recordings: {len(entries)}, of {len({e['story'] for e in entries})} stories: "
        f"{verdicts['killed']} killed ({verdicts['killed'] / len(entries):.0%} of all, {verdicts['killed'] / wrong:.0%} of "
        f"those QEMU could not have sent), {verdicts['accepted']} accepted, {verdicts['missed']} missed"
    )
    figures.extend(
        f"  missed: {e['story']} {json.dumps(e['mutation'])}: {e['why']}" for e in entries if e.get("missed")
    )

    assert len(entries) >= 100
    assert len({json.dumps([e["story"], e["mutation"]], sort_keys=True) for e in entries}) == len(entries)
    assert all(
        e["why"] and len([k for k in ("accepted", "missed") if e.get(k)]) == (not e["finds"]) for e in entries
    )
    assert verdicts["killed"] / wrong >= 0.9
