"""The wire is cut into texts wherever the chunks fall, and damage never hides what is around it."""

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qemustate.qmp.framing import KEPT, Document, Framer, Malformed
from qemustate.qmp.jsontext import print_compact, print_qemu

#: A stream, and what is in it: a text, or a pair of damaged bytes and the error.
STREAMS = [
    (b'{"a": 1}\r\n{"b": 2}\r\n', [b'{"a": 1}', b'{"b": 2}']),
    (b'{"a":1}{"b":2} {"c":3}', [b'{"a":1}', b'{"b":2}', b'{"c":3}']),
    (b'{\n    "a": [\n        1\n    ]\n}\n{"b": 2}\n', [b'{\n    "a": [\n        1\n    ]\n}', b'{"b": 2}']),
    (b'{"a":"}{"}{"b":"\\"}"}', [b'{"a":"}{"}', b'{"b":"\\"}"}']),
    (b"{'a':'\"}'}{'b':'it\\'s'}", [b"{'a':'\"}'}", b"{'b':'it\\'s'}"]),
    (b'[1, [2]] "s" \'t\' 42 -1e5 true null\n', [b"[1, [2]]", b'"s"', b"'t'", b"42", b"-1e5", b"true", b"null"]),
    (b" \t\r\n\n\r\n", []),
    (b'{"id": inf}\r\n', [b'{"id": inf}']),
    (b'{"a":"\\ud83d"}\n{"b":18446744073709551616}', [b'{"a":"\\ud83d"}', b'{"b":18446744073709551616}']),
    (b'{"a":"\x80\xc3"}\n', [b'{"a":"\x80\xc3"}']),
    (b'garbage\n{"a":1}', [(b"garbage", "JSON parse error, invalid keyword 'garbage'"), b'{"a":1}']),
    (b'{"a" 1}\n{"b":2}', [(b'{"a" 1}', "JSON parse error, missing : in object pair"), b'{"b":2}']),
    (
        b'}{"a":1}],:',
        [
            (b"}", "JSON parse error, expecting value"),
            b'{"a":1}',
            (b"]", "JSON parse error, expecting value"),
            (b",", "JSON parse error, expecting value"),
            (b":", "JSON parse error, expecting value"),
        ],
    ),
    (b'[}{"a":1}', [(b"[}", "JSON parse error, expecting value"), b'{"a":1}']),
    (b'{"a": \x01\n{"b":2}', [(b'{"a": \x01', "JSON parse error, stray '\x01'"), b'{"b":2}']),
    (b'{"a": "b\x00{"b":2}', [(b'{"a": "b\x00', "JSON parse error, stray ''"), b'{"b":2}']),
    (b'{"a": {"x\xff{"b":2}\xff', [(b'{"a": {"x\xff', "JSON parse error, stray '\ufffd'"), b'{"b":2}', (b"\xff", "JSON parse error, stray '\ufffd'")]),
    (b'{"a": "b\r\n{"b":2}', [(b'{"a": "b', "JSON parse error, stray '\r'"), b'{"b":2}']),
    (b'{"a": "b\\\n{"b":2}', [(b'{"a": "b\\', "JSON parse error, stray '\n'"), b'{"b":2}']),
    (
        b'{"id": %(id)s}\n{"b":2}',
        [
            (b'{"id": %(id)s', "JSON parse error, stray '%'"),
            (b"}", "JSON parse error, expecting value"),
            b'{"b":2}',
        ],
    ),
    (b'HTTP/1.1 200 OK\r\n{"b":2}', [(b"HTTP/1.1 200 OK", "JSON parse error, stray 'H'"), b'{"b":2}']),
    (b'{"a":1}\xef\xbb\xbf', [b'{"a":1}', (b"\xef\xbb\xbf", "JSON parse error, stray '\ufffd'")]),
    (b'{"a":1}\n{"b": [1, "', [b'{"a":1}', (b'{"b": [1, "', "the stream ended inside this text")]),
    (b'{"a": [1}\n', [(b'{"a": [1}\n', "the stream ended inside this text")]),
]  # fmt: skip


def read(framer, *chunks):
    """Feed the chunks and the end; return everything found."""
    return [item for chunk in chunks for item in framer.feed(chunk)] + framer.eof()


