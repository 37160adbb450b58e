"""What verify tells of a damaged log, and what repair keeps."""

import pytest

from qemustate.errors import BadInput, LogBusy, LogDamaged
from qemustate.events.codec import decode_item
from qemustate.events.format import Damage, segment_path
from qemustate.events.reader import LogReader
from qemustate.events.recovery import Mode, repair, verify
from qemustate.events.writer import LogWriter


@pytest.fixture
def log(tmp_path):
    """Return the path of a log of 305 records in three segments, the last with a snapshot."""
    path = tmp_path / "log"
    with LogWriter(path, vm="vm1", durability="os") as writer:
        for segment in range(3):
            if segment:
                writer.rotate({"n": 1} if segment == 2 else None, "h")
            writer.append_many([("event", {"n": n}, 100 * segment + n) for n in range(100)])
    return path


def spoil(path, seq):
    """Flip a bit in the body of record ``seq``; return the offset of that record."""
    data = bytearray(path.read_bytes())
    offset = 0
    while (found := decode_item(data[offset:]))[0][0] != seq:
        offset += found[1]
    data[offset + found[1] - 6] ^= 0x10
    path.write_bytes(data)
    return offset


def test_a_sound_log_is_sound(log, make_log):
    """Of a log in order, verify gives the figures and finds nothing; not being closed is no fault."""
    report = verify(log)

    assert (report.sound, report.torn, report.closed, report.faults, report.lost) == (
        True,
        False,
        True,
        [],
        0,
    )
    assert (report.vm, report.first_seq, report.last_seq, report.records, report.segments) == (
        "vm1",
        1,
        305,
        305,
        3,
    )
    assert report.bytes == sum(segment_path(log, n).stat().st_size for n in (1, 2, 3))
    other = verify(make_log(5, name="other", closed=False))
    assert (other.sound, other.closed) == (True, False)


def test_every_damage_is_found_in_one_go(log):
    """Verify goes on behind damage, and names each with its file and offset."""
    first, second = spoil(log, 20), spoil(log, 50)
    third = spoil(segment_path(log, 2), 150)
    last = segment_path(log, 3)
    last.write_bytes(last.read_bytes()[:-4])

    report = verify(log)

    assert [(fault.damage, fault.path, fault.offset) for fault in report.faults] == [
        (Damage.BAD_CHECKSUM, str(log), first),
        (Damage.BAD_CHECKSUM, str(log), second),
        (Damage.BAD_CHECKSUM, str(segment_path(log, 2)), third),
        (Damage.TORN_TAIL, str(last), last.stat().st_size - 16),
    ]
    assert (report.records, report.lost, report.last_seq, report.closed) == (301, 3, 304, False)
    assert not report.torn


def test_a_hole_between_segments_is_found(log):
    """A missing segment is named, and counted by the numbers that are missing."""
    segment_path(log, 2).unlink()

    report = verify(log)

    assert [fault.damage for fault in report.faults] == [Damage.MISSING_SEGMENT]
    assert (report.lost, report.records) == (101, 204)


def test_a_segment_of_another_log_is_found(log, tmp_path):
    """A broken chain is named, though all items verify and count."""
    other = tmp_path / "other"
    with LogWriter(other, vm="vm2") as writer:
        writer.append_many([("event", {"n": -n}, n) for n in range(100)])
        writer.rotate()
        writer.append_many([("event", {"n": n}, n) for n in range(100)])
        writer.abandon()
    segment_path(other, 2).rename(segment_path(log, 2))

    assert [fault.damage for fault in verify(log).faults] == [Damage.CHAIN_BROKEN, Damage.CHAIN_BROKEN]


def test_a_torn_tail_is_cut(log):
    """Cutting the tail keeps every whole record, and leaves a gap that says what was cut."""
    last = segment_path(log, 3)
    last.write_bytes(last.read_bytes()[:-4])
    assert verify(log).torn

    report = repair(log, Mode.CUT_TAIL)

    assert report.torn
    records = list(LogReader(log))
    assert [record.kind for record in records[-2:]] == ["event", "gap"]
    assert "16 bytes cut at byte" in records[-1].body["why"]
    assert len(records) == 305
    assert verify(log).sound
    assert repair(log, Mode.CUT_TAIL).sound


def test_cutting_the_tail_does_nothing_else(log):
    """A log that is damaged otherwise, or has a writer, is not cut."""
    before = spoil(log, 20)
    with pytest.raises(LogDamaged, match=f"byte {before}: .*bad-checksum"):
        repair(log, Mode.CUT_TAIL)

    with LogWriter(log.with_name("live"), durability="os") as writer:
        writer.append("note", {}, 1)
        live = log.with_name("live")
        live.write_bytes(live.read_bytes() + b"\x95\x05")
        with pytest.raises(LogBusy):
            repair(live, Mode.CUT_TAIL)


