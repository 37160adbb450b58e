"""One file, read: whole, growing, cut at every byte, with every bit flipped."""

import os

import pytest

from qemustate.errors import BadInput, LogDamaged
from qemustate.events.codec import decode_item
from qemustate.events.format import Damage
from qemustate.events.reader import LogReader
from qemustate.events.segment import Segment
from qemustate.events.writer import LogWriter


def boundaries(data):
    """Return where items end, and 0."""
    ends = [0]
    while ends[-1] < len(data):
        ends.append(ends[-1] + decode_item(data[ends[-1] :])[1])
    return ends


def read(path):
    """Return all items, and the reader."""
    reader = LogReader(path)
    return [item for batch in reader.batches() for item in batch], reader


def test_a_log_cut_at_every_byte(make_log, tmp_path):
    """Inside a record the cut is named with its place, between two the log is not closed; the rest is kept."""
    whole = make_log(200)
    data = whole.read_bytes()
    items, reader = read(whole)
    assert len(items) == 200
    assert reader.closed
    ends = boundaries(data)

    cut = tmp_path / "cut"
    for size in range(ends[1], len(data)):
        cut.write_bytes(data[:size])
        kept, reader = read(cut)
        last = max(end for end in ends if end <= size)
        assert kept == items[: ends.index(last)]
        assert not reader.closed
        if size == last:
            assert reader.tail is None
        else:
            assert (reader.tail.damage, reader.tail.offset, reader.tail.size) == (
                Damage.TORN_TAIL,
                last,
                size - last,
            )


def test_a_log_cut_inside_its_first_item(make_log, tmp_path):
    """With no whole record there is nothing to read, and the message says where and why."""
    data = make_log(3).read_bytes()
    end = boundaries(data)[1]

    for size in range(end):
        (tmp_path / "cut").write_bytes(data[:size])
        with pytest.raises(LogDamaged, match="byte 0: expected a segment") as caught:
            LogReader(tmp_path / "cut")
        assert caught.value.seen.startswith("torn-tail" if size else "empty") or size < 32


