"""Records to bytes and back, and what cannot be kept."""

import datetime as dt
import sys
import zlib

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qemustate.errors import BadInput
from qemustate.events import codec
from qemustate.events.codec import (
    NotAnItemError,
    decode_block,
    decode_item,
    encode,
    encode_all,
    leading_seq,
    to_record,
)
from qemustate.events.reader import LogReader
from qemustate.events.writer import LogWriter


def nested(depth):
    """Return a body of so many levels, itself included."""
    value = []
    for _ in range(depth - 2):
        value = [value]
    return {"a": value}


BODIES = [
    {},
    {"a": None, "b": True, "c": -1, "d": 1.5, "e": "text", "f": b"bytes", "g": [1, [2, {"h": {}}]]},
    {"a": 2**64 - 1, "b": -(2**63), "c": 1e308, "d": float("inf")},
    {"ä": "\U0001f600\u0000\x7f"},
    *({"n": "x" * n} for n in (0, 31, 32, 255, 256, 65535, 65536)),
    *({"n": list(range(n))} for n in (15, 16, 65535, 65536)),
    nested(500),
]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
@pytest.mark.parametrize("seq", [1, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**63])
def test_items_come_back_as_they_were(seq, body):
    """Whatever the lengths, both ways of reading give what was written, and where it ended."""
    data, running = encode(seq, 1_795_388_980_522_284, "event", body, 7)

    item, length = decode_item(data + b"\x95trailing")

    assert item[:4] == (seq, 1_795_388_980_522_284, "event", body)
    assert length == len(data)
    assert item[4] == zlib.crc32(data[:-5], 7)
    assert running == zlib.crc32(data, 7)
    assert decode_block(data, 1) in ([item], None)
    assert leading_seq(b"x" + data, 1) == seq


def test_items_made_at_once_are_those_made_one_by_one():
    """A run of items has the bytes and the checksum it would have had singly."""
    for bodies in (BODIES, BODIES * 2, [{}] * 15, [{}] * 16, [{"n": n} for n in (*range(20), 2**32 - 1)]):
        running, single = 7, b""
        for seq, body in enumerate(bodies, 300):
            data, running = encode(seq, seq * 2, "event", body, running)
            single += data

        assert encode_all([("event", body, seq * 2) for seq, body in enumerate(bodies, 300)], 299, 7) == (
            single,
            running,
        )


@given(st.lists(st.integers(0, 2**32), min_size=16, max_size=40), st.integers(0, 2**32 - 1))
def test_numbers_that_look_like_a_checksum_change_nothing(numbers, running):
    """What stands in a body is never taken for the place between two items."""
    entries = [("event", {"n": [number, 2**32 - 1]}, number) for number in numbers]
    single, crc = b"", running
    for seq, (kind, body, time) in enumerate(entries, 1):
        data, crc = encode(seq, time, kind, body, crc)
        single += data

    assert encode_all(entries, 0, running) == (single, crc)


def test_of_items_made_at_once_the_one_that_cannot_be_kept_is_named():
    """The number in the refusal is that of the item, not that of the first."""
    for bad in (nested(501), {"n": 2**64}):
        for before in (1, 99):
            with pytest.raises(BadInput, match=rf"record {before + 11} \(note\)"):
                encode_all([*[("event", {}, 1)] * before, ("note", bad, 1)], 10, 0)


def test_an_item_cut_anywhere_is_incomplete():
    """No beginning of an item is taken for an item, or for damage."""
    data, _ = encode(300, 1, "event", BODIES[1], 0)

    assert [decode_item(data[:n]) for n in range(len(data))] == [None] * len(data)
    assert leading_seq(data[:3], 0) is None
    assert leading_seq(data[:1], 0) is None


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"n": 2**64}, "out of range|serialize ints"),
        ({"n": -(2**63) - 1}, "out of range|serialize ints"),
        ({"s": "\ud800"}, "surrogates"),
        ({"s": object()}, "object"),
        (nested(501), "deeper nesting"),
        (nested(5000), "limit"),
        ({"big": bytes(256 << 20)}, "bytes"),
    ],
    ids=["2^64", "-2^63-1", "surrogate", "object", "501 levels", "5000 levels", "256 MiB"],
)
def test_what_cannot_be_kept_is_refused_by_name(body, why):
    """A body that would come back altered, or could not be read, is refused with the reason."""
    with pytest.raises(BadInput, match=rf"record 9 \(event\), body: expected plain values.*, saw .*({why})"):
        encode(9, 0, "event", body, 0)


