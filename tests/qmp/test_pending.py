"""A reply finds its command by an id that QEMU has printed anew."""

import pytest

from qemustate.qmp.jsontext import decode
from qemustate.qmp.messages import Command, Failure, Reply
from qemustate.qmp.pending import Pending


def command(id_text=None, fds=0):
    """Return a command with an id as a client wrote it."""
    body = {"execute": "stop"} | ({} if id_text is None else {"id": decode(id_text)})
    return Command(body, b"", fds)


def reply(id_text=None):
    """Return a reply with an id as QEMU prints it."""
    return Reply({"return": {}} | ({} if id_text is None else {"id": decode(id_text)}), b"")


def failure(desc, id_text=None):
    """Return a failure with an id as QEMU prints it."""
    error = {"class": "GenericError", "desc": desc}
    return Failure({"error": error} | ({} if id_text is None else {"id": decode(id_text)}), b"")


@pytest.mark.parametrize(
    ("sent", "printed"),
    [
        (b'"1"', b'"1"'),
        (b'"caf\xc3\xa9"', b'"caf\\u00E9"'),
        (b"1", b"1"),
        (b"1.0", b"1"),
        (b"3.50", b"3.5"),
        (b"1e400", b"inf"),
        (b"-9223372036854775809", b"-9.2233720368547758e+18"),
        (b"18446744073709551615", b"18446744073709551615"),
        (b"1" + b"0" * 400, b"inf"),
        (b"-0.0", b"-0"),
        (b"null", b"null"),
        (b"true", b"true"),
        (b'[1, {"a": null, "b": [2.0]}]', b'[1, {"b": [2], "a": null}]'),
        (b"[" * 1000 + b"]" * 1000, b"[" * 1000 + b"]" * 1000),
    ],
    ids=lambda part: ascii(part)[:30],
)
def test_an_id_is_known_again_as_qemu_prints_it(sent, printed):
    """Whatever JSON value an id is, the reply with QEMU's print of it is for that command."""
    pending, ours = Pending(), command(sent)
    pending.add(ours)
    assert pending.take(reply(printed)) is ours
    assert len(pending) == 0


def test_ids_of_different_types_are_different():
    """The number 1, the string "1", true, null, a list of 1 and no id at all are six ids."""
    texts = [b"1", b'"1"', b"true", b"null", b"[1]", None]
    pending = Pending()
    commands = [command(text) for text in texts]
    for one in commands:
        pending.add(one)
    for text, one in zip(reversed(texts), reversed(commands), strict=True):
        assert pending.take(reply(text)) is one


def test_a_reply_to_nobody_is_nobodys():
    """A reply with an unknown id, or without any while none is due, is for no command."""
    pending = Pending()
    pending.add(command(b'"1"'))
    assert pending.take(reply(b'"unread"')) is None
    assert pending.take(reply()) is None
    assert len(pending) == 1


def test_the_oldest_of_equal_ids_is_answered_first():
    """Commands with the same id, and commands with none, are answered in their order."""
    pending = Pending()
    commands = [command(text) for text in (b"7", b"7", None, None)]
    for one in commands:
        pending.add(one)
    assert list(pending) == commands
    answers = [pending.take(reply(text)) for text in (None, b"7", b"7", None)]
    assert [
        a is b for a, b in zip(answers, [commands[2], commands[0], commands[1], commands[3]], strict=True)
    ] == [True] * 4


def test_an_error_about_no_command_answers_none():
    """QEMU's complaint about a text that is no command leaves the commands without an id waiting."""
    pending, waiting = Pending(), command()
    pending.add(waiting)
    assert pending.take(failure("JSON parse error, expecting value")) is None
    assert pending.take(failure("QMP input must be a JSON object")) is None
    assert pending.take(failure("Device 'x' not found")) is waiting


def test_descriptors_are_counted_until_their_command_is_answered():
    """A command with descriptors counts until it is answered or withdrawn."""
    pending = Pending()
    first, second = command(b"1", fds=2), command(b"2", fds=1)
    pending.add(first)
    pending.add(second)
    assert pending.bearing_fds == 2
    pending.withdraw(second)
    assert pending.bearing_fds == 1
    pending.take(reply(b"1"))
    assert pending.bearing_fds == 0
    with pytest.raises(ValueError, match="not in"):
        pending.withdraw(first)
