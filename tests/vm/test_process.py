"""Starting, watching and ending a QEMU process."""

import os
import pathlib
import signal
import socket
import subprocess

import pytest

from qemustate.errors import BadInput, LaunchFailed
from qemustate.vm.listening import listening
from qemustate.vm.process import Process, ended, start_time

pytestmark = pytest.mark.usefixtures("no_leaks")


def zombies():
    """Return whether a child of ours has ended and was not reaped."""
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False


def test_from_start_to_signal(bare, tmp_path):
    """A QEMU listens where it was told, in a session of its own, and is reaped with its signal; its socket goes."""
    path = tmp_path / "monitor"
    with Process(bare, path) as process:
        assert os.getsid(process.pid) == process.pid
        assert process.start == start_time(process.pid)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            assert client.recv(4096).startswith(b'{"QMP"')
        assert process.poll() is None
        process.signal(signal.SIGKILL)
        assert ended(process.pidfd, 60)
        assert process.wait() == {"signal": 9}
        assert process.poll() == {"signal": 9}
    assert not path.exists()
    assert not zombies()


def test_a_block_that_ends_early_leaves_nothing(bare, tmp_path):
    """However the block is left, no process, zombie or socket stays."""
    with pytest.raises(ZeroDivisionError), Process(bare, tmp_path / "monitor") as process:
        raise ZeroDivisionError
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
    assert not zombies()
    assert not (tmp_path / "monitor").exists()


def test_a_qemu_that_dies_at_once_is_heard(qemu, tmp_path):
    """What QEMU says before it ends can be read, and its status."""
    with Process([qemu.binary, *qemu.args, "-M", "nonesuch"], tmp_path / "monitor") as process:
        assert process.wait(60) == {"status": 1}
        assert "unsupported machine type" in process.stderr()
        error = process.failure("it did not come up")
        assert error.returncode == 1
        assert "unsupported machine type" in str(error)
    assert not (tmp_path / "monitor").exists()


def test_a_missing_program_is_named(tmp_path):
    """No such program: a LaunchFailed that names it, and no socket."""
    with pytest.raises(LaunchFailed, match="qemu-nonesuch: no such program"):
        Process(["qemu-nonesuch"], tmp_path / "monitor")
    assert not (tmp_path / "monitor").exists()


def test_a_program_that_cannot_be_executed_is_named(tmp_path):
    """What is executable by its mode and is no program fails with the system's reason, and leaves no socket."""
    (tmp_path / "qemu").write_bytes(b"\x7fELF nothing")
    (tmp_path / "qemu").chmod(0o755)
    with pytest.raises(LaunchFailed, match="cannot be started: Exec format error"):
        Process([str(tmp_path / "qemu")], tmp_path / "monitor")
    assert not (tmp_path / "monitor").exists()


def test_a_socket_in_use_is_found_before_qemu_starts(tmp_path):
    """Where somebody listens, nothing is started."""
    with listening(tmp_path / "monitor"), pytest.raises(BadInput, match="a socket in use"):
        Process(["true"], tmp_path / "monitor")


def test_command_lines_that_will_not_do(tmp_path):
    """None at all, and one whose process would not stay our child."""
    with pytest.raises(BadInput, match="saw nothing"):
        Process([], tmp_path / "monitor")
    with pytest.raises(BadInput, match="saw -daemonize"):
        Process(["true", "-daemonize"], tmp_path / "monitor")
    with pytest.raises(BadInput, match="saw 'a\\\\x00b'"):
        Process(["true", "-name", "a\0b"], tmp_path / "monitor")


def test_only_the_end_of_a_long_stderr_is_kept_in_memory(tmp_path):
    """Of a megabyte of complaints the last 64 KiB are shown."""
    script = "head -c 1000000 /dev/zero | tr '\\0' x >&2; echo the end >&2"
    with Process(["sh", "-c", script], tmp_path / "monitor") as process:
        process.wait(60)
        assert len(process.stderr()) == 64 * 1024
        assert process.stderr().endswith("the end\n")


def test_the_start_time_is_the_22nd_field(tmp_path):
    """It is read behind the command's name, whatever that holds, and grows from process to process."""
    odd = tmp_path / "a) R 1 (b"
    odd.write_bytes(pathlib.Path("/bin/cat").read_bytes())
    odd.chmod(0o755)
    started = []
    for program in ("/bin/cat", str(odd), "/bin/cat"):
        with subprocess.Popen([program], stdin=subprocess.PIPE) as child:
            started.append(start_time(child.pid))
            child.stdin.close()
    assert started == sorted(started)
    assert started[0] > 0
    assert start_time(child.pid) is None
