"""A background job: QAPI ``JobStatus``, and QEMU's JobSTT (job.c), 20 edges, the same in 7.2 and 10.0.

Theory. QEMU announces every change of a job's status with JOB_STATUS_CHANGE (job_state_transition()), except
for internal jobs; so the event's status is the job's. ``null`` is a job that is gone. Before the first event
a job is ``undefined``, and after ``null`` its id is free.
"""

from __future__ import annotations

from typing import Final

from qemustate.statemachine.rows import Row, Table, rows

#: QAPI ``JobStatus`` (qapi/job.json), in QEMU's order.
STATUSES: Final = (
    "undefined", "created", "running", "paused", "ready", "standby",
    "waiting", "pending", "aborting", "concluded", "null",
)  # fmt: skip

#: JobSTT (job.c): from -> to.
_EDGES: Final = {
    "undefined": "created",
    "created": "running aborting null",
    "running": "paused ready waiting aborting",
    "paused": "running",
    "ready": "standby waiting aborting",
    "standby": "ready",
    "waiting": "pending aborting",
    "pending": "aborting concluded",
    "aborting": "aborting concluded",
    "concluded": "null",
    "null": "created",  # the id is free: a new job bears it
}

_ROWS: list[Row] = [
    row
    for source, targets in _EDGES.items()
    for target in targets.split()
    for row in rows(f"JOB_STATUS_CHANGE {target}", source, target, ref="job.c JobSTT")
]

TABLE: Final = Table(
    name="job",
    states=STATUSES,
    initial="undefined",
    rows=(*_ROWS, *rows("JOB_STATUS_CHANGE undefined", "undefined", "=")),
    commanded=("JOB_STATUS_CHANGE created",),
)

#: JobVerbTable (job.c): verb -> the statuses in which a job takes it. ``change`` since 8.2.
VERBS: Final = {
    "cancel": "created running paused ready standby waiting pending",
    "pause": "created running paused ready standby",
    "resume": "created running paused ready standby",
    "set-speed": "created running paused ready standby",
    "complete": "ready standby",
    "finalize": "pending",
    "dismiss": "concluded",
    "change": "created running paused ready standby",
}
