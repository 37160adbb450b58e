"""What a skip means: nothing at home, a failure under CI where a real QEMU was to be tested."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent

FILE = '''
import pytest

@pytest.mark.{mark}
def test_it():
    """Skipped."""
    pytest.skip("nothing here")
'''


@pytest.mark.parametrize(
    ("mark", "ci", "status"),
    [("qemu", "true", 1), ("guest", "true", 1), ("qemu", "", 0), ("shared", "true", 0), ("slow", "true", 0)],
)
def test_a_skip_under_ci(tmp_path, mark, ci, status):
    """Only the skip of a QEMU test, and only under CI, fails, and the failure gives the skip's reason."""
    file = tmp_path / "test_skips.py"
    file.write_text(FILE.format(mark=mark))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "conftest",
        "-c",
        HERE.parent / "pyproject.toml",
        "-q",
        file,
    ]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider"],
        env={**os.environ, "CI": ci, "PYTHONPATH": str(HERE)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == status, done.stdout + done.stderr
    assert "nothing here" in done.stdout
