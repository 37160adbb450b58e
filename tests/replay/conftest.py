"""What the tests of the past share: stories as traces and as logs."""

from pathlib import Path

import pytest

from qemustate.events.writer import LogWriter
from qemustate.replay.source import Source

STORIES = sorted((Path(__file__).parent.parent / "stories").glob("*/*.jsonl.xz"))


def story_id(path):
    return f"{path.parent.name}-{path.name.removesuffix('.jsonl.xz')}"


@pytest.fixture(params=STORIES, ids=story_id)
def story(request):
    """Return the path of a recorded story: the test runs once for each."""
    return request.param


@pytest.fixture
def quit_story():
    """Return the path of the shortest story."""
    return next(path for path in STORIES if path.name == "quit.jsonl.xz")


@pytest.fixture
def logged(tmp_path):
    """Return a function that writes a trace to a log of ours and returns its path."""

    def write(path, **options):
        (trace,) = Source(path).vms
        log = tmp_path / f"{trace.name}.log"
        with LogWriter(
            log, vm=trace.name, durability="os", header_extra=trace.header_extra(), **options
        ) as writer:
            for kind, time, body in trace.entries():
                writer.append(kind, body, time)
        return log

    return write
