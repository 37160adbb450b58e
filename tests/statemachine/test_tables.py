"""The tables as a specification: well-formed, and no wider than QEMU's own where QEMU has one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qemustate.statemachine import guards
from qemustate.statemachine.evidence import EVIDENCE, INFORMATIONAL
from qemustate.statemachine.observer import observer
from qemustate.statemachine.rows import ASSUMPTIONS, rows
from qemustate.statemachine.tables import TABLES, job, migration, runstate

REFERENCE = Path(__file__).parents[2].parent / "shared" / "reference" / "qemu"
needs_reference = pytest.mark.skipif(
    not REFERENCE.exists(), reason="QEMU's extracted tables (../shared/reference) are absent"
)
VERSIONS = {"7.2.22": (7, 2, 22), "10.0.2": (10, 0, 2)}


def edges(table, version, *, triggers=lambda _: True):
    return {
        (table.shown(r.source), table.shown(r.dest))
        for r in table.rows
        if r.in_version(version) and triggers(r.trigger) and table.shown(r.source) != table.shown(r.dest)
    }


@pytest.mark.parametrize("name", TABLES)
def test_rows_name_known_states_guards_and_assumptions(name):
    """A row cannot be about something that does not exist."""
    table = TABLES[name]
    for row in table.rows:
        assert row.source in table.states, row
        assert row.dest in table.states, row
        assert {guard.removeprefix("!") for guard in row.when} <= guards.GUARDS.keys(), row
        assert row.assumption in {"", *ASSUMPTIONS}, row
    assert table.initial in table.states
    assert set(table.shows) <= set(table.states)


@pytest.mark.parametrize("name", TABLES)
def test_a_row_that_moves_names_its_source(name):
    """Every row that leads to another state says where the fact comes from."""
    assert [r for r in TABLES[name].rows if r.source != r.dest and not r.ref] == []


def test_every_guard_and_every_assumption_is_used():
    """A guard no row asks for, or an assumption no row or effect leans on, is dead."""
    asked = {
        guard.removeprefix("!") for t in TABLES.values() for r in (*t.rows, *t.couplings) for guard in r.when
    }
    leaned = {r.assumption for t in TABLES.values() for r in t.rows} | {
        "oldest-first",
        "no-unseen-migration",
        "alone",
    }

    assert set(guards.GUARDS) - asked == set()
    assert set(ASSUMPTIONS) - leaned == set()


@pytest.mark.parametrize("name", TABLES)
def test_couplings_name_known_states_and_guards(name):
    """A coupling cannot be about something that does not exist."""
    table = TABLES[name]
    for it in table.couplings:
        assert it.guard in guards.GUARDS
        assert set(it.states) <= set(table.states)
        assert {guard.removeprefix("!") for guard in it.when} <= guards.GUARDS.keys()


def test_a_misspelt_assumption_is_refused():
    """An assumption that is not in the list cannot be leaned on."""
    with pytest.raises(ValueError, match="no such assumption"):
        rows("STOP", "running", "paused", assume="stop-is-mine")


def test_evidence_names_triggers_that_exist():
    """Every row of evidence steps a machine that exists, with a trigger its table has."""
    for row in EVIDENCE:
        if row.machine:
            table = {
                "devices": "device",
                "node": "backend",
                "netdev": "backend",
                "chardev": "backend",
                "object": "backend",
            }
            assert row.trigger in observer(table.get(row.machine, row.machine), None).triggers, row


def test_an_event_moves_a_machine_or_says_why_not():
    """No event is both evidence and informational, and every reason is a sentence."""
    assert not {row.seen for row in EVIDENCE} & INFORMATIONAL.keys()
    assert all(len(reason) > 10 for reason in INFORMATIONAL.values())


#: Edges of runstate_transitions_def that nothing on the wire tells of, or that QEMU lists and never takes.
UNREACHED = {
    ("colo", "shutdown"): "no event of its own: COLO failover ends with the process",
    ("debug", "suspended"): "listed; a debugger cannot stop a sleeping guest",
    ("inmigrate", "finish-migrate"): "listed; an incoming VM is not migrated away before it has run",
    ("internal-error", "paused"): "listed; vm_stop() does nothing when the vCPUs already stand still",
    ("shutdown", "paused"): "listed; vm_stop() does nothing when the vCPUs already stand still",
    ("finish-migrate", "paused"): "7.2 lists it and goes to postmigrate",
    ("finish-migrate", "prelaunch"): "7.2 lists it; a reset leaves finish-migrate alone",
    ("inmigrate", "postmigrate"): "listed; QEMU refuses to migrate what a migration has left in postmigrate",
    ("inmigrate", "suspended"): "7.2 lists it; its source wakes the guest before it migrates",
    ("prelaunch", "suspended"): "listed since 9.0; a reset forgets that the guest slept",
}


@pytest.mark.shared
@needs_reference
@pytest.mark.parametrize("version", VERSIONS)
def test_runstate_has_qemus_edges_and_no_others(version):
    """Every run-state row is an edge of QEMU's own table, or two of them taken as one silent step."""
    qemu = {
        (e["from"], e["to"])
        for e in json.loads((REFERENCE / "runstate.json").read_text())["transitions"][version]
    }
    ours = edges(TABLES["runstate"], VERSIONS[version])
    through_finish = {(a, "postmigrate") for a, b in qemu if b == "finish-migrate"}

    assert ours - qemu - through_finish == set()
    assert qemu - ours <= UNREACHED.keys()


@pytest.mark.shared
@needs_reference
def test_run_states_are_qapis():
    """The states that show are QAPI's RunState, in QEMU's order."""
    assert list(runstate.RUNSTATES) == json.loads((REFERENCE / "runstate.json").read_text())["enum"]


@pytest.mark.shared
@needs_reference
def test_job_has_jobstt():
    """The job table is JobSTT, plus the reuse of an id once its job is gone."""
    tables = json.loads((REFERENCE / "job.json").read_text())
    qemu = {(a, b) for a, targets in tables["transitions"].items() for b in targets if a != b}

    assert list(job.STATUSES) == tables["statuses"]
    assert edges(TABLES["job"], None) - {("null", "created")} == qemu


@pytest.mark.shared
@needs_reference
@pytest.mark.parametrize("version", VERSIONS)
def test_migration_has_every_edge_qemu_takes(version):
    """Every migrate_set_state() edge of source and destination has a row."""
    tables = json.loads((REFERENCE / "migration.json").read_text())
    qemu = {
        (a, "setup" if b.endswith("setup") and ">" in b else b)
        for side in ("source", "destination")
        for a, b in tables[side][version]
    }

    assert set(tables["enum"]["10.0.2"]) == set(migration.STATUSES)
    assert qemu - edges(TABLES["migration"], VERSIONS[version]) == set()