def test_many_containers_are_not_taken_for_deep_ones():
    """Breadth is no depth: thousands of maps beside one another are kept."""
    body = {"list": [{"n": []} for _ in range(5000)]}

    assert decode_item(encode(1, 0, "event", body, 0)[0])[0][3] == body


def test_deep_items_are_written_and_read_far_down_the_stack():
    """How deep the caller stands does not change what can be kept."""

    def at_depth(n):
        return at_depth(n - 1) if n else decode_item(encode(1, 0, "event", nested(500), 0)[0])[0]

    assert at_depth(sys.getrecursionlimit() - 300)[3] == nested(500)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x00", "0x00"),
        (b"{}", "0x7b"),
        (b"\x94\x01\x00\xa1a\x80", "0x94"),
        (b"\x95\xc1", "no msgpack"),
        (b"\x95\x01\x00\xa1\xff\x80\xce\0\0\0\0", "utf-8"),
        (b"\x95\x01\x00\xa1a\x90\xce\0\0\0\0", "fields"),
        (b"\x95\x01\x00\xa1a\x80\x00", "0xce"),
        (b"\x95\xff\x00\xa1a\x80\xce\0\0\0\0", "fields"),
        (b"\x95\x01\x00\xa1a\xdf\xff\xff\xff\xff", "no msgpack"),
        (b"\x95\x01\x00\xa1a\x81\x90\x01\xce\0\0\0\0", "no msgpack"),
        (b"\x95" + b"\x91" * 3000, "no msgpack"),
    ],
)
def test_what_is_no_item_is_named(data, why):
    """Bytes that can become no item, however they go on, are refused with the reason."""
    with pytest.raises(NotAnItemError, match=why):
        decode_item(data)


def test_a_block_of_another_shape_is_left_to_the_careful_way():
    """A block is decoded at once only when all of it is items, exactly as many as expected."""
    one, _ = encode(1, 0, "event", {}, 0)

    assert decode_block(one + one, 2) is not None
    assert decode_block(one + one, 1) is None
    assert decode_block(one, 2) is None
    assert decode_block(msgpack.packb([1, 2.5, "a", {}, 1]), 1) is None
    assert decode_block(msgpack.packb([1, 2, b"\xff", {}, 1]), 1) is None


def test_dates_and_tuples_are_written_as_msgpack_would_show_them():
    """Bodies are plain data by contract; a tuple comes back as a list, a date as its text."""
    data, _ = encode(1, 0, "note", {"t": (1, 2), "when": dt.date(2026, 11, 23)}, 0)

    assert decode_item(data)[0][3] == {"t": [1, 2], "when": "2026-11-23"}


@pytest.fixture
def old_kinds(monkeypatch):
    """Pretend that kind "thing" has come to its third version."""
    monkeypatch.setitem(codec.UPCASTS, "thing", ("thing/2", lambda body: {"names": [body["name"]]}))
    monkeypatch.setitem(
        codec.UPCASTS, "thing/2", ("thing/3", lambda body: {**body, "count": len(body["names"])})
    )


def test_old_kinds_are_brought_up_to_date_when_read(tmp_path, old_kinds):
    """A log with kinds of three versions reads as if it had been written with the newest."""
    with LogWriter(tmp_path / "log") as writer:
        writer.append("thing", {"name": "a"}, 1)
        writer.append("thing/2", {"names": ["a", "b"]}, 2)
        writer.append("thing/3", {"names": [], "count": 0}, 3)
        writer.append("thing/4", {"future": True}, 4)
        writer.append("unheard-of", {}, 5)

    found = [(record.seq, record.kind, record.body) for record in LogReader(tmp_path / "log")]

    assert found[1:-1] == [
        (2, "thing/3", {"names": ["a"], "count": 1}),
        (3, "thing/3", {"names": ["a", "b"], "count": 2}),
        (4, "thing/3", {"names": [], "count": 0}),
        (5, "thing/4", {"future": True}),
        (6, "unheard-of", {}),
    ]


def test_a_log_of_the_first_version_still_reads(request, old_kinds):
    """The bytes of an old log, kept since, give today's records."""
    golden = request.path.parent / "testdata" / "version1.log"

    records = list(LogReader(golden))

    assert [record.kind for record in records] == ["segment", "spawned", "event", "thing/3", "closed"]
    assert records[2].body == {"qmp": {"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}}}
    assert records[3].body == {"names": ["old"], "count": 1}


def test_records_carry_the_first_four_fields():
    """A record is an item without its checksum."""
    record = to_record((3, 4, "note", {"text": "x"}, 99))

    assert (record.seq, record.time, record.kind, record.body) == (3, 4, "note", {"text": "x"})
