"""The live path inwards: events from a socket, framed, decoded, written to the log, folded."""

import asyncio
import subprocess
import sys
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from time import perf_counter

from qemu.qmp import QMPClient

from bench import mix
from bench.measure import AT_LEAST, Line, Result, in_turns
from qemustate.qmp import blocking
from qemustate.vm.monitor import Monitor
from qemustate.vm.recorder import open_recorder

LIVE = "qemustate, asyncio"
WAITING = "qemustate, blocking"
PEER = "qemu.qmp QMPClient"


@contextmanager
def speaking(folder, events):
    """Run a QEMU that answers a command with these events; yield its socket's path."""
    path, file = folder / "speaker", folder / "events"
    file.write_bytes(events)
    program = [sys.executable, str(Path(__file__).with_name("speaker.py")), str(path), str(file)]
    with subprocess.Popen(program, stdout=subprocess.PIPE) as process:
        try:
            process.stdout.readline()
            yield str(path)
        finally:
            process.kill()


def inbound(size, folder):
    """Measure events a second, from one command to its reply behind all events."""
    events = max(1, size.records // 5)
    wire = mix.event_lines(events)
    logs = (folder / f"inbound{n}.log" for n in count())
    recorded = []

    async def live(path):
        recorder = open_recorder(next(logs))
        monitor = Monitor(recorder)
        await monitor.open(path, first=True)
        start = perf_counter()
        await monitor.execute("talk")
        took = perf_counter() - start
        monitor.close()
        recorder.close()
        recorded.append(recorder.writer.seq)
        return took

    async def peer(path):
        client = QMPClient("bench")
        await client.connect(path)
        start = perf_counter()
        await client.execute("talk")
        took = perf_counter() - start
        await client.disconnect()
        return took

    def waiting(path):
        recorder = open_recorder(next(logs))
        with blocking.Client.connect(path, on_messages=recorder.messages) as client:
            start = perf_counter()
            client.execute("talk")
            took = perf_counter() - start
        recorder.close()
        recorded.append(recorder.writer.seq)
        return took

    with speaking(folder, wire) as path:
        took = in_turns(
            size,
            {LIVE: lambda: asyncio.run(live(path)), WAITING: lambda: waiting(path), PEER: lambda: asyncio.run(peer(path))},
        )  # fmt: skip
    assert min(recorded) > events
    return Result(
        f"Inbound: {events:,} events from a socket, ours with the log at its default durability",
        {name: (events / seconds, "events/s") for name, seconds in took.items()},
        [
            Line("x qemu.qmp, which records nothing", took[PEER] / took[LIVE], (AT_LEAST, 4)),
            Line("x, with the blocking driver", took[PEER] / took[WAITING]),
        ],
        [f"{len(wire) / events:.0f} bytes an event on the wire"],
    )
