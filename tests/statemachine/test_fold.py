"""The fold: one record at a time, and the same from a snapshot on."""

from __future__ import annotations

import json

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from qemustate.events.records import Record
from qemustate.statemachine import fold, reading
from qemustate.statemachine.checker import Checker
from qemustate.statemachine.state import VM

IDS = ["vd1", "vd2", "cpu1"]


def traffic():
    """Any traffic at all, legal or not: what the fold must survive."""
    data = st.fixed_dictionaries(
        {},
        optional={
            "id": st.sampled_from(IDS), "device": st.sampled_from([*IDS, "j1"]), "action": st.sampled_from(["pause", "stop", "none"]),
            "status": st.sampled_from(["setup", "active", "completed", "created", "running", "null", "nonsense"]),
            "path": st.sampled_from(["/machine/peripheral/vd1", "/machine/peripheral/vd1/virtio-backend", "/machine/peripheral-anon/device[0]", "/x"]),
            "reason": st.sampled_from(["host-qmp-quit", "guest-reset", "guest-shutdown"]), "driver": st.sampled_from(["virtio-blk-pci", "usb-tablet"]),
            "info": st.just({"device": "vd1", "source": 3, "status": 130}), "command-line": st.sampled_from(["stop", "savevm x", "foo"]),
        },
    )  # fmt: skip
    events = st.builds(
        lambda name, data, at: ("event", {"qmp": {"event": name, "data": data, "timestamp": {"seconds": at, "microseconds": 0}}}),
        st.sampled_from([*reading.EVENTS, "NOVEL"]), data, st.integers(0, 9),
    )  # fmt: skip
    numbers = st.integers(1, 6).map(str)
    commands = st.builds(
        lambda name, data, i: ("command", {"qmp": {"execute": name, "arguments": data, "id": i}}),
        st.sampled_from([*reading.COMMANDS, "query-block"]), data, numbers,
    )  # fmt: skip
    value = st.sampled_from(
        [
            {},
            [],
            "",
            7,
            None,
            {"status": "paused"},
            [{"name": "vd1", "type": "child<x>"}],
            [{"id": "j1", "status": "ready"}],
        ]
    )
    replies = st.builds(lambda v, i: ("reply", {"qmp": {"return": v, "id": i}}), value, numbers)
    failures = st.builds(
        lambda d, i: ("failure", {"qmp": {"error": {"class": "GenericError", "desc": d}, "id": i}}),
        st.sampled_from(["Duplicate device ID 'vd1'", "guest is busy", "no"]), numbers,
    )  # fmt: skip
    ours = st.sampled_from(
        [
            ("spawned", {"argv": ["qemu", "-S", "-device", "virtio-blk-pci,id=vd2"]}), ("opened", {"first": True}), ("opened", {}),
            ("lost", {"by": "peer"}), ("lost", {"by": "us"}), ("exited", {"status": 0}), ("gap", {"why": "x"}), ("held", {}),
            ("deadline", {"waiting": "stop", "id": "1", "after": 5}), ("begun", {"intent": "plug", "subject": "vd1"}),
            ("ended", {"intent": "plug", "subject": "vd1"}), ("opened", {"alone": True}),
            ("begun", {"intent": "plug", "subject": "vd1", "correlation": "1", "steps": [["device_add", {"id": "vd1"}, None]]}),
            ("deadline", {"waiting": "plug", "correlation": "1", "after": 5}),
            ("ended", {"intent": "plug", "subject": "vd1", "correlation": "1", "outcome": "done"}),
            ("ended", {"intent": "unplug", "subject": "vd1", "correlation": "1", "outcome": "done"}),
            ("helper", {"name": "virtiofsd", "pid": 7, "start": 7}), ("helper", {"name": "virtiofsd", "gone": True}), ("note", {"text": "x"}), ("novel-kind", {}),
            ("greeting", {"qmp": {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 22}}, "capabilities": []}}}),
        ]
    )  # fmt: skip
    return st.lists(st.one_of(events, commands, replies, failures, ours), max_size=40)


def numbered(entries):
    return [Record(i, 1_700_000_000_000_000 + i, kind, body) for i, (kind, body) in enumerate(entries, 1)]


@settings(deadline=None, max_examples=150)
@given(traffic())
def test_no_belief_is_ever_empty(entries):
    """Whatever the traffic, every machine is believed to be somewhere."""
    vm = VM()
    for record in numbered(entries):
        fold.apply(vm, record.seq, record.time, record.kind, record.body)
        for machine in ("process", "monitor", "runstate", "migration"):
            assert vm.names(machine, getattr(vm, machine))
        assert all(vm.names("device", d) for d in vm.devices.values())
        assert all(vm.names("job", j) for j in vm.jobs.values())
        json.dumps(vm.to_json())


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.sampled_from([*IDS, "paused", "created", "/machine/peripheral"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "status", "path", "device", "info", "action", "data", "class", "desc"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


def shapeless():
    """QMP messages whose members are anything at all."""

    def message(kind, name, members):
        if kind == "event":
            return kind, {"qmp": {**members, "event": name}}
        if kind == "command":
            return kind, {"qmp": {**members, "execute": name}}
        return kind, {
            "qmp": {
                **members,
                {"reply": "return", "failure": "error", "greeting": "QMP"}[kind]: members.get("return"),
            }
        }

    names = st.one_of(JSON, st.sampled_from([*reading.EVENTS, *reading.COMMANDS]))
    members = st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("id", "data", "arguments", "return", "error", "timestamp"), JSON)
    )
    return st.lists(
        st.builds(
            message, st.sampled_from(["event", "command", "reply", "failure", "greeting"]), names, members
        ),
        max_size=12,
    )


