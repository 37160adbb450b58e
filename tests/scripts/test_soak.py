"""Ten VMs in one process for some seconds: what fifty are held to for minutes by ``make soak``."""

import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).resolve().parent.parent.parent / "scripts" / "soak.py"


@pytest.mark.qemu
def test_nothing_is_lost_and_nothing_leaks(full, figures):
    """Each unplug has its DEVICE_DELETED, in QEMU's own count and in the log; no descriptor, task or memory stays."""
    size = ["--vms", "50", "--seconds", "60"] if full else ["--vms", "10", "--seconds", "8"]
    soak = subprocess.run([sys.executable, SOAK, *size], capture_output=True, text=True, timeout=280)
    if soak.returncode == 2:
        pytest.skip(soak.stderr.strip())
    figures += soak.stdout.splitlines()

    assert (soak.returncode, soak.stderr) == (0, ""), soak.stdout
