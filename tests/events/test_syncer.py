"""The thread that syncs: what is written is synced, whoever is slow."""

import os
import threading

import pytest

from qemustate.events.syncer import Syncer, sync_directory


@pytest.fixture
def slow_disk(monkeypatch):
    """Return two events: a sync has begun; it may end."""
    begun, go_on = threading.Event(), threading.Event()
    fdatasync = os.fdatasync

    def slow(fd):
        begun.set()
        assert go_on.wait(30)
        fdatasync(fd)

    monkeypatch.setattr(os, "fdatasync", slow)
    yield begun, go_on
    go_on.set()


def test_a_slow_disk_does_not_stall_the_caller(tmp_path, slow_disk):
    """While a sync is stuck, writing and changing files go on; ending waits for it."""
    begun, go_on = slow_disk
    fds = [os.open(tmp_path / str(n), os.O_WRONLY | os.O_CREAT) for n in range(2)]
    syncer = Syncer(fds[0], lambda error: pytest.fail(str(error)))
    syncer.touch()
    assert begun.wait(30)
    for _ in range(100):
        os.write(fds[0], b"x")
        syncer.touch()
    syncer.switch(fds[1])
    syncer.touch()
    go_on.set()
    syncer.stop()

    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fds[0])
    os.close(fds[1])


def test_nothing_written_needs_no_thread(tmp_path):
    """A writer that writes nothing costs no thread, and stopping it is nothing."""
    before = threading.active_count()
    syncer = Syncer(0, lambda error: pytest.fail(str(error)))
    assert threading.active_count() == before
    syncer.stop()


def test_errors_are_handed_on(tmp_path):
    """What the disk answers reaches the one who asked to know."""
    errors = []
    reader, writer = os.pipe()
    syncer = Syncer(writer, errors.append)
    syncer.touch()
    syncer.stop()
    os.close(reader)
    os.close(writer)

    assert [type(error) for error in errors] == [OSError]


def test_a_directory_is_synced(tmp_path):
    """A folder can be synced; what is none is an error."""
    sync_directory(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        sync_directory(tmp_path / "file")


def test_the_end_is_not_missed_between_two_waits(tmp_path, monkeypatch):
    """Whoever ends the thread just as it has waited long enough is not left to wait for it for ever."""
    ended = threading.Event()

    class LastMoment(threading.Event):
        """An event that is set as soon as nobody waits for it any more."""

        def wait(self, timeout=None):
            was = super().wait(0)
            ending.start()
            assert ended.wait(30)
            return was

    with (tmp_path / "file").open("wb") as file:
        syncer = Syncer(file.fileno(), lambda error: pytest.fail(str(error)))
        syncer._stop = LastMoment()
        wake, woken = syncer._wake.set, threading.Event()

        def wake_up():
            wake()
            if woken.is_set():
                ended.set()
            woken.set()

        monkeypatch.setattr(syncer._wake, "set", wake_up)
        ending = threading.Thread(target=syncer.stop, daemon=True)
        syncer.touch()
        assert ended.wait(30)
        ending.join(30)
        assert not ending.is_alive()
