"""The asyncio driver: everything in wire order, nothing lost, no waiter without an outcome."""

import asyncio
import os
import socket

import pytest

from qemustate.errors import CommandRefused, LocalProtocolError, MonitorUnavailable, OutcomeUnknown
from qemustate.qmp.aio import HIGH_WATER, Client
from qemustate.qmp.connection import Malformed, Phase
from qemustate.qmp.messages import Command, Event, Failure, Greeting, Reply


async def opened(pair, **options):
    """Return a negotiated client and its fake QEMU."""
    ours, fake = pair
    fake.greet()
    connecting = asyncio.ensure_future(Client.connect(ours, timeout=10, **options))
    command = await asyncio.to_thread(fake.take)
    assert command.name == "qmp_capabilities"
    fake.reply(command)
    return await connecting, fake


async def taken(fake):
    """Wait for the next command without stopping the loop."""
    return await asyncio.to_thread(fake.take)


def test_every_message_is_seen_in_wire_order(pair):
    """The hook sees what goes out and what comes in, each once, in the order of the wire."""
    seen = []

    async def scenario():
        client, fake = await opened(pair, on_messages=seen.extend)
        answer = asyncio.ensure_future(client.execute("query-status"))
        command = await taken(fake)
        fake.event("STOP")
        fake.reply(command, {"running": False})
        fake.socket.sendall(b"}\r\n")
        assert await answer == {"running": False}
        client.close()

    asyncio.run(scenario())
    kinds = [Greeting, Command, Reply, Command, Event, Reply, Malformed]
    assert [type(message) for message in seen] == kinds
    assert seen[5].command is seen[3]


def test_the_hook_comes_before_the_first_byte_and_before_the_waiter(pair):
    """A command is seen before it is on the wire, an answer before whoever waits for it wakes."""
    steps = []

    async def scenario():
        client, fake = await opened(pair)
        fake.socket.setblocking(False)

        def look(messages):
            for message in messages:
                steps.append(type(message).__name__)
                if isinstance(message, Command):
                    with pytest.raises(BlockingIOError):
                        fake.socket.recv(1)

        client._on_messages = look
        answer = asyncio.ensure_future(client.execute("stop"))
        answer.add_done_callback(lambda _: steps.append("woken"))
        await asyncio.sleep(0)
        fake.socket.settimeout(10)
        fake.reply(await taken(fake))
        await answer
        await asyncio.sleep(0)
        client.close()

    asyncio.run(scenario())
    assert steps == ["Command", "Reply", "woken"]


def test_a_hook_that_raises_keeps_the_command_from_being_sent(pair):
    """When a command cannot be recorded it is not sent, and nothing is left waiting for it."""

    async def scenario():
        client, fake = await opened(pair)

        def refuse(messages):
            raise OSError("disk full")

        client._on_messages = refuse
        with pytest.raises(OSError, match="disk full"):
            await client.execute("stop")
        assert client.connection.pending == []
        client._on_messages = lambda messages: None
        answer = asyncio.ensure_future(client.execute("cont"))
        command = await taken(fake)
        assert command.name == "cont"
        fake.reply(command)
        await answer
        client.close()

    asyncio.run(scenario())


def test_replies_find_their_commands_in_any_order(pair):
    """Of a hundred commands answered backwards, each gets its own answer."""

    async def scenario():
        client, fake = await opened(pair)
        answers = [asyncio.ensure_future(client.execute("x", {"n": n})) for n in range(100)]
        await asyncio.sleep(0)
        commands = [await taken(fake) for _ in range(100)]

        def answer_backwards():
            for command in reversed(commands):
                fake.reply(command, command.arguments["n"])

        await asyncio.to_thread(answer_backwards)
        assert await asyncio.gather(*answers) == list(range(100))
        client.close()

    asyncio.run(scenario())


def test_a_refusal_carries_the_command(pair):
    """An error answer raises CommandRefused with class, desc, command and arguments."""

    async def scenario():
        client, fake = await opened(pair)
        answer = asyncio.ensure_future(client.execute("device_del", {"id": "x"}))
        fake.fail(await taken(fake), "DeviceNotFound", "Device 'x' not found")
        with pytest.raises(CommandRefused) as caught:
            await answer
        client.close()
        return caught.value

    error = asyncio.run(scenario())
    assert (error.command, error.arguments) == ("device_del", {"id": "x"})
    assert (error.error_class, error.desc) == ("DeviceNotFound", "Device 'x' not found")


