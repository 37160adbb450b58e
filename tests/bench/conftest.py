"""The benchmarks are a package beside the tests, and need peers that only ``make bench`` installs."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

pytest.importorskip("eventsourcing", reason="the benchmarks' peers are not installed: make bench does")
