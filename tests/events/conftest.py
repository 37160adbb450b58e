"""Logs to read: small ones written by the writer itself."""

import pytest

from qemustate.events.writer import LogWriter

START = 1_795_388_980_000_000


@pytest.fixture
def body():
    """Return a function that makes the n-th of a run of bodies, of many lengths."""

    def make(n):
        if n % 7 == 0:
            return {
                "qmp": {
                    "return": {"status": "running", "list": list(range(n % 20)), "text": "x" * (n % 40)},
                    "id": str(n),
                }
            }
        return {"qmp": {"event": "STOP", "n": n}}

    return make


@pytest.fixture
def make_log(tmp_path, body):
    """Return a function that writes a log of ``count`` items, ``segment`` and ``closed`` included."""

    def make(count, *, name="log", closed=True, **options):
        path = tmp_path / name
        writer = LogWriter(path, vm="vm1", durability="os", **options)
        while writer.seq < count - closed:
            writer.append("event", body(writer.seq), START + writer.seq)
        (writer.close if closed else writer.abandon)()
        return path

    return make
