"""Reading from a number, a time or a snapshot on, across segments, and behind a live writer."""

import threading

import pytest

from qemustate.errors import BadInput, LogDamaged
from qemustate.events.format import segment_path
from qemustate.events.reader import LogReader
from qemustate.events.writer import LogWriter


@pytest.fixture
def long_log(tmp_path):
    """Return a log of 3,000 records in five segments; the third and the fifth begin with a snapshot."""
    path = tmp_path / "long"
    with LogWriter(path, vm="vm1", durability="os") as writer:
        for segment in range(5):
            if segment:
                writer.rotate({"folded": writer.seq} if segment in {2, 4} else None, "hash")
            writer.append_many(
                [("event", {"text": "x" * (n % 90)}, 1_000 * writer.seq + n) for n in range(600)]
            )
    return path


def seqs(records):
    return [record.seq for record in records]


def test_everything_in_order(long_log):
    """All items of all segments come in order, and the reader knows the log by its header."""
    reader = LogReader(long_log)
    last = 5 + 2 + 3000 + 1

    assert seqs(reader) == list(range(1, last + 1))
    assert [item[0] for batch in reader.batches() for item in batch] == list(range(1, last + 1))
    assert (reader.vm, reader.first_seq, reader.closed, reader.tail) == ("vm1", 1, True, None)
    assert reader.header["segment"] == 1


def test_batches_are_not_large(long_log):
    """A batch holds some hundred items, however long the log is."""
    sizes = [len(batch) for batch in LogReader(long_log).batches()]

    assert max(sizes) < 1000
    assert len(sizes) > 10


@pytest.mark.parametrize("warm", [False, True])
def test_from_any_number_on(long_log, warm):
    """From every number on, the rest comes, whether the reader has been there before or not."""
    reader = LogReader(long_log)
    total = seqs(reader)[-1] if warm else 3008

    for start in (0, 1, 2, 599, 601, 602, 603, 1204, 1205, 2999, 3007, 3008, 3009, 10_000):
        fresh = reader if warm else LogReader(long_log)
        assert seqs(fresh.records(start)) == list(range(max(start, 1), total + 1))
        assert fresh.closed
    assert seqs(reader.records(700))[:3] == [700, 701, 702]


def test_times_are_found(long_log):
    """The first record of a time or later is found, and one past the last where there is none."""
    reader = LogReader(long_log)
    records = list(reader)

    for time in (0, 1, 1_000, 1_599, 1_600, 700_000, 2_000_123, records[-2].time, records[-2].time + 1):
        expected = next((record.seq for record in records if record.time >= time), records[-1].seq + 1)
        assert reader.seq_at(time) == expected
    assert LogReader(long_log).seq_at(700_000) == reader.seq_at(700_000)


def test_times_that_run_backwards(tmp_path):
    """Where clocks were set back, the first record that is late enough is the one that counts."""
    with LogWriter(tmp_path / "log") as writer:
        for time in (50, 10, 90, 20, 0, 95):
            writer.append("note", {}, time)
        reader = LogReader(tmp_path / "log")
        assert [reader.seq_at(time) for time in (1, 51, 91, 96)] == [2, 4, 7, 8]
        writer.append("note", {}, 200)
        assert reader.seq_at(96) == 8


def test_the_nearest_snapshot(long_log):
    """The last snapshot at or before a number is found without reading what is before it."""
    reader = LogReader(long_log)
    found = [record.seq for record in reader if record.kind == "snapshot"]
    assert len(found) == 2

    assert reader.nearest_snapshot(found[0] - 1) is None
    assert reader.nearest_snapshot(found[0]).body == {"state": {"folded": found[0] - 2}, "tables": "hash"}
    assert reader.nearest_snapshot(found[1] - 1).seq == found[0]
    assert reader.nearest_snapshot(10**9).seq == found[1]
    assert next(reader.records(found[1] + 1)).seq == found[1] + 1


