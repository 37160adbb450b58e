"""Any trace, opened by its content; and a log is the same trace as what it was imported from."""

import gzip
import io
import os
import sys
import threading

import pytest

from qemustate.errors import BadInput, LogDamaged
from qemustate.replay.source import Source, open_foreign, records
from qemustate.statemachine.fold import apply


def states(trace):
    """Yield number and state after every record."""
    vm = trace.start()
    for record in records(trace):
        apply(vm, record.seq, record.time, record.kind, record.body)
        yield record.seq, vm.to_plain()


def test_a_log_replays_as_the_trace_it_was_imported_from(story, logged):
    """After every record of every story the log's state is that of the foreign trace."""
    (foreign,) = Source(story).vms
    (log,) = Source(logged(story)).vms
    before, after = list(states(foreign)), list(states(log))
    assert after[: len(before)] == before
    assert [seq for seq, _ in after] == list(range(1, len(before) + 2))  # one more: closed
    assert log.lacks == foreign.lacks
    assert log.name == foreign.name
    assert log.ending() == ""


def test_a_log_of_many_segments_is_one_trace(quit_story, logged):
    """Rotation shows in the numbers only."""
    (one,) = Source(logged(quit_story)).vms
    (foreign,) = Source(quit_story).vms
    final = [vm for _, vm in states(one)][-1]
    for file in one._reader.path.parent.glob("*.log*"):
        file.unlink()
    (many,) = Source(logged(quit_story, segment_bytes=300)).vms
    kinds = [record.kind for record in records(many) if record.kind not in ("segment", "closed")]
    assert kinds == [kind for kind, _, _ in foreign.entries()]
    assert [vm for _, vm in states(many)][-1]["process"][0] == final["process"][0]


def test_a_truncated_log_begins_with_its_snapshot(tmp_path, quit_story):
    """Where old segments were deleted, the state goes on from the snapshot."""
    from qemustate.events.snapshots import truncate
    from qemustate.events.writer import LogWriter

    (trace,) = Source(quit_story).vms
    vm = trace.start()
    path = tmp_path / "a.log"
    entries = list(trace.entries())
    with LogWriter(path, vm=trace.name, durability="os") as writer:
        apply(vm, 1, 0, "segment", {"vm": trace.name})
        for kind, time, body in entries[:5]:
            apply(vm, writer.append(kind, body, time), time, kind, body)
        writer.rotate(vm.to_plain(), "some tables")
        for kind, time, body in entries[5:]:
            apply(vm, writer.append(kind, body, time), time, kind, body)
    truncate(path)
    assert not path.exists()
    (cut,) = Source(path).vms
    *_, (_, last) = states(cut)
    assert {**last, "seq": 0} == {**vm.to_plain(), "seq": 0}
    assert last["pid"] is None
    assert last["launch"] is not None


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gz"])
@pytest.mark.parametrize("way", ["stdin", "fifo", "file"])
def test_ways_in(tmp_path, monkeypatch, quit_story, logged, way, compress):
    """A log reads the same from a file, a pipe and standard input, compressed or not."""
    data = compress(logged(quit_story).read_bytes())
    path = tmp_path / "in"
    if way == "stdin":
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        path = "-"
    elif way == "fifo":
        os.mkfifo(path)
        threading.Thread(target=path.write_bytes, args=[data]).start()
    else:
        path.write_bytes(data)
    source = Source(path)
    assert source.format == "qemustate"
    (expected,) = Source(quit_story).vms
    (trace,) = source.vms
    del source
    assert [r.kind for r in records(trace)][1:-1] == [kind for kind, _, _ in expected.entries()]


def test_reading_from_a_number_on(quit_story, logged):
    """From a number on, both kinds of trace yield exactly the records from there."""
    for path in (quit_story, logged(quit_story)):
        (trace,) = Source(path).vms
        whole = list(records(trace))
        for start in range(len(whole) + 2):
            assert list(records(trace, start)) == [record for record in whole if record.seq >= start]


