"""How far jobs are: what an answer to ``query-jobs`` or ``query-block-jobs`` says, whoever asked.

Both answers have a shape like no other (qapi/job.json JobInfo, qapi/block-core.json BlockJobInfo), so that they are
known also where the command is not in the trace. How much is done of how much has no unit: bytes for most jobs.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

#: Query -> the members that name a job, what is done, and the whole; all of its jobs have these and ``type``.
_MEMBERS: Final = {
    "query-jobs": ("id", "current-progress", "total-progress"),
    "query-block-jobs": ("device", "offset", "len"),
}


class Progress(NamedTuple):
    """One job in an answer: its id, its type, its status (empty before QEMU 2.12), and ``done`` of ``total``."""

    name: str
    type: str
    status: str
    done: int
    total: int

    @property
    def complete(self) -> bool:
        """Whether all that there is to do is done."""
        return 0 < self.total <= self.done

    def __str__(self) -> str:
        percent = f" {100 * self.done // self.total} %" if self.total > 0 else ""
        return f"{self.name} {self.status}{percent} ({self.done} of {self.total})"


def asked_for(answer: Any) -> str | None:
    """Return the query that an answer must be to, by its shape; None where it tells of no job."""
    if not isinstance(answer, list) or not answer or not all(isinstance(it, dict) for it in answer):
        return None
    shapes = ({"type", *members} for members in _MEMBERS.values())
    return next(
        (
            query
            for query, shape in zip(_MEMBERS, shapes, strict=True)
            if all(it.keys() >= shape for it in answer)
        ),
        None,
    )


def jobs(answer: Any) -> list[Progress]:
    """Return the jobs that an answer tells of; none where it is no answer about jobs."""
    query = asked_for(answer)
    if query is None:
        return []
    name, done, total = _MEMBERS[query]
    return [
        Progress(str(it[name]), str(it["type"]), str(it.get("status", "")), it[done], it[total])
        for it in answer
        if isinstance(it[done], int) and isinstance(it[total], int)
    ]
