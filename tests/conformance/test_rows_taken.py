"""Which rows of QEMU's own tables the stories take, and why the others are in none of them.

QEMU's trace log says of every job and every migration which way it went. A row that no story takes is named here with its
reason; one that a story takes is not.
"""

from __future__ import annotations

import json
import lzma
import re
from pathlib import Path

import pytest

from qemustate.statemachine.rows import version_of
from qemustate.statemachine.tables import job, migration

STORIES = Path(__file__).parents[1] / "stories"
VERSIONS = ["7.2", "10.0"]

#: Statuses that a job is not in when QEMU serves a monitor, and why.
PASSING = {
    "undefined": "no other command finds a job before its own is answered",
    "created": "job_start() follows within the same command",
    "aborting": "job_completed() goes on to `concluded` before anybody else is served",
    "null": "the job is gone with its id",
}

#: (verb, status) that no monitor can bring about in a status that lasts.
UNASKED_VERBS = {
    ("resume", status): "job_user_resume_locked() refuses what nobody has paused, and asks no table"
    for status in ("ready", "waiting", "pending")
}

#: Rows of the migration table that no story takes: (from, to) -> why.
UNTAKEN = {
    (
        "cancelling",
        "completed",
    ): "none of QEMU's calls is known to do it; the row is there because a cancel races with the end",
    (
        "cancelling",
        "failed",
    ): "none of QEMU's calls is known to do it; the row is there because a cancel races with a failure",
    (
        "colo",
        "cancelling",
    ): "migrate_cancel answers and leaves COLO alone (story colo_cancelled), though QEMU has the call",
    ("postcopy-recover", "failed"): "the two ends would have to disagree on the memory that is left",
    ("pre-switchover", "failed"): "nothing is sent while it is held, so nothing fails",
    ("wait-unplug", "failed"): "nothing is sent before the guest has given up the primary, so nothing fails",
}

#: The same where it is for one version only.
UNTAKEN_BY = {
    "7.2": {
        ("active", "device"): "8.2 and later; 7.2 says `device` only after `pre-switchover`",
        (
            "cancelling",
            "postcopy-paused",
        ): "a race of quit with a connection that breaks, won in one recording of 10.0",
        ("device", "postcopy-active"): "7.2 goes there from `active` or `pre-switchover`",
        ("postcopy-paused", "setup"): "7.2 announces it at migrate-recover, and does not keep it",
        (
            "postcopy-recover",
            "postcopy-paused",
        ): "7.2's target crashes when its recovery is broken (story postcopy_recovery_broken)",
        ("setup", "postcopy-recover"): "7.2 announces `setup` at migrate-recover, and does not keep it",
    },
    "10.0": {
        (
            "cancelling",
            "cancelling",
        ): "a race of quit with a migration that has been cancelled and is still ending",
        (
            "colo",
            "completed",
        ): "the target says `colo`, the source never does: it is `device` when it would look for COLO",
        (
            "postcopy-active",
            "failed",
        ): "only in the first milliseconds of postcopy; after that it pauses, and can be recovered",
        ("postcopy-paused", "failed"): "an incoming end that gives up a recovery",
        ("postcopy-paused", "setup"): "9.1 has postcopy-recover-setup for it",
        ("pre-switchover", "postcopy-active"): "`device` is in between since 8.2",
        ("setup", "postcopy-recover"): "9.1 has postcopy-recover-setup for it",
    },
}

JOB = re.compile(r"job #\d+ \(ret: -?\d+\) attempting (\w+) transition \((\S+)-->(\S+)\)")
VERB = re.compile(r"job #\d+ in state (\S+); applying verb (\S+) \((\w+)\)")


def truths(version):
    for path in sorted((STORIES / version).glob("*.truth.json.xz")):
        yield path, json.loads(lzma.decompress(path.read_bytes()))["trace"]


def told(version, name, pattern):
    return {
        pattern.fullmatch(said).groups()
        for _, trace in truths(version)
        for _, event, said in trace
        if event == name
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_every_row_of_jobstt_is_taken(version, figures):
    """The stories take all 20 edges of QEMU's table, and QEMU takes no other; an id is used again as well."""
    seen = told(version, "job_state_transition", JOB)
    edges = {(source, dest) for allowed, source, dest in seen}
    table = {(a, b) for a, targets in job._EDGES.items() for b in targets.split()} - {("null", "created")}
    figures.append(f"rows of JobSTT taken by stories, {version}: {len(edges & table)} of {len(table)}")

    assert {allowed for allowed, *_ in seen} == {"allowed"}
    assert edges == table
    assert any(reused(path) for path in (STORIES / version).glob("*.jsonl.xz"))


def reused(path):
    """Tell whether an id is borne by two jobs in a recording."""
    lines = lzma.decompress(path.read_bytes()).decode().splitlines()
    wire = [json.loads(json.loads(line)["raw"]) for line in lines if "JOB_STATUS_CHANGE" in line]
    born = [m["data"]["id"] for m in wire if "event" in m and m["data"]["status"] == "created"]
    return len(born) > len(set(born))


@pytest.mark.parametrize("version", VERSIONS)
def test_every_verb_is_sent_in_every_status_that_lasts(version, figures):
    """QEMU's JobVerbTable says of each what ours says; what no story sends cannot be sent, and says why."""
    seen = told(version, "job_apply_verb", VERB)
    cells = {(verb, status) for status, verb, _ in seen}
    verbs = [verb for verb in job.VERBS if verb != "change" or version != "7.2"]
    lasting = {(verb, status) for verb in verbs for status in job.STATUSES if status not in PASSING}
    figures.append(
        f"cells of JobVerbTable asked by stories, {version}: {len(cells & lasting)} of {len(lasting)}"
    )

    assert all((answer == "allowed") == (status in job.VERBS[verb].split()) for status, verb, answer in seen)
    assert lasting - cells == UNASKED_VERBS.keys()
    assert cells - lasting == {("set-speed", "created")}  # QEMU's own, as it creates the job


@pytest.mark.parametrize("version", VERSIONS)
def test_every_row_of_migration_is_taken_or_says_why_not(version, figures):
    """Every way a migration went has a row, and every row a story or a reason."""
    taken = set()
    for _, trace in truths(version):
        status = "none"
        for _, event, said in trace:
            if event == "migrate_set_state":
                taken.add((status, said.split()[-1]))
                status = said.split()[-1]
    now = version_of(version)
    table = {
        (row.source, row.dest)
        for row in migration.TABLE.rows
        if row.in_version(now) and row.trigger.startswith("MIGRATION ") and row.ref == migration._REF
    }
    figures.append(f"rows of migration taken by stories, {version}: {len(taken & table)} of {len(table)}")

    # A snapshot is a migration that is done as soon as it is set up.
    assert taken - table <= {("setup", "completed")}
    assert table - taken == UNTAKEN.keys() | UNTAKEN_BY[version].keys()
