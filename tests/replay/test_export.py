"""A log as qmp-jsonl, and back."""

import json

import pytest

from qemustate.errors import BadInput
from qemustate.events.observe import message
from qemustate.events.reader import LogReader
from qemustate.events.writer import LogWriter
from qemustate.replay.export import export
from qemustate.replay.source import Source, records
from qemustate.statemachine.fold import apply


def states(trace):
    """Return the state after every record, as plain values."""
    vm, found = trace.start(), []
    for record in records(trace):
        apply(vm, record.seq, record.time, record.kind, record.body)
        found.append(vm.to_plain())
    return found


def test_a_log_comes_back_with_the_same_states(story, logged, tmp_path):
    """Exported and imported again, every story has the same state after every record, times included."""
    log = logged(story)
    out = tmp_path / f"{Source(log).vms[0].name}.jsonl"
    assert export(LogReader(log), out) == {}
    (again,) = Source(out).vms
    expected = states(Source(log).vms[0])[:-1]  # all but the log's own closing record
    assert states(again) == expected


@pytest.mark.parametrize(
    ("kind", "body", "raw"),
    [
        ("event", {"text": '{"event": "E", "data": {"n": 123456789012345678901234567890}}'}, b'{"event": "E", "data": {"n": 123456789012345678901234567890}}\r\n'),
        ("event", {"text": '{"event": "E", "data": {"n": "\\ud800"}}'}, b'{"event": "E", "data": {"n": "\\ud800"}}\r\n'),
        ("reply", {"qmp": {"return": {"a": 1}, "id": 7}}, b'{"return": {"a": 1}, "id": 7}\r\n'),
        ("command", {"qmp": {"execute": "stop", "id": 7}}, b'{"execute":"stop","id":7}\n'),
        ("malformed", {"data": b"\xff", "from": "client", "error": "x"}, b"\xff\n"),
        ("malformed", {"data": b"x\n", "from": "qemu", "error": "x"}, b"x\n"),
    ],
)  # fmt: skip
def test_messages_come_back_as_they_were_sent(tmp_path, kind, body, raw):
    """The exact text is written, each with the line end of its sender, and the time to the microsecond."""
    log, out = tmp_path / "a.log", tmp_path / "a.jsonl"
    with LogWriter(log, vm="a", durability="os") as writer:
        writer.append(kind, body, 1_795_441_626_351_624)
    export(LogReader(log), out)
    line = json.loads(out.read_text())
    assert line["raw"].encode("utf-8", "surrogateescape") == raw
    assert round(line["t"] * 1e6) == 1_795_441_626_351_624
    if kind != "malformed":  # which alone makes no trace
        told = [record for record in records(Source(out).vms[0]) if record.kind == kind]
        assert [message(record).text for record in told] == [raw.strip()]


def test_what_the_format_cannot_say_is_counted(tmp_path):
    """Gaps, deadlines, and a second process have no place; a process that was there before its first message is late."""
    log, out = tmp_path / "a.log", tmp_path / "a.jsonl"
    with LogWriter(log, vm="a", durability="os") as writer:
        for kind, body in (
            ("spawned", {"argv": ["qemu"], "late": True}),
            ("command", {"qmp": {"execute": "stop"}}),
            ("gap", {"why": "?"}),
            ("spawned", {"argv": ["qemu"]}),
            ("exited", {"signal": 9}),
        ):
            writer.append(kind, body, 5_000_000)
    assert export(LogReader(log), out) == {"gap": 1, "spawned": 1}
    beside = json.loads((tmp_path / "a.meta.json").read_text())
    assert beside == {"argv": ["qemu"], "t_start": 5.0, "late": True, "exit": -9, "t_exit": 5.0}
    (again,) = Source(out).vms
    assert next(record.body["late"] for record in records(again) if record.kind == "spawned") is True


@pytest.mark.parametrize("there", ["a.jsonl", "a.meta.json"])
def test_nothing_is_written_over(tmp_path, there, quit_story, logged):
    """A file that is there already is left as it is."""
    log = logged(quit_story)
    (tmp_path / there).write_text("mine")
    with pytest.raises(BadInput, match="expected no file there yet"):
        export(LogReader(log), tmp_path / "a.jsonl")
    assert (tmp_path / there).read_text() == "mine"