def test_damage_is_skipped_into_a_new_log(log, tmp_path):
    """The new log has every record that verifies under its old number, and a gap for each that does not."""
    before = {record.seq: record for record in LogReader(log)}
    offset = spoil(log, 20)
    spoil(segment_path(log, 2), 150)
    damaged = log.read_bytes()

    report = repair(log, Mode.SKIP_DAMAGE, tmp_path / "new")

    assert log.read_bytes() == damaged
    assert report.lost == 2
    records = {record.seq: record for record in LogReader(tmp_path / "new")}
    assert list(records) == list(before)
    segments = [seq for seq, record in records.items() if record.kind == "segment"]
    assert {seq for seq in before if records[seq] != before[seq]} == {20, 150, *segments[1:]}
    assert records[20].body["missing"] == 1
    assert f"log, byte {offset}: bad-checksum" in records[20].body["why"]
    assert (records[20].time, records[20].kind) == (before[21].time, "gap")
    assert [records[seq].body["segment"] for seq in segments] == [1, 2, 3]
    assert verify(tmp_path / "new").sound
    assert verify(tmp_path / "new").closed


def test_a_missing_segment_becomes_gaps(log, tmp_path):
    """Every number that was lost is a gap in the new log, so that all others keep theirs."""
    segment_path(log, 2).unlink()

    repair(log, Mode.SKIP_DAMAGE, tmp_path / "new")

    records = list(LogReader(tmp_path / "new"))
    assert [record.seq for record in records] == list(range(1, 306))
    gaps = [record for record in records if record.kind == "gap"]
    assert [gap.seq for gap in gaps] == list(range(102, 203))
    assert gaps[0].body["missing"] == 101
    assert gaps[1].body == {"why": "lost with record 102"}
    assert next(record.body["segment"] for record in records if record.seq == 203) == 2


def test_a_lost_beginning_and_a_lost_end(log, tmp_path):
    """Without its head a log gets a new one; damage at the end is a gap there."""
    data = bytearray(log.read_bytes())
    data[15] ^= 1
    log.write_bytes(data)
    last = segment_path(log, 3)
    last.write_bytes(last.read_bytes()[:-4])

    repair(log, Mode.SKIP_DAMAGE, tmp_path / "new")

    records = list(LogReader(tmp_path / "new"))
    assert [record.seq for record in records] == list(range(1, 306))
    assert [record.kind for record in records[:3]] == ["segment", "event", "event"]
    assert records[0].body == {"format": "qemustate", "version": 1, "vm": "vm1", "segment": 1, "chain": 0}
    assert (records[-1].kind, "torn-tail" in records[-1].body["why"]) == ("gap", True)


def test_a_truncated_log_is_copied(log, tmp_path):
    """A log whose first segments were truncated keeps its numbers in the copy."""
    for number in (1, 2):
        segment_path(log, number).unlink()
    spoil(segment_path(log, 3), 250)

    repair(log, Mode.SKIP_DAMAGE, tmp_path / "new")

    assert [record.seq for record in LogReader(tmp_path / "new")] == list(range(203, 306))


@pytest.mark.parametrize(
    ("content", "why"),
    [(None, "no such file"), (b"text, and much of it: more than thirty bytes", "not-a-log")],
)
def test_what_is_no_log_is_refused(tmp_path, content, why):
    """Verifying something else is an error, not a report."""
    path = tmp_path / "x"
    if content is not None:
        path.write_bytes(content)

    for attempt in (verify, lambda p: repair(p, Mode.SKIP_DAMAGE, tmp_path / "new")):
        with pytest.raises(BadInput, match=why):
            attempt(path)
    assert not (tmp_path / "new").exists()


def test_an_empty_file_is_reported(tmp_path):
    """An empty file is a damage with a name, of which nothing can be kept."""
    (tmp_path / "x").touch()

    assert [fault.damage for fault in verify(tmp_path / "x").faults] == [Damage.EMPTY]
    with pytest.raises(BadInput, match="expected records to keep, saw none"):
        repair(tmp_path / "x", Mode.SKIP_DAMAGE, tmp_path / "new")


def test_nothing_is_overwritten(log, make_log):
    """The repaired log needs a name that no log has."""
    for output in (None, log, make_log(3, name="other")):
        with pytest.raises(BadInput, match="expected a new file for the repaired log"):
            repair(log, Mode.SKIP_DAMAGE, output)
