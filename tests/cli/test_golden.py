"""The command, told as text: what is typed, and what comes back."""

import pytest

from .golden import HERE, furnish, run

GOLDENS = sorted((HERE / "testdata").glob("*.txt"))


@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_golden(path, tmp_path, monkeypatch, rewrite):
    """Every command prints what stands below it, and ends with the status that stands there."""
    furnish(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "110")
    text = path.read_text()
    seen = run(text)
    if rewrite:
        path.write_text(seen)
    assert seen == text or rewrite
