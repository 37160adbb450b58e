"""Every JSON text is one of the five messages, or Malformed with QEMU's own reason."""

import pytest

from qemustate.qmp.classify import from_client, from_qemu
from qemustate.qmp.framing import Framer, Malformed
from qemustate.qmp.messages import Command, Event, Failure, Greeting, Reply


def one(text):
    """Return the only text of a stream."""
    [found] = Framer().feed(text)
    return found


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (b'{"QMP": {"version": {}, "capabilities": []}}', Greeting),
        (b'{"return": {}}', Reply),
        (b'{"return": null, "id": null}', Reply),
        (b'{"id": 1, "error": {"class": "GenericError", "desc": "no"}}', Failure),
        (b'{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP"}', Event),
        (b'{"event": "STOP", "data": {}, "member of the future": 1}', Event),
    ],
)
def test_what_qemu_sends(text, kind):
    """A text with the member that makes it a message is that message, with its exact text and all members."""
    message = from_qemu(one(text))
    assert type(message) is kind
    assert message.text == text
    assert message.body == one(text).value


@pytest.mark.parametrize(
    "text",
    [
        b"[]",
        b'"event"',
        b"42",
        b"{}",
        b'{"id": 1}',
        b'{"event": 1}',
        b'{"event": "X", "data": 1}',
        b'{"error": "x"}',
        b'{"QMP": 1}',
    ],
)
def test_what_is_no_message_of_qemus(text):
    """A JSON text that is no message is Malformed and keeps its bytes, its offset and its value."""
    found = one(b"  " + text + b"\n")
    message = from_qemu(found)
    assert type(message) is Malformed
    assert (message.data, message.offset, message.value) == (text, 2, found.value)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"[]", "QMP input must be a JSON object"),
        (b'"str"', "QMP input must be a JSON object"),
        (b"null\n", "QMP input must be a JSON object"),
        (b'{"id": "noexec"}', "QMP input lacks member 'execute'"),
        (b'{"execute": 7, "id": 1}', "QMP input member 'execute' must be a string"),
        (b'{"execute": "x", "arguments": []}', "QMP input member 'arguments' must be an object"),
        (b'{"execute": "x", "extra": 1}', "QMP input member 'extra' is unexpected"),
        (b'{"exec-oob": "x"}', "QMP input member 'exec-oob' is unexpected"),
    ],
)
def test_what_qemu_refuses_as_a_command(text, error):
    """What QEMU would not take for a command is Malformed, with the desc of QEMU's answer."""
    message = from_client(one(text), oob=False)
    assert type(message) is Malformed
    assert message.error == error


def test_commands_in_and_out_of_band():
    """A command is known by execute, or by exec-oob once that is enabled, but not by both."""
    command = from_client(one(b'{"execute": "stop", "arguments": {"a": 1}, "id": [1]}'), oob=False)
    assert type(command) is Command
    assert (command.name, command.oob, command.arguments, command.id) == ("stop", False, {"a": 1}, [1])
    command = from_client(one(b'{"exec-oob": "yank"}'), oob=True)
    assert (command.name, command.oob, command.arguments, command.id) == ("yank", True, {}, None)
    both = from_client(one(b'{"execute": "a", "exec-oob": "b"}'), oob=True)
    assert both.error == "QMP input member 'exec-oob' clashes with 'execute'"


def test_damage_passes_through():
    """Bytes that are no JSON stay the Malformed they are, in both directions."""
    damage = one(b"}")
    assert from_qemu(damage) is damage
    assert from_client(damage, oob=True) is damage
