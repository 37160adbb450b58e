"""A listening socket: ours, or a clear refusal."""

import socket
import stat

import pytest

from qemustate.errors import BadInput
from qemustate.vm.listening import LONGEST, check_socket, listen, listening


def test_only_its_owner_may_connect(tmp_path):
    """The socket takes connections and is closed to other users."""
    path = tmp_path / "s"
    with listen(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_leftover_is_replaced(tmp_path):
    """A socket file on which nobody listens any more is no obstacle."""
    path = tmp_path / "s"
    listen(path).close()
    assert path.is_socket()
    with listen(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


@pytest.mark.parametrize("waiting", [0, 1, 2])
def test_a_socket_in_use_is_refused(tmp_path, waiting):
    """Where somebody listens we do not, and leave it working, also when its queue is full."""
    path = tmp_path / "s"
    with listen(path, backlog=0):
        clients = [socket.socket(socket.AF_UNIX) for _ in range(waiting)]
        for client in clients:
            client.setblocking(False)
            client.connect_ex(str(path))
        with pytest.raises(BadInput, match="expected a free socket path, saw a socket in use"):
            listen(path)
        assert path.is_socket()
        for client in clients:
            client.close()


def test_what_cannot_be_a_socket_is_refused(tmp_path):
    """A file, a missing folder and a path too long are named, and a file stays as it is."""
    (tmp_path / "file").write_text("kept")
    with pytest.raises(BadInput, match="saw a file that is no socket"):
        listen(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "kept"
    with pytest.raises(BadInput, match="No such file or directory"):
        listen(tmp_path / "none" / "s")
    with pytest.raises(BadInput, match=f"at most {LONGEST} bytes"):
        listen("/" + "x" * LONGEST)


def test_nothing_is_left_behind(tmp_path):
    """At the end of the block the path is free again."""
    with listening(tmp_path / "s"):
        assert (tmp_path / "s").is_socket()
    assert not (tmp_path / "s").exists()


def test_something_that_is_no_socket_is_told(tmp_path):
    """Nothing and a socket pass; anything else is named."""
    check_socket(tmp_path / "none")
    with listening(tmp_path / "s"):
        check_socket(tmp_path / "s")
    with pytest.raises(BadInput, match="expected a socket, saw a file that is none"):
        check_socket(tmp_path)