@settings(deadline=None, max_examples=300)
@given(shapeless())
def test_any_json_can_be_folded(entries):
    """Messages of any shape are folded, live and in replay alike, and the rules say what could not be read."""
    checker = Checker()
    for record in numbered(entries):
        checker.see(record.seq, record.time, record.kind, record.body)
    checker.close()
    items = [[r.seq, r.time, r.kind, r.body, 0] for r in numbered(entries)]

    assert fold.fold_batches([items]).to_plain() == checker.vm.to_plain()
    json.dumps(checker.vm.to_json())


@settings(deadline=None, max_examples=100)
@given(traffic(), st.data())
def test_a_snapshot_is_a_place_to_start_from(entries, data):
    """The fold of a prefix, its snapshot written and read back, and the fold of the rest are the fold of the whole."""
    records = numbered(entries)
    cut = data.draw(st.integers(0, len(records)))
    whole = fold.fold(records)

    halfway = fold.fold(records[:cut])
    resumed = VM.from_plain(msgspec.json.decode(msgspec.json.encode(halfway.to_plain())))

    assert fold.fold(records[cut:], resumed).to_plain() == whole.to_plain()


def test_a_snapshot_of_other_tables_is_not_believed():
    """A state kept with other tables is where it was in the log, and knows nothing."""
    vm = fold.fold(numbered([("spawned", {"argv": ["qemu", "-S"]}), ("opened", {"first": True})]))
    resumed = VM.from_plain({**vm.to_plain(), "tables": "others"})
    fold.apply(resumed, 3, 0, "event", {"qmp": {"event": "POWERDOWN"}})
    fold.apply(resumed, 4, 0, "event", {"qmp": {"event": "RESET"}})

    assert resumed.names("runstate", vm.runstate) == ("prelaunch",)
    assert len(resumed.names("runstate", resumed.runstate)) > 1


def test_the_plain_form_is_plain():
    """A snapshot holds nothing but what JSON and msgpack can keep."""
    vm = fold.fold(numbered([("spawned", {"argv": ["qemu", "-S", "-device", "virtio-blk-pci,id=vd1"]})]))

    assert json.loads(json.dumps(vm.to_plain())) == vm.to_plain()


def test_an_id_may_be_any_json_value(wire, q35):
    """Ids that cannot be dictionary keys match their answers all the same."""
    w = wire((10, 0, 2), q35)
    for identifier in ([1, {"a": 2}], {"x": None}, 7, 7.5, True):
        w.put("command", {"qmp": {"execute": "query-status", "id": identifier}})
        assert len(w.vm.pending) == 1
        w.put("reply", {"qmp": {"return": {"status": "prelaunch"}, "id": identifier}})
        assert not w.vm.pending
    assert not w.rules


def test_commands_without_an_id_are_answered_in_order(wire, q35):
    """Without ids the oldest command is the one that is answered."""
    w = wire((10, 0, 2), q35)
    w.put("command", {"qmp": {"execute": "query-block"}})
    w.put("command", {"qmp": {"execute": "query-status"}})
    w.put("reply", {"qmp": {"return": []}})
    w.put("reply", {"qmp": {"return": {"status": "paused"}}})

    assert w.runstate == ("paused",)
    assert not w.vm.pending


def test_the_answer_of_a_lost_monitor_settles_what_was_unknown(wire, q35):
    """An answer that goes to the next client is that command's all the same."""
    w = wire((10, 0, 2), q35)
    i = w.send("blockdev-add", node_name="n1", driver="null-co")
    w.put("lost", {"by": "us"})
    assert w.vm.names("node", w.vm.nodes["n1"]) == ("gone", "present")
    assert [p["command"] for p in w.vm.to_json()["pending"]] == ["blockdev-add"]
    w.put("opened", {})
    w.answer(i)

    assert w.vm.names("node", w.vm.nodes["n1"]) == ("present",)
    assert w.vm.to_json()["pending"] == []


def test_a_deadline_makes_the_monitor_stalled_with_age_and_command(wire, q35):
    """An overdue command: stalled, behind which command and for how long; an answer ends it."""
    w = wire((10, 0, 2), q35)
    i = w.send("query-block")
    w.put("deadline", {"waiting": "query-block", "id": i, "after": 2_000_000})
    told = w.vm.to_json()["monitor"]
    assert told["is"] == "stalled"
    assert told["stalled"] == {"after": 2_000_000, "command": "query-block", "seq": w.vm.pending[i][0]}
    w.answer(i, [])

    assert w.vm.to_json()["monitor"]["is"] == "ready"
    assert "stalled" not in w.vm.to_json()["monitor"]


def test_jobs_follow_their_events(wire, q35):
    """A job's status is its event's; type and error are kept; query-jobs that names it no more says it is gone."""
    w = wire((10, 0, 2), q35)
    i = w.send("blockdev-mirror", job_id="j", device="n1", target="n2", sync="full")
    for status in ("created", "running"):
        w.event("JOB_STATUS_CHANGE", id="j", status=status)
    w.answer(i)
    for status in ("ready", "aborting"):
        w.event("JOB_STATUS_CHANGE", id="j", status=status)
    w.event(
        "BLOCK_JOB_COMPLETED",
        device="j",
        type="mirror",
        error="No space left on device",
        len=1,
        offset=0,
        speed=0,
    )
    w.event("JOB_STATUS_CHANGE", id="j", status="concluded")
    assert w.job("j") == ("concluded",)
    assert w.vm.to_json()["jobs"]["j"]["type"] == "mirror"
    assert w.vm.to_json()["jobs"]["j"]["error"] == "No space left on device"
    w.event("JOB_STATUS_CHANGE", id="j", status="null")
    assert w.rules == ["job-failed"]
    w.event("JOB_STATUS_CHANGE", id="j", status="ready")
    assert w.rules == ["job-failed", "impossible-transition"]
