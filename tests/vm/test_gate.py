"""What is started begins once it is on record; where who started it dies before that, nothing is left."""

import subprocess
import sys
import time

from qemustate.vm.gate import WAITING, Gate
from qemustate.vm.process import start_time

#: Starts what its arguments say, and dies before anything is on record.
DIES = """
import os, sys
from qemustate.vm.process import Process
process = Process(sys.argv[1:], "monitor", stderr="stderr")
print(process.pid, flush=True)
os._exit(1)
"""


def test_it_begins_when_the_gate_is_opened(tmp_path):
    """Until then the program has done nothing; it has the number and the start that it was started with, and no standard input."""
    gate = Gate()
    child = subprocess.Popen(
        [*WAITING, "sh", "-c", "cat; touch $0 $$", tmp_path / "begun"], cwd=tmp_path, stdin=gate.stdin
    )
    gate.handed()
    start = start_time(child.pid)
    time.sleep(0.1)
    assert list(tmp_path.iterdir()) == []
    assert start_time(child.pid) == start
    gate.open()
    gate.open()
    assert child.wait(30) == 0
    assert {it.name for it in tmp_path.iterdir()} == {"begun", str(child.pid)}


def test_a_gate_that_is_closed_lets_nothing_through(tmp_path):
    """The process ends, and the program was never started."""
    gate = Gate()
    child = subprocess.Popen([*WAITING, "touch", tmp_path / "begun"], stdin=gate.stdin)
    gate.handed()
    gate.close()
    gate.open()
    assert child.wait(30)
    assert list(tmp_path.iterdir()) == []


def test_a_qemu_that_is_on_no_record_ends_with_who_started_it(bare, tmp_path):
    """Killed between starting QEMU and writing down its number, a runtime leaves nothing that nobody knows of."""
    died = subprocess.run(
        [sys.executable, "-c", DIES, *bare], cwd=tmp_path, stdout=subprocess.PIPE, text=True, timeout=60
    )
    assert died.returncode == 1
    deadline = time.monotonic() + 30
    while start_time(int(died.stdout)) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert (tmp_path / "stderr").read_text() == ""
