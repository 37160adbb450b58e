"""The exact parser reads what msgspec reads, and tells where and why it stops in QEMU's words."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.values import VALUES

from qemustate.qmp.jsonparse import JsonError, parse


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    ("text", "reason", "offset"),
    [
        (b"", "premature end of text", 0),
        (b'{"a": ', "premature end of text", 6),
        (b'"abc', "premature end of text", 0),
        (b"garbage", "invalid keyword 'garbage'", 0),
        (b'{"a" 1}', "missing : in object pair", 5),
        (b"{1: 2}", "key is not a string in object", 1),
        (b"[1,]", "expecting value", 3),
        (b"[1 2]", "expected separator in list", 3),
        (b'{"a": 1 "b"}', "expected separator in dict", 8),
        (b'{"a": 1]', "expected separator in dict", 7),
        (b"}", "expecting value", 0),
        (b"{} {}", "text after the value", 3),
        (b'["\\x"]', "invalid escape sequence in string", 1),
        (b'["\\u12"]', '\\u12" is not a valid Unicode character', 1),
        (b"[%s]", "stray '%'", 1),
        (b'["a\nb"]', "premature end of text", 1),
        (b"1" * 5000, "an integer of 5000 digits", 0),
    ],
    ids=lambda part: ascii(part)[:30],
)
def test_garbage_is_refused_with_reason_and_offset(text, reason, offset, strict):
    """What is no JSON raises a ValueError that says what is wrong, and at which byte."""
    with pytest.raises(JsonError) as caught:
        parse(text, strict=strict)
    assert (caught.value.reason, caught.value.offset) == (reason, offset)


@settings(deadline=None, max_examples=200)
@given(VALUES, st.booleans(), st.sampled_from([None, 0, 4]))
def test_it_agrees_with_msgspec(value, strict, indent):
    """Of what msgspec prints, with any spacing, both make the same value of the same types."""
    text = msgspec.json.encode(value)
    text = text if indent is None else msgspec.json.format(text, indent=indent)
    assert repr(parse(text, strict=strict)) == repr(msgspec.json.decode(text))


@settings(deadline=None, max_examples=200)
@given(VALUES, st.data())
def test_a_text_cut_short_is_refused(value, data):
    """No proper beginning of an array is JSON, and the error points into it."""
    text = msgspec.json.encode([value])
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    with pytest.raises(JsonError) as caught:
        parse(cut, strict=False)
    assert 0 <= caught.value.offset <= len(cut)


def test_names_and_values_come_in_single_quotes_too():
    """Strings in single quotes may hold double ones, and the other way round, as QEMU's lexer takes them."""
    assert parse(b"""{'a"': "b'", "c": 'd\\'e'}""", strict=True) == {'a"': "b'", "c": "d'e"}
