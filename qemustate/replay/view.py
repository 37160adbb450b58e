"""A VM of a trace as plain values, at one record: what :func:`qemustate.replay` returns."""

from __future__ import annotations

import os
from functools import cached_property, partial
from typing import Any

from qemustate.replay.check import Until, check
from qemustate.replay.source import Source, Trace, records
from qemustate.replay.timeline import Timeline
from qemustate.statemachine.rules import Finding


class View:
    """One VM after record ``seq``; ``state`` is its entry of the ``--json`` contract, findings left out."""

    def __init__(self, trace: Trace, timeline: Timeline) -> None:
        self._trace, self._timeline = trace, timeline
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

    def at(self, seq: int) -> View:
        """Return the VM after record ``seq``; the nearest there is where that is out of range."""
        self._timeline.at(seq)
        return View(self._trace, self._timeline)

    @cached_property
    def findings(self) -> list[Finding]:
        """What the rules find up to this record. Reads the trace once more."""
        return check(self._trace, Until(seq=self.seq)).findings


def replay(path: str | os.PathLike[str]) -> list[View]:
    """Return the VMs of a trace, of any format we know, each after its last record.

    Raises BadInput where the path is no trace, LogDamaged where a log is damaged.
    """
    views = []
    for trace in Source(path).vms:
        timeline = Timeline(partial(records, trace), trace.start())
        timeline.end()
        views.append(View(trace, timeline))
    return views
