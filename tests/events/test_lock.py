"""One holder at a time, also when holders come and go at once."""

import os
import threading

import pytest

from qemustate.errors import BadInput, LogBusy
from qemustate.events.lock import Lock


def test_held_and_released(tmp_path):
    """A held lock has a file that names its holder; a released one leaves nothing."""
    lock = Lock(tmp_path / "log")

    assert (tmp_path / "log.lock").read_text() == f"{os.getpid()}\n"
    with pytest.raises(LogBusy):
        Lock(tmp_path / "log")
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_a_stale_file_is_no_lock(tmp_path):
    """What a killed holder left behind does not hold anything."""
    (tmp_path / "log.lock").write_text("123456\n")

    Lock(tmp_path / "log").release()

    assert list(tmp_path.iterdir()) == []


def test_no_place_for_a_lock(tmp_path):
    """Where no file can be made, the message names the place."""
    with pytest.raises(BadInput, match=r"log\.lock: expected a place for a log, saw No such file"):
        Lock(tmp_path / "nowhere" / "log")


def test_never_two_holders(tmp_path):
    """Threads that take and release in haste never hold it together, though its file comes and goes."""
    holders, most, rounds = [], [], []

    def take():
        while len(rounds) < 300:
            try:
                lock = Lock(tmp_path / "log")
            except LogBusy:
                continue
            holders.append(1)
            most.append(len(holders))
            rounds.append(1)
            holders.pop()
            lock.release()

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert set(most) == {1}
