"""A writer that is killed with SIGKILL under load loses nothing it had been told was written."""

import os
import random
import signal
import struct
import subprocess
import sys

import pytest

from qemustate.events.format import lock_path
from qemustate.events.reader import LogReader
from qemustate.events.writer import LogWriter

#: Appends records, alone and in batches, over several segments, and reports each number behind the write.
CHILD = """
import os, sys
from qemustate.events.writer import LogWriter
writer = LogWriter(sys.argv[1], durability=sys.argv[2], segment_bytes=20_000)
n = writer.seq
os.write(1, n.to_bytes(8, "big"))
while True:
    size = n % 700
    if n % 3:
        n = writer.append("event", {"n": writer.seq + 1 + writer.full, "fill": "x" * size}, n)
    else:
        first = writer.seq + 1 + writer.full
        n = writer.append_many([("event", {"n": first + i, "fill": "x" * size}, n) for i in range(5)])[-1]
    os.write(1, n.to_bytes(8, "big"))
"""


def kill_under_load(path, durability, reports):
    """Run a writer until it has reported so many times, kill it; return the last number it reported."""
    with subprocess.Popen([sys.executable, "-c", CHILD, path, durability], stdout=subprocess.PIPE) as child:
        last = 0
        for _ in range(reports):
            (last,) = struct.unpack(">Q", child.stdout.read(8))
        os.kill(child.pid, signal.SIGKILL)
        rest = child.stdout.read()
    # What was in the pipe when it died had been written before, too.
    whole = len(rest) // 8 * 8
    return struct.unpack(">Q", rest[whole - 8 : whole])[0] if whole else last


@pytest.mark.slow
def test_a_killed_writer_loses_nothing(tmp_path, full):
    """After each of many kills every record reported is there, and every record is one that was written."""
    chance = random.Random(7)
    for turn in range(200 if full else 20):
        path = tmp_path / f"log{turn // 10}"  # a log is continued nine times
        reported = kill_under_load(path, ("os", "interval", "each")[turn % 3], chance.randrange(1, 400))

        records = list(LogReader(path))
        assert [record.seq for record in records] == list(range(1, len(records) + 1))
        assert len(records) >= reported
        # Beyond what was reported there is at most the one write that was under way.
        assert len(records) <= reported + 6
        assert all(record.body["n"] == record.seq for record in records if record.kind == "event")
        assert {record.kind for record in records} <= {"segment", "event", "gap"}
    LogWriter(path).close()
    assert not lock_path(path).exists()
