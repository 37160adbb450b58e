"""Deadlines become facts, and a monitor that another client holds is told from one that is slow."""

import asyncio
import contextlib
import threading

import pytest

from qemustate.errors import CommandRefused, MonitorUnavailable, OutcomeUnknown
from qemustate.events.reader import LogReader
from qemustate.qmp.connection import Connection
from qemustate.qmp.messages import Command
from qemustate.vm.cursor import Cursor
from qemustate.vm.listening import listen
from qemustate.vm.monitor import Monitor
from qemustate.vm.recorder import open_recorder
from qemustate.vm.session import Session


class Fake:
    """A QEMU that answers a command when it is let: `greets` and `answers` are events to set."""

    def __init__(self, path):
        self.greets, self.answers = threading.Event(), threading.Event()
        self.taken = []
        self.listener = listen(path)
        self.listener.settimeout(20)
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self):
        server = Connection("server")
        with self.listener, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sock, _ = self.listener.accept()
            with sock:
                self.greets.wait(20)
                sock.sendall(server.greet((7, 2, 22))[1])
                while data := sock.recv(1 << 16):
                    for command in server.receive_data(data):
                        assert isinstance(command, Command)
                        self.taken.append(command.name)
                        self.answers.wait(20)
                        if command.name == "quit":
                            return
                        sock.sendall(server.reply(command)[1])


def with_fake(tmp_path, scenario, *, first=True, deadline=0.05):
    """Run a scenario of (monitor being opened, fake, recorder) to its end; return the recorder."""

    async def main():
        fake = Fake(tmp_path / "qmp")
        recorder = open_recorder(tmp_path / "log")
        monitor = Monitor(recorder, deadline=deadline)
        opening = asyncio.ensure_future(monitor.open(tmp_path / "qmp", first=first))
        try:
            async with asyncio.timeout(20):
                await scenario(monitor, opening, fake, recorder)
        finally:
            opening.cancel()
            monitor.close()
            fake.greets.set()
            fake.answers.set()
            recorder.close()
            await asyncio.to_thread(fake.thread.join)
        return recorder

    return asyncio.run(main())


async def until(recorder, kind, count=1, **more):
    """Wait until the log has so many records of a kind, with at least this in them; return them."""
    found = []
    with Cursor(recorder, 1) as cursor:
        async for record in cursor:
            if record.kind == kind and more.items() <= record.body.items():
                found.append(record)
                if len(found) == count:
                    return found
    raise AssertionError(f"the log ended with {found}")


def monitor_of(recorder):
    """Return what the state says of the monitor."""
    return recorder.vm.to_json()["monitor"]


def test_an_overdue_answer_is_a_stalled_monitor(tmp_path):
    """After the deadline the monitor is stalled, with age and command, told again as the wait doubles; then it recovers."""

    async def scenario(monitor, opening, fake, recorder):
        fake.greets.set()
        fake.answers.set()
        await opening
        fake.answers.clear()
        waiting = asyncio.ensure_future(monitor.execute("query-block"))
        told = await until(recorder, "deadline", 3, id="2")
        assert [record.body["after"] for record in told] == [50_000, 100_000, 200_000]
        assert monitor_of(recorder)["is"] == "stalled"
        stalled = monitor_of(recorder)["stalled"]
        assert (stalled["command"], stalled["seq"]) == ("query-block", told[0].seq - 1)
        assert stalled["after"] >= 200_000
        fake.answers.set()
        assert await waiting == {}
        assert monitor_of(recorder)["is"] == "ready"
        assert "stalled" not in monitor_of(recorder)

    with_fake(tmp_path, scenario)


def test_an_answer_in_time_is_no_deadline(tmp_path):
    """No deadline is recorded for what was answered, however long the monitor is open."""

    async def scenario(monitor, opening, fake, recorder):
        fake.greets.set()
        fake.answers.set()
        await opening
        await asyncio.gather(*(monitor.execute("query-name") for _ in range(20)))
        await asyncio.sleep(1.2)

    recorder = with_fake(tmp_path, scenario, deadline=1)
    assert "deadline" not in [record.kind for record in LogReader(recorder.writer.path)]


def test_no_greeting_on_a_monitor_of_our_own_is_a_deadline(tmp_path):
    """A QEMU we started that does not greet is slow, not held; when it greets it is served."""

    async def scenario(_monitor, opening, fake, recorder):
        await until(recorder, "deadline", waiting="greeting")
        assert monitor_of(recorder)["is"] == "connecting"
        fake.greets.set()
        fake.answers.set()
        await opening
        assert monitor_of(recorder)["is"] == "ready"

    with_fake(tmp_path, scenario)


def test_no_greeting_on_somebody_elses_monitor_is_held(tmp_path):
    """Connected and not greeted: another client holds it, until the greeting comes."""

    async def scenario(_monitor, opening, fake, recorder):
        await until(recorder, "held")
        assert monitor_of(recorder)["is"] == "held"
        fake.greets.set()
        fake.answers.set()
        await opening
        assert monitor_of(recorder)["is"] == "ready"

    with_fake(tmp_path, scenario, first=False)


def test_an_end_leaves_outcomes_unknown(tmp_path):
    """When the stream ends, what was asked is unknown, and no deadline comes after that."""

    async def scenario(monitor, opening, fake, recorder):
        fake.greets.set()
        fake.answers.set()
        await opening
        with pytest.raises(OutcomeUnknown):
            await monitor.execute("quit")
        await until(recorder, "lost")
        assert monitor_of(recorder)["is"] == "closed"
        await asyncio.sleep(0.15)
        with pytest.raises(MonitorUnavailable, match="not sent"):
            await monitor.execute("query-status")

    recorder = with_fake(tmp_path, scenario)
    assert [record.kind for record in LogReader(recorder.writer.path)][-3:] == ["command", "lost", "closed"]


def test_nobody_there(tmp_path, recorder):
    """Where nobody listens, that is said, and nothing is recorded; a command has nowhere to go."""

    async def scenario():
        monitor = Monitor(recorder)
        with pytest.raises(MonitorUnavailable, match="No such file"):
            await monitor.open(tmp_path / "none")
        with pytest.raises(MonitorUnavailable, match="the monitor is not open"):
            await monitor.execute("quit")
        monitor.close()

    asyncio.run(scenario())
    assert recorder.vm.seq == 1


def test_a_second_client_of_a_real_qemu_is_held(bare, tmp_path):
    """QEMU serves one client: the second is held, and served when the first has left, with ids never used before."""

    async def scenario():
        first, second = open_recorder(tmp_path / "first"), open_recorder(tmp_path / "second")
        session = await Session.launch(bare, first, tmp_path / "qmp")
        other = Monitor(second, deadline=0.1)
        opening = asyncio.ensure_future(other.open(tmp_path / "qmp"))
        await until(second, "held")
        session.monitor.close()
        await opening
        assert (await other.execute("query-status"))["status"] == "prelaunch"
        with pytest.raises(CommandRefused):
            await other.execute("nonesuch")
        served = second.vm.to_json()
        other.close()
        session.close()
        for recorder in (first, second):
            recorder.close()
        return served, second.vm.to_json()

    served, left = asyncio.run(scenario())
    assert served["runstate"]["is"] == "prelaunch"
    # What happens after we left, nobody tells.
    assert left["runstate"]["is"] is None
    ids = [record.body["qmp"]["id"] for record in LogReader(tmp_path / "second") if record.kind == "command"]
    assert "1" not in ids
