"""Real QEMUs on the other end of the wire."""

import asyncio
import json
import os
import socket
import subprocess
import threading

import pytest

from qemustate.errors import CommandRefused, MonitorUnavailable, OutcomeUnknown
from qemustate.qmp import aio, blocking
from qemustate.qmp.classify import from_client
from qemustate.qmp.connection import Connection
from qemustate.qmp.framing import Framer, Malformed
from qemustate.qmp.jsontext import reproduces
from qemustate.qmp.messages import Command, Event, Reply
from qemustate.qmp.schema import Schema, check_properties

MACHINE = ["-accel", "tcg", "-M", "none", "-S", "-display", "none", "-nodefaults"]


def test_a_session_from_greeting_to_quit(start, qemu):
    """A real QEMU greets, negotiates, answers, reports its shutdown before its last reply, and ends."""
    seen = []
    with blocking.Client.connect(*start(), timeout=30, on_messages=seen.extend) as client:
        assert ".".join(map(str, client.connection.greeting.version)).startswith(qemu.version)
        assert client.execute("query-status")["status"] == "prelaunch"
        assert client.execute("quit") == {}
        assert list(client.events()) == []
    assert client.ended.unknown == client.ended.malformed == []
    tail = [type(message) for message in seen[-3:]]
    assert tail == [Command, Event, Reply]
    assert seen[-2].name == "SHUTDOWN"
    received = [message for message in seen if not isinstance(message, Command)]
    assert all(reproduces(message.body, message.text, "qemu") for message in received)


def test_64_commands_in_one_write(start):
    """Commands written at once are answered in their order, each with its own id."""
    [sock] = start()

    async def scenario():
        client = await aio.Client.connect(sock, timeout=30)
        answers = [client.submit("query-status") for _ in range(64)]
        replies = await asyncio.gather(*answers)
        client.close()
        return replies

    replies = asyncio.run(scenario())
    assert [reply.id for reply in replies] == [str(number) for number in range(2, 66)]
    assert all(reply.id == reply.command.id for reply in replies)


def test_descriptors_reach_the_commands_they_are_for(start):
    """A getfd takes the descriptor sent with it, ten times in a row through both drivers; without one it refuses."""
    first, second = start(2)
    read, write = os.pipe()

    async def scenario():
        client = await aio.Client.connect(first, timeout=30)
        await asyncio.gather(*(client.execute("getfd", {"fdname": f"f{n}"}, fds=[read]) for n in range(10)))
        for n in range(10):
            await client.execute("closefd", {"fdname": f"f{n}"})
        with pytest.raises(CommandRefused, match="No file descriptor supplied via SCM_RIGHTS"):
            await client.execute("getfd", {"fdname": "none"})
        client.close()

    asyncio.run(scenario())
    with blocking.Client.connect(second, timeout=30) as client:
        for n in range(10):
            client.execute("getfd", {"fdname": f"f{n}"}, fds=[write])
        assert client.execute("add-fd", {"fdset-id": 1}, fds=[write])["fdset-id"] == 1
    os.close(read)
    os.close(write)


def test_out_of_band_commands(start):
    """With oob enabled, commands that allow it run out of band, and others are refused."""
    with blocking.Client.connect(*start(), oob=True, timeout=30) as client:
        assert client.connection.oob
        assert [entry["type"] for entry in client.execute("query-yank", oob=True)] == ["chardev"]
        with pytest.raises(CommandRefused, match="does not support OOB"):
            client.execute("query-status", oob=True)
        schema = Schema(client.execute("query-qmp-schema"))
        assert {name for name in schema.commands if schema.allows_oob(name)} == {
            "migrate-pause", "migrate-recover", "query-yank", "yank",
        }  # fmt: skip


def test_what_is_behind_quit_is_unknown(start):
    """Commands queued behind quit are never answered, and their outcome is unknown."""
    [sock] = start()

    async def scenario():
        client = await aio.Client.connect(sock, timeout=30)
        answers = [client.submit(name) for name in ("quit", "query-status", "stop")]
        outcomes = await asyncio.gather(*answers, return_exceptions=True)
        return outcomes, await client.wait_closed()

    outcomes, ended = asyncio.run(scenario())
    assert [type(outcome) for outcome in outcomes] == [Reply, OutcomeUnknown, OutcomeUnknown]
    assert [command.name for command in ended.unknown] == ["query-status", "stop"]


