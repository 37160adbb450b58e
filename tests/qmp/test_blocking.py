"""The blocking driver: the same session for a thread that waits."""

import os
import threading

import pytest

from qemustate.errors import CommandRefused, LocalProtocolError, MonitorUnavailable, OutcomeUnknown
from qemustate.qmp.blocking import Client
from qemustate.qmp.messages import Command, Event, Greeting, Reply


@pytest.fixture
def serve(pair):
    """Return a function that runs a script of the fake QEMU in a thread and connects to it."""
    ours, fake = pair
    threads = []

    def served(script=lambda fake: None, **options):
        def run():
            fake.greet()
            fake.reply(fake.take())
            script(fake)

        threads.append(threading.Thread(target=run))
        threads[0].start()
        return Client.connect(ours, timeout=10, **options)

    yield served
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_execute_returns_what_the_command_returned(serve):
    """A command's value comes back, with and without a deadline, whatever events come before it."""

    def script(fake):
        for value in ({"running": False}, 7):
            command = fake.take()
            fake.event("STOP", count=3)
            fake.reply(command, value)

    client = serve(script)
    assert client.execute("query-status") == {"running": False}
    assert client.execute("query-status", timeout=10) == 7
    assert [type(message) for message in client.receive()] == [Greeting] + [Event] * 6
    client.close()


def test_every_message_is_seen_in_wire_order(serve):
    """The hook sees what goes out and what comes in, each once, before execute returns."""
    seen = []

    def script(fake):
        command = fake.take()
        fake.event("STOP")
        fake.reply(command)

    with serve(script, on_messages=seen.extend) as client:
        client.execute("stop")
        assert [type(message) for message in seen] == [Greeting, Command, Reply, Command, Event, Reply]
        assert seen[5].command is seen[3]


def test_a_hook_that_raises_keeps_the_command_from_being_sent(serve):
    """When a command cannot be recorded it is not sent, and nothing is left waiting for it."""

    def script(fake):
        command = fake.take()
        assert command.name == "cont"
        fake.reply(command)

    def look(messages):
        if isinstance(messages[0], Command) and messages[0].name == "stop":
            raise OSError("disk full")

    with serve(script, on_messages=look) as client:
        with pytest.raises(OSError, match="disk full"):
            client.execute("stop")
        assert client.connection.pending == []
        client.execute("cont")


def test_a_refusal_carries_the_command(serve):
    """An error answer raises CommandRefused with class, desc, command and arguments."""
    with serve(lambda fake: fake.fail(fake.take(), "DeviceNotFound", "Device 'x' not found")) as client:
        with pytest.raises(CommandRefused) as caught:
            client.execute("device_del", {"id": "x"})
        assert (caught.value.command, caught.value.arguments) == ("device_del", {"id": "x"})
        assert (caught.value.error_class, caught.value.desc) == ("DeviceNotFound", "Device 'x' not found")


def test_the_end_makes_the_command_unknown(serve):
    """When the stream ends before the answer the outcome is unknown, and later commands are not sent."""

    def script(fake):
        fake.take()
        fake.close()

    client = serve(script)
    with pytest.raises(OutcomeUnknown, match="closed before it answered"):
        client.execute("quit")
    assert [command.name for command in client.ended.unknown] == ["quit"]
    with pytest.raises(MonitorUnavailable, match="not sent"):
        client.execute("stop")
    assert [type(message) for message in client.receive()] == [Greeting]
    with pytest.raises(MonitorUnavailable):
        client.receive()


def test_a_late_answer_is_received_like_any_message(serve):
    """After a timeout the answer comes through receive, with its command."""
    late = threading.Event()

    def script(fake):
        command = fake.take()
        assert late.wait(10)
        fake.reply(command, "late")

    with serve(script) as client:
        client.receive()
        with pytest.raises(OutcomeUnknown, match="in time"):
            client.execute("stop", timeout=0.01)
        late.set()
        [reply] = client.receive(10)
        assert (reply.value, reply.command.name) == ("late", "stop")


def test_events_come_until_none_does(serve):
    """The iterator gives each event and ends when none came for the time given, or with the stream."""
    sent, read = threading.Event(), threading.Event()

    def script(fake):
        fake.event("STOP", count=2)
        sent.set()
        assert read.wait(10)
        fake.event("RESUME")
        fake.close()

    client = serve(script)
    assert sent.wait(10)
    assert [event.name for event in client.events(0.01)] == ["STOP", "STOP"]
    read.set()
    assert [event.name for event in client.events()] == ["RESUME"]
    assert client.ended is not None


def test_receive_without_anything_is_empty(serve):
    """When the time is over and nothing came, receive returns nothing; a hook does not change that."""
    seen = []
    with serve(on_messages=seen.extend) as client:
        assert client.receive(0.01) == []
        assert len(seen) == 3


def test_descriptors_travel_with_their_command(serve):
    """Descriptors arrive with their command; the next such command waits until it is answered."""
    received = []

    def script(fake):
        for _ in range(2):
            command = fake.take()
            received.append((command.arguments["fdname"], command.fds))
            if command.name == "closefd":
                fake.reply(command)

    with serve(script) as client:
        read, write = os.pipe()
        with pytest.raises(OutcomeUnknown):
            client.execute("getfd", {"fdname": "a"}, fds=[read], timeout=0.01)
        with pytest.raises(MonitorUnavailable, match="descriptors is unanswered"):
            client.execute("getfd", {"fdname": "b"}, fds=[write], timeout=0.01)
        client.execute("closefd", {"fdname": "b"})
        os.close(read)
        os.close(write)
    assert received == [("a", 1), ("b", 0)]


def test_a_large_command_and_a_large_answer_cross(serve):
    """A command and an answer larger than any socket buffer get through, since reading goes on while sending."""

    def script(fake):
        fake.event("STOP", {"filler": "y" * 1_000_000})
        command = fake.take()
        fake.reply(command, command.arguments)

    with serve(script) as client:
        assert client.execute("x", {"data": "x" * 1_000_000}) == {"data": "x" * 1_000_000}


@pytest.mark.parametrize("greeted", [False, True])
def test_a_silent_monitor_is_unavailable(pair, greeted):
    """Without a greeting in time, or an answer to the negotiation, connect raises MonitorUnavailable."""
    ours, fake = pair
    if greeted:
        fake.greet()
    with pytest.raises(MonitorUnavailable, match="qmp_capabilities" if greeted else "another client"):
        Client.connect(ours, timeout=0.3)


def test_a_monitor_that_closes_at_once_is_unavailable(pair):
    """The end before the greeting is MonitorUnavailable."""
    ours, fake = pair
    fake.close()
    with pytest.raises(MonitorUnavailable, match="before it greeted"):
        Client.connect(ours)


def test_our_own_mistakes_raise(serve):
    """A command that breaks the protocol raises LocalProtocolError."""
    with serve() as client, pytest.raises(LocalProtocolError):
        client.execute("yank", oob=True)
