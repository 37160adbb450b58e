"""The rules of the wire, each held against recordings of real QEMUs or against a QEMU itself."""

import fcntl
import json
import os
import signal
import socket
import termios
import time

import pytest

from qemustate.errors import CommandRefused, OutcomeUnknown
from qemustate.qmp import blocking
from qemustate.qmp.connection import Connection, Malformed
from qemustate.qmp.jsontext import reproduces
from qemustate.qmp.messages import Command, Event, Failure, Greeting, Reply

VERSIONS = ("7.2", "10.0")


def tapped(shared, version, name):
    """Pass a recording through a tap; return all messages with their direction, and the end."""
    tap, seen = Connection("client"), []
    for line in (shared / "qmp-jsonl" / version / f"{name}.jsonl").read_text().splitlines():
        entry = json.loads(line)
        data = entry["raw"].encode("utf-8", "surrogateescape")
        messages = tap.relay(data) if entry["dir"] == "tx" else tap.receive_data(data)
        seen += ((entry["dir"], message) for message in messages)
    return seen, tap.receive_eof()


@pytest.mark.parametrize("version", VERSIONS)
def test_every_recorded_reply_finds_its_command(shared, version):
    """In all recordings but those of damage and of a dropped client, each answer is matched and QEMU breaks no rule."""
    names = sorted(path.stem for path in (shared / "qmp-jsonl" / version).glob("*.jsonl"))
    assert names
    for name in names:
        if name in ("proto_errors", "proto_reconnect.c1", "proto_reconnect.c2"):
            continue
        seen, ended = tapped(shared, version, name)
        answers = [message for _, message in seen if isinstance(message, Reply | Failure)]
        assert all(answer.command is not None for answer in answers), name
        assert not any(isinstance(message, Malformed) for _, message in seen), name
        assert ended.malformed == []


@pytest.mark.parametrize("version", VERSIONS)
def test_qemu_prints_ascii_with_spaces(shared, version):
    """Every recorded message of QEMU is ASCII, and what our printer prints of its value."""
    for path in sorted((shared / "qmp-jsonl" / version).glob("*.jsonl")):
        for direction, message in tapped(shared, version, path.stem)[0]:
            if direction == "rx":
                assert message.text.isascii()
                assert reproduces(message.body, message.text, "qemu"), message.text


@pytest.mark.parametrize("version", VERSIONS)
def test_each_damage_gets_one_error_without_a_command(shared, version):
    """What a tap calls Malformed on its way to QEMU is what QEMU answers with an error that is no command's."""
    seen, ended = tapped(shared, version, "proto_errors")
    damage = [message for direction, message in seen if direction == "tx" and isinstance(message, Malformed)]
    errors = [message for _, message in seen if isinstance(message, Failure) and message.command is None]
    assert len(damage) == len(errors) > 20
    assert ended.unknown == []


@pytest.mark.parametrize("version", VERSIONS)
def test_the_reply_of_a_dropped_client_goes_to_the_next(shared, version):
    """What one client left unanswered is unknown; its reply comes to the next, before negotiation, as nobody's."""
    _, ended = tapped(shared, version, "proto_reconnect.c1")
    assert [command.id for command in ended.unknown] == ["unread", "lastcmd"]
    seen, _ = tapped(shared, version, "proto_reconnect.c2")
    assert [type(message) for _, message in seen[:2]] == [Greeting, Reply]
    stray = seen[1][1]
    assert (stray.id, stray.command) == ("unread", None)
    assert not any(getattr(message, "id", None) == "lastcmd" for _, message in seen)


@pytest.mark.parametrize("version", VERSIONS)
def test_replies_in_band_come_in_the_order_of_the_commands(shared, version):
    """Sixty commands in one write are answered in order."""
    seen, _ = tapped(shared, version, "proto_pipeline")
    commands = [message for direction, message in seen if isinstance(message, Command)]
    answers = [message for _, message in seen if isinstance(message, Reply | Failure)]
    assert len(commands) > 60
    assert [answer.command for answer in answers] == commands


def test_the_greeting_comes_first_and_ends_with_crlf(start):
    """QEMU greets unasked, in one line, and offers oob."""
    [sock] = start()
    sock.settimeout(30)
    data = sock.recv(65536)
    assert data.startswith(b'{"QMP": {"version": {"qemu": {')
    assert data.endswith(b"}\r\n")
    [greeting] = Connection("client").receive_data(data)
    assert greeting.capabilities == ["oob"]


def test_before_negotiation_only_qmp_capabilities_works(start):
    """Other commands are refused as a server of ours would refuse them, and so is a second negotiation."""
    [sock] = start()
    sock.settimeout(30)
    tap, server = Connection("client"), Connection("server")
    tap.receive_data(sock.recv(65536))
    server.greet((7, 2, 22))
    for data in (
        b'{"execute": "query-status", "id": 1}',
        b'{"execute": "qmp_capabilities", "arguments": {"enable": ["nope"]}, "id": 2}',
        b'{"execute": "qmp_capabilities", "arguments": {"x": 1}, "id": 3}',
        b'{"execute": "qmp_capabilities", "id": 4}',
        b'{"execute": "qmp_capabilities", "id": 5}',
        b'{"execute": "qmp_capabilities", "id": 6, "arguments": {}}',
    ):
        tap.relay(data)
        sock.sendall(data)
        [theirs] = tap.receive_data(sock.recv(65536))
        [command] = server.receive_data(data)
        objection = server.objection(command)
        ours = server.fail(command, *objection)[0] if objection else server.reply(command)[0]
        assert (type(ours), ours.body) == (type(theirs), theirs.body)
        assert tap.phase is server.phase


