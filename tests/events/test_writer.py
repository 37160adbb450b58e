"""Writing: what is in the file when append returns, and what happens when the disk refuses."""

import errno
import os
import subprocess
import threading
from pathlib import Path

import pytest

from qemustate.errors import BadInput, LogBusy, LogDamaged, RecordingFailed
from qemustate.events.format import Damage
from qemustate.events.reader import LogReader
from qemustate.events.writer import LogWriter, WriterState

STOP = {"qmp": {"event": "STOP"}}


def file_of(fd):
    return Path(f"/proc/self/fd/{fd}").readlink()


class Disk:
    """A disk with ``room`` bytes left (None: enough), that fails to sync on demand, and notes what is synced."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.room, self.sync_error = folder, None, None
        self.synced = []
        self.sync_tried = threading.Event()
        self._write, self._fdatasync = os.write, os.fdatasync
        monkeypatch.setattr(os, "write", self.write)
        monkeypatch.setattr(os, "fdatasync", self.fdatasync)

    def write(self, fd, data):
        if self.room is None or self.folder not in file_of(fd).parents:
            return self._write(fd, data)
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self._write(fd, data[: self.room])
        self.room -= written
        return written

    def fdatasync(self, fd):
        self.sync_tried.set()
        if self.sync_error:
            raise OSError(self.sync_error, os.strerror(self.sync_error))
        self.synced.append((file_of(fd).name, os.fstat(fd).st_size))
        self._fdatasync(fd)


@pytest.fixture
def disk(tmp_path, monkeypatch):
    return Disk(tmp_path, monkeypatch)


def kinds(path):
    return [record.kind for record in LogReader(path)]


@pytest.mark.parametrize("durability", ["os", "interval", "each"])
def test_what_is_appended_can_be_read_at_once(tmp_path, durability):
    """When append returns, any reader finds the record, under every durability."""
    with LogWriter(tmp_path / "log", vm="a", durability=durability) as writer:
        assert writer.append("event", STOP, 10) == 2
        assert writer.append_many([("event", {"n": n}, 20 + n) for n in range(3)]) == range(3, 6)
        assert writer.append_many([]) == range(6, 6)
        found = [
            (record.seq, record.time, record.kind, record.body) for record in LogReader(tmp_path / "log")
        ]

    assert found[1:] == [(2, 10, "event", STOP), *((3 + n, 20 + n, "event", {"n": n}) for n in range(3))]
    assert kinds(tmp_path / "log")[-1] == "closed"
    assert writer.state is WriterState.CLOSED


def test_each_is_on_the_disk_before_append_returns(tmp_path, disk):
    """Durability "each": all of the file has been synced whenever append has returned."""
    writer = LogWriter(tmp_path / "log", durability="each")
    for n in range(3):
        writer.append("event", STOP, n)
        assert disk.synced[-1] == ("log", (tmp_path / "log").stat().st_size)
    writer.append_many([("event", STOP, n) for n in range(5)])
    assert disk.synced[-1] == ("log", (tmp_path / "log").stat().st_size)
    writer.rotate()
    assert disk.synced[-1] == ("log.000002", (tmp_path / "log.000002").stat().st_size)
    writer.close()


def test_interval_is_on_the_disk_soon(tmp_path, disk):
    """Durability "interval": a thread syncs what was written, without being asked; rotated files too."""
    writer = LogWriter(tmp_path / "log", durability="interval")
    writer.append("event", STOP, 1)
    assert disk.sync_tried.wait(30)
    writer.rotate()
    writer.append("event", STOP, 2)
    writer.close()

    sizes = dict(disk.synced)
    assert sizes == {name: (tmp_path / name).stat().st_size for name in ("log", "log.000002")}


def test_os_leaves_the_disk_alone(tmp_path, disk):
    """Durability "os" never syncs, unless it is asked to."""
    writer = LogWriter(tmp_path / "log", durability="os")
    writer.append("event", STOP, 1)
    assert disk.synced == []
    writer.sync()
    assert disk.synced == [("log", (tmp_path / "log").stat().st_size)]
    writer.close()
    assert len(disk.synced) == 1


def test_a_second_writer_is_refused(tmp_path):
    """A log has one writer: a second is told which process it is; afterwards the log is free."""
    with LogWriter(tmp_path / "log"):
        with pytest.raises(LogBusy, match=f"expected no other writer, saw one, process {os.getpid()}"):
            LogWriter(tmp_path / "log")
        assert (tmp_path / "log.lock").exists()
    assert not (tmp_path / "log.lock").exists()
    LogWriter(tmp_path / "log").close()


def test_a_log_is_continued(tmp_path):
    """Numbers, header and checksums go on where the last writer ended, in its last segment."""
    with LogWriter(tmp_path / "log", vm="a", header_extra={"source": "libvirt"}) as writer:
        writer.append("event", STOP, 5)
        writer.rotate()
    with LogWriter(tmp_path / "log", segment_bytes=1) as writer:
        assert (writer.seq, writer.segment, writer.state) == (4, 2, WriterState.OPEN)
        writer.append("event", STOP, 6)

    records = list(LogReader(tmp_path / "log"))
    assert [record.seq for record in records] == list(range(1, len(records) + 1))
    assert [r.body["source"] for r in records if r.kind == "segment"] == ["libvirt"] * 4
    assert [r.body["segment"] for r in records if r.kind == "segment"] == [1, 2, 3, 4]


def test_a_torn_tail_is_cut_and_told(make_log):
    """A writer that finds half a record cuts it, and its first record is a gap that says so."""
    path = make_log(10, closed=False)
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])

    writer = LogWriter(path)
    writer.append("event", STOP, 99)
    writer.close()

    records = list(LogReader(path))
    assert [record.kind for record in records[8:]] == ["event", "gap", "event", "closed"]
    offset = path.read_bytes().index(b"\xa3gap") - 11  # array, number, time
    assert records[9].body == {
        "why": f"{len(whole) - 3 - offset} bytes cut at byte {offset} of log: torn-tail"
    }
    assert records[9].time == records[8].time


@pytest.mark.parametrize("head", [0, 20])
def test_a_segment_without_a_whole_item_is_begun_again(tmp_path, head):
    """A writer that died while it began a segment leaves nothing that matters."""
    with LogWriter(tmp_path / "log") as writer:
        writer.append("event", STOP, 1)
        writer.rotate()
        writer.abandon()
    for name, expected in (("log.000002", ["segment", "event"]), ("log", [])):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:head])
        LogWriter(tmp_path / "log").close()
        assert kinds(tmp_path / "log")[: len(expected)] == expected
        assert kinds(tmp_path / "log")[-1] == "closed"


def test_a_damaged_log_is_not_continued(make_log, tmp_path):
    """Other damage than a crash leaves, another VM, and another file are refused and not touched."""
    path = make_log(10)
    data = bytearray(path.read_bytes())
    data[90] ^= 1
    path.write_bytes(data)
    with pytest.raises(LogDamaged, match=Damage.BAD_CHECKSUM.value):
        LogWriter(path)
    assert path.read_bytes() == data

    with pytest.raises(BadInput, match="expected the log of b, saw that of vm1"):
        LogWriter(make_log(3, name="other"), vm="b")
    (tmp_path / "text").write_text("not a log, but somebody's text of some length")
    with pytest.raises(LogDamaged, match="not-a-log"):
        LogWriter(tmp_path / "text")
    with pytest.raises(BadInput, match="No such file"):
        LogWriter(tmp_path / "nowhere" / "log")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["log", "other", "text"]


def test_segments_end_by_size(tmp_path):
    """A full segment is followed by another, at the next append, or before when the caller has a snapshot."""
    with LogWriter(tmp_path / "log", segment_bytes=200, durability="os") as writer:
        while not writer.full:
            writer.append("event", STOP, 1)
        last = writer.seq
        assert writer.rotate({"n": 1}, "hash")
        assert not writer.full
        assert writer.seq == last + 2
        while not writer.full:
            writer.append("event", STOP, 1)
        assert writer.append("event", STOP, 1) == writer.seq
        assert writer.segment == 3
        writer.append_many([("event", STOP, 1)] * 10)
        assert writer.append_many([("event", STOP, 1)] * 2) == range(writer.seq - 1, writer.seq + 1)
        assert writer.segment == 4

    assert [record.body for record in LogReader(tmp_path / "log") if record.kind == "snapshot"] == [
        {"state": {"n": 1}, "tables": "hash"}
    ]


def test_a_body_that_cannot_be_kept_leaves_the_log_as_it_was(tmp_path):
    """A refused record, alone or in a batch, has written nothing."""
    with LogWriter(tmp_path / "log") as writer:
        before = (tmp_path / "log").read_bytes()
        with pytest.raises(BadInput, match="record 2"):
            writer.append("event", {"n": 2**70}, 1)
        with pytest.raises(BadInput, match="record 3"):
            writer.append_many([("event", STOP, 1), ("event", {"n": 2**70}, 1)])
        assert (tmp_path / "log").read_bytes() == before
        assert writer.append("event", STOP, 1) == 2


def test_closed_is_closed(tmp_path):
    """Nothing is appended to a closed writer; closing twice is closing once."""
    writer = LogWriter(tmp_path / "log")
    writer.close()
    writer.close()

    with pytest.raises(RecordingFailed, match="closed"):
        writer.append("event", STOP, 1)
    with pytest.raises(RecordingFailed, match="closed"):
        writer.append_many([("event", STOP, 1)])
    assert not writer.rotate()
    assert kinds(tmp_path / "log") == ["segment", "closed"]


@pytest.mark.parametrize("room", [0, 1, 17])
@pytest.mark.parametrize("durability", ["os", "interval", "each"])
def test_a_full_disk_costs_records_not_the_vm(tmp_path, disk, room, durability):
    """Records are dropped and counted, required ones refused; then a gap says how many, and all goes on."""
    seen = []
    path = tmp_path / "log"
    writer = LogWriter(
        path, durability=durability, on_state=lambda w: seen.append((w.state.value, w.missing))
    )
    writer.append("event", STOP, 1)

    disk.room = room
    assert writer.append("event", {"lost": 1}, 2) == 0
    assert (writer.state, writer.missing) == (WriterState.FAILED, 1)
    disk.room = room
    assert writer.append_many([("event", {"lost": n}, 3) for n in (2, 3)]) == range(0)
    with pytest.raises(RecordingFailed, match="No space left"):
        writer.append("command", {}, 4, required=True)
    with pytest.raises(RecordingFailed, match="No space left"):
        writer.sync()
    assert not writer.rotate()
    assert writer.append("event", {"lost": 4}, 5) == 0
    assert writer.missing == 4
    assert kinds(path) == ["segment", "event"]

    disk.room = None
    assert writer.append("event", {"kept": True}, 6) == 4
    assert (writer.state, writer.missing, writer.why) == (WriterState.OPEN, 0, "")
    writer.sync()
    writer.close()

    records = list(LogReader(path))
    assert [record.kind for record in records] == ["segment", "event", "gap", "event", "closed"]
    assert records[2].body == {"why": "the log could not be written: No space left on device", "missing": 4}
    assert records[2].time == 6
    assert seen == [("failed", 0), ("open", 0)]


def test_the_first_refusal_is_a_required_one(tmp_path, disk):
    """A command that could not be recorded was not sent: it is not counted as missing."""
    writer = LogWriter(tmp_path / "log")
    disk.room = 3
    with pytest.raises(RecordingFailed, match="No space left"):
        writer.append("command", {}, 1, required=True)
    disk.room = None
    assert writer.append_many([("event", STOP, 2), ("event", STOP, 3)]) == range(3, 5)
    writer.close()

    assert next(record.body for record in LogReader(tmp_path / "log") if record.kind == "gap") == {
        "why": "the log could not be written: No space left on device"
    }


def test_a_disk_that_stays_full(tmp_path, disk):
    """Closing does not raise either; the log is then not closed, and whole as far as it goes."""
    writer = LogWriter(tmp_path / "log")
    writer.append("event", STOP, 1)
    disk.room = 5
    writer.close()

    reader = LogReader(tmp_path / "log")
    assert [record.kind for record in reader] == ["segment", "event"]
    assert not reader.closed
    assert reader.tail.damage is Damage.TORN_TAIL


def test_no_room_for_a_new_segment(tmp_path, disk):
    """Where no segment can be begun, the old one is used on, and no half of one is left behind."""
    seen = []
    writer = LogWriter(
        tmp_path / "log", segment_bytes=100, durability="os", on_state=lambda w: seen.append(w.why)
    )
    writer.append("event", STOP, 1)
    disk.room = 10
    assert not writer.rotate({"a": 1})
    disk.room = None
    assert seen == ["no new segment: No space left on device"]
    assert writer.state is WriterState.OPEN
    assert writer.append("event", STOP, 1) == 3
    assert sorted(file.name for file in tmp_path.iterdir()) == ["log", "log.lock"]
    writer.close()


def test_no_room_for_a_log_at_all(tmp_path, disk):
    """A log that cannot be begun is an error at once, and leaves nothing."""
    disk.room = 10
    with pytest.raises(RecordingFailed, match="No space left"):
        LogWriter(tmp_path / "log")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_sync_is_told(tmp_path, disk):
    """When the disk refuses behind our back, the next record comes behind a gap that says so."""
    seen = []
    writer = LogWriter(tmp_path / "log", durability="interval", on_state=lambda w: seen.append(w.state.value))
    disk.sync_error = errno.EIO
    writer.append("event", STOP, 1)
    while writer.state is WriterState.OPEN:
        disk.sync_tried.wait(30)
    with pytest.raises(RecordingFailed, match="may not be on the disk: Input/output error"):
        writer.sync()
    disk.sync_error = None
    writer.append("event", STOP, 2)
    writer.close()

    records = list(LogReader(tmp_path / "log"))
    assert [record.kind for record in records] == ["segment", "event", "gap", "event", "closed"]
    assert records[2].body == {"why": "what was written before may not be on the disk: Input/output error"}
    assert seen == ["failed", "open"]


def test_sync_that_fails_raises(tmp_path, disk):
    """Who asks for a sync, before a pivot, say, is told when it fails."""
    writer = LogWriter(tmp_path / "log", durability="os")
    disk.sync_error = errno.EIO
    with pytest.raises(RecordingFailed, match="Input/output error"):
        writer.sync()
    disk.sync_error = None
    writer.close()
    assert kinds(tmp_path / "log") == ["segment", "gap", "closed"]


def test_a_disk_that_cannot_even_be_cut(tmp_path, disk, monkeypatch):
    """While a half-written record cannot be cut off, nothing is appended behind it."""
    writer = LogWriter(tmp_path / "log")
    disk.room = 3
    assert writer.append("event", STOP, 1) == 0
    disk.room = None

    def refuse(fd, size):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", refuse)
        assert writer.append("event", STOP, 1) == 0
        with pytest.raises(RecordingFailed, match="Input/output error"):
            writer.append("event", STOP, 1, required=True)
    assert writer.append("event", STOP, 1) == 3
    writer.close()

    assert [r.body.get("missing") for r in LogReader(tmp_path / "log") if r.kind == "gap"] == [2]


@pytest.fixture
def small_disk(tmp_path):
    """Mount a file system of 64 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", place], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs of 64 KiB can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_real_disk_that_fills_up(small_disk):
    """On a file system that is really full, every record is in the log or counted in its gap, in order."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(40_000))
    writer = LogWriter(small_disk / "log", durability="each")
    numbers = [writer.append("event", {"n": n, "text": "x" * (n % 300)}, n) for n in range(300)]
    dropped = numbers.count(0)
    assert dropped
    assert writer.state is WriterState.FAILED
    assert writer.missing == dropped
    ballast.unlink()
    after = [writer.append("event", {"n": n}, n) for n in range(300, 310)]
    writer.close()

    reader = LogReader(small_disk / "log")
    records = list(reader)
    assert reader.closed
    kept = [record.body["n"] for record in records if record.kind == "event"]
    assert kept == [n for n, seq in enumerate(numbers + after) if seq]
    assert {record.seq: record.body["n"] for record in records if record.kind == "event"} == {
        seq: n for n, seq in enumerate(numbers + after) if seq
    }
    gaps = [record.body["missing"] for record in records if record.kind == "gap"]
    assert sum(gaps) == dropped
