"""A tap changes nothing and records everything: with a fake QEMU that keeps its bytes, and with real ones."""

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import threading
from pathlib import Path

import pytest
from qemu.qmp import QMPClient

from qemustate.errors import BadInput
from qemustate.events.observe import parsed
from qemustate.events.reader import LogReader
from qemustate.events.writer import LogWriter
from qemustate.qmp.connection import Connection
from qemustate.vm.listening import listen
from qemustate.vm.recorder import Scribe
from qemustate.vm.tap import tap


class Server:
    """A fake QEMU: sends what it is told to one client after another, and keeps what it got, byte by byte."""

    def __init__(self, path, scripts):
        self.listener = listen(path, backlog=2)
        self.got, self.places = [], []
        self.thread = threading.Thread(target=self._serve, args=(scripts,))
        self.thread.start()

    def _serve(self, scripts):
        with self.listener:
            for chunks in scripts:
                sock, _ = self.listener.accept()
                with sock:
                    sender = threading.Thread(
                        target=lambda s=sock, c=chunks: [s.sendall(chunk) for chunk in c]
                    )
                    sender.start()
                    data, places = bytearray(), []
                    while True:
                        piece, fds, _, _ = socket.recv_fds(sock, 1 if len(data) < 5000 else 1 << 16, 16)
                        if not piece:
                            break
                        places += [len(data)] * len(fds)
                        for fd in fds:
                            os.close(fd)
                        data += piece
                    sender.join()
                self.got.append(bytes(data))
                self.places.append(places)


@contextlib.asynccontextmanager
async def tapping(folder, **more):
    """Run a tap between client.sock and qemu.sock of a folder, until it ends by itself; yield what it told."""
    told, stop = [], asyncio.Event()
    scribe = Scribe(LogWriter(folder / "log", **more))
    running = asyncio.ensure_future(
        tap(folder / "client.sock", folder / "qemu.sock", scribe, told.append, stop)
    )
    try:
        async with asyncio.timeout(60):
            while not any("are served" in text for text in told) and not running.done():  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        yield told
        async with asyncio.timeout(60):
            await running
    finally:
        stop.set()
        await asyncio.wait([running])
        scribe.close()


def recorded(folder, *kinds):
    """Return the records of some kinds."""
    return [record for record in LogReader(folder / "log") if record.kind in kinds]


