"""A fake QEMU on a socket pair, and real ones with as many monitors as a test asks for."""

import contextlib
import socket
import subprocess

import pytest

from qemustate.qmp.connection import Connection

#: The smallest machine there is: what the wire does is the same on all.
MACHINE = ["-accel", "tcg", "-M", "none", "-S", "-display", "none", "-nodefaults"]


class FakeQemu:
    """The other end of a socket: answers nothing until it is told to."""

    def __init__(self, sock):
        sock.settimeout(10)
        self.socket = sock
        self.connection = Connection("server")
        self.fds = []
        self._arrived = []

    def greet(self):
        """Send the greeting of a QEMU 7.2.22."""
        self.socket.sendall(self.connection.greet((7, 2, 22))[1])

    def take(self):
        """Wait for the next command and return it; the descriptors with it go to ``fds``."""
        while not self._arrived:
            data, fds, _, _ = socket.recv_fds(self.socket, 65536, 16)
            assert data, "the client has closed"
            self.fds += fds
            self._arrived += self.connection.receive_data(data, len(fds))
        return self._arrived.pop(0)

    def reply(self, command, value=None):
        """Answer with success."""
        self.socket.sendall(self.connection.reply(command, value)[1])

    def fail(self, command, error_class, desc):
        """Answer with a refusal."""
        self.socket.sendall(self.connection.fail(command, error_class, desc)[1])

    def event(self, name, data=None, *, count=1):
        """Send an event, or many in one write."""
        self.socket.sendall(self.connection.event(name, data, time=1)[1] * count)

    def close(self):
        """Close, as a QEMU that has gone."""
        self.socket.close()


@pytest.fixture
def pair():
    """Return the client's end of a socket pair and the fake QEMU at the other."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    fake = FakeQemu(theirs)
    yield ours, fake
    ours.close()
    fake.close()


@pytest.fixture
def start_process(qemu):
    """Return a function that starts a QEMU with ``count`` monitors; it returns the process and their sockets."""
    with contextlib.ExitStack() as stack:

        def started(count=1):
            pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(count)]
            monitors = []
            for index, (_, theirs) in enumerate(pairs):
                monitors += ["-chardev", f"socket,id=c{index},fd={theirs.fileno()}"]
                monitors += ["-mon", f"chardev=c{index},mode=control"]
            process = subprocess.Popen(
                [qemu.binary, *qemu.args, *MACHINE, *monitors],
                pass_fds=[theirs.fileno() for _, theirs in pairs],
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            for ours, theirs in pairs:
                theirs.close()
                stack.callback(ours.close)
            return process, [ours for ours, _ in pairs]

        yield started


@pytest.fixture
def start(start_process):
    """Return a function that starts a QEMU with ``count`` monitors and returns their sockets."""
    return lambda count=1: start_process(count)[1]
