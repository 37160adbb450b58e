"""A command's way to a real QEMU and back: ``query-status``, everything recorded."""

import asyncio
import json
import shutil
import socket
import statistics
import subprocess
import time
from contextlib import closing
from itertools import count
from pathlib import Path
from time import perf_counter

from qemu.qmp import QMPClient

from bench.measure import AT_MOST, Line, Result, in_turns
from qemustate.qmp import aio, blocking
from qemustate.vm.recorder import open_recorder

BARE = "bare socket"
WAITING = "qemustate, blocking"
LIVE = "qemustate, asyncio"
PEER = "qemu.qmp QMPClient"

LISTED = Path(__file__).resolve().parent.parent / ".cache" / "qemu.json"
#: The smallest machine there is; the monitor is served as in any other.
MACHINE = ["-accel", "tcg", "-M", "none", "-S", "-display", "none", "-nodefaults"]


class Bare:
    """A blocking socket that sends prepared bytes and reads up to the end of a line, without a look at either."""

    def __init__(self, path):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._line()
        self.exchange(b'{"execute":"qmp_capabilities","id":"1"}')

    def exchange(self, data):
        self._socket.sendall(data)
        self._line()

    def close(self):
        self._socket.close()

    def _line(self):
        while not self._socket.recv(65536).endswith(b"\n"):
            pass


def qemu():
    """Return the start of a command line, or None where there is no QEMU."""
    entries = json.loads(LISTED.read_text()) if LISTED.exists() else []
    for entry in entries:
        if "binary" in entry:
            return [entry["binary"], *entry["args"]]
    found = shutil.which("qemu-system-x86_64")
    return [found] if found else None


def start(command, path):
    """Start a QEMU; return the process once it listens."""
    process = subprocess.Popen([*command, *MACHINE, "-qmp", f"unix:{path},server=on,wait=off"])
    while not path.exists():
        time.sleep(0.01)
        assert process.poll() is None
    return process


def round_trip(size, folder):
    """Measure the median time of a command; all clients talk to the same QEMU, one after the other."""
    title = "Round trip of query-status to a real QEMU, ours recorded"
    command = qemu()
    if command is None:
        return Result(title, {}, notes=["not measured: there is no qemu-system-x86_64"])
    path = folder / "monitor"
    logs = (folder / f"roundtrip{n}.log" for n in count())
    with start(command, path) as process:
        try:
            took = in_turns(
                size,
                {
                    BARE: lambda: _bare(str(path), size.commands),
                    WAITING: lambda: _waiting(str(path), size.commands, next(logs)),
                    LIVE: lambda: asyncio.run(_live(str(path), size.commands, next(logs))),
                    PEER: lambda: asyncio.run(_peer(str(path), size.commands)),
                },
            )
        finally:
            process.kill()
    version = subprocess.run([command[0], "--version"], capture_output=True, text=True, check=True).stdout
    return Result(
        title,
        {name: (seconds * 1e6, "us, median") for name, seconds in took.items()},
        [
            Line("of qemu.qmp's time, with asyncio", took[LIVE] / took[PEER], (AT_MOST, 0.85)),
            Line("of the time of a bare socket that sends the same bytes, blocking", took[WAITING] / took[BARE], (AT_MOST, 1.10)),
        ],
        [version.splitlines()[0]],
    )  # fmt: skip


def _median(commands, once):
    """Return the median of the seconds that ``once`` takes."""
    took = []
    for _ in range(commands):
        begin = perf_counter()
        once()
        took.append(perf_counter() - begin)
    return statistics.median(took)


async def _async_median(commands, client):
    took = []
    for _ in range(commands):
        begin = perf_counter()
        await client.execute("query-status")
        took.append(perf_counter() - begin)
    return statistics.median(took)


def _bare(path, commands):
    numbers = count(2)
    with closing(Bare(path)) as client:
        return _median(
            commands, lambda: client.exchange(b'{"execute":"query-status","id":"%d"}' % next(numbers))
        )


def _waiting(path, commands, log):
    with (
        closing(open_recorder(log)) as recorder,
        blocking.Client.connect(path, on_messages=recorder.messages) as client,
    ):
        return _median(commands, lambda: client.execute("query-status"))


async def _live(path, commands, log):
    with closing(open_recorder(log)) as recorder:
        client = await aio.Client.connect(path, on_messages=recorder.messages)
        with closing(client):
            return await _async_median(commands, client)


async def _peer(path, commands):
    client = QMPClient("bench")
    await client.connect(path)
    try:
        return await _async_median(commands, client)
    finally:
        await client.disconnect()