def told(found):
    """Return texts, and pairs of damage and error, as the table above writes them."""
    return [item.text if isinstance(item, Document) else (item.data, item.error) for item in found]


@pytest.mark.parametrize(("stream", "expected"), STREAMS, ids=lambda part: ascii(part)[:30])
def test_a_stream_holds_these_texts_however_it_is_cut(stream, expected):
    """Whole, byte by byte, and cut in two at every place, a stream gives the same texts and damage."""
    whole = read(Framer(), stream)
    assert told(whole) == expected
    assert read(Framer(), *(stream[i : i + 1] for i in range(len(stream)))) == whole
    for cut in range(len(stream)):
        assert read(Framer(), stream[:cut], stream[cut:]) == whole


@pytest.mark.parametrize(("stream", "expected"), STREAMS, ids=lambda part: ascii(part)[:30])
def test_offsets_point_at_the_bytes(stream, expected):
    """Every text and every damage lies in the stream at its offset, and only white space lies between them."""
    rest = bytearray(stream)
    for item in read(Framer(), stream):
        data = item.text if isinstance(item, Document) else item.data
        assert stream[item.offset : item.offset + len(data)] == data
        rest[item.offset : item.offset + len(data)] = b" " * len(data)
    assert not rest.strip(b" \t\r\n")


@pytest.mark.parametrize(("stream", "expected"), STREAMS, ids=lambda part: ascii(part)[:30])
def test_a_message_after_any_of_it_arrives(stream, expected):
    """After any stream, a reset byte and a message, the message is the last thing found."""
    last = read(Framer(), stream, b'\xff{"after": true}')[-1]
    assert isinstance(last, Document)
    assert last.value == {"after": True}


def test_a_text_is_found_with_its_last_byte():
    """No line end is waited for: a text that closes its bracket is there at once, one on a line with others too."""
    framer = Framer()
    assert framer.feed(b'{"execute": "st') == []
    assert told(framer.feed(b'op"}')) == [b'{"execute": "stop"}']
    assert told(framer.feed(b'{"a": {}}{"b": ')) == [b'{"a": {}}']
    assert framer.pending == len(b'{"b": ')
    assert told(framer.feed(b"1}\r")) == [b'{"b": 1}']


def test_a_reset_byte_is_answered_at_once():
    """A client that resets the reader learns of the damage without sending more, when it was in no string."""
    framer = Framer()
    assert framer.feed(b'{"a": ') == []
    assert told(framer.feed(b"\xff")) == [(b'{"a": \xff', "JSON parse error, stray '\ufffd'")]
    assert framer.pending == 0


def test_duplicate_members_are_refused_where_qemu_reads():
    """On the way to QEMU a member that comes twice is damage, on the way from it the last one counts."""
    text = b'{"execute": "stop", "id": 1, "id": 2}\n'
    assert told(read(Framer(strict=True), text)) == [(text[:-1], "JSON parse error, duplicate key")]
    assert read(Framer(), text)[0].value["id"] == 2


def test_nesting_beyond_qemus_limit_resets_where_qemu_does():
    """On the way to QEMU the 1,025th open bracket ends the text, and reading goes on right behind it."""
    deepest = b"[" * 1024 + b"]" * 1024
    assert told(read(Framer(strict=True), deepest + b"\n")) == [deepest]
    found = told(read(Framer(strict=True), b"[" * 1025 + b'{"a":1}'))
    assert found == [(b"[" * 1025, "JSON nesting depth limit exceeded"), b'{"a":1}']
    assert told(read(Framer(), b"[" * 3000 + b"]" * 3000)) == [b"[" * 3000 + b"]" * 3000]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_text_over_the_limit_is_named_and_skipped_to_the_line_end(size):
    """A text over the limit gives one error that names the limit; reading resumes after the next line end."""
    stream = b'{"a":"' + b"x" * 100 + b'"} {"same line": 1}\n{"b":2}{"c":"' + b"y" * 93 + b'"}\n'
    found = read(Framer(100), *(stream[i : i + size] for i in range(0, len(stream), size)))
    assert [type(item) for item in found] == [Malformed, Document, Malformed]
    assert found[0].error == "a text longer than 100 bytes"
    assert stream.startswith(found[0].data)
    assert found[1].text == b'{"b":2}'
    assert found[1].offset == stream.index(b'{"b"')
    assert told(read(Framer(101), stream))[-1] == b'{"c":"' + b"y" * 93 + b'"}'


