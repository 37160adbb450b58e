"""Opening a monitor's socket, and sending in order without blocking."""

import os
import socket

import pytest

from qemustate.errors import LocalProtocolError, MonitorUnavailable
from qemustate.qmp.sockets import Outbox, check_descriptors, open_socket


def test_a_listening_socket_opens(tmp_path):
    """A socket that somebody listens on is connected at once."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "monitor"))
        listener.listen()
        with open_socket(tmp_path / "monitor") as ours:
            theirs, _ = listener.accept()
            with theirs:
                ours.setblocking(True)
                ours.sendall(b"x")
                assert theirs.recv(1) == b"x"


def test_no_socket_and_nobody_listening_are_unavailable(tmp_path):
    """A missing path and a stale socket raise MonitorUnavailable with the path and the reason."""
    with pytest.raises(MonitorUnavailable, match=r"monitor: No such file"):
        open_socket(tmp_path / "monitor")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "monitor"))
    with pytest.raises(MonitorUnavailable, match="refused"):
        open_socket(str(tmp_path / "monitor"))


def test_a_full_queue_is_unavailable_at_once(tmp_path):
    """Where other clients wait already, opening does not wait behind them."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "monitor"))
        listener.listen(0)
        with (
            open_socket(tmp_path / "monitor"),
            pytest.raises(MonitorUnavailable, match="held by another client"),
        ):
            open_socket(tmp_path / "monitor")


@pytest.fixture
def ends():
    """Return both ends of a socket pair."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(10)
    with ours, theirs:
        yield ours, theirs


def test_what_does_not_fit_waits_in_order(ends):
    """Bytes and descriptors beyond what the socket takes are sent later, in order, from our own duplicates."""
    ours, theirs = ends
    outbox = Outbox(ours)
    read, write = os.pipe()
    outbox.send(b"a" * 1_000_000, [])
    outbox.send(b"bc", [write])
    os.close(write)
    assert 0 < len(outbox) < 1_000_002
    got, fds = b"", []
    while len(got) < 1_000_002:
        data, new, _, _ = socket.recv_fds(theirs, 65536, 4)
        got, fds = got + data, fds + new
        outbox.flush()
    assert got == b"a" * 1_000_000 + b"bc"
    assert len(outbox) == 0
    os.write(fds[0], b"x")
    assert os.read(read, 1) == b"x"
    os.close(fds[0])
    # All other copies of the writing end are closed.
    assert os.read(read, 1) == b""
    os.close(read)


def test_a_peer_that_has_gone_drops_everything(ends):
    """When the peer closes, sending and flushing raise nothing and keep nothing."""
    ours, theirs = ends
    outbox = Outbox(ours)
    read, write = os.pipe()
    outbox.send(b"a" * 1_000_000, [])
    outbox.send(b"b", [write])
    os.close(write)
    theirs.close()
    outbox.flush()
    assert len(outbox) == 0
    assert os.read(read, 1) == b""
    os.close(read)
    outbox.send(b"c", [])
    assert len(outbox) == 0


def test_a_closed_descriptor_goes_with_no_command():
    """A number that is no open descriptor is refused by name before anything is sent; an open one is not."""
    reading, writing = os.pipe()
    check_descriptors("getfd", [reading, writing])
    for fd in (reading, writing):
        os.close(fd)
    with pytest.raises(
        LocalProtocolError, match=f"getfd: not sent, descriptor {reading}: Bad file descriptor"
    ):
        check_descriptors("getfd", [reading])
