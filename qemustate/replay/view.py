"""A VM of a trace as plain values, at one record: what :func:`qemustate.replay` returns."""

from __future__ import annotations

import os
from functools import cached_property, partial
from typing import Any

from qemustate.errors import BadInput
from qemustate.replay.check import Report, Until, check
from qemustate.replay.life import Life, explain
from qemustate.replay.source import ForeignTrace, Source, Trace, records
from qemustate.replay.spool import Spool
from qemustate.replay.timeline import Timeline
from qemustate.statemachine.rules import Finding


class View:
    """One VM after record ``seq``; ``state`` is its entry of the ``--json`` contract, findings left out.

    ``timeline`` is a cursor over the trace that all views of this VM share: :meth:`at` moves it, and moving it
    leaves the views as they are. ``lacks`` names what the trace cannot show.
    """

    def __init__(self, trace: Trace, timeline: Timeline, *, whole: bool = False) -> None:
        self._trace, self._whole = trace, whole
        self.timeline = timeline
        self.lacks = trace.lacks
        self.seq: int = timeline.seq
        self.state: dict[str, Any] = timeline.state.to_json()

    def __repr__(self) -> str:
        return f"<{self.name} after record {self.seq}: {'|'.join(self.state['runstate']['possible'])}>"

    @property
    def name(self) -> str:
        """The VM's name."""
        name: str = self.state["name"]
        return name

    @property
    def devices(self) -> dict[str, dict[str, Any]]:
        """The devices by id: ``possible``, ``is``, ``generation``, ``driver``, ``bus``, ``since``."""
        devices: dict[str, dict[str, Any]] = self.state["devices"]
        return devices

    def at(self, when: int | str) -> View:
        """Return the VM after record ``when``, or at a time in ISO 8601; the nearest there is where that is out of range.

        Raises BadInput for a text that is no time, and for a time where the trace has none.
        """
        until = Until(seq=when) if isinstance(when, int) else Until.read(when)
        if until.time is not None:
            if "times" in self.lacks:
                raise BadInput(self._trace.shown, expected="a trace with times", seen="one that has none")
            self.timeline.at_time(until.time)
        else:
            self.timeline.at(until.seq or 0)
        return View(self._trace, self.timeline)

    def explain(self, name: str) -> Life:
        """Return the life of a device, job or backend up to this record: see :func:`qemustate.replay.life.explain`.

        Raises BadInput where the trace knows nothing of that name.
        """
        return explain(self._trace, name, self._until)

    @property
    def findings(self) -> list[Finding]:
        """What the rules find up to this record; those about how a trace ends, only after its last one."""
        return self.report.findings

    @cached_property
    def report(self) -> Report:
        """The findings, also grouped, and what was not checked. Reads the trace once more."""
        return check(self._trace, self._until)

    @property
    def _until(self) -> Until:
        return Until() if self._whole else Until(seq=self.seq)


def replay(path: str | os.PathLike[str]) -> list[View]:
    """Return the VMs of a trace, of any format we know, each after its last record.

    Raises BadInput where the path is no trace, LogDamaged where a log is damaged.
    """
    views = []
    for trace in Source(path).vms:
        read = Spool(trace) if isinstance(trace, ForeignTrace) else partial(records, trace)
        timeline = Timeline(read, trace.start(), snapshot=trace.snapshot)
        timeline.end()
        views.append(View(trace, timeline, whole=True))
    return views
