"""A short way to write a trace: commands, answers and events as one would tell them."""

from __future__ import annotations

import pytest
from support.wire import NATIVE, PORTS, Q35, Wire


@pytest.fixture
def wire():
    """Return a maker of traces: ``wire(version, argv)``; without argv the beginning was not seen."""
    return Wire


@pytest.fixture
def q35():
    """Return a command line: paused, TCG, q35, two root ports, ACPI hotplug (the default)."""
    return [*Q35, *PORTS]


@pytest.fixture
def native():
    """Return the same with native PCIe hotplug."""
    return [*Q35, *NATIVE, *PORTS]
