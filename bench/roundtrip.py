"""A command's way to a real QEMU and back: ``query-status``, everything recorded."""

import asyncio
import json
import shutil
import socket
import statistics
import subprocess
import time
from contextlib import ExitStack, closing
from pathlib import Path
from time import perf_counter

from qemu.qmp import QMPClient

from bench.measure import AT_MOST, Line, Result, in_turns
from qemustate.qmp import blocking
from qemustate.qmp.aio import Client
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
    """Start a QEMU of its own for one client; return the process once it listens."""
    process = subprocess.Popen([*command, *MACHINE, "-qmp", f"unix:{path},server=on,wait=off"])
    while not path.exists():
        time.sleep(0.01)
        assert process.poll() is None
    return process


def round_trip(size, folder):
    """Measure the median time of a command; each client has its own QEMU."""
    title = "Round trip of query-status to a real QEMU, ours recorded"
    command = qemu()
    if command is None:
        return Result(title, {}, notes=["not measured: there is no qemu-system-x86_64"])
    with ExitStack() as stack:
        paths = [folder / f"monitor{n}" for n in range(4)]
        for path in paths:
            process = stack.enter_context(start(command, path))
            stack.callback(process.kill)
        loop = asyncio.new_event_loop()
        stack.callback(loop.close)
        bare, waiting, live, peer = (str(path) for path in paths)
        took = in_turns(
            size,
            {
                BARE: _bare(bare, size, stack),
                WAITING: _waiting(waiting, size, folder, stack),
                LIVE: _live(live, size, folder, stack, loop),
                PEER: _peer(peer, size, stack, loop),
            },
        )
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


def _median(count, once):
    """Return the median of the seconds that ``once`` takes."""
    took = []
    for _ in range(count):
        begin = perf_counter()
        once()
        took.append(perf_counter() - begin)
    return statistics.median(took)


async def _async_median(count, once):
    took = []
    for _ in range(count):
        begin = perf_counter()
        await once()
        took.append(perf_counter() - begin)
    return statistics.median(took)


def _bare(path, size, stack):
    client, number = stack.enter_context(closing(Bare(path))), 1

    def once():
        nonlocal number
        number += 1
        client.exchange(b'{"execute":"query-status","id":"%d"}' % number)

    return lambda: _median(size.commands, once)


def _waiting(path, size, folder, stack):
    recorder = open_recorder(folder / "waiting.log")
    stack.callback(recorder.close)
    client = stack.enter_context(blocking.Client.connect(path, on_messages=recorder.messages))
    return lambda: _median(size.commands, lambda: client.execute("query-status"))


def _live(path, size, folder, stack, loop):
    recorder = open_recorder(folder / "live.log")
    stack.callback(recorder.close)
    client = loop.run_until_complete(_connected(path, recorder))
    stack.callback(client.close)
    return lambda: loop.run_until_complete(
        _async_median(size.commands, lambda: client.execute("query-status"))
    )


async def _connected(path, recorder):
    return await Client.connect(path, on_messages=recorder.messages)


def _peer(path, size, stack, loop):
    client = QMPClient("bench")
    loop.run_until_complete(client.connect(path))
    stack.callback(lambda: loop.run_until_complete(client.disconnect()))
    return lambda: loop.run_until_complete(
        _async_median(size.commands, lambda: client.execute("query-status"))
    )
