"""A flood of events, and a subscriber that never reads: memory does not grow, and nothing is lost."""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

from qemustate.events.reader import LogReader
from qemustate.events.recovery import verify
from qemustate.qmp.connection import Connection
from qemustate.vm.cursor import Cursor
from qemustate.vm.listening import listening
from qemustate.vm.monitor import Monitor
from qemustate.vm.recorder import open_recorder

#: Events a second, and how many go in one write.
RATE, BATCH = 10_000, 100


def test_a_subscriber_that_never_reads_costs_nothing(tmp_path, full):
    """10,000 events a second, a subscriber that reads none: under 8 MiB of growth, and every event in the log."""
    seconds, from_second = (10, 2) if full else (3, 1)
    command = [sys.executable, __file__, str(tmp_path), str(seconds), str(from_second)]
    with subprocess.Popen([*command, "peer"]) as peer:
        observed = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert peer.returncode == 0
    told = json.loads(observed.stdout)
    assert told["growth"] < 8 << 20
    offsets = [
        record.body["qmp"]["data"]["offset"]
        for record in LogReader(tmp_path / "log")
        if record.kind == "event" and record.body["qmp"]["event"] == "RTC_CHANGE"
    ]
    assert offsets == list(range(seconds * RATE))
    assert verify(tmp_path / "log").sound


def peer(folder, seconds):
    """Pose as a QEMU: greet, negotiate, then send events at their rate."""
    qemu = Connection("server")
    with listening(folder / "listening") as listener:
        (folder / "listening").rename(folder / "qmp")
        sock, _ = listener.accept()
        with sock:
            sock.sendall(qemu.greet((7, 2, 22))[1])
            [command] = qemu.receive_data(sock.recv(1000))
            sock.sendall(qemu.reply(command)[1])
            begun = time.monotonic()
            for number in range(0, seconds * RATE, BATCH):
                numbers = range(number, number + BATCH)
                sock.sendall(b"".join(qemu.event("RTC_CHANGE", {"offset": n}, time=n)[1] for n in numbers))
                time.sleep(max(0, begun + (number + BATCH) / RATE - time.monotonic()))


def memory():
    """Return this process's resident memory in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


async def observer(folder, from_second):
    """Record all that the peer sends; print how memory grew from some second to the end."""
    recorder = open_recorder(folder / "log")
    while not (folder / "qmp").exists():  # noqa: ASYNC110 - nothing tells of a new file
        await asyncio.sleep(0.01)
    monitor = Monitor(recorder)
    await monitor.open(folder / "qmp", first=True)
    with Cursor(recorder, 1) as never_read:
        await anext(never_read)
        await asyncio.sleep(from_second)
        before = memory()
        while recorder.vm.to_json()["monitor"]["is"] != "closed":  # noqa: ASYNC110 - the cursor must not read
            await asyncio.sleep(0.01)
        print(json.dumps({"growth": memory() - before, "before": before}))
    recorder.close()


if __name__ == "__main__":
    if sys.argv[4:] == ["peer"]:
        peer(Path(sys.argv[1]), int(sys.argv[2]))
    else:
        asyncio.run(observer(Path(sys.argv[1]), int(sys.argv[3])))