def talk(path, chunks, fd=None):
    """Be a client: send chunks, with a descriptor on the second, leave, and return all that came."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        received = bytearray()

        def read():
            while data := sock.recv(1 << 16):
                received.extend(data)

        reader = threading.Thread(target=read)
        reader.start()
        for number, chunk in enumerate(chunks):
            if fd is not None and number == 1:
                socket.send_fds(sock, [chunk], [fd])
            else:
                sock.sendall(chunk)
        sock.shutdown(socket.SHUT_WR)
        reader.join()
    return bytes(received)


def cut(data, rng):
    """Cut bytes into random chunks."""
    places = sorted(rng.randrange(1, len(data)) for _ in range(rng.randrange(1, 12)))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True) if a < b]


def conversation():
    """Return what a server and a client say, and the events and commands in it."""
    server = Connection("server")
    said = server.greet((7, 2, 22))[1]
    said += b"".join(server.event("RTC_CHANGE", {"offset": n}, time=n)[1] for n in range(200))
    said += b'{"return": {"big": "%s"}, "id": "1"}\r\n' % (b"x" * 100_000)
    said += b'{"event": damaged}\r\n' + server.event("STOP", time=1)[1]
    asked = b'{"execute":"qmp_capabilities"}\n' + b"".join(
        b'{"execute": "query-name",\n "arguments": {}, "id": %d}' % n for n in range(100)
    )
    return said, asked + b'{"execute": garbage}\n{"execute":"getfd","arguments":{"fdname":"a"},"id":"f"}\n'


@pytest.mark.parametrize("seed", range(5))
def test_bytes_in_are_bytes_out(tmp_path, seed):
    """Split and joined anywhere, both streams arrive as sent, with the descriptor at its byte, and all is in the log."""
    rng = random.Random(seed)
    said, asked = conversation()
    chunks = cut(asked, rng)
    server = Server(tmp_path / "qemu.sock", [cut(said, rng)])
    read, write = os.pipe()

    async def scenario():
        async with tapping(tmp_path):
            return await asyncio.to_thread(talk, tmp_path / "client.sock", chunks, read)

    received = asyncio.run(scenario())
    server.thread.join()
    os.close(read)
    os.close(write)
    assert received == said
    assert server.got == [asked]
    assert server.places == [[len(chunks[0])]]
    assert len(recorded(tmp_path, "event")) == 201
    commands = recorded(tmp_path, "command")
    assert len(commands) == 102
    assert [record.body.get("fds") for record in commands if record.body.get("fds")] == [1]
    assert [record.body["from"] for record in recorded(tmp_path, "malformed")].count("qemu") == 1
    assert [len(parsed(record.body)["return"]["big"]) for record in recorded(tmp_path, "reply")] == [100_000]


def test_a_message_of_tens_of_megabytes(tmp_path):
    """30 MB in one message, each way, pass unchanged and are recorded."""
    greeting = Connection("server").greet((7, 2, 22))[1]
    said = greeting + b'{"return": "%s", "id": 1}\r\n' % (b"q" * (30 << 20))
    asked = b'{"execute":"qom-set","arguments":{"value":"%s"},"id":1}' % (b"c" * (30 << 20))
    server = Server(tmp_path / "qemu.sock", [[said]])

    async def scenario():
        async with tapping(tmp_path, durability="os"):
            return await asyncio.to_thread(talk, tmp_path / "client.sock", [asked])

    received = asyncio.run(scenario())
    server.thread.join()
    assert received == said
    assert server.got == [asked]
    [command], [reply] = recorded(tmp_path, "command"), recorded(tmp_path, "reply")
    assert len(parsed(command.body)["arguments"]["value"]) == len(parsed(reply.body)["return"]) == 30 << 20


def test_one_client_after_another(tmp_path):
    """Each client is greeted anew by QEMU itself, and the log tells the connections apart."""
    greeting = Connection("server").greet((7, 2, 22))[1]
    server = Server(tmp_path / "qemu.sock", [[greeting]] * 3)

    async def scenario():
        received = []
        async with tapping(tmp_path) as told:
            for number in range(3):
                asked = b'{"execute":"qmp_capabilities","id":%d}' % number
                received.append(await asyncio.to_thread(talk, tmp_path / "client.sock", [asked]))
        return received, told

    received, told = asyncio.run(scenario())
    server.thread.join()
    assert received == [greeting] * 3
    assert server.got == [b'{"execute":"qmp_capabilities","id":%d}' % number for number in range(3)]
    assert told[-1].endswith("has gone")
    kinds = [record.kind for record in LogReader(tmp_path / "log")]
    for start in (1, 5, 9):
        # A client need not wait for the greeting.
        first, *middle, last = kinds[start : start + 4]
        assert (first, sorted(middle), last) == ("opened", ["command", "greeting"], "lost")
    assert not (tmp_path / "client.sock").exists()


def test_secrets_pass_and_are_not_recorded(tmp_path):
    """QEMU gets the password; no file does."""
    secret = b'{"execute":"set_password","arguments":{"protocol":"vnc","password":"geheim"}}'
    server = Server(tmp_path / "qemu.sock", [[Connection("server").greet((7, 2, 22))[1]]])

    async def scenario():
        async with tapping(tmp_path):
            await asyncio.to_thread(talk, tmp_path / "client.sock", [secret])

    asyncio.run(scenario())
    server.thread.join()
    assert server.got == [secret]
    assert b"geheim" not in (tmp_path / "log").read_bytes()
    assert len(recorded(tmp_path, "command")) == 1


def test_a_full_disk_stops_no_byte(small_disk, filled):
    """When nothing can be recorded any more, everything still passes."""
    greeting = Connection("server").greet((7, 2, 22))[1]
    asked = b'{"execute":"query-status"}' * 2000
    server = Server(small_disk / "qemu.sock", [[greeting]])

    async def scenario():
        async with tapping(small_disk):
            filled(small_disk)
            return await asyncio.to_thread(talk, small_disk / "client.sock", [asked])

    assert asyncio.run(scenario()) == greeting
    server.thread.join()
    assert server.got == [asked]
    assert len(recorded(small_disk, "command")) < 2000


def test_places_that_will_not_do(tmp_path):
    """A listening place in use, and a file where QEMU's socket should be, are refused at once."""

    async def scenario():
        async with tapping(tmp_path):
            pass

    (tmp_path / "qemu.sock").write_text("no socket")
    with pytest.raises(BadInput, match="expected a socket, saw a file that is none"):
        asyncio.run(scenario())
    with listen(tmp_path / "client.sock"), pytest.raises(BadInput, match="a socket in use"):
        asyncio.run(scenario())