def test_the_end_makes_the_unanswered_unknown(pair):
    """When the stream ends, whoever waits learns that the outcome is unknown, and later commands are not sent."""
    ends = []

    async def scenario():
        client, fake = await opened(pair, on_end=ends.append)
        answer = asyncio.ensure_future(client.execute("quit", {"a": 1}))
        await taken(fake)
        fake.close()
        with pytest.raises(OutcomeUnknown, match="closed before it answered") as caught:
            await answer
        assert (caught.value.command, caught.value.arguments) == ("quit", {"a": 1})
        assert await client.wait_closed() == ends[0]
        with pytest.raises(MonitorUnavailable, match="not sent"):
            await client.execute("stop")

    asyncio.run(scenario())
    assert [command.name for command in ends[0].unknown] == ["quit"]
    assert len(ends) == 1


def test_a_timeout_is_an_unknown_outcome_and_the_late_answer_is_still_seen(pair):
    """After a timeout the command stays pending; its answer, when it comes, goes to the hook with its command."""
    seen = []

    async def scenario():
        client, fake = await opened(pair, on_messages=seen.extend)
        with pytest.raises(OutcomeUnknown, match="no answer"):
            await client.execute("stop", timeout=0.01)
        command = await taken(fake)
        assert [waiting.name for waiting in client.connection.pending] == ["stop"]
        fake.reply(command)
        answer = asyncio.ensure_future(client.execute("cont"))
        fake.reply(await taken(fake))
        await answer
        client.close()

    asyncio.run(scenario())
    late = [message for message in seen if isinstance(message, Reply)][1]
    assert late.command.name == "stop"


def test_cancelling_who_waits_does_not_cancel_the_command(pair):
    """A cancelled execute leaves the command pending, and its answer is still seen."""
    seen = []

    async def scenario():
        client, fake = await opened(pair, on_messages=seen.extend)
        answer = asyncio.ensure_future(client.execute("stop"))
        command = await taken(fake)
        answer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await answer
        fake.reply(command)
        fake.close()
        await client.wait_closed()

    asyncio.run(scenario())
    assert isinstance(seen[-1], Reply)
    assert seen[-1].command.name == "stop"


def test_descriptors_travel_with_their_command_one_command_at_a_time(pair):
    """A second command with descriptors waits for the first one's answer; each arrives with its own."""

    async def scenario():
        client, fake = await opened(pair)
        read, write = os.pipe()
        first = asyncio.ensure_future(client.execute("getfd", {"fdname": "a"}, fds=[read]))
        second = asyncio.ensure_future(client.execute("getfd", {"fdname": "b"}, fds=[write, write]))
        command = await taken(fake)
        assert (command.arguments["fdname"], command.fds, len(fake.fds)) == ("a", 1, 1)
        assert not second.done()
        fake.reply(command)
        await first
        os.close(read)
        command = await taken(fake)
        assert (command.arguments["fdname"], command.fds, len(fake.fds)) == ("b", 2, 3)
        fake.reply(command)
        await second
        os.close(write)
        os.write(fake.fds[1], b"through")
        assert os.read(fake.fds[0], 7) == b"through"
        for fd in fake.fds:
            os.close(fd)
        client.close()

    asyncio.run(scenario())


def test_descriptors_of_a_queued_command_may_be_closed_by_the_caller(pair):
    """While the socket is full a command with a descriptor is queued; closing the descriptor does no harm."""

    async def scenario():
        client, fake = await opened(pair)
        big = client.submit("x", {"data": "x" * 1_000_000})
        read, write = os.pipe()
        small = client.submit("getfd", {"fdname": "a"}, fds=[read])
        os.close(read)
        fake.reply(await taken(fake))
        await big
        command = await taken(fake)
        assert command.fds == 1
        fake.reply(command)
        await small
        os.write(write, b"x")
        assert os.read(fake.fds[0], 1) == b"x"
        os.close(write)
        os.close(fake.fds[0])
        client.close()

    asyncio.run(scenario())


