"""Looks at jobs, migration and memory: what failed, and what was left."""

from __future__ import annotations

from typing import Any, Final

from qemustate.statemachine import progress
from qemustate.statemachine.looks.registry import Asked, Sight, after, before
from qemustate.statemachine.tables.job import VERBS


@before(*(f"command {word}-{verb}" for word in ("job", "block-job") for verb in VERBS))
def verb(it: Sight, _qmp: dict[str, Any], asked: Asked | None) -> None:
    """A verb sent to a job that cannot take it in any status it may have (job.c JobVerbTable)."""
    if asked is None:
        return
    name = str(asked.arguments.get("id") or asked.arguments.get("device", ""))
    cell = it.vm.jobs.get(name)
    allowed = VERBS[asked.name.rpartition("job-")[2]].split()
    if cell and not set(it.vm.names("job", cell)) & set(allowed):
        it.found("job-verb", name, f"{asked.name} of a job that is {' or '.join(it.vm.names('job', cell))}")


@after("event BLOCK_JOB_COMPLETED")
def failed(it: Sight, qmp: dict[str, Any], _asked: Asked | None) -> None:
    """A block job that ended with an error."""
    if error := qmp["data"].get("error"):
        it.found("job-failed", str(qmp["data"].get("device", "")), str(error))


@after("reply query-jobs")
def told_failed(it: Sight, qmp: dict[str, Any], _asked: Asked | None) -> None:
    """A job that ``query-jobs`` says has failed; block jobs say it themselves."""
    told = it.memory.setdefault("failed jobs", set())
    for job in qmp["return"]:
        if job.get("error") and job["status"] == "concluded" and job["id"] not in told:
            told.add(job["id"])
            it.found("job-failed", str(job["id"]), str(job["error"]))


@after("reply query-jobs", "reply query-block-jobs")
def at_its_end(it: Sight, qmp: dict[str, Any], _asked: Asked | None) -> None:
    """Remember a job that has done all there is to do and is running all the same, until it is heard of again."""
    for job in progress.jobs(qmp["return"]):
        if job.status != "running" or not job.complete:
            _moved_on(it, job.name, job.status)
        else:
            it.memory.setdefault("complete jobs", {}).setdefault(job.name, (it.vm.seq, it.vm.time, job))


@after("event JOB_STATUS_CHANGE")
def moved_on(it: Sight, qmp: dict[str, Any], _asked: Asked | None) -> None:
    """A job that was running at its end has another status."""
    _moved_on(it, qmp["data"]["id"], qmp["data"]["status"])


@after("end")
def stuck(it: Sight, _body: dict[str, Any], _asked: Asked | None) -> None:
    """Jobs that were left running at their end."""
    for name in list(it.memory.get("complete jobs", ())):
        _moved_on(it, name, "")


def _moved_on(it: Sight, name: str, status: str) -> None:
    """Say of a job that was running at its end what came of it, if that was long after."""
    seq, time, job = it.memory.get("complete jobs", {}).pop(name, (0, 0, None))
    waited = (it.vm.time - time) // 1_000_000
    if job is not None and time and waited >= _AT_ITS_END:
        later = f"{waited // 60:02d}:{waited % 60:02d} later"
        what = f"{job.type} job reported running at 100 % ({job.done} of {job.total}) at record {seq}"
        it.found(
            "job-at-its-end",
            name,
            f"{what}, {status or 'and not heard of again'} {later}",
            None if status else seq,
        )


#: Seconds in which a job that has done everything has another status.
_AT_ITS_END: Final = 10


@after("end")
def left(it: Sight, _body: dict[str, Any], _asked: Asked | None) -> None:
    """Jobs that wait to be dismissed, in a VM that goes on."""
    if it.vm.names("process", it.vm.process) != ("running",) or "ending" in it.memory:
        return
    for name, cell in it.vm.jobs.items():
        if it.vm.names("job", cell) == ("concluded",):
            it.found("job-left-concluded", name, "job-dismiss frees its id", cell.since)


@after("event MIGRATION")
def migration(it: Sight, qmp: dict[str, Any], _asked: Asked | None) -> None:
    """Remember when a migration failed, until something says why."""
    if qmp["data"].get("status") == "failed":
        it.memory["migration failed"] = it.vm.seq
    else:
        it.memory.pop("migration failed", None)


@after("reply query-migrate")
def explained(it: Sight, qmp: dict[str, Any], _asked: Asked | None) -> None:
    """``query-migrate`` carries ``error-desc`` (qapi/migration.json MigrationInfo)."""
    if qmp["return"].get("error-desc"):
        it.memory.pop("migration failed", None)


@after("failure migrate")
def refused(it: Sight, _qmp: dict[str, Any], _asked: Asked | None) -> None:
    """7.2 announces ``failed`` before it refuses the command, and the refusal says why."""
    it.memory.pop("migration failed", None)


@after("end")
def unexplained(it: Sight, _body: dict[str, Any], _asked: Asked | None) -> None:
    """Failures that nobody asked about, and memory that did not come."""
    if (seq := it.memory.get("migration failed")) is not None:
        it.found("migration-failed", "", "query-migrate would carry the reason, and was not asked", seq)
    for name, sizes in it.vm.memory.items():
        if sizes.get("requested", sizes["actual"]) != sizes["actual"]:
            it.found("memory-short", name, f"{sizes['actual']} of {sizes['requested']} bytes")
