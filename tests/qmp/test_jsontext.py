"""JSON is read and printed exactly, or refused with a reason."""

import math
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qemustate.errors import ProtocolError
from qemustate.qmp import jsonprint
from qemustate.qmp.jsontext import JsonError, decode, print_compact, print_qemu, reproduces

#: A value, how QEMU prints it, how a compact client does.
BOTH_WAYS = [
    ({}, b"{}", b"{}"),
    ([], b"[]", b"[]"),
    (
        {"a": 1, "b": [True, False, None]},
        b'{"a": 1, "b": [true, false, null]}',
        b'{"a":1,"b":[true,false,null]}',
    ),
    ("é😀", b'"\\u00E9\\uD83D\\uDE00"', '"é😀"'.encode()),
    ("\x7f\x1b", b'"\\u007F\\u001B"', b'"\x7f\\u001b"'),
    ('"\\/\b\f\n\r\t', b'"\\"\\\\/\\b\\f\\n\\r\\t"', b'"\\"\\\\/\\b\\f\\n\\r\\t"'),
    ("\0", b'"\\u0000"', b'"\\u0000"'),
    (0.1, b"0.10000000000000001", b"0.1"),
    (1.0, b"1", b"1.0"),
    (-9.2233720368547758e18, b"-9.2233720368547758e+18", b"-9.223372036854776e18"),
    ({"mbps": 268.435456}, b'{"mbps": 268.43545599999999}', b'{"mbps":268.435456}'),
    ("10.0.2.15", b'"10.0.2.15"', b'"10.0.2.15"'),
    (2**64, b"18446744073709551616", b"18446744073709551616"),
    (-(2**80), b"-1208925819614629174706176", b"-1208925819614629174706176"),
    ("\ud83d", b'"\\uD83D"', b'"\\ud83d"'),
    (math.inf, b"inf", b"inf"),
    ([-math.inf], b"[-inf]", b"[-inf]"),
    (
        {"null": math.inf, "status": "null"},
        b'{"null": inf, "status": "null"}',
        b'{"null":inf,"status":"null"}',
    ),
]


@pytest.mark.parametrize(("value", "qemu", "compact"), BOTH_WAYS, ids=lambda part: ascii(part)[:30])
def test_a_value_prints_both_ways_and_comes_back(value, qemu, compact):
    """Each value prints as QEMU and as a client print it, and reading the print gives the value again."""
    assert print_qemu(value) == qemu
    assert print_compact(value) == compact
    assert decode(qemu) == value
    assert decode(compact) == value
    assert type(decode(compact)) is type(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"1e400", math.inf),
        (b"-inf", -math.inf),
        (b"'it\\'s \"quoted\"'", 'it\'s "quoted"'),
        (b'{"a":1,"a":2}', {"a": 2}),
        (b'"\xff\x80 caf\xc3\xa9"', "\udcff\udc80 café"),
        (b'"\\ud83d\\ude00\\ud83d"', "😀\ud83d"),
        (b'"\\uD83D\\u0041"', "\ud83dA"),
        (b" \r\n\t[1 , 2]\n", [1, 2]),
        (b"-0", 0),
        (b"9" * 400, int("9" * 400)),
        (b"[" + b"9" * 400 + b", -1]", [int("9" * 400), -1]),
    ],
    ids=lambda part: ascii(part)[:30],
)
def test_what_msgspec_refuses_is_read_all_the_same(text, value):
    """Infinities, halves of pairs, invalid UTF-8, single quotes and huge integers have exact values."""
    assert decode(text) == value


def test_nan_is_a_float_with_its_sign():
    """``nan`` and ``-nan``, as C prints them, are read and printed with their sign."""
    for text in (b"nan", b"-nan"):
        value = decode(text)
        assert math.isnan(value)
        assert print_qemu(value) == print_compact(value) == text


@pytest.mark.parametrize("depth", [400, 1_000, 1_024, 20_000])
def test_nesting_has_no_limit(depth):
    """A text is read and printed however deep it nests, beyond the interpreter's recursion limit."""
    text = b'{"a": [' * depth + b"1" + b"]}" * depth
    value = decode(text)
    assert print_qemu(value) == text
    assert print_compact(value) == text.replace(b" ", b"")
    assert reproduces(value, text, "qemu")
    for _ in range(depth):
        value = value["a"][0]
    assert value == 1


