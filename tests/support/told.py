"""A recorded story folded, with what was believed after each of its records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qemustate.events.records import Record
from qemustate.replay.source import Source, records
from qemustate.statemachine.checker import Checker, Finding

STORIES = Path(__file__).parents[1] / "stories"
VERSIONS = ("7.2", "10.0")


def said(record: Record, names: dict[Any, str]) -> str:
    """Return a record in a few words: ``STOP``, ``-> stop``, ``<- stop``, ``<! stop``, ``DEVICE_DELETED vd1``.

    ``names`` keeps the commands' names by id, for their answers.
    """
    qmp = record.body.get("qmp") or {}
    if record.kind == "command":
        names[repr(qmp.get("id"))] = name = qmp.get("execute") or qmp.get("exec-oob")
        return f"-> {name}"
    if record.kind in ("reply", "failure"):
        name = names.get(repr(qmp.get("id")), "?")
        return f"{'<-' if record.kind == 'reply' else '<!'} {name}"
    if record.kind != "event":
        return record.kind
    data = qmp.get("data", {})
    if qmp["event"] == "DEVICE_DELETED":
        subject = data.get("device") or data["path"].removeprefix("/machine/peripheral/")
    else:
        subject = " ".join(str(data[key]) for key in ("id", "status", "action", "reason") if key in data)
    return f"{qmp['event']} {subject}".rstrip()


@dataclass(frozen=True)
class Step:
    """One record in a few words, and what each machine shows as after it; devices and jobs by id."""

    seq: int
    said: str
    qmp: dict[str, Any]
    runstate: tuple[str, ...]
    migration: tuple[str, ...]
    process: tuple[str, ...]
    devices: dict[str, tuple[str, ...]]
    jobs: dict[str, tuple[str, ...]]


class Told:
    """Records folded in order: ``steps`` with every belief, ``findings`` of the rules, the ``vm`` at the end."""

    def __init__(self, found: Iterable[Record]) -> None:
        checker, names = Checker(), {}
        self.steps: list[Step] = []
        for record in found:
            checker.see(record.seq, record.time, record.kind, record.body)
            vm = checker.vm
            self.steps.append(
                Step(
                    record.seq,
                    said(record, names),
                    record.body.get("qmp") or {},
                    vm.names("runstate", vm.runstate),
                    vm.names("migration", vm.migration),
                    vm.names("process", vm.process),
                    {name: vm.names("device", cell) for name, cell in vm.devices.items()},
                    {name: vm.names("job", cell) for name, cell in vm.jobs.items()},
                )
            )
        checker.close()
        self.vm, self.findings = checker.vm, checker.findings

    @property
    def violations(self) -> list[Finding]:
        """The findings of the highest severity."""
        return [f for f in self.findings if f.severity == "violation"]

    def said(self, *starts: str) -> list[str]:
        """Return the records in a few words each: all, or those that begin with one of ``starts``."""
        return [step.said for step in self.steps if not starts or step.said.startswith(starts)]

    def at(self, words: str, nth: int = 1) -> Step:
        """Return the step of the ``nth`` record that says exactly this."""
        return [step for step in self.steps if step.said == words][nth - 1]

    def after(self, step: Step) -> Step:
        """Return the step that follows."""
        return self.steps[self.steps.index(step) + 1]


def read(path: Path) -> list[Record]:
    """Return the records of one recording."""
    return list(records(Source(path).vms[0]))


def story(name: str, version: str) -> Told:
    """Return a committed story, folded; ``version`` is ``7.2`` or ``10.0``."""
    return Told(read(STORIES / version / f"{name}.jsonl.xz"))
