"""The byte format, by a reader that knows nothing but its description, msgpack and CRC-32."""

import zlib

import msgpack
import pytest

from qemustate.events.format import (
    Damage,
    is_torn_tail,
    lock_path,
    looks_like_log,
    segment_numbers,
    segment_path,
)
from qemustate.events.writer import LogWriter


def walk(data):
    """Read a segment as its description says: item after item, keeping the checksum."""
    items, crc = [], 0
    unpacker = msgpack.Unpacker()
    unpacker.feed(data)
    start = 0
    for item in unpacker:
        end = unpacker.tell()
        assert data[start] == 0x95
        assert data[end - 5] == 0xCE
        crc = zlib.crc32(data[start : end - 5], crc)
        assert crc == item[4] == int.from_bytes(data[end - 4 : end], "big")
        crc = zlib.crc32(data[end - 5 : end], crc)
        items.append(item)
        start = end
    assert start == len(data)
    return items, crc


def test_a_stranger_reads_a_log_of_two_segments(tmp_path):
    """The description alone, msgpack and CRC-32 are enough to read a log and to verify all of it."""
    with LogWriter(tmp_path / "log", vm="vm1", header_extra={"lacks": ["times"]}) as writer:
        writer.append("event", {"qmp": {"event": "STOP"}}, 1_000)
        writer.rotate({"run": "paused"}, "hash")
        writer.append("note", {"text": "ä", "raw": b"\xff"}, 2_000)

    first, chain = walk((tmp_path / "log").read_bytes())
    second, _ = walk((tmp_path / "log.000002").read_bytes())

    header = {"format": "qemustate", "version": 1, "vm": "vm1", "segment": 1, "chain": 0, "lacks": ["times"]}
    assert [item[:4] for item in first] == [
        [1, 0, "segment", header],
        [2, 1_000, "event", {"qmp": {"event": "STOP"}}],
    ]
    assert [item[:4] for item in second] == [
        [3, 1_000, "segment", {**header, "segment": 2, "chain": chain}],
        [4, 1_000, "snapshot", {"state": {"run": "paused"}, "tables": "hash"}],
        [5, 2_000, "note", {"text": "ä", "raw": b"\xff"}],
        [6, 2_000, "closed", {}],
    ]


def test_chain_is_the_checksum_of_the_whole_file(tmp_path):
    """The checksum that a segment carries of the one before is what any CRC-32 tool says of that file."""
    with LogWriter(tmp_path / "log") as writer:
        writer.append("event", {"n": 1}, 1)
        writer.rotate()

    second, _ = walk((tmp_path / "log.000002").read_bytes())

    assert second[0][3]["chain"] == zlib.crc32((tmp_path / "log").read_bytes())


def test_the_bytes_of_the_first_item_never_change(tmp_path):
    """What version 1 wrote once, it writes for ever."""
    LogWriter(tmp_path / "log", vm="a").abandon()

    expected = (
        "95 01 00 a7 7365676d656e74 85 a6 666f726d6174 a9 71656d757374617465 a7 76657273696f6e 01 a2 766d a1 61"
        " a7 7365676d656e74 01 a5 636861696e 00 ce 0c9ea931"
    )
    assert (tmp_path / "log").read_bytes().hex() == expected.replace(" ", "")


def test_files_of_a_log_are_found_by_name(tmp_path):
    """Segments are named by the log's path and a number; other files beside it are none."""
    assert segment_numbers(tmp_path / "log") == []
    assert segment_numbers(tmp_path / "nowhere" / "log") == []

    for name in (
        "log",
        "log.000002",
        "log.000010",
        "log.1000000",
        "log.lock",
        "log.2",
        "log.000003.gz",
        "xlog.000004",
        "log.000001",
    ):
        (tmp_path / name).touch()

    assert segment_numbers(tmp_path / "log") == [1, 2, 10, 1000000]
    assert segment_path(tmp_path / "log", 1) == tmp_path / "log"
    assert segment_path(str(tmp_path / "log"), 2) == tmp_path / "log.000002"
    assert lock_path(tmp_path / "log") == tmp_path / "log.lock"


@pytest.mark.parametrize(
    "head",
    [b"", b"\x95", b'{"QMP"', b"\x1f\x8b\x08", b"\x95\x01\x00\xa5event", b"\x00" * 32],
)
def test_other_files_do_not_look_like_a_log(head):
    """A file is taken for a log only when its first item says so."""
    assert not looks_like_log(head)


def test_a_log_looks_like_one_by_its_first_bytes(make_log):
    """Thirty-two bytes are enough to know a log, also where its numbers are large."""
    assert looks_like_log(make_log(3).read_bytes()[:32])
    assert looks_like_log(b"\x95\xcf" + b"\xff" * 8 + b"\xcf" + b"\xff" * 8 + b"\xa7segment")


def test_only_a_crash_explains_a_torn_tail():
    """The damages that may be cut are the two that a crash leaves, and no others."""
    assert {damage for damage in Damage if is_torn_tail(damage)} == {Damage.TORN_TAIL, Damage.ZERO_TAIL}
