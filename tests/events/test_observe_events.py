"""Many events observed at once: the same records as one by one, or none at all."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qemustate.events.observe import observed, observed_events
from qemustate.qmp.connection import Connection
from qemustate.qmp.jsontext import print_compact, print_qemu

PLAIN = {"event": "RESUME", "timestamp": {"seconds": 1, "microseconds": 2}}


def received(*lines):
    """Return the messages that lines from QEMU are."""
    return Connection("client").receive_data(b"".join(line + b"\r\n" for line in lines))


def test_plain_events_are_observed_at_once():
    """Events as QEMU prints them become the records they become singly."""
    bodies = [PLAIN, {**PLAIN, "data": {"a": [1, None, -2]}}, {**PLAIN, "event": "STOP"}]
    messages = received(*map(print_qemu, bodies))

    assert observed_events(messages) == [("event", {"qmp": body}) for body in bodies]
    assert observed_events(messages) == [observed(message) for message in messages]


@pytest.mark.parametrize(
    "line",
    [
        print_compact({"event": "X"}),
        b'{"event": "X", "data": {"a":1}}',
        b'{"event":  "X"}',
        b'{"event": "X", "event": "X"}',
        b'{"event": "X", "data": {"f": 1.50}}',
        b'{"event": "X", "data": {"f": inf}}',
        b'{"event": "X", "data": {"i": 36893488147419103232}}',
        rb'{"event": "X", "data": {"s": "\u00e4"}}',
        b'{"event": "X", "data": {"uri": "nbd://u:p@h/x"}}',
        b'{"event": "X", "data": {"s": "' + b"x" * 500 + b'"}}',
        b'{"event": "X", "data": {"l": ' + b"[" * 500 + b"]" * 500 + b"}}",
        b'{"return": {}}',
        b"no message",
    ],
)
def test_one_that_takes_a_closer_look_takes_it_for_all(line):
    """Whatever is not plainly an event, as QEMU prints it and without secrets, is not observed at once."""
    assert observed_events(received(print_qemu(PLAIN), line, print_qemu(PLAIN))) is None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**65) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.dictionaries(st.text(max_size=8), VALUES), st.sampled_from([print_qemu, print_compact])),
        min_size=1,
        max_size=4,
    )
)
def test_what_is_observed_at_once_is_what_is_observed_singly(found):
    """Of any events, in any print, the records are the same."""
    messages = received(*(printer({"event": "X", "data": data}) for data, printer in found))
    records = observed_events(messages)

    assert records is None or records == [observed(message) for message in messages]


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 2**70])
def test_an_integer_beyond_64_bits_stays_in_the_text(number):
    """What msgpack can't hold is kept as the exact text, alone."""
    line = b'{"event": "X", "data": {"i": %d}}' % number

    assert observed(received(line)[0]) == ("event", {"text": line.decode()})
