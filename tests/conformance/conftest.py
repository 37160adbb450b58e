"""Recordings folded, and traces written by hand."""

from __future__ import annotations

import pytest
from support.told import VERSIONS, Told, read, story
from support.wire import NATIVE, PORTS, Q35, Wire


@pytest.fixture(params=VERSIONS)
def version(request):
    """Return a QEMU version that stories were recorded with."""
    return request.param


@pytest.fixture
def told(version):
    """Return a reader of stories, folded, of that version."""
    return lambda name: story(name, version)


@pytest.fixture
def recorded(shared, version):
    """Return a reader of recordings that are kept beside the project, folded, of that version."""
    return lambda name: Told(read(shared / "qmp-jsonl" / version / f"{name}.jsonl"))


@pytest.fixture
def wire(version):
    """Return a maker of traces by hand, q35 paused at launch; ``native`` for native PCIe hotplug."""
    full = {"7.2": (7, 2, 22), "10.0": (10, 0, 2)}[version]

    def make(*more, native=False, running=True):
        w = Wire(full, [*Q35, *(NATIVE if native else ()), *PORTS, *more])
        if running:
            i = w.send("cont")
            w.event("RESUME")
            w.answer(i)
        return w

    return make
