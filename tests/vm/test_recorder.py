"""Facts into the log, then into the state: and both always tell the same."""

import gc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qemustate.errors import RecordingFailed
from qemustate.events.reader import LogReader
from qemustate.events.recovery import verify
from qemustate.events.snapshots import truncate
from qemustate.events.writer import LogWriter, WriterState
from qemustate.qmp.connection import Connection, Malformed
from qemustate.replay.source import Source
from qemustate.statemachine.fold import fold
from qemustate.statemachine.tables import HASH
from qemustate.vm import recorder as recorder_module
from qemustate.vm.recorder import Recorder, Scribe, open_recorder

STORIES = sorted((Path(__file__).parent.parent / "stories" / "7.2").glob("*.jsonl.xz"))


def follow(recorder, entries, replayed):
    """Record entries in the batches they come in; hold the live state to the replayed one after every record."""
    live = {}
    for batch in entries:
        recorder._take([(kind, body, time) for kind, time, body in batch])
        live[recorder.vm.seq] = recorder.vm.to_plain()
    recorder.close()
    live[recorder.vm.seq] = recorder.vm.to_plain()
    told = replayed(recorder.writer.path)
    assert live == {seq: told[seq] for seq in live}
    assert recorder.vm.seq == max(told)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name.split(".")[0])
def test_live_and_replayed_are_equal_after_every_record(tmp_path, story, replayed):
    """A recorded VM, its messages recorded one after another: each state is the one a replay gives."""
    entries = list(Source(story).vms[0].entries())
    follow(open_recorder(tmp_path / "log"), ([entry] for entry in entries), replayed)


@given(data=st.data())
@settings(deadline=None, max_examples=25)
def test_neither_batches_nor_segments_nor_reopening_make_a_difference(tmp_path_factory, data, replayed):
    """Live and replayed are equal however messages are batched, wherever segments end, whenever the log is opened again."""
    story = data.draw(st.sampled_from(STORIES[:8]))
    entries = list(Source(story).vms[0].entries())
    path = tmp_path_factory.mktemp("log") / "log"
    size = data.draw(st.integers(500, 5000))
    while entries:
        live = Recorder(LogWriter(path, segment_bytes=size), fold(LogReader(path)))
        batches = []
        for length in data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=20)):
            batches.append(entries[:length])
            del entries[:length]
        follow(live, filter(None, batches), replayed)
    assert verify(path).sound


def server_messages():
    """Return what a QEMU says in the beginning, and the command before it, as messages."""
    qemu, client = Connection("server"), Connection("client")
    greeting = client.receive_data(qemu.greet((7, 2, 22))[1])
    command, _ = client.negotiate()
    reply = client.receive_data(qemu.reply(command)[1])
    return greeting, command, reply, client, qemu


def test_messages_become_records_in_their_order(recorder, kinds_of):
    """Messages of one call are recorded in order, damage among them, with one state at the end."""
    greeting, command, reply, client, qemu = server_messages()
    event = client.receive_data(qemu.event("STOP", time=1_000_000)[1])
    recorder.record("opened", {"first": True})
    recorder.messages([*greeting, command, *reply, Malformed(b"{,", 0, "expecting value"), *event])
    recorder.messages([])
    assert recorder.vm.to_json()["monitor"]["is"] == "ready"
    assert kinds_of(recorder.writer.path) == [
        "segment", "opened", "greeting", "command", "reply", "malformed", "event",
    ]  # fmt: skip


def test_secrets_are_not_written(recorder):
    """A secret in a command, and in bytes that are no command at all, is in no file."""
    _, _, _, client, _ = server_messages()
    command, _ = client.command("set_password", {"protocol": "vnc", "password": "geheim"})
    recorder.messages([command])
    damaged = Malformed(b'{"execute": "set_password", "arguments": {"password": "geheim"', 0, "cut off")
    recorder.relayed([command, damaged], sender="client")
    assert b"geheim" not in recorder.writer.path.read_bytes()
    assert b"***" in recorder.writer.path.read_bytes()


def test_an_unkeepable_record_is_a_gap_among_the_others(recorder, replayed):
    """One record that cannot be kept leaves a gap with the reason; those around it are there."""
    note = ("note", {"text": "kept"}, 1)
    recorder._take([note, ("note", {"text": 1 << 70}, 2), note])
    records = list(LogReader(recorder.writer.path))
    assert [record.kind for record in records] == ["segment", "note", "gap", "note"]
    assert records[2].body["missing"] == 1
    assert "cannot be kept" in records[2].body["why"]
    assert recorder.vm.to_plain() == replayed(recorder.writer.path)[4]


