"""What the importers' tests share."""

import json

import pytest

from qemustate.events.importers.conversation import Skipped
from qemustate.events.importers.files import TraceFile
from qemustate.events.importers.formats import BY_NAME
from qemustate.events.observe import parsed


class Imported:
    """The entries of one VM that files tell of, in short as `said`: `times`, `bodies`, `skipped`, `lacks`."""

    def __init__(self, found):
        self.name = found.name
        self.skipped = Skipped()
        self.entries = list(found.read(self.skipped))
        self.lacks = found.lacks
        self.kinds = [kind for kind, _, _ in self.entries]
        self.times = [time for _, time, _ in self.entries]
        self.bodies = [body for _, _, body in self.entries]
        self.origins = [tuple(body["origin"]) for body in self.bodies]
        self.said = [_said(kind, body) for kind, _, body in self.entries]


def _said(kind, body):
    """Return an entry in short: what was asked, which event, else the kind."""
    if kind not in ("command", "event"):
        return kind
    qmp = parsed(body)
    return qmp["event"] if kind == "event" else qmp.get("execute") or qmp["exec-oob"]


@pytest.fixture
def imported_all(tmp_path):
    """Return a function: (format, content, ..., meta=..., names=...) -> {name: Imported}; each content is a file."""

    def make(name, *contents, meta=None, names=None):
        files = []
        for number, content in enumerate(contents):
            path = tmp_path / (names[number] if names else f"t{number}.jsonl")
            path.write_bytes(content)
            if meta is not None:
                (tmp_path / f"{path.name.partition('.jsonl')[0]}.meta.json").write_text(json.dumps(meta))
            files.append(TraceFile.at(path))
        return {found.name: Imported(found) for found in BY_NAME[name].find(files)}

    return make


@pytest.fixture
def imported(imported_all):
    """Return a function as `imported_all`, for files that tell of one VM: (format, content, ...) -> Imported."""

    def make(*args, **options):
        (one,) = imported_all(*args, **options).values()
        return one

    return make
