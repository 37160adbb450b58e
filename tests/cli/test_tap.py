"""``qemustate tap`` as a user runs it."""

import json
import signal
import socket
import subprocess
import sys

import pytest

from qemustate.events.reader import LogReader

COMMAND = [sys.executable, "-c", "from qemustate.cli.main import run; run()", "tap"]


def start(folder):
    """Start the tap between client.sock and qemu.sock of a folder."""
    places = [
        "--listen",
        folder / "client.sock",
        "--connect",
        folder / "qemu.sock",
        "--log",
        folder / "vm.log",
    ]
    return subprocess.Popen(
        [*COMMAND, *map(str, places)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_from_before_qemu_is_there_until_it_has_gone(qemu, tmp_path):
    """Started first, it waits for QEMU, serves a client, and ends with QEMU and its socket gone."""
    with start(tmp_path) as tap:
        assert "waiting for QEMU" in tap.stderr.readline()
        qmp = ["-qmp", f"unix:{tmp_path / 'qemu.sock'},server=on,wait=off"]
        bare = ["-accel", "tcg", "-M", "none", "-S", "-display", "none", "-nodefaults"]
        with subprocess.Popen([qemu.binary, *qemu.args, *bare, *qmp]):
            assert "are served" in tap.stderr.readline()
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(tmp_path / "client.sock"))
                with client.makefile("rwb", 0) as stream:
                    assert "QMP" in json.loads(stream.readline())
                    for name in ("qmp_capabilities", "quit"):
                        stream.write(json.dumps({"execute": name}).encode())
                        stream.readline()
        out, complaints = tap.communicate(timeout=60)
    assert (tap.returncode, out) == (0, "")
    assert "has gone" in complaints
    assert not (tmp_path / "client.sock").exists()
    kinds = [record.kind for record in LogReader(tmp_path / "vm.log")]
    assert kinds[1:4] == ["spawned", "opened", "greeting"]
    assert kinds.count("command") == 2
    assert kinds[-1] == "closed"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it(tmp_path, number):
    """Told to end while it waits, it does so with status 0 and a closed log."""
    with start(tmp_path) as tap:
        tap.stderr.readline()
        tap.send_signal(number)
        _, complaints = tap.communicate(timeout=60)
    assert tap.returncode == 0
    assert "Traceback" not in complaints
    assert [record.kind for record in LogReader(tmp_path / "vm.log")] == ["segment", "closed"]


def test_bad_usage_is_one_clear_line(tmp_path):
    """A missing option, and a place for clients that is a file: exit status 2, one line each."""
    ended = subprocess.run([*COMMAND, "--listen", "x"], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "--connect" in ended.stderr
    (tmp_path / "client.sock").write_text("a file")
    with start(tmp_path) as tap:
        _, complaints = tap.communicate(timeout=60)
    assert (tap.returncode, complaints.count("\n")) == (2, 1)
    assert "client.sock: expected a place for a socket, saw a file that is no socket" in complaints
