"""What the tests of the past share: stories as traces and as logs."""

import json
import lzma
from pathlib import Path

import pytest

from qemustate.events.writer import LogWriter
from qemustate.replay.source import Source

STORIES = sorted((Path(__file__).parent.parent / "stories").glob("*/*.jsonl.xz"))


def story_id(path):
    return f"{path.parent.name}-{path.name.removesuffix('.jsonl.xz')}"


def story_of(name, version="7.2"):
    """Return the path of the story of that name."""
    return next(path for path in STORIES if (path.parent.name, path.name) == (version, f"{name}.jsonl.xz"))


@pytest.fixture
def cut(tmp_path):
    """Return a function that writes the first lines of a story, as if its recording had been stopped there."""

    def write(name, lines, version="7.2"):
        path = story_of(name, version)
        meta = json.loads(path.with_name(f"{name}.meta.json").read_text())
        (tmp_path / f"{name}.meta.json").write_text(
            json.dumps({"argv": meta["argv"], "t_start": meta["t_start"]})
        )
        out = tmp_path / f"{name}.jsonl"
        out.write_bytes(b"".join(lzma.decompress(path.read_bytes()).splitlines(keepends=True)[:lines]))
        return out

    return write


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