def test_every_flipped_bit_is_detected(make_log, tmp_path):
    """One bit flipped anywhere in a closed log: an error or a torn tail, and only true records before it."""
    data = make_log(9).read_bytes()
    items, _ = read(make_log(9, name="same"))
    ends = boundaries(data)
    flipped = tmp_path / "flipped"

    for bit in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        flipped.write_bytes(damaged)
        kept, found = [], None
        try:
            reader = LogReader(flipped)
            for batch in reader.batches():
                kept += batch
            found = reader.tail
        except LogDamaged as error:
            found = error
        assert found is not None
        intact = sum(end <= bit // 8 for end in ends) - 1
        assert kept == items[:intact]
        assert found.offset == ends[intact]


def test_a_flipped_length_is_damage_not_a_torn_tail(make_log, tmp_path):
    """A length that runs over the records behind it does not pass for a crash, which would be cut."""
    data = bytearray(make_log(50).read_bytes())
    # The second body's first map becomes a string of 2^32 - 1 bytes.
    at = data.index(b"\x81\xa3qmp", boundaries(data)[1])
    data[at : at + 5] = b"\xdb\xff\xff\xff\xff"
    (tmp_path / "bad").write_bytes(data)

    with pytest.raises(LogDamaged, match="bad-item"):
        read(tmp_path / "bad")
    with pytest.raises(LogDamaged, match="bad-item"):
        LogWriter(tmp_path / "bad")


@pytest.mark.parametrize("zeros", [1, 4, 4096])
@pytest.mark.parametrize("kept", [0, 5, 30])
def test_zeros_at_the_end_are_what_a_lost_disk_write_leaves(make_log, zeros, kept):
    """Zero bytes after a whole record, or after the beginning of one, are told from other damage."""
    path = make_log(20, closed=False)
    data = path.read_bytes()
    begin = boundaries(data)[-2]
    path.write_bytes(data[: begin + kept] + bytes(zeros))

    _, reader = read(path)

    expected = Damage.TORN_TAIL if kept and zeros < 4 else Damage.ZERO_TAIL
    assert (reader.tail.damage, reader.tail.offset, reader.tail.size) == (expected, begin, kept + zeros)


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_a_growing_file_is_read_as_it_grows(make_log, tmp_path, step):
    """Read after every few bytes, a segment gives the same items as when read whole."""
    data = make_log(60).read_bytes()
    items, _ = read(make_log(60, name="same"))
    growing = tmp_path / "growing"
    growing.touch()

    found = []
    with Segment(growing) as segment, growing.open("ab", buffering=0) as file:
        for start in range(0, len(data), step):
            file.write(data[start : start + step])
            found += [item for block in segment.blocks() for item in block]
            assert segment.offset <= start + step

    assert found == items
    assert segment.fault is None


@pytest.mark.parametrize("size", [1 << 14, (1 << 20) - 40, 1 << 20, 5 << 20])
def test_long_items_between_short_ones(tmp_path, size):
    """Items around and over the size of what is read at once come back between their neighbours."""
    with LogWriter(tmp_path / "log") as writer:
        for n in range(40):
            writer.append("malformed", {"data": bytes([n]) * (size if n % 13 == 5 else n)}, n)

    items, reader = read(tmp_path / "log")

    assert [len(item[3]["data"]) for item in items[1:-1]] == [size if n % 13 == 5 else n for n in range(40)]
    assert reader.closed


def test_bytes_that_look_like_items_do_not_mislead(make_log, tmp_path):
    """Bodies full of what the end of an item looks like, even of another log, are read as bodies."""
    inner = make_log(30).read_bytes()
    bodies = [{"data": b"\xce\0\0\0\0\x95" * 4000}, {"data": b"\x95" * 20_000}, {"data": inner * 5}]
    with LogWriter(tmp_path / "outer") as writer:
        for body in bodies * 3:
            writer.append("malformed", body, 1)

    items, reader = read(tmp_path / "outer")

    assert [item[3] for item in items[1:-1]] == bodies * 3
    assert reader.closed


def test_an_item_completed_while_it_is_judged_is_no_damage(make_log, tmp_path, monkeypatch):
    """A live writer that finishes a record between two looks at it does not pass for a torn tail."""
    data = make_log(5).read_bytes()
    path = tmp_path / "live"
    path.write_bytes(data[:-3])
    pread, reads = os.pread, []

    def slow(fd, size, offset):
        found = pread(fd, size, offset)
        reads.append(offset)
        if not found and len(reads) == 2:
            path.write_bytes(data)
        return found

    monkeypatch.setattr("qemustate.events.segment.os.pread", slow)
    with Segment(path) as segment:
        items = [item for block in segment.blocks() for item in block]

    assert len(items) == 5
    assert segment.fault is None


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "No such file"),
        ("directory", "a directory"),
        (b"", "empty"),
        (b"GIF89a" + bytes(100), "not-a-log"),
        (b'{"QMP": {}}\r\n', "not-a-log"),
        (bytes(range(256)) * 100, "not-a-log"),
        (b"\x95\x01\x00\xa7segment\x80\xce\x01\x02\x03\x04", "bad-checksum"),
    ],
)
def test_what_is_no_log_is_named(tmp_path, content, why):
    """Whatever else a path may be, the message says what was expected and what it is."""
    path = tmp_path / "x"
    if content == "directory":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)

    with pytest.raises(BadInput, match=f"x.*: expected .*, saw {why}"):
        LogReader(path)


def test_items_of_another_make(tmp_path):
    """A log of a later version, or of another program, is named by what its first item says."""
    from qemustate.events.codec import encode

    for body, seen in (
        ({"format": "qemustate", "version": 2}, "qemustate version 2"),
        ({"format": "other", "version": 1}, "other version 1"),
    ):
        (tmp_path / "x").write_bytes(encode(1, 0, "segment", body, 0)[0])
        with pytest.raises(
            LogDamaged, match=f"a segment of qemustate version 1, saw not-a-log: kind segment, {seen}"
        ):
            LogReader(tmp_path / "x")


def test_wrong_numbers_are_damage(tmp_path):
    """Items that verify, but do not count up by one, were not written by one writer."""
    from qemustate.events.codec import encode

    data, running = (tmp_path / "x"), 0
    header = {"format": "qemustate", "version": 1, "vm": "a", "segment": 1, "chain": 0}
    out = b""
    for seq, kind, body in ((1, "segment", header), (2, "note", {}), (4, "note", {}), (5, "note", {})):
        item, running = encode(seq, 0, kind, body, running)
        out += item
    data.write_bytes(out)

    reader = LogReader(data)
    found = reader.records()
    assert [next(found).seq, next(found).seq] == [1, 2]
    with pytest.raises(LogDamaged, match="expected record 3, saw wrong-sequence: record 4"):
        next(found)