@contextlib.contextmanager
def running(bare, folder):
    """Run a real QEMU with a monitor of its own at qemu.sock."""
    qmp = ["-qmp", f"unix:{folder / 'qemu.sock'},server=on,wait=off"]
    with subprocess.Popen([*bare, *qmp], start_new_session=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_qemus_own_client_and_a_real_qemu(bare, tmp_path):
    """qemu.qmp's QMPClient negotiates, queries, passes a descriptor, leaves, comes back, and sees QEMU quit."""
    read, write = os.pipe()

    async def scenario():
        with running(bare, tmp_path) as process:
            async with tapping(tmp_path) as told:
                for _ in range(2):
                    client = QMPClient("test")
                    await client.connect(str(tmp_path / "client.sock"))
                    client.send_fd_scm(read)
                    assert await client.execute("getfd", {"fdname": "mine"}) == {}
                    assert (await client.execute("query-status"))["status"] == "prelaunch"
                    await client.disconnect()
                client = QMPClient("test")
                await client.connect(str(tmp_path / "client.sock"))
                await client.execute("quit")
                with contextlib.suppress(EOFError):
                    await client.disconnect()
            return process.pid, told

    pid, told = asyncio.run(scenario())
    os.close(read)
    os.close(write)
    assert told[-1].endswith("has gone")
    records = list(LogReader(tmp_path / "log"))
    assert records[1].kind == "spawned"
    assert records[1].body["pid"] == pid
    assert records[1].body["late"] is True
    assert [
        record.body["fds"] for record in records if record.kind == "command" and "fds" in record.body
    ] == [1, 1]
    returns = [parsed(record.body)["return"] for record in records if record.kind == "reply"]
    assert sum(isinstance(it, dict) and it.get("status") == "prelaunch" for it in returns) == 2
    assert "SHUTDOWN" in [parsed(record.body)["event"] for record in records if record.kind == "event"]
    assert [record.kind for record in records[-2:]] == ["exited", "closed"]


def test_a_qemu_that_is_killed_ends_the_tap(bare, tmp_path):
    """The client sees the end of the stream, the tap ends, its socket is gone."""

    async def scenario():
        with running(bare, tmp_path) as process:
            async with tapping(tmp_path):
                reader, writer = await asyncio.open_unix_connection(tmp_path / "client.sock")
                assert json.loads(await reader.readline())["QMP"]
                process.send_signal(signal.SIGKILL)
                assert await reader.read() == b""
                writer.close()
                process.wait()

    asyncio.run(scenario())
    assert [record.kind for record in LogReader(tmp_path / "log")][-3:] == ["lost", "exited", "closed"]
    assert not Path(tmp_path / "client.sock").exists()


def test_a_tap_that_is_told_to_end_leaves_qemu_alone(bare, tmp_path):
    """Stopped in the middle of a session, the tap records that it left; QEMU runs on and serves others."""

    async def scenario():
        with running(bare, tmp_path) as process:
            stop, told = asyncio.Event(), []
            scribe = Scribe(LogWriter(tmp_path / "log"))
            task = asyncio.ensure_future(
                tap(tmp_path / "client.sock", tmp_path / "qemu.sock", scribe, told.append, stop)
            )
            while not (tmp_path / "client.sock").exists():  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            reader, writer = await asyncio.open_unix_connection(tmp_path / "client.sock")
            await reader.readline()
            stop.set()
            await task
            scribe.close()
            assert await reader.read() == b""
            writer.close()
            client = QMPClient("after")
            await client.connect(str(tmp_path / "qemu.sock"))
            assert (await client.execute("query-status"))["status"] == "prelaunch"
            await client.disconnect()
            assert process.poll() is None

    asyncio.run(scenario())
    [lost] = recorded(tmp_path, "lost")
    assert lost.body == {"why": "the tap closed the connection", "by": "us"}
