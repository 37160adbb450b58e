"""What a real QEMU did breaks no rule, but for what its clients did wrong on purpose."""

from __future__ import annotations

import json
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path

import pytest
from support.told import STORIES, VERSIONS, Told, read

ALLOWED = json.loads(Path(__file__).with_name("allowed.json").read_text())


def alarms(folder, label, pattern):
    """Return the violations in a folder's recordings: (recording, rule) -> how many; and how many recordings."""
    found = Counter()
    paths = sorted(folder.glob(pattern))
    for path in paths:
        name = f"{label}/{folder.name}/{path.name.partition('.jsonl')[0]}"
        found.update((name, f.rule) for f in Told(read(path)).violations)
    return found, len(paths)


def allowed(label, version):
    """Return what the list allows there: (pattern of the recording, rule) -> how many."""
    return [
        (entry["recording"].replace("*", version, 1), entry["rule"], entry["count"])
        for entry in ALLOWED
        if entry["recording"].startswith(f"{label}/")
    ]


def expected(found, listed):
    """Return ``found`` as the list has it: every entry used, and nothing besides."""
    return {(name, rule) for name, rule in found} == {(name, rule) for name, rule, _ in listed} and all(
        found[name, rule] == count for name, rule, count in listed
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_no_story_breaks_a_rule(version, figures):
    """Every committed story is free of violations, but those of the list, each of which is there."""
    found, number = alarms(STORIES / version, "stories", "*.jsonl.xz")
    figures.append(
        f"no false alarm, stories {version}: {number} recordings, {sum(found.values())} violations, all listed"
    )

    assert number >= 80
    assert expected(found, allowed("stories", version)), found


@pytest.mark.shared
@pytest.mark.parametrize("version", VERSIONS)
def test_no_recording_that_is_not_ours_breaks_a_rule(shared, version, figures):
    """Recordings made by others are free of violations, but those of the list, each of which is there."""
    found, number = alarms(shared / "qmp-jsonl" / version, "shared", "*.jsonl")
    figures.append(
        f"no false alarm, others' {version}: {number} recordings, {sum(found.values())} violations, all listed"
    )

    assert number >= 25
    assert expected(found, allowed("shared", version)), found


def test_every_entry_of_the_list_has_its_citation():
    """Whoever allows a violation says why, and where in QEMU it comes from."""
    assert len({(e["recording"], e["rule"]) for e in ALLOWED}) == len(ALLOWED)
    for entry in ALLOWED:
        assert entry.keys() == {"recording", "rule", "count", "why"}
        assert ".c" in entry["why"]
        assert not any(fnmatch(entry["recording"], broad) for broad in ("*/[*]", "[*]*"))