def test_a_vm_is_chosen_by_name(quit_story):
    """A name that no VM bears is refused, with the names there are."""
    source = Source(quit_story)
    assert source.vm("quit") == source.vm(None) == source.vms
    with pytest.raises(BadInput, match="expected a VM named other, saw quit"):
        source.vm("other")


def test_files_of_one_import_are_of_one_format(tmp_path, quit_story):
    """Files of several formats, and logs of ours, are refused."""
    text = tmp_path / "t"
    text.write_bytes(b'{"return": {}}\n')
    with pytest.raises(BadInput, match="expected qmp-jsonl, as the first file, saw qmp-text"):
        open_foreign([str(quit_story), str(text)])


def test_a_log_is_no_foreign_trace(quit_story, logged):
    """A log of ours is not imported."""
    with pytest.raises(BadInput, match="saw a qemustate log"):
        open_foreign([str(logged(quit_story))])


def test_a_damaged_log_yields_what_is_before_the_damage(quit_story, logged):
    """Damage in the middle is raised after every whole record before it."""
    path = logged(quit_story)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    (trace,) = Source(path).vms
    seen = []
    with pytest.raises(LogDamaged):
        seen.extend(record.seq for record in records(trace))
    assert seen == list(range(1, len(seen) + 1))


def test_a_torn_log_says_so_at_its_end(quit_story, logged):
    """A log cut inside a record is read to its last whole one, and the ending says that it is torn."""
    path = logged(quit_story)
    path.write_bytes(path.read_bytes()[:-3])
    (trace,) = Source(path).vms
    count = sum(1 for _ in records(trace))
    assert count > 1
    assert "torn-tail" in trace.ending()


@pytest.fixture
def folder(tmp_path, quit_story, logged):
    """Return a folder with a log in several segments, a rotated trace, one in a folder below, and no traces."""
    where = tmp_path / "folder"
    (where / "below").mkdir(parents=True)
    for file in logged(quit_story, segment_bytes=300).parent.glob("*.log*"):
        file.rename(where / file.name)
    (where / "rotated.qmp.1").write_bytes(b'{"execute": "stop"}\n')
    (where / "rotated.qmp").write_bytes(b'{"return": {}}\n')
    (where / "below" / "other.qmp").write_bytes(b'{"execute": "cont"}\n')
    (where / "notes.txt").write_bytes(b"nothing of ours\n")
    (where / "empty").write_bytes(b"")
    return where


def test_a_directory_holds_traces(folder):
    """Every trace in a directory and below is one of its VMs; parts of a log are one, and other files none."""
    source = Source(folder)
    assert sorted((vm.name, vm.format) for vm in source.vms) == [
        ("other", "qmp-text"),
        ("quit", "qemustate"),
        ("rotated", "qmp-text"),
    ]
    assert source.format == "several"
    (rotated,) = source.vm("rotated")
    assert [record.kind for record in records(rotated)] == ["segment", "command", "reply"]
    assert [trace.name for trace in open_foreign([str(folder)])] == ["other", "rotated"]


def test_rotated_parts_are_put_in_order(folder):
    """The parts of one log are read from the oldest on, in whatever order they are named."""
    (trace,) = open_foreign([str(folder / "rotated.qmp"), str(folder / "rotated.qmp.1")])
    assert [kind for kind, _, _ in trace.entries()] == ["command", "reply"]


def test_a_directory_without_traces_is_refused(folder):
    """A directory that holds no trace, or none to import, is refused by name."""
    (folder / "below" / "other.qmp").unlink()
    with pytest.raises(BadInput, match="expected traces in it, saw 0 files"):
        Source(folder / "below")
    for file in folder.glob("rotated*"):
        file.unlink()
    with pytest.raises(BadInput, match="expected foreign traces, saw logs of our own"):
        open_foreign([str(folder)])
