"""Old segments may go once a snapshot stands behind them."""

import pytest

from qemustate.errors import LogDamaged
from qemustate.events.format import segment_numbers, segment_path
from qemustate.events.reader import LogReader
from qemustate.events.snapshots import Snapshot, snapshots, truncate
from qemustate.events.writer import LogWriter


@pytest.fixture
def log(tmp_path):
    """Return the path of a log of four segments, the third of which begins with a snapshot."""
    path = tmp_path / "log"
    with LogWriter(path, header_extra={"lacks": ["times"]}) as writer:
        for segment in range(4):
            if segment:
                writer.rotate({"n": segment} if segment == 2 else None, "h")
            writer.append("note", {"n": segment}, segment)
    return path


def test_segments_before_a_snapshot_go(log):
    """What a snapshot stands for is deleted; the rest reads on under its old numbers."""
    before = list(LogReader(log))
    assert snapshots(log) == [Snapshot(6, 3, "h")]

    assert truncate(log) == [log, segment_path(log, 2)]

    reader = LogReader(log)
    assert list(reader) == before[4:]
    assert (reader.first_seq, reader.header["lacks"], reader.closed) == (5, ["times"], True)
    assert segment_numbers(log) == [3, 4]
    assert truncate(log) == []


def test_a_truncated_log_is_continued(log):
    """A writer goes on with a log whose first segments are gone."""
    truncate(log)

    with LogWriter(log) as writer:
        assert writer.segment == 4
        writer.append("note", {}, 9)
        writer.rotate({"n": 9}, "h")

    assert [record.seq for record in LogReader(log)] == list(range(5, writer.seq + 1))
    assert [snapshot.segment for snapshot in snapshots(log)] == [3, 5]


def test_without_a_snapshot_nothing_goes(make_log, tmp_path):
    """A log without snapshots keeps all its segments, and no log has none."""
    path = make_log(50, segment_bytes=300)

    assert truncate(path) == []
    assert len(segment_numbers(path)) > 2
    assert truncate(tmp_path / "none") == []


def test_an_interrupted_truncation_is_named_and_can_be_done_again(log):
    """With only some of the old segments gone the log is refused; truncating again completes it."""
    log.unlink()
    with pytest.raises(LogDamaged, match="missing-segment"):
        LogReader(log)

    assert truncate(log) == [segment_path(log, 2)]
    assert LogReader(log).first_seq == 5


def test_a_damaged_snapshot_deletes_nothing(log):
    """Nothing goes on the word of a snapshot that does not verify."""
    third = segment_path(log, 3)
    data = bytearray(third.read_bytes())
    data[data.index(b"snapshot")] ^= 1
    third.write_bytes(data)

    assert truncate(log) == []
    assert segment_numbers(log) == [1, 2, 3, 4]