def test_garbage_is_refused():
    """What neither msgspec nor the exact parser can read raises a ValueError of ours."""
    for strict in (False, True):
        with pytest.raises(JsonError, match="missing : in object pair at byte 5") as caught:
            decode(b'{"a" 1}', strict=strict)
        assert isinstance(caught.value, ValueError)
        assert isinstance(caught.value, ProtocolError)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"a": 1, "a": 2}', "duplicate key"),
        (b'{"a":1,"b":{"c":1,"c":1}}', "duplicate key"),
        (b'{"a": inf}', "invalid keyword 'inf'"),
        (b'"\\ud83d"', "\\ud83d is not a valid Unicode character"),
        (b'"\\udc00\\ud800"', "\\udc00 is not a valid Unicode character"),
        (b'"\xc3"', "invalid UTF-8 sequence in string"),
        (b"[" * 1025 + b"]" * 1025, "JSON nesting depth limit exceeded"),
    ],
    ids=lambda part: ascii(part)[:30],
)
def test_strict_refuses_what_qemu_refuses(text, reason):
    """Strict reading gives QEMU's own words for what QEMU's parser would not take."""
    with pytest.raises(JsonError) as caught:
        decode(text, strict=True)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "text",
    [b'{"a": 1, "b": {"a": 1}}', b"{'a':1}", b'{ "a" : 1 }', b"[" * 1024 + b"]" * 1024, b'"\\ud83d\\ude00"'],
)
def test_strict_takes_what_qemu_takes(text):
    """Strict reading takes single quotes, any white space, the same name at two levels, nesting to 1,024."""
    assert print_compact(decode(text, strict=True)) == print_compact(decode(text))


def test_reproduces_knows_whose_print_it_is():
    """A text is reproduced only in the way of its own sender, and not after other spacing or order."""
    value = {"a": [1, 2]}
    assert reproduces(value, b'{"a": [1, 2]}', "qemu")
    assert not reproduces(value, b'{"a": [1, 2]}', "client")
    assert reproduces(value, b'{"a":[1,2]}', "client")
    assert not reproduces(value, b'{"a":[1,2]}', "qemu")
    assert not reproduces(value, b'{ "a": [1, 2]}', "qemu")


def test_surrogates_that_make_utf8_together_are_not_printed_raw():
    """Two escaped surrogates whose bytes would read as one character stay escaped, so nothing is altered."""
    value = decode(b'"\\udcc3\\udca9"')
    assert decode(print_compact(value)) == value == "\udcc3\udca9"


@pytest.mark.parametrize("value", [object(), {"a": [1j]}, [{(1, 2): 3}], {"a": math.inf, 1: 2}], ids=ascii)
def test_what_is_no_json_value_is_refused(value):
    """A value that JSON has no form for raises TypeError from both printers."""
    with pytest.raises(TypeError):
        print_qemu(value)
    with pytest.raises(TypeError):
        print_compact(value)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8")),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=5), children, max_size=4)
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=300)
@given(VALUES)
def test_every_value_comes_back_from_both_prints(value):
    """Whatever prints reads back as the same value, and is reproduced by the printer that made it."""
    compact, spaced = print_compact(value), print_qemu(value)
    assert spaced.isascii()
    assert decode(compact) == value == decode(spaced)
    assert reproduces(decode(compact), compact, "client")
    # QEMU prints 1.0 as 1 and -0.0 as -0, which read as integers.
    assert reproduces(decode(spaced), spaced, "qemu") or b"-0" in spaced


NUMBERS = st.sampled_from(
    [1.5, -1.5, 0.1, 1.5e-7, -2.5e20, 2.0, "1.1", "a 1.1", "[1.1", "-1.1", "x.y", ".5", 1]
)


@settings(deadline=None, max_examples=300)
@given(
    st.recursive(
        NUMBERS,
        lambda inner: st.lists(inner) | st.dictionaries(st.just("1.1") | st.text("a ", max_size=2), inner),
    )
)
def test_the_quick_print_is_the_exact_one(value):
    """Floats, and strings that look like some, come out as from the printer that prints one value at a time."""
    assert print_qemu(value) == jsonprint.qemu(value)


@settings(deadline=None, max_examples=300)
@given(st.text(st.characters(), max_size=8))
def test_every_string_survives_surrogates_and_all(value):
    """Any string of Python's, lone surrogates too, reads back as itself from both prints."""
    assert decode(print_compact(value)) == value
    # Escaped halves of a pair that stand side by side are a pair to every reader of JSON.
    joined = value.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    assert decode(print_qemu(value)) == joined


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=12))
def test_any_bytes_are_read_or_refused_and_strict_takes_no_more(data):
    """Arbitrary bytes give a value or a JsonError, never another exception; strict never takes more."""
    strict, loose = outcome(data, strict=True), outcome(data, strict=False)
    if isinstance(strict, bytes):
        assert loose == strict
    else:
        assert 0 <= strict.offset <= len(data)
    assert isinstance(loose, bytes) or 0 <= loose.offset <= len(data)


def outcome(data, *, strict):
    """Return the print of what was read, or the error."""
    try:
        return print_compact(decode(data, strict=strict))
    except JsonError as error:
        return error


def test_the_recursion_limit_stays_as_it_was():
    """Deep texts are handled without touching the interpreter's own limit."""
    before = sys.getrecursionlimit()
    decode(b"[" * 5000 + b"]" * 5000)
    assert sys.getrecursionlimit() == before
