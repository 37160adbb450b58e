"""The end of a text is found piece by piece, and no byte is looked for twice."""

import json

import pytest

from qemustate.qmp.scanner import Scanner

#: A text, alone and with what may follow it.
TEXTS = [
    b"{}",
    b"[]",
    b'{"a": [{"b": {}}, [[]], "x"], "c": 1E5}',
    b'{"a": "\\"}\\\\", \'b\': \'"}\'}',
    b'"top \\" level"',
    b"'single'",
    b"[" * 1000 + b"]" * 1000,
]


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: ascii(text)[:30])
@pytest.mark.parametrize("after", [b"", b" ", b"{}", b"\xff"])
def test_a_text_ends_at_its_last_bracket(text, after):
    """The end is right behind the text whatever follows, also when the text does not begin the data."""
    assert Scanner().find_end(text + after, 0) == len(text)
    assert Scanner().find_end(b'{"x": 1}' + text + after, 8) == 8 + len(text)


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: ascii(text)[:30])
def test_no_end_is_found_early(text):
    """Each beginning of a text has no end, and the same scanner finds it once the rest is there."""
    scanner = Scanner()
    for size in range(1, len(text)):
        assert scanner.find_end(text[:size], 0) == -1
    assert scanner.find_end(text, 0) == len(text)
    assert not scanner.error


def test_every_call_goes_on_where_the_last_one_stopped():
    """After each call everything given was read, so a later call begins with the new bytes."""
    text = json.dumps([{"name": f'n"{i}', "values": [i, {"x": [i]}]} for i in range(50)], indent=4).encode()
    scanner = Scanner()
    for size in range(1, len(text)):
        assert scanner.find_end(text[:size], 0) == -1
        assert scanner._at == size


def test_a_word_ends_with_what_follows_or_with_the_data():
    """A bare word needs a byte behind it to end, or to be told that none will come."""
    assert Scanner().find_end(b"true ", 0) == 4
    assert Scanner().find_end(b"-12.5e3}", 0) == 7
    scanner = Scanner()
    assert scanner.find_end(b"tr", 0) == -1
    assert scanner.find_end(b"true", 0) == -1
    assert scanner.find_end(b"true", 0, final=True) == 4


@pytest.mark.parametrize(
    ("data", "end", "stray"),
    [
        (b'{"a": \x01}', 7, "\x01"),
        (b'{"a": \xff}', 7, "\ufffd"),
        (b'{"a": %d}', 8, "%"),
        (b'{"a": %d\n}', 8, "%"),
        (b'{"a": "b\n}', 8, "\n"),
        (b'{"a": "b\tc"}', 11, "\t"),
        (b'{"a": "\\\x02"}', 10, "\x02"),
        (b"#!{}", 2, "#"),
        (b"\x00{}", 1, ""),
    ],
    ids=ascii,
)
def test_damage_ends_a_text_where_qemus_lexer_resumes(data, end, stray):
    """A byte that belongs to no token ends the text, up to the next byte that QEMU's lexer resumes at."""
    scanner = Scanner()
    assert scanner.find_end(data, 0) == end
    assert scanner.error == f"JSON parse error, stray '{stray}'"


def test_nesting_is_limited_to_the_depth_given():
    """The first bracket too many ends the text; flat containers at the last level count too."""
    for data, end in ((b"[[[]]]", 3), (b"[[1, {}]]", 6), (b"[[]]", 4)):
        scanner = Scanner(max_nesting=2)
        assert scanner.find_end(data, 0) == end
        assert bool(scanner.error) == (end < len(data))
