"""One log, several processes: what is true of one QEMU is not of the next."""

from __future__ import annotations

import pytest

from qemustate.statemachine.state import VM

BLANK = [{"name": "type", "type": "string"}]


def lived(wire, argv):
    """A VM with something of everything: a device, backends, a job, a fact, a command without its answer."""
    w = wire((10, 0, 2), argv)
    w.ok("blockdev-add", node_name="n1", driver="null-co")
    w.ok("object-add", id="o1", qom_type="iothread")
    w.plug("vd1", drive="n1")
    w.ok("block-export-add", id="e1", type="nbd", node_name="n1")
    w.ok("getfd", fdname="f1")
    w.ok("balloon", value=1)
    w.event("JOB_STATUS_CHANGE", id="j1", status="created")
    w.event("RTC_CHANGE", offset=5)
    w.event("MEMORY_DEVICE_SIZE_CHANGE", id="vm0", size=7, qom_path="/machine/peripheral/vm0")
    w.send("device_del", id="vd1")
    return w


def test_a_new_process_has_nothing_of_the_old_one(wire, q35):
    """After exit and a new start, qom-list and query-jobs of the new QEMU contradict nothing, and only its own is known."""
    w = lived(wire, q35)
    w.put("exited", {"status": 0})
    w.put("spawned", {"argv": q35})
    fresh = VM()
    fresh.seq, fresh.time = w.vm.seq, w.vm.time

    assert set(w.vm.devices) == {"rp0", "rp1"}
    assert w.runstate == ("prelaunch",)
    for name in ("jobs", "nodes", "objects", "exports", "fds", "facts", "memory", "pending", "unanswered"):
        assert getattr(w.vm, name) == getattr(fresh, name), name
    assert w.vm.exit is None

    w.put("opened", {"first": True})
    w.ok("query-jobs", [])
    w.ok(
        "qom-list",
        [*BLANK, *({"name": n, "type": "child<x>"} for n in ("rp0", "rp1"))],
        path="/machine/peripheral",
    )
    w.plug("vd1")

    assert w.vm.devices["vd1"].generation == 1
    assert "contradicted-by-query" not in w.rules


def test_an_exit_that_was_not_seen_is_an_end_all_the_same(wire, q35):
    """A start tells of a new process even where no exit was told."""
    w = lived(wire, q35)
    w.put("spawned", {"argv": q35})

    assert "vd1" not in w.vm.devices
    assert w.vm.names("process", w.vm.process) == ("running",)


def test_the_rules_look_at_the_end_of_each_process(wire, q35):
    """What a process left unanswered is found when the next one starts, and told once."""
    w = lived(wire, q35)
    w.put("exited", {"status": 0})
    w.put("spawned", {"argv": q35})
    w.checker.close()

    assert w.rules.count("command-without-reply") == 1


@pytest.mark.parametrize(
    ("first", "second", "another"),
    [({"pid": 5}, {"pid": 5}, False), ({}, {"pid": 5}, False), ({"pid": 5}, {}, False), ({"pid": 5}, {"pid": 6}, True)],
)  # fmt: skip
def test_a_process_told_of_late_may_be_the_one_there_was(wire, q35, first, second, another):
    """Who comes to a running QEMU may find the one the log knows: its devices may still be there, or anything else."""
    w = wire()
    w.put("spawned", {"argv": q35, **first})
    w.plug("vd1")
    w.put("spawned", {"argv": q35, "late": True, **second})

    assert ("vd1" not in w.vm.devices) is another
    if not another:
        assert w.device("vd1") == ("gone", "present", "unplugging")
    assert len(w.runstate) > 1


def test_a_process_told_of_late_after_an_exit_is_another(wire, q35):
    """One that has exited is not the one that is found running: nothing is known of that."""
    w = lived(wire, q35)
    w.put("exited", {"status": 0})
    w.put("spawned", {"late": True})
    w.ok("qom-list", [*BLANK, {"name": "vd7", "type": "child<x>"}], path="/machine/peripheral")

    assert w.device("vd7") == ("present", "unplugging")
    assert set(w.vm.devices) == {"vd7"}
    assert "contradicted-by-query" not in w.rules


PLUG = {
    "intent": "plug",
    "correlation": "mine",
    "subject": "d0",
    "steps": [
        ["blockdev-add", {"node-name": "n", "driver": "null-co"}, ["blockdev-del", {"node-name": "n"}]],
        ["device_add", {"id": "d0", "driver": "scsi-hd"}, ["device_del", {"id": "d0"}]],
    ],
}


def test_how_far_an_intent_has_come(wire, q35):
    """The log tells which steps of an intent were sent, and which were done; a refused one is as if it had not been sent."""
    w = wire((10, 0, 2), q35)

    def steps():
        return w.vm.intents["mine"]["sent"], w.vm.intents["mine"]["answered"]

    w.put("begun", PLUG)
    assert steps() == (0, 0)
    w.ok("query-status", {"status": "prelaunch"})
    w.refused("blockdev-add", "not now", node_name="n", driver="null-co")
    assert steps() == (0, 0)
    w.ok("blockdev-add", node_name="other", driver="null-co")
    assert steps() == (0, 0)
    identifier = w.send("blockdev-add", node_name="n", driver="null-co")
    assert steps() == (1, 0)
    w.answer(identifier)
    assert steps() == (1, 1)
    identifier = w.send("device_add", id="d0", driver="scsi-hd")
    w.put("lost", {"by": "us", "alone": True})
    assert steps() == (2, 1)
    w.answer(identifier)  # to the next client
    assert steps() == (2, 2)


def test_a_step_that_is_refused_when_it_is_sent_again_may_have_been_done(wire, q35):
    """A step whose answer was lost is sent again, and refused because it was done: it counts as sent, and the next one is counted."""
    w = wire((10, 0, 2), q35)

    def steps():
        return w.vm.intents["mine"]["sent"], w.vm.intents["mine"]["answered"]

    w.put("begun", PLUG)
    w.send("blockdev-add", node_name="n", driver="null-co")
    w.put("lost", {"by": "us", "alone": True})
    w.refused("blockdev-add", "Duplicate nodes with node-name='n'", node_name="n", driver="null-co")
    assert steps() == (1, 0)
    w.ok("device_add", id="d0", driver="scsi-hd")
    assert steps() == (2, 2)


def test_only_a_device_is_planned(wire, q35):
    """An intent to plug backends alone plans no device of that name."""
    w = wire((10, 0, 2), q35)
    w.put("begun", {**PLUG, "subject": "n", "steps": PLUG["steps"][:1]})
    assert "n" not in w.vm.devices
    w.put("begun", {**PLUG, "correlation": "other"})
    assert w.device("d0") == ("planned",)


def test_the_same_step_of_several_intents(wire, q35):
    """The same command sent for two intents is a step of each."""
    w = wire((10, 0, 2), q35)
    for name in ("one", "two"):
        w.put(
            "begun", {"intent": "resume", "correlation": name, "subject": "", "steps": [["cont", {}, None]]}
        )
    for identifier in [w.send("cont"), w.send("cont")]:
        w.answer(identifier)
    assert [w.vm.intents[name]["answered"] for name in ("one", "two")] == [1, 1]