def test_a_full_disk_does_not_stop_the_vm(small_disk, filled, replayed):
    """On a full disk the state goes on; what may change something is refused; what was lost is a gap later."""
    told = []
    recorder = open_recorder(small_disk / "log", on_state=lambda writer: told.append(writer.state))
    greeting, command, reply, client, qemu = server_messages()
    recorder.record("opened", {"first": True})
    recorder.messages([*greeting, command, *reply])
    filler = filled(small_disk)
    stop = client.receive_data(qemu.event("STOP", time=1_000_000)[1])
    while recorder.writer.state is WriterState.OPEN:
        recorder.messages(stop)
    lost = recorder.writer.missing
    seq = recorder.vm.seq
    added, _ = client.command("device_add", {"driver": "e1000", "id": "n1"})
    with pytest.raises(RecordingFailed, match="No space left on device"):
        recorder.messages([added])
    for name in ("query-status", "quit"):
        recorder.messages([client.command(name)[0]])
    recorder.messages(
        client.receive_data(qemu.event("SHUTDOWN", {"guest": False, "reason": "host-qmp-quit"}, time=2)[1])
    )
    assert recorder.vm.seq == seq
    assert recorder.vm.to_json()["devices"] == {}
    assert [it["command"] for it in recorder.vm.to_json()["pending"]] == ["query-status", "quit"]
    assert recorder.writer.missing == lost + 3
    filler.unlink()
    recorder.messages([added])
    recorder.close()
    assert told == [WriterState.FAILED, WriterState.OPEN]
    gap, after = [record for record in LogReader(small_disk / "log") if record.seq > seq][:2]
    assert (gap.kind, gap.body["missing"], after.kind) == ("gap", lost + 3, "command")
    assert recorder.vm.to_plain() == replayed(small_disk / "log")[recorder.vm.seq]
    assert verify(small_disk / "log").sound


def test_a_log_that_stays_unwritable_closes_quietly(tmp_path, monkeypatch):
    """Where nothing could be written to the end, closing raises nothing and the state is the live one."""
    recorder = open_recorder(tmp_path / "log")

    def refuse(_fd, _data):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("qemustate.events.writer.os.write", refuse)
        recorder.record("spawned", {"argv": ["qemu-system-x86_64"], "pid": 77})
        recorder.close()
    assert recorder.vm.pid == 77


def test_a_log_is_gone_on_with(tmp_path, replayed):
    """Opened again, a log's state is where it was, and its name; numbers go on."""
    first = open_recorder(tmp_path / "log", vm="web")
    first.record("spawned", {"argv": ["qemu-system-x86_64", "-S"], "pid": 5})
    first.close()
    second = open_recorder(tmp_path / "log")
    assert second.vm.to_plain() == first.vm.to_plain()
    assert second.vm.name == "web"
    second.record("exited", {"status": 0})
    second.close()
    assert second.vm.to_plain() == replayed(tmp_path / "log")[second.vm.seq]


def test_a_damaged_log_is_let_go_of(tmp_path):
    """A log that cannot be read is refused, and not left locked."""
    open_recorder(tmp_path / "log").close()
    path = tmp_path / "log"
    path.write_bytes(b"noise" + path.read_bytes())
    for _ in range(2):
        with pytest.raises(Exception, match="not-a-log"):
            open_recorder(path)
    gc.collect()


def test_a_scribe_only_writes(tmp_path, monkeypatch, kinds_of):
    """Without a state there is no fold between a message and its going on."""
    monkeypatch.setattr(recorder_module, "apply", None)
    greeting, command, reply, _, _ = server_messages()
    scribe = Scribe(LogWriter(tmp_path / "log"))
    scribe.relayed([*greeting, command, *reply], sender="qemu")
    scribe.close()
    assert kinds_of(tmp_path / "log") == ["segment", "greeting", "command", "reply", "closed"]


def test_a_log_without_its_first_segments_is_folded_from_its_snapshot(tmp_path):
    """What was deleted at a snapshot is in the snapshot: the state is the same as before."""
    recorder = open_recorder(tmp_path / "log")
    recorder.record("spawned", {"argv": ["qemu-system-x86_64", "-M", "q35", "-S"], "pid": 7})
    recorder.record(
        "begun", {"intent": "pause", "correlation": "c", "subject": "", "steps": [["stop", {}, None]]}
    )
    recorder.writer.rotate(recorder.vm.to_plain(), HASH)
    recorder.record("note", {"text": "after"})
    recorder.close()
    assert truncate(tmp_path / "log") == [tmp_path / "log"]

    again = open_recorder(tmp_path / "log")

    assert (again.vm.pid, again.vm.seq, list(again.vm.intents)) == (7, recorder.vm.seq, ["c"])
    again.close()
