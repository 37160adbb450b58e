"""What the importers' tests share."""

import json

import pytest

from qemustate.events.importers.conversation import Skipped
from qemustate.events.importers.files import TraceFile
from qemustate.events.importers.formats import FORMATS
from qemustate.events.observe import parsed

BY_NAME = {it.name: it for it in FORMATS}


class Imported:
    """The entries of some files: `lines` of (kind, what), `times`, `bodies`, `skipped`, `lacks`."""

    def __init__(self, name, files):
        form = BY_NAME[name]
        self.skipped = Skipped()
        self.entries = list(form.read(files, self.skipped))
        self.lacks = form.lacks(files, files[0].head())
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
def imported(tmp_path):
    """Return a function: (format, content, ..., meta=...) -> Imported; each content is a file."""

    def make(name, *contents, meta=None, names=None):
        files = []
        for number, content in enumerate(contents):
            path = tmp_path / (names[number] if names else f"t{number}.jsonl")
            path.write_bytes(content)
            if meta is not None:
                (tmp_path / f"{path.name.split('.')[0]}.meta.json").write_text(json.dumps(meta))
            files.append(TraceFile.at(path))
        return Imported(name, files)

    return make