def test_commands_wait_for_room_and_events_do_not(pair):
    """With a QEMU that does not read, execute waits once 64 KiB are unsent, and events still arrive."""
    seen = []

    async def scenario():
        client, fake = await opened(pair, on_messages=seen.extend)
        answers = [asyncio.ensure_future(client.execute("x", {"data": "x" * 10_000})) for _ in range(200)]
        await asyncio.sleep(0)
        assert HIGH_WATER < len(client._outbox) < 2 * HIGH_WATER
        sent = len([message for message in seen if isinstance(message, Command)])
        assert sent < 200
        fake.event("STOP", count=1000)
        while len([message for message in seen if isinstance(message, Event)]) < 1000:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert len([message for message in seen if isinstance(message, Command)]) == sent
        with pytest.raises(MonitorUnavailable, match="not sent"):
            await client.execute("y", timeout=0.01)
        for _ in range(200):
            fake.reply(await taken(fake))
        await asyncio.gather(*answers)
        client.close()

    asyncio.run(scenario())


def test_waiting_commands_end_when_the_monitor_does(pair):
    """Commands that wait for room learn of the end, as not sent."""

    async def scenario():
        client, fake = await opened(pair)
        answers = [asyncio.ensure_future(client.execute("x", {"data": "x" * 100_000})) for _ in range(20)]
        await asyncio.sleep(0)
        fake.close()
        outcomes = {type(outcome) for outcome in await asyncio.gather(*answers, return_exceptions=True)}
        assert outcomes == {OutcomeUnknown, MonitorUnavailable}

    asyncio.run(scenario())


def test_close_reads_what_has_arrived(pair):
    """Events that are in the socket when the client closes are not lost."""
    seen = []

    async def scenario():
        client, fake = await opened(pair, on_messages=seen.extend)
        fake.event("STOP", count=500)
        client.close()
        assert client.connection.phase is Phase.CLOSED
        client.close()

    asyncio.run(scenario())
    assert len([message for message in seen if isinstance(message, Event)]) == 500


@pytest.mark.parametrize(
    ("greets", "ends", "told"),
    [
        (False, False, "another client may hold"),
        (True, False, "no answer to qmp_capabilities"),
        (False, True, "closed"),
        (True, True, "closed"),
    ],
)
def test_a_monitor_that_does_not_negotiate_is_unavailable(pair, greets, ends, told):
    """One that another client holds takes the connection but does not greet; silence after that, or the end, is told apart."""
    ours, fake = pair
    if greets:
        fake.greet()
    if ends:
        fake.socket.shutdown(socket.SHUT_WR)

    async def scenario():
        with pytest.raises(MonitorUnavailable, match=told):
            await Client.connect(ours, timeout=10 if ends else 0.3)

    asyncio.run(scenario())


def test_a_refused_negotiation_is_told(pair):
    """When QEMU refuses the capabilities, connect raises its refusal."""
    ours, fake = pair
    fake.greet()

    async def scenario():
        connecting = asyncio.ensure_future(Client.connect(ours, oob=True, timeout=10))
        fake.fail(await taken(fake), "GenericError", "no")
        with pytest.raises(CommandRefused, match="no"):
            await connecting

    asyncio.run(scenario())


def test_our_own_mistakes_raise_and_send_nothing(pair):
    """A command that breaks the protocol raises LocalProtocolError and reaches neither hook nor wire."""
    seen = []

    async def scenario():
        client, _ = await opened(pair, on_messages=seen.extend)
        before = len(seen)
        with pytest.raises(LocalProtocolError):
            await client.execute("yank", oob=True)
        assert len(seen) == before
        client.close()

    asyncio.run(scenario())


def test_failures_without_a_command_wake_nobody(pair):
    """An error that answers no command of ours is seen and disturbs nothing."""
    seen = []

    async def scenario():
        client, fake = await opened(pair, on_messages=seen.extend)
        answer = asyncio.ensure_future(client.execute("stop"))
        command = await taken(fake)
        fake.fail(None, "GenericError", "JSON parse error, expecting value")
        fake.socket.sendall(b'{"return": {}, "id": "unread"}\r\n')
        fake.reply(command)
        await answer
        client.close()

    asyncio.run(scenario())
    assert [message.command for message in seen if isinstance(message, Failure)] == [None]
