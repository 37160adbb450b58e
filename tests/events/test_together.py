"""Many messages observed at once: the same records as one by one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qemustate.events import together
from qemustate.events.observe import observed
from qemustate.events.together import observed_all
from qemustate.qmp.connection import Connection
from qemustate.qmp.jsontext import decode, print_compact, print_qemu
from qemustate.qmp.messages import Command, Event, Reply

PLAIN = {"event": "RESUME", "timestamp": {"seconds": 1, "microseconds": 2}}


def received(*lines):
    """Return the messages that lines from QEMU are."""
    return Connection("client").receive_data(b"".join(line + b"\r\n" for line in lines))


def sent(*texts):
    """Return the commands that texts are."""
    return [Command(decode(text), text) for text in texts]


def alone(monkeypatch):
    """Return a list of the messages that are looked at one by one from now on."""
    looked_at = []
    monkeypatch.setattr(together, "observed", lambda message: looked_at.append(message) or observed(message))
    return looked_at


def test_plain_messages_are_observed_at_once(monkeypatch):
    """Messages as QEMU prints them, and commands as clients do, become the records they become singly."""
    bodies = [PLAIN, {**PLAIN, "data": {"a": [1, None, -2]}}, {"return": {}}, {"error": {"class": "X"}}] * 2
    compact = [b'{"execute":"a"}', b'{"execute":"b","id":1}'] * 3
    spaced = [b'{"execute": "a"}', b'{"execute": "b", "id": 1}'] * 3
    for messages in (received(*map(print_qemu, bodies)), sent(*compact), sent(*spaced)):
        looked_at = alone(monkeypatch)

        assert observed_all(messages) == [observed(message) for message in messages]
        assert looked_at == []


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
        '{"event": "X", "data": {"s": "ä"}}'.encode(),
        b'{"event": "X", "data": {"s": "\x7f"}}',
        b'{"event": "X", "data": {"uri": "nbd://u:p@h/x"}}',
        rb'{"return": "\"password\": \"p\""}',
        b'{"event": "X", "data": {"l": ' + b"[" * 500 + b"]" * 500 + b"}}",
    ],
)
def test_what_takes_a_closer_look_takes_it_alone(monkeypatch, line):
    """One message that is not as QEMU prints, or may hold a secret, is looked at by itself, or nearly so."""
    looked_at = alone(monkeypatch)
    plain = [print_qemu(PLAIN)] * 20
    messages = received(*plain, line, *plain)

    assert observed_all(messages) == [observed(message) for message in messages]
    assert messages[20] in looked_at
    assert len(looked_at) < 8


@pytest.mark.parametrize(
    "odd",
    [
        Command({"execute": "getfd"}, b'{"execute":"getfd"}', fds=1),
        *sent(
            b'{"execute":"object-add","arguments":{"qom-type":"secret","id":"s","data":"x"}}',
            b'{"exec-oob":"set_password","arguments":{"protocol":"vnc","password":"x"}}',
            b'{"execute":"x","arguments":{"password":"x"}}',
            b'{"execute":"x","arguments":{"uri":"nbd://u:x@h"}}',
            b'{ "execute":"x"}',
        ),
        Reply({"return": "x"}, b'{"return": "x"}', sent(b'{"execute":"qom-get","arguments":{"property":"data"}}')[0]),
    ],
)  # fmt: skip
def test_secrets_and_descriptors_are_not_passed_over(odd):
    """What a command brings along, and what may be a secret, is as if it had been observed alone."""
    plain = sent(*[b'{"execute":"a"}'] * 9)
    messages = [*plain, odd, Event(PLAIN, print_qemu(PLAIN)), *plain]

    assert observed_all(messages) == [observed(message) for message in messages]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**65) | st.floats(allow_nan=False)
    | st.text(max_size=8) | st.sampled_from(["a@b", "password=x", 'x="passw', "\\", "1.5", "nbd://u:p@h"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.text(max_size=8) | st.just("password"), VALUES, max_size=4),
            st.sampled_from([print_qemu, print_compact]),
            st.sampled_from(["event", "return", "execute"]),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_what_is_observed_at_once_is_what_is_observed_singly(found):
    """Of any messages, in any print, the records are the same."""
    messages = []
    for data, printer, kind in found:
        if kind == "execute":
            messages += sent(printer({"execute": "human-monitor-command", "arguments": data}))
        else:
            messages += received(printer({"event": "X", "data": data} if kind == "event" else {kind: data}))

    assert observed_all(messages) == [observed(message) for message in messages]


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 2**70])
def test_an_integer_beyond_64_bits_stays_in_the_text(number):
    """What msgpack can't hold is kept as the exact text, alone."""
    line = b'{"event": "X", "data": {"i": %d}}' % number

    assert observed(received(line)[0]) == ("event", {"text": line.decode()})