def test_a_text_without_end_takes_no_more_memory_than_the_limit():
    """Bytes of an endless text are held up to the limit and then dropped."""
    framer = Framer(limit=100_000)
    held = 0
    found = []
    for _ in range(1000):
        found += framer.feed(b'{"a":' * 1000)
        held = max(held, framer.pending)
    assert held <= 100_000
    assert len(found) == 1
    assert len(found[0].data) == KEPT
    assert told(framer.feed(b'\n{"b":2}')) == [b'{"b":2}']


def test_a_message_of_many_mebibytes_comes_in_one_piece():
    """A message of 16 MiB in chunks of 64 KiB is one text, also where msgspec will not read it."""
    for filler in (b"x", b"\\ud83d"):
        text = b'{"return": "' + filler * (2**24 // len(filler)) + b'"}'
        framer = Framer()
        found = [item for at in range(0, len(text), 65536) for item in framer.feed(text[at : at + 65536])]
        assert told(found) == [text]


def test_a_pretty_printed_text_comes_byte_by_byte():
    """A text of 2,500 pretty-printed objects, each byte a chunk, is found with its last byte."""
    text = json.dumps([{"name": f"n{i}", "values": [i, i]} for i in range(2500)], indent=4).encode()
    framer = Framer()
    found = [(at, item) for at in range(len(text)) for item in framer.feed(text[at : at + 1])]
    assert [at for at, _ in found] == [len(text) - 1]
    assert found[0][1].text == text


MESSAGES = st.dictionaries(
    st.text(max_size=4),
    st.recursive(
        st.none() | st.integers() | st.text(max_size=6),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=4,
    ),
    max_size=4,
)
GARBAGE = st.binary(max_size=6)
WHITE = st.sampled_from([b"", b"\r\n", b"\n", b" ", b"\t\n"])


def test_a_text_of_just_the_limit_may_be_followed_by_more():
    """A text as long as the limit allows is taken, whatever stands behind it in the same piece."""
    text = b'{"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa": null}'
    whole = read(Framer(len(text)), text + b",")
    assert whole[0] == Document({"a" * 30: None}, text, 0)
    assert whole == read(Framer(len(text)), *(bytes([byte]) for byte in text + b","))


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.tuples(MESSAGES | GARBAGE, WHITE, st.booleans()), max_size=8),
    st.lists(st.integers(0, 300), max_size=12),
    st.booleans(),
    st.sampled_from([40, 1000]),
)
def test_random_streams_in_random_chunks_equal_the_whole(parts, cuts, strict, limit):
    """Messages, garbage and white space, cut anywhere, give what the stream in one piece gives."""
    stream = b"".join(
        (part if isinstance(part, bytes) else (print_qemu if spaced else print_compact)(part)) + white
        for part, white, spaced in parts
    )
    edges = [0, *sorted({cut for cut in cuts if cut < len(stream)}), len(stream)]
    chunks = [stream[a:b] for a, b in itertools.pairwise(edges)]
    assert read(Framer(limit, strict=strict), *chunks) == read(Framer(limit, strict=strict), stream)
    singles = [stream[i : i + 1] for i in range(len(stream))]
    assert read(Framer(limit, strict=strict), *singles) == read(Framer(limit, strict=strict), stream)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(MESSAGES, WHITE), max_size=8))
def test_random_messages_come_back_as_they_went(parts):
    """Messages and nothing else: each comes back with its value, its text and its place."""
    stream, expected = b"", []
    for message, white in parts:
        text = print_qemu(message)
        expected.append(Document(message, text, len(stream)))
        stream += text + white
    assert read(Framer(), stream) == expected


def test_every_recorded_line_of_qemu_is_one_text(shared):
    """Of all recorded traffic, each line from QEMU is read as one text, whole and in chunks of 100 bytes."""
    recordings = sorted(shared.glob("qmp-jsonl/*/*.jsonl"))
    assert recordings
    for path in recordings:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        sent = [entry["raw"].encode("utf-8", "surrogateescape") for entry in lines if entry["dir"] == "rx"]
        stream = b"".join(sent)
        whole = read(Framer(), stream)
        assert told(whole) == [line.strip() for line in sent]
        assert read(Framer(), *(stream[i : i + 100] for i in range(0, len(stream), 100))) == whole
