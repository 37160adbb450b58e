"""Messages become records and come back: the same object, the same bytes."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qemustate.errors import BadInput
from qemustate.events.codec import decode_item, encode
from qemustate.events.observe import message, observed, parsed
from qemustate.events.records import Record
from qemustate.qmp.jsontext import decode, print_compact, print_qemu
from qemustate.qmp.messages import Command, Event, Failure, Greeting, Reply

#: Message type, text, and what its record's body has: the object, the text, or both.
MESSAGES = [
    (Greeting, b'{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"}, "capabilities": ["oob"]}}', ["qmp"]),
    (Event, b'{"timestamp": {"seconds": 1795388980, "microseconds": 522284}, "event": "RESUME"}', ["qmp"]),
    (Event, b'{"timestamp": {"seconds": -1, "microseconds": -1}, "event": "X", "data": {"device": "pci.4", "n": null}}', ["qmp"]),
    (Reply, b'{"return": {}, "id": "c1"}', ["qmp"]),
    (Reply, b'{"return": {"a": 0.5, "b": "\\u00E4\\n\\"", "c": 18446744073709551615}}', ["qmp"]),
    (Reply, b'{"return":{},"id":"c1"}', ["qmp", "text"]),
    (Reply, b'{"return": 18446744073709551616}', ["text"]),
    (Reply, b'{"return": "\\uD83D"}', ["text"]),
    (Reply, b'{"return": inf}', ["text"]),
    (Reply, b'{"return": {"a": [1e400]}}', ["text"]),
    (Reply, b'{"return": "information"}', ["qmp"]),
    (Reply, b'{"return": "\xff\xfe"}', ["text"]),
    (Reply, b'{"return": ' + b"[" * 498 + b"]" * 498 + b"}", ["qmp"]),
    (Reply, b'{"return": ' + b"[" * 499 + b"]" * 499 + b"}", ["text"]),
    (Reply, b'{"return": ' + b"[" * 3000 + b"]" * 3000 + b"}", ["text"]),
    (Reply, b'{"return": [' + b", ".join([b'{"a": []}'] * 900) + b"]}", ["qmp"]),
    (Failure, b'{"id": "c4", "error": {"class": "GenericError", "desc": "Bus \'pcie.0\' does not support hotplugging"}}', ["qmp"]),
    (Command, b'{"execute":"cont","id":"1"}', ["qmp"]),
    (Command, b'{"execute": "cont", "id": "1"}', ["qmp", "text"]),
    (Command, '{"execute":"x","arguments":{"n":"ä\U0001f600"}}'.encode(), ["qmp"]),
    (Command, b"{'execute': 'cont'}", ["qmp", "text"]),
    (Command, b'{"execute":"x","arguments":{"s":"\\u00e4"}}', ["qmp", "text"]),
    (Command, b'{"execute":"x","arguments":{"n":1.0e5}}', ["qmp", "text"]),
    (Command, b'{"exec-oob":"migrate-pause"}', ["qmp"]),
]  # fmt: skip


def kept(sent):
    """Return what a log gives back of a message: the record, written and read."""
    kind, body = observed(sent)
    item, _ = decode_item(encode(7, 8, kind, body, 0)[0])
    return Record(*item[:4])


@pytest.mark.parametrize(("cls", "text", "members"), MESSAGES)
def test_messages_come_back_with_their_exact_text(cls, text, members):
    """Through a record, its bytes and back, a message keeps object and text, and no more than needed."""
    sent = cls(decode(text), text)

    record = kept(sent)
    back = message(record)

    # Printed, since Python cannot compare what is nested 3,000 deep.
    assert (type(back), print_qemu(back.body), back.text) == (cls, print_qemu(sent.body), text)
    assert sorted(record.body) == members
    assert print_qemu(parsed(record.body)) == print_qemu(sent.body)


def test_file_descriptors_are_counted():
    """How many descriptors went with a command stays with it."""
    text = b'{"execute":"getfd","arguments":{"fdname":"a"}}'
    record = kept(Command(decode(text), text, 1))

    assert record.body["fds"] == 1
    assert message(record).fds == 1
    assert "fds" not in kept(Command(decode(text), text)).body


def test_real_conversations_come_back(shared):
    """Every message of the recordings comes back byte for byte, most without their text being kept."""
    counts = {"messages": 0, "texts": 0}
    for path in sorted((shared / "qmp-jsonl").glob("*/*.jsonl")):
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            text = entry["raw"].strip().encode("utf-8", "surrogateescape")
            try:
                body = decode(text)
            except ValueError:
                continue
            if not isinstance(body, dict):
                continue
            cls = _type(body, entry["dir"])
            if cls is None:
                continue
            record = kept(cls(decode(text), text))
            assert message(record).text == text
            counts["messages"] += 1
            counts["texts"] += "text" in record.body and cls is not Command
    assert counts["messages"] > 1000
    assert counts["texts"] < counts["messages"] / 100


def _type(body, direction):
    names = {"execute": Command, "exec-oob": Command} if direction == "tx" else {
        "QMP": Greeting, "event": Event, "return": Reply, "error": Failure,
    }  # fmt: skip
    return next((cls for name, cls in names.items() if name in body), None)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(st.characters()) | st.sampled_from(["@=password", "x://u:p@h"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(value=values, compact=st.booleans())
@settings(deadline=None, max_examples=300)
def test_any_value_is_kept_exactly_or_redacted(value, compact):
    """Whatever JSON value comes, in whatever form, its record gives back the bytes, secrets aside."""
    body = {"return": value}
    text = print_compact(body) if compact else print_qemu(body)
    sent = Reply(decode(text), text)

    back = message(kept(sent))

    if "***" in back.text.decode("utf-8", "replace"):
        assert message(kept(back)).text == back.text
    else:
        assert back.text == text
        assert print_qemu(back.body) == print_qemu(sent.body)


def test_bodies_without_a_message():
    """A record that keeps no message, or a broken one, is an error that says so."""
    for record in (
        Record(4, 0, "gap", {"why": "x"}),
        Record(4, 0, "event", {"text": "{"}),
        Record(4, 0, "event", {}),
        Record(4, 0, "event", {"text": "[]"}),
    ):
        with pytest.raises(BadInput, match="expected a QMP message, saw"):
            message(record)


def test_an_infinity_is_read_from_its_text():
    """The object of a message that only has text is the object that came."""
    assert parsed({"text": '{"return": -inf}'}) == {"return": -math.inf}