def test_events_are_not_sent_to_a_monitor_that_negotiates(start):
    """A client hears no events before it has negotiated, and all of them after."""
    first, second = start(2)
    second.settimeout(30)
    late = Connection("client")
    late.receive_data(second.recv(65536))
    with blocking.Client.connect(first, timeout=30) as client:
        client.execute("cont")
        client.execute("stop")
        command, data = late.negotiate()
        second.sendall(data)
        [reply] = late.receive_data(second.recv(65536))
        assert (type(reply), reply.command) == (Reply, command)
        client.execute("cont")
        [event] = late.receive_data(second.recv(65536))
        assert event.name == "RESUME"


def test_the_events_of_a_command_come_before_its_reply(start):
    """STOP and RESUME precede the replies of stop and cont; a command that changes nothing sends no event."""
    seen = []
    with blocking.Client.connect(*start(), timeout=30, on_messages=seen.extend) as client:
        for name in ("cont", "cont", "stop", "stop"):
            seen.clear()
            client.execute(name)
            names = [message.name for message in seen if isinstance(message, Event)]
            seen_as = [type(message) for message in seen]
            assert seen_as in ([Command, Event, Reply], [Command, Reply])
            assert names in (["RESUME"], ["STOP"], [])


def test_an_unknown_command_is_refused_as_not_found(start):
    """A command QEMU does not have is CommandNotFound, with the name in its sentence."""
    with (
        blocking.Client.connect(*start(), timeout=30) as client,
        pytest.raises(CommandRefused, match="The command nosuch has not been found") as caught,
    ):
        client.execute("nosuch")
    assert caught.value.error_class == "CommandNotFound"


def test_errors_of_hmp_are_text(start):
    """A failing HMP command is a success with text, whose lines end with CR LF."""
    with blocking.Client.connect(*start(), timeout=30) as client:
        text = client.execute("human-monitor-command", {"command-line": "device_del nope"})
        assert text == "Error: Device 'nope' not found\r\n"


def test_a_client_that_does_not_read_loses_nothing(start):
    """QEMU keeps a megabyte of answers for a client that reads only when all commands are sent."""
    [sock] = start()
    client = blocking.Client.connect(sock, timeout=30)
    tap = Connection("client")
    sent = b"".join(b'{"execute":"query-commands","id":%d}' % number for number in range(100))
    commands = tap.relay(sent)
    sock.sendall(sent)
    unread = bytearray(b"1234")
    while any(unread):
        fcntl.ioctl(sock, termios.TIOCOUTQ, unread)
        time.sleep(0.01)
    answers = []
    while len(answers) < 100:
        answers += (message for message in client.receive(30) if isinstance(message, Reply))
    client.close()
    assert [answer.id for answer in answers] == [command.id for command in commands]
    assert all(answer.value == answers[0].value for answer in answers)


def test_a_killed_qemu_says_nothing(start_process):
    """SIGKILL gives the end of the stream and nothing else; what was unanswered is unknown."""
    process, [sock] = start_process()
    seen = []
    client = blocking.Client.connect(sock, timeout=30, on_messages=seen.extend)
    process.send_signal(signal.SIGSTOP)
    with pytest.raises(OutcomeUnknown, match="in time"):
        client.execute("query-status", timeout=0.05)
    seen.clear()
    process.kill()
    assert list(client.events()) == []
    assert seen == []
    assert [command.name for command in client.ended.unknown] == ["query-status"]


def test_a_terminated_qemu_says_so(start_process):
    """SIGTERM gives SHUTDOWN by host-signal, then the end."""
    process, [sock] = start_process()
    client = blocking.Client.connect(sock, timeout=30)
    process.terminate()
    [event] = client.events()
    assert (event.name, event.data["reason"]) == ("SHUTDOWN", "host-signal")
    assert client.ended is not None


def test_a_stopped_qemu_answers_late(start_process):
    """A command to a QEMU that stands still is unknown at its deadline, and answered when QEMU goes on."""
    process, [sock] = start_process()
    with blocking.Client.connect(sock, timeout=30) as client:
        client.receive()
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(OutcomeUnknown):
            client.execute("query-status", timeout=0.05)
        process.send_signal(signal.SIGCONT)
        [reply] = client.receive(30)
        assert reply.command.name == "query-status"
        assert client.execute("query-status")["status"] == "prelaunch"


def test_a_newer_descriptor_replaces_one_that_nobody_took(start):
    """This is why one command with descriptors is unanswered at a time: QEMU keeps only the last ones."""
    [sock] = start()
    tap = Connection("client")
    sock.settimeout(30)
    tap.receive_data(sock.recv(65536))
    read, write = os.pipe()
    sock.sendall(b'{"execute": "qmp_capabilities"}')
    sock.recv(65536)
    # Two sets of descriptors before any command takes one: the second replaces the first.
    socket.send_fds(sock, [b" "], [read])
    socket.send_fds(sock, [b" "], [write])
    answers = []
    for name in (b"a", b"b"):
        sock.sendall(b'{"execute": "getfd", "arguments": {"fdname": "%s"}}' % name)
        answers += tap.receive_data(sock.recv(65536))
    os.close(read)
    os.close(write)
    assert [type(answer) for answer in answers] == [Reply, Failure]
    assert "No file descriptor supplied" in answers[1].desc
