"""A foreign trace made fit for moving about in."""

import errno

import pytest

from qemustate.replay import spool as spooling
from qemustate.replay.source import Source, records
from qemustate.replay.spool import Spool


def test_every_reading_is_the_same(story):
    """From any number on, the records are those of the file, whether the file is read or the log."""
    (trace,) = Source(story).vms
    expected = list(records(trace))
    spool = Spool(trace)
    assert list(spool(0)) == expected
    for start in (0, 1, 2, len(expected) // 2, len(expected), len(expected) + 1):
        assert list(spool(start)) == expected[max(start - 1, 0) :]
    assert spool._log is not None
    assert [record.kind for record in spool._log].count("segment") == 1


def test_the_log_is_gone_with_its_spool(quit_story, tmp_path, monkeypatch):
    """One reading writes nothing; more write one folder, which does not outlive the spool."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    spool = Spool(Source(quit_story).vms[0])
    list(spool(0))
    assert list(tmp_path.iterdir()) == []
    list(spool(0))
    list(spool(0))
    (folder,) = tmp_path.iterdir()
    assert folder.stat().st_mode & 0o077 == 0
    del spool
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("when", ["no folder", "no room"])
def test_without_a_place_for_it_the_file_is_read_again(quit_story, monkeypatch, when, tmp_path):
    """A log that cannot be written is no error."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    if when == "no folder":

        def refuse(**_):
            raise OSError(errno.ENOSPC, "no room")

        monkeypatch.setattr(spooling.tempfile, "mkdtemp", refuse)
    else:
        monkeypatch.setattr(spooling, "LogWriter", lambda *_, **__: _Failing())
    (trace,) = Source(quit_story).vms
    spool = Spool(trace)
    for _ in range(3):
        assert list(spool(0)) == list(records(trace))


class _Failing:
    """A writer that has failed."""

    state = spooling.WriterState.FAILED
    seq = 1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass
