"""Every rule has a trace that breaks it, and says nothing about a trace that does not."""

from __future__ import annotations

import pytest
from support.machine import Machine

from qemustate.statemachine.evidence import EVENTS, EVIDENCE, UNMOVING
from qemustate.statemachine.rules import RULES

NEW = (10, 0, 2)


def impossible_transition(w):
    w.event("RESUME")
    w.event("RESUME")


def contradicted_by_query(w):
    w.ok("query-status", {"status": "io-error"})


def unreadable(w):
    w.put("event", {"qmp": {"event": "JOB_STATUS_CHANGE", "data": ["no", "object"]}})


def malformed(w):
    w.put("malformed", {"data": b"garbage", "from": "qemu", "error": "invalid keyword 'garbage'"})


def reply_without_command(w):
    w.ok("query-name", {})
    w.answer("nobody")


def command_without_reply(w):
    w.send("query-block")


def duplicate_id(w):
    w.plug("vd1")
    w.refused("device_add", "Duplicate device ID 'vd1'", id="vd1", driver="virtio-blk-pci", bus="rp1")


def operation_overdue(w):
    w.put("begun", {"intent": "unplug", "subject": "vd1", "correlation": "1"})
    w.put("deadline", {"waiting": "unplug vd1", "correlation": "1", "after": 1_000_000})
    w.put("ended", {"intent": "unplug", "subject": "vd1", "correlation": "1", "outcome": "done"})


def operation_left_behind(w):
    left = [["blockdev-del", {"node-name": "n1"}]]
    w.put("begun", {"intent": "plug", "subject": "vd1", "correlation": "1"})
    w.put(
        "ended", {"intent": "plug", "subject": "vd1", "correlation": "1", "outcome": "refused", "left": left}
    )


def operation_unfinished(w):
    w.put("begun", {"intent": "pause", "subject": "", "correlation": "1"})


def stop_unexplained(w):
    w.event("RESUME")
    w.event("STOP")


def unplug_refused(w):
    w.plug("vd1")
    w.ok("device_del", id="vd1")
    w.event("DEVICE_UNPLUG_GUEST_ERROR", device="vd1", path="/machine/peripheral/vd1")


def unplug_lost(w):
    w.plug("vd1")
    w.ok("device_del", id="vd1")
    w.event("DEVICE_DELETED", path="/machine/peripheral/vd1/virtio-backend")


def unplug_pending(w):
    w.plug("vd1")
    w.ok("device_del", id="vd1")


def exit_unannounced(w):
    w.put("lost", {"by": "peer"})


def event_unknown(w):
    w.event("NOVELTY")


def clock_backwards(w):
    w.event("POWERDOWN")
    w.event("POWERDOWN", at=w.clock - 60_000_000)


def monitor_stalled(w):
    w.put("deadline", {"waiting": "stop", "id": w.send("stop"), "after": 1_000_000})


def gap(w):
    w.put("gap", {"why": "disk full", "missing": 3})


def command_unknown(w):
    w.refused("nosuch-cmd", "The command nosuch-cmd has not been found", "CommandNotFound")


def schema_mismatch(w):
    w.ok(
        "query-qmp-schema",
        [
            {"name": "stop", "meta-type": "command", "arg-type": "0", "ret-type": "0", "allow-oob": False},
            {"name": "0", "meta-type": "object", "members": []},
        ],
    )
    w.ok("stop", now=True)


def guest_panicked(w):
    w.event("GUEST_PANICKED", action="pause")


def watchdog_fired(w):
    w.event("WATCHDOG", action="pause")


def io_error(w):
    w.event("BLOCK_IO_ERROR", action="stop", device="", operation="write", reason="No space left on device")


def load_failed(w):
    i = w.send("cont")
    w.event("RESUME")
    w.answer(i)
    i = w.send("snapshot-load", job_id="j", tag="t", vmstate="d", devices=["d"])
    for status in ("created", "running"):
        w.event("JOB_STATUS_CHANGE", id="j", status=status)
    w.answer(i)
    w.event("STOP")
    w.event("JOB_STATUS_CHANGE", id="j", status="aborting")


def use_of_gone(w):
    w.plug("vd1")
    w.event("DEVICE_DELETED", device="vd1", path="/machine/peripheral/vd1")
    w.refused("device_del", "Device 'vd1' not found", "DeviceNotFound", id="vd1")


def slot_reused(w):
    w.plug("vd1")
    w.ok("device_del", id="vd1")
    w.plug("vd2")


def guest_blinking(w):
    w.plug("vd1")
    w.refused("device_del", "Hot-unplug failed: guest is busy (power indicator blinking)", id="vd1")


def unplug_overdue(w):
    unplug_pending(w)
    w.clock += 60_000_000
    w.event("POWERDOWN")


def backend_under_frontend(w):
    w.ok("netdev_add", type="user", id="net0")
    w.plug("nic", "virtio-net-pci", netdev="net0")
    w.ok("netdev_del", id="net0")


def backend_in_use(w):
    w.ok("blockdev-add", node_name="n1", driver="null-co")
    w.plug("vd1", drive="n1")
    w.refused("blockdev-del", "Node n1 is in use", node_name="n1")


def id_in_flight(w):
    for _ in range(2):
        w.put("command", {"qmp": {"execute": "query-status", "id": "same"}})


def backend_leaked(w):
    w.ok("blockdev-add", node_name="n1", driver="null-co")
    w.plug("vd1", drive="n1")
    w.event("DEVICE_DELETED", device="vd1", path="/machine/peripheral/vd1")


def job_failed(w):
    job_left_concluded(w)
    w.event(
        "BLOCK_JOB_COMPLETED",
        device="j",
        type="mirror",
        error="No space left on device",
        len=1,
        offset=0,
        speed=0,
    )


def job_at_its_end(w, seconds=10):
    job = {"id": "j", "type": "mirror", "status": "running", "current-progress": 8, "total-progress": 8}
    w.event("JOB_STATUS_CHANGE", id="j", status="created")
    w.event("JOB_STATUS_CHANGE", id="j", status="running")
    w.ok("query-jobs", [job])
    w.clock += seconds * 1_000_000
    w.event("JOB_STATUS_CHANGE", id="j", status="ready")


def job_verb(w):
    w.event("JOB_STATUS_CHANGE", id="j", status="created")
    w.refused("job-complete", "Job 'j' in state 'created' cannot accept command verb 'complete'", id="j")


def job_left_concluded(w):
    for status in ("created", "running", "waiting", "pending", "concluded"):
        w.event("JOB_STATUS_CHANGE", id="j", status=status)


def migration_failed(w):
    w.ok("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
    i = w.send("migrate", uri="tcp:nowhere")
    w.event("MIGRATION", status="setup")
    w.answer(i)
    w.event("MIGRATION", status="failed")


def memory_short(w):
    w.ok("qom-set", path="/machine/peripheral/vm0", property="requested-size", value=1 << 30)
    w.event("MEMORY_DEVICE_SIZE_CHANGE", id="vm0", size=1 << 20, qom_path="/machine/peripheral/vm0")


BREAKS = {
    f.__name__.replace("_", "-"): f
    for f in (
        impossible_transition, contradicted_by_query, unreadable, malformed, reply_without_command, command_without_reply,
        command_unknown, schema_mismatch, event_unknown, clock_backwards, monitor_stalled, gap, operation_overdue,
        operation_left_behind, operation_unfinished, stop_unexplained,
        exit_unannounced, guest_panicked, watchdog_fired, io_error, load_failed, duplicate_id, use_of_gone, slot_reused,
        guest_blinking, unplug_refused, unplug_lost, unplug_pending, unplug_overdue, backend_under_frontend,
        backend_in_use, id_in_flight, backend_leaked, job_at_its_end, job_failed, job_left_concluded, job_verb, migration_failed, memory_short,
    )
}  # fmt: skip


def test_every_rule_has_a_trace_that_breaks_it():
    """No rule is without its breach, and no breach without its rule."""
    assert BREAKS.keys() == RULES.keys()


@pytest.mark.parametrize("rule", RULES)
def test_the_breach_is_found(wire, q35, rule):
    """The trace that breaks a rule gives a finding of that rule, with its severity and the record it rests on."""
    w = wire(NEW, q35)
    BREAKS[rule](w)
    w.checker.close()
    found = [f for f in w.checker.findings if f.rule == rule]

    assert found
    assert found[0].severity == RULES[rule].severity
    assert 1 <= found[0].seq <= len(w.records)
    assert found[0].message


@pytest.mark.parametrize("rule", [r.name for r in RULES.values() if r.needs])
def test_a_rule_whose_needs_are_lacking_is_not_checked(wire, q35, rule):
    """What a trace cannot show is never a breach: the rule is named as not checked, with what it would need."""
    for need in RULES[rule].needs:
        w = wire(NEW, q35, lacks=[need])
        BREAKS[rule](w)
        w.checker.close()

        assert rule not in w.rules
        assert {"rule": rule, "needs": [need]} in w.checker.not_checked


def test_an_orderly_life_breaks_no_rule(wire, q35):
    """Launch, plug, unplug, quit: nothing to complain of."""
    w = wire(NEW, q35)
    i = w.send("cont")
    w.event("RESUME")
    w.answer(i)
    w.plug("vd1")
    w.ok("device_del", id="vd1")
    w.event("DEVICE_DELETED", device="vd1", path="/machine/peripheral/vd1")
    i = w.send("quit")
    w.event("SHUTDOWN", guest=False, reason="host-qmp-quit")
    w.answer(i)
    w.put("lost", {"by": "peer"})
    w.put("exited", {"status": 0})
    w.checker.close()

    assert w.rules == []


def test_a_mirror_that_is_done_may_have_moved_the_device(wire, q35):
    """After a completed mirror the old node can go: the device may be on the new one."""
    w = wire(NEW, q35)
    w.ok("blockdev-add", node_name="n1", driver="null-co")
    w.plug("vd1", drive="n1")
    w.event("BLOCK_JOB_COMPLETED", device="j", type="mirror", len=1, offset=1, speed=0)
    w.ok("blockdev-del", node_name="n1")

    assert "backend-under-frontend" not in w.rules


def test_the_reply_of_a_client_that_left_is_no_breach(wire, q35):
    """Right after the greeting an answer may be the previous client's."""
    w = wire(NEW)
    w.put(
        "greeting",
        {"qmp": {"QMP": {"version": {"qemu": {"major": 10, "minor": 0, "micro": 2}}, "capabilities": []}}},
    )
    w.answer("somebody else's")

    assert w.rules == []


def test_every_event_of_the_installed_qemu_is_known(qemu, tmp_path):
    """No event in the schema of an installed QEMU is unknown to the rules."""
    with Machine(qemu, tmp_path) as machine:
        schema = machine.qmp.ok("query-qmp-schema")

    assert {e["name"] for e in schema if e["meta-type"] == "event"} <= EVENTS


def test_every_command_of_the_installed_qemu_is_evidence_or_says_why_not(qemu, tmp_path):
    """No command in the schema of an installed QEMU is unmapped: it moves a machine, or a reason says why it moves none."""
    with Machine(qemu, tmp_path) as machine:
        schema = machine.qmp.ok("query-qmp-schema")
    commands = {e["name"] for e in schema if e["meta-type"] == "command"}
    mapped = {row.seen.split(" ", 1)[1] for row in EVIDENCE if " " in row.seen} | UNMOVING.keys()

    assert {c for c in commands - mapped if not c.startswith(("query-", "x-query-"))} == set()


@pytest.mark.parametrize("seconds", [9, 10])
def test_a_job_may_be_at_its_end_for_a_moment(wire, q35, seconds):
    """A job with nothing left to do is not stuck as long as it moves on within ten seconds."""
    w = wire(NEW, q35)
    job_at_its_end(w, seconds)
    assert [it.rule for it in w.checker.findings] == ["job-at-its-end"] * (seconds >= 10)


def test_a_job_left_at_its_end_is_told(wire, q35):
    """What is not heard of again is told at the trace's end, of the record that reported it."""
    w = wire(NEW, q35)
    job_at_its_end(w, 0)
    w.ok("query-block-jobs", [{"device": "k", "type": "backup", "status": "running", "len": 4, "offset": 4}])
    reported = w.vm.seq
    w.clock += 75_000_000
    w.event("POWERDOWN")
    w.checker.close()
    (it,) = [it for it in w.checker.findings if it.rule == "job-at-its-end"]
    assert (it.seq, it.subject) == (reported, "k")
    assert it.message.endswith(f"at record {reported}, and not heard of again 01:15 later")


def test_a_masked_time_is_no_time(wire, q35):
    """A stamp that is no number, as in the outputs of QEMU's own tests, is not compared with other times."""
    w = wire(NEW, q35)
    w.put("event", {"qmp": {"event": "POWERDOWN", "timestamp": {"seconds": "SECS", "microseconds": "USECS"}}})
    assert "clock" not in w.checker.memory
    assert w.checker.findings == []


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), "SECS", None, [], 10**400])
def test_a_stamp_of_any_kind_is_no_fault(wire, q35, seconds):
    """Events that QEMU may hold back look at its clock, which a broken trace may show as anything."""
    w = wire(NEW, q35)
    stamp = {"seconds": seconds, "microseconds": 0}
    for name, data in (
        ("WATCHDOG", {"action": "pause"}),
        ("STOP", {}),
        ("RESUME", {}),
        ("BLOCK_IO_ERROR", {}),
    ):
        w.put("event", {"qmp": {"event": name, "data": data, "timestamp": stamp}})
    assert "unreadable" not in w.rules
