"""Real QEMUs without a guest: as many as a test asks for, of arguments or of a Config."""

import contextlib
import socket
import subprocess

import pytest
from support.live import Live

from qemustate.errors import MonitorUnavailable
from qemustate.hardware.config import Config
from qemustate.qmp.blocking import Client


@pytest.fixture
def live(qemu, tmp_path):
    """Return a function that starts a QEMU with these arguments, in the folder `tmp_path`."""
    with contextlib.ExitStack() as stack:

        def start(*arguments, pass_fds=()):
            machine = Live(qemu, arguments, cwd=tmp_path, pass_fds=pass_fds)
            stack.callback(machine.end)
            return machine

        yield start


@pytest.fixture
def base(qemu):
    """Return the Config of a q35 that stands still, with nothing on it."""
    return Config.from_argv([qemu.binary, *qemu.args]).add(
        {
            "nodefaults": True,
            "no-user-config": True,
            "S": True,
            "display": "none",
            "machine": {"type": "q35", "accel": "tcg"},
            "m": "128M",
        }
    )


@pytest.fixture
def start(tmp_path):
    """Return the function that starts a Config and yields its monitor, a Client with the `pid` of its QEMU."""
    return lambda config, version=None: started(config, tmp_path, version)


@contextlib.contextmanager
def started(config, folder, version=None):
    """Start a QEMU whose monitor is one end of a socket pair; end it. `version` is that of the QEMU it is written for."""
    ours, theirs = socket.socketpair()
    chardev = {"backend": "socket", "id": "qmp", "fd": str(theirs.fileno())}
    config = config.add({"chardev": chardev, "mon": {"chardev": "qmp", "mode": "control"}})
    with (folder / "stderr").open("w+") as stderr:
        process = subprocess.Popen(
            config.argv(version),
            pass_fds=(theirs.fileno(), *config.fds),
            stdin=subprocess.DEVNULL,
            stderr=stderr,
        )
        theirs.close()
        try:
            with Client.connect(ours, timeout=60) as client:
                client.pid = process.pid
                yield client
        except MonitorUnavailable as error:
            stderr.seek(0)
            raise AssertionError(f"QEMU did not come up: {stderr.read()}") from error
        finally:
            process.kill()
            process.wait()