def test_damage_behind_a_snapshot_is_not_in_the_way_before(long_log):
    """Each record before damage is delivered; reading can start behind it at a later segment."""
    middle = segment_path(long_log, 3)
    data = bytearray(middle.read_bytes())
    data[len(data) // 2] ^= 0x40
    middle.write_bytes(data)

    reader = LogReader(long_log)
    found = []
    with pytest.raises(LogDamaged, match=r"long.000003, byte \d+: expected") as caught:
        found.extend(reader)
    assert seqs(found) == list(range(1, len(found) + 1))
    assert 1204 < len(found) < 1900
    assert caught.value.offset <= len(data) // 2
    after = reader.nearest_snapshot(10**9).seq
    assert seqs(reader.records(after)) == list(range(after, 3009))


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (
            lambda log: segment_path(log, 2).unlink(),
            "expected segment 2, saw missing-segment: segment 3 as the next",
        ),
        (
            lambda log: log.unlink(),
            "expected segment 1, saw missing-segment: segment 2 as the first, without a snapshot",
        ),
        (
            lambda log: segment_path(log, 2).write_bytes(log.read_bytes()),
            "expected segment 2, saw missing-segment: segment 1|expected record",
        ),
        (lambda log: log.write_bytes(log.read_bytes()[:-2]), "bad-item: the end of the file"),
    ],
    ids=["a hole", "no beginning", "the same twice", "cut in the middle"],
)
def test_segments_that_do_not_belong_together(long_log, harm, why):
    """A segment that is missing, doubled or cut is named."""
    harm(long_log)

    with pytest.raises(LogDamaged, match=why):
        list(LogReader(long_log))


def test_a_segment_of_another_log(tmp_path, make_log):
    """A segment whose predecessor was another file, or was cut between two records, breaks the chain."""
    for name in ("a", "b"):
        with LogWriter(tmp_path / name, vm=name) as writer:
            writer.append("note", {}, 1)
            writer.rotate()
    segment_path(tmp_path / "b", 2).rename(segment_path(tmp_path / "a", 2))

    with pytest.raises(LogDamaged, match=r"a.000002, byte 0: expected chain \d+, saw chain-broken: \d+"):
        list(LogReader(tmp_path / "a"))


def test_an_empty_last_segment_is_no_damage(make_log):
    """A writer that was killed while it began a segment leaves a log that is merely not closed."""
    path = make_log(20, closed=False)
    segment_path(path, 2).touch()

    reader = LogReader(path)

    assert len(list(reader)) == 20
    assert (reader.closed, reader.tail) == (False, None)


def test_following_a_live_writer(tmp_path):
    """A follower sees every record once, in order, across rotation, and ends when the log is closed."""
    writer = LogWriter(tmp_path / "log", segment_bytes=2_000, durability="os")
    found, ready = [], threading.Event()

    def follow():
        for record in LogReader(tmp_path / "log").follow(threading.Event()):
            found.append(record.seq)
            ready.set()

    thread = threading.Thread(target=follow)
    thread.start()
    assert ready.wait(30)
    for n in range(1_000):
        writer.append("event", {"n": n}, n)
        if n % 300 == 0:
            ready.clear()
            assert ready.wait(30)
    writer.close()
    thread.join(30)

    assert found == list(range(1, writer.seq + 1))
    assert writer.segment > 5


def test_following_stops_when_asked(tmp_path):
    """A follower of a log that does not grow waits, without reading it over, until it is told to stop."""
    stop = threading.Event()
    with LogWriter(tmp_path / "log") as writer:
        writer.append("note", {}, 1)
        follower = LogReader(tmp_path / "log").follow(stop, 2)
        assert next(follower).seq == 2
        timer = threading.Timer(0.2, stop.set)
        timer.start()
        assert list(follower) == []
        timer.join()


def test_following_a_reopened_log(make_log):
    """A log that was closed and opened again is followed to its last end."""
    path = make_log(5)
    with LogWriter(path) as writer:
        writer.append("note", {}, 1)

    assert [record.kind for record in LogReader(path).follow(threading.Event(), 5)] == [
        "closed",
        "note",
        "closed",
    ]


def test_following_meets_damage(make_log):
    """Damage under a follower is an error, not an endless wait."""
    path = make_log(50, closed=False)
    data = bytearray(path.read_bytes())
    data[data.index(b"\x81\xa3qmp") + 1 : data.index(b"\x81\xa3qmp") + 6] = b"\xc6\x7f\xff\xff\xff"
    path.write_bytes(data)

    with pytest.raises(LogDamaged, match="bad-item"):
        list(LogReader(path).follow(threading.Event()))


def test_an_unreadable_file_is_bad_input(tmp_path):
    """A log that was there and is gone when it is read is an error with its name."""
    with LogWriter(tmp_path / "log") as writer:
        writer.append("note", {}, 1)
    reader = LogReader(tmp_path / "log")
    (tmp_path / "log").unlink()

    with pytest.raises(BadInput, match="log: expected a log, saw No such file"):
        list(reader)