def test_every_command_passes_the_schema_and_qemu_alike(start):
    """The schema knows every command of query-commands, and what it objects to QEMU refuses too."""
    with blocking.Client.connect(*start(), timeout=30) as client:
        schema = Schema(client.execute("query-qmp-schema"))
        names = {entry["name"] for entry in client.execute("query-commands")}
        assert names == set(schema.commands)
        assert {"STOP", "DEVICE_DELETED"} <= set(schema.events)
        for name in sorted(names - {"qmp_capabilities"}):
            arguments = {"no-such-member": 1}
            assert refusal(client, name, arguments)
            assert schema.check_command(name, arguments)
        for name, arguments in WRONG:
            assert schema.check_command(name, arguments), (name, arguments)
            assert refusal(client, name, arguments), (name, arguments)
        for name, arguments in RIGHT:
            assert schema.check_command(name, arguments) == []
            assert refusal(client, name, arguments) is None


def refusal(client, name, arguments):
    """Return why QEMU refuses a command, None when it does not."""
    try:
        client.execute(name, arguments, timeout=30)
    except CommandRefused as error:
        return error.desc
    return None


WRONG = [
    ("no-such-command", {}),
    ("device_del", {}),
    ("device_del", {"id": 1}),
    ("object-add", {"qom-type": "no-such-type", "id": "m"}),
    ("object-add", {"qom-type": "memory-backend-ram", "id": "m", "size": "1M"}),
    ("object-add", {"qom-type": "memory-backend-ram", "id": "m", "size": 1.5}),
    ("migrate-set-capabilities", {"capabilities": [{"capability": "xbzrle", "state": 1}]}),
    ("blockdev-add", {"driver": "null-co", "node-name": "n", "filename": "x"}),
    ("blockdev-add", {"driver": "raw", "node-name": "n", "file": 3}),
    ("netdev_add", {"type": "hubport", "id": "n"}),
]
RIGHT = [
    ("object-add", {"qom-type": "memory-backend-ram", "id": "m", "size": 1048576}),
    ("blockdev-add", {"driver": "raw", "node-name": "n", "file": {"driver": "null-co", "size": 1048576}}),
    ("blockdev-add", {"driver": "raw", "node-name": "o", "file": "n"}),
    ("migrate-set-capabilities", {"capabilities": [{"capability": "xbzrle", "state": True}]}),
    ("netdev_add", {"type": "hubport", "id": "h", "hubid": 0}),
    ("qom-list", {"path": "/objects"}),
]


def test_device_properties_are_known(start):
    """What device-list-properties tells of a disk settles names and plain types."""
    with blocking.Client.connect(*start(), timeout=30) as client:
        reply = client.execute("device-list-properties", {"typename": "virtio-blk-pci"})
    sound = {
        "driver": "virtio-blk-pci",
        "id": "d",
        "bus": "rp0",
        "drive": "n",
        "addr": "06.0",
        "share-rw": True,
    }
    assert check_properties("virtio-blk-pci", sound, reply) == []
    [doubt] = check_properties("virtio-blk-pci", {"share_rw": True}, reply)
    assert "share-rw" in doubt.expected


#: Damaged input of every kind; each is followed by a reset and a command.
DAMAGE = [
    b"garbage\n", b'{"execute" "query-status"}\n', b"}\n", b"]\n", b",\n", b":\n", b'{"a": \x01\n', b"\xff", b'{"a": "b\n',
    b"[]\n", b'"str"\n', b"42\n", b"null\n", b"{'id': 'x'}", b'{"execute": 7, "id": 1}', b'{"id": 1, "id": 2}',
    b'{"execute": "query-status", "arguments": []}', b'{"execute": "x", "extra": 1}', b'{"exec-oob": "query-yank"}',
    b'{"id": "\\ud83d"}', b'{"id": "\xc3"}', b'{"id": "\\x"}', b'{"id": "\\u12"}', b'{"id": "\\ud83d\\u0041"}', b'{"id": "\\udc00x"}', b'{"id": inf}', b'{"id": %(id)s}\n',
    b"HTTP/1.1 200 OK\r\n", b'{"a": TRUE}\n', b'{"a" 1}\x00', b"[" * 1025 + b"\n", b'{"a": 1]\n', b"[1 2]", b"{1: 2}",
    b"[1,]", b'{"a": 1,}', b"{,}", b'{"a":}', b'{"a": "b\tc"}\n', b'"\xff"\n', b'{"a": "x\xfey"}\n', b'{"a": "\\\x01"}\n',
    b"\xff\xff\xff", b"##\n##\n", b"-\n", b"1.\n", b"nullx\n", b"'it\\'s'\n", b'"a"\'b\'', b"[\n}\n", b"{}}\n", b"[1}\n",
    b"\xc3\xa9\n", b'{"a": \xc3\xa9}\n', b"true false\n", b'{"execute": "query-st',
]  # fmt: skip


def test_damage_is_seen_as_qemu_sees_it(start):
    """Of each damaged input we report what QEMU reports, in its words, and find the command behind it as QEMU does."""
    [sock] = start()
    with blocking.Client.connect(sock, timeout=30) as client:
        client.receive()
        for number, damage in enumerate(DAMAGE):
            sent = damage + b'\xff{"execute": "query-status", "id": %d}\n' % number
            ours = [from_client(item, oob=False) for item in Framer(strict=True).feed(sent)]
            sock.sendall(sent)
            theirs = []
            while not (theirs and isinstance(theirs[-1], Reply)):
                theirs += client.receive(30)
            told = [without_token(item.error) if isinstance(item, Malformed) else item.id for item in ours]
            assert told == [
                item.id if isinstance(item, Reply) else without_token(item.desc) for item in theirs
            ], damage


def without_token(desc):
    """Return an error without the stray token: QEMU shows all of it, we the byte that spoils it."""
    return desc.split("stray '", maxsplit=1)[0]


def test_ids_come_back_to_their_commands(start):
    """Through a tap, replies find commands whose ids are any JSON value, printed anew by QEMU."""
    [sock] = start()
    tap, ids = Connection("client"), [
        b"1", b"1.0", b'"caf\xc3\xa9"', b"[1, {'a': null}]", b"1e400", b"-9223372036854775809", b"18446744073709551615",
        b"null", b"true", b'{"b": 1.5, "a": [{}]}', b"[" * 1000 + b"]" * 1000, b"-0.0", b"1" + b"0" * 30, b"1e20",
    ]  # fmt: skip
    sock.settimeout(30)
    sent = [b'{"execute": "qmp_capabilities"}'] + [
        b'{"execute": "query-name", "id": %s}' % text for text in ids
    ]
    commands = [command for text in sent for command in tap.relay(text)]
    sock.sendall(b"".join(sent))
    replies = []
    while len(replies) < len(commands):
        replies += [item for item in tap.receive_data(sock.recv(65536)) if isinstance(item, Reply)]
    assert [reply.command for reply in replies] == commands
    assert tap.pending == []


def test_a_monitor_serves_one_client_after_the_other(qemu, tmp_path):
    """While one client is served the next one is not greeted; when the first leaves, the next is."""
    path = tmp_path / "monitor"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        chardev = f"socket,id=c,fd={listener.fileno()},server=on,wait=off"
        command = [qemu.binary, *qemu.args, *MACHINE, "-chardev", chardev, "-mon", "chardev=c,mode=control"]
        process = subprocess.Popen(command, pass_fds=[listener.fileno()])
    try:
        with blocking.Client.connect(path, timeout=30) as first:
            with pytest.raises(MonitorUnavailable, match="another client may hold"):
                blocking.Client.connect(path, timeout=0.2)
            number = first.connection.next_id
        with blocking.Client.connect(path, timeout=30, first_id=number) as second:
            assert second.execute("query-status")["status"] == "prelaunch"
    finally:
        process.kill()
        process.wait()


def test_pretty_printed_replies(qemu):
    """With pretty=on QEMU spreads a reply over lines; the session does not care."""
    ours, theirs = socket.socketpair()
    monitor = ["-chardev", f"socket,id=c,fd={theirs.fileno()}", "-mon", "chardev=c,mode=control,pretty=on"]
    process = subprocess.Popen([qemu.binary, *qemu.args, *MACHINE, *monitor], pass_fds=[theirs.fileno()])
    theirs.close()
    try:
        with blocking.Client.connect(ours, timeout=30) as client:
            assert client.execute("query-status")["status"] == "prelaunch"
            [greeting] = client.receive()
            assert b"\n" in greeting.text
            assert json.loads(greeting.text) == greeting.body
    finally:
        process.kill()
        process.wait()


def test_a_client_in_a_thread_and_one_on_a_loop_at_once(start):
    """Two monitors of one QEMU, one driver each, both see every event."""
    first, second = start(2)
    threads, seen, errors = [], [], []

    def listen():
        try:
            with blocking.Client.connect(second, timeout=30) as client:
                ready.set()
                seen.extend(event.name for event in client.events())
        except Exception as error:  # shown by the assertion below
            errors.append(error)

    ready = threading.Event()
    threads.append(threading.Thread(target=listen))
    threads[0].start()
    assert ready.wait(30)

    async def scenario():
        client = await aio.Client.connect(first, timeout=30)
        await client.execute("cont")
        await client.execute("stop")
        await client.execute("quit")
        await client.wait_closed()

    asyncio.run(scenario())
    threads[0].join(30)
    assert errors == []
    assert seen == ["RESUME", "STOP", "SHUTDOWN"]
