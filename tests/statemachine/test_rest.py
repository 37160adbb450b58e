"""Exports, descriptors, dumps, and facts that have a value and no state."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qemustate.statemachine.tables import job

NEW = (10, 0, 2)
REFERENCE = Path(__file__).parents[2].parent / "shared" / "reference" / "qemu"


def export(w, name):
    return w.vm.names("export", w.vm.exports[name])


def fd(w, name):
    return w.vm.names("fd", w.vm.fds[name])


def test_an_export_is_gone_with_its_event(wire, q35):
    """block-export-del answered is not gone: BLOCK_EXPORT_DELETED is."""
    w = wire(NEW, q35)
    i = w.send("block-export-add", type="nbd", id="e1", node_name="n1")
    assert export(w, "e1") == ("adding",)
    w.answer(i)
    assert export(w, "e1") == ("present",)
    w.ok("block-export-del", id="e1")
    assert export(w, "e1") == ("removing",)
    w.event("BLOCK_EXPORT_DELETED", id="e1")
    assert export(w, "e1") == ("gone",)
    assert not w.rules


def test_query_block_exports_names_them_all(wire, q35):
    """query-block-exports: who is named is there or going, who is not is gone."""
    w = wire(NEW, q35)
    w.ok("block-export-add", type="nbd", id="e1", node_name="n1")
    w.put("gap", {"why": "somebody else acted"})
    w.ok("query-block-exports", [{"id": "e2", "type": "nbd", "shutting-down": True}])
    assert export(w, "e1") == ("gone",)
    assert export(w, "e2") == ("removing",)


def test_a_named_descriptor_is_used_up_or_outlives_its_client(wire, q35):
    """getfd, then netdev_add takes it; another stays in its monitor when the client leaves; so does a set."""
    w = wire(NEW, q35)
    for name in ("tap0", "tap1", "vh0"):
        w.ok("getfd", fdname=name)
    w.ok("add-fd", {"fdset-id": 3, "fd": 17})
    w.ok("netdev_add", type="tap", id="net0", fds="tap0:x", vhostfds="vh0")
    assert fd(w, "tap0") == fd(w, "vh0") == ("gone",)
    assert fd(w, "tap1") == ("present",)
    w.put("lost", {"by": "us"})
    assert fd(w, "tap1") == ("present",)
    assert fd(w, "/dev/fdset/3") == ("present",)


def test_closefd_and_remove_fd(wire, q35):
    """Closefd takes a name away, remove-fd a whole set, and a closefd of nothing says that there is nothing."""
    w = wire(NEW, q35)
    w.ok("getfd", fdname="a")
    w.ok("closefd", fdname="a")
    assert fd(w, "a") == ("gone",)
    w.ok("add-fd", {"fdset-id": 1, "fd": 9}, fdset_id=1)
    w.ok("remove-fd", fdset_id=1)
    assert fd(w, "/dev/fdset/1") == ("gone",)
    w.refused("closefd", "File descriptor named 'b' not found", fdname="b")
    assert fd(w, "b") == ("gone",)


def test_a_set_that_was_removed_may_stay_for_a_while(wire, q35):
    """Remove-fd while the VM does not run: before 10.0 query-fdsets may name the set for some time to come."""
    w = wire((7, 2, 22), q35)
    w.ok("add-fd", {"fdset-id": 1, "fd": 9}, fdset_id=1)
    w.ok("remove-fd", fdset_id=1)
    w.ok("query-fdsets", [{"fdset-id": 1, "fds": []}])
    assert fd(w, "/dev/fdset/1") == ("gone",)
    assert not w.vm.violations
    w.ok("query-fdsets", [])
    assert fd(w, "/dev/fdset/1") == ("gone",)
    assert not w.vm.violations


def test_a_set_whose_answer_was_lost_may_be_there(wire, q35):
    """Add-fd and remove-fd without an answer: the set is there or not, until query-fdsets tells."""
    w = wire(NEW, q35)
    w.send("add-fd", fdset_id=1)
    w.put("lost", {})
    assert fd(w, "/dev/fdset/1") == ("gone", "present")
    w.ok("query-fdsets", [{"fdset-id": 1, "fds": []}])
    assert fd(w, "/dev/fdset/1") == ("present",)
    w.send("remove-fd", fdset_id=1)
    w.put("lost", {})
    assert fd(w, "/dev/fdset/1") == ("gone", "present")
    w.ok("query-fdsets", [])
    assert fd(w, "/dev/fdset/1") == ("gone",)


def test_a_dump(wire, q35):
    """dump-guest-memory: answered is completed; detached, DUMP_COMPLETED says how it ended."""
    w = wire(NEW, q35)
    dump = lambda: w.vm.names("dump", w.vm.dump)  # noqa: E731
    i = w.send("dump-guest-memory", paging=False, protocol="file:/tmp/d")
    w.answer(i)
    assert dump() == ("completed",)
    w.ok("dump-guest-memory", paging=False, protocol="file:/tmp/d", detach=True)
    assert "active" in dump()
    w.event("DUMP_COMPLETED", result={"total": 1, "status": "failed", "completed": 0}, error="full")
    assert dump() == ("failed",)
    assert w.vm.facts["dump-error"] == {"": "full"}
    w.ok("query-dump", {"status": "none", "completed": 0, "total": 0})
    assert dump() == ("none",)
    w.send("dump-guest-memory", paging=False, protocol="file:/tmp/d")
    assert "dump-error" not in w.vm.facts


@pytest.mark.parametrize(
    ("event", "data", "fact", "subject", "value"),
    [
        ("RTC_CHANGE", {"offset": 78}, "rtc-offset", "", 78),
        ("DEVICE_TRAY_MOVED", {"device": "", "id": "cd0", "tray-open": True}, "tray-open", "cd0", True),
        ("VSERPORT_CHANGE", {"id": "ch0", "open": False}, "port-open", "ch0", False),
        ("PR_MANAGER_STATUS_CHANGED", {"id": "pr0", "connected": True}, "pr-manager-connected", "pr0", True),
        ("VFIO_MIGRATION", {"device-id": "gpu", "device-state": "stop-copy"}, "vfio-migration", "gpu", "stop-copy"),
        ("NETDEV_STREAM_DISCONNECTED", {"netdev-id": "n0"}, "netdev-peer", "n0", None),
    ],
)  # fmt: skip
def test_the_last_value_is_kept(wire, q35, event, data, fact, subject, value):
    """What has a value and no state keeps its last one."""
    w = wire(NEW, q35)
    w.put("event", {"qmp": {"event": event, "data": data, "timestamp": {"seconds": 1, "microseconds": 0}}})

    assert w.vm.to_json()["facts"] == {fact: {subject: value}}


def test_the_balloon_has_a_target_and_a_size(wire, q35):
    """Balloon sets the target; BALLOON_CHANGE and query-balloon tell what is reached."""
    w = wire(NEW, q35)
    w.put("command", {"qmp": {"execute": "balloon", "arguments": {"value": 1 << 28}, "id": "b"}})
    w.answer("b")
    w.event("BALLOON_CHANGE", actual=1 << 29)
    told = w.vm.to_json()

    assert told["facts"]["balloon-target"] == {"": 1 << 28}
    assert told["memory"]["balloon"] == 1 << 29


@pytest.mark.shared
@pytest.mark.skipif(not REFERENCE.exists(), reason="QEMU's extracted tables (../shared/reference) are absent")
def test_verbs_are_qemus():
    """The verbs are JobVerbTable's, in the statuses it lists."""
    told = json.loads((REFERENCE / "job.json").read_text())["verb_table"]

    assert {verb: states.split() for verb, states in job.VERBS.items()} == told["10.0.2"]
    assert told["7.2.22"].items() <= told["10.0.2"].items()


def test_a_refused_command_may_have_used_its_descriptors(wire, q35):
    """Whatever names a descriptor uses it up when done; refused, it may have before; whose answer is lost as well."""
    w = wire(NEW, q35)
    for name in ("a", "b", "c", "d"):
        w.ok("getfd", fdname=name)
    backend = {"type": "socket", "data": {"addr": {"type": "fd", "data": {"str": "a"}}}}
    w.ok("chardev-add", id="c0", backend=backend)
    assert fd(w, "a") == ("gone",)
    w.refused("device_add", "no such thing", id="v0", driver="vhost-vsock-pci", vhostfd="b")
    assert fd(w, "b") == ("gone", "present")
    w.send("netdev_add", type="socket", id="n0", fd="c")
    w.put("lost", {"by": "us", "alone": True})
    assert fd(w, "c") == ("gone", "present")
    assert fd(w, "d") == ("present",)


def test_query_fdsets_names_them_all(wire, q35):
    """query-fdsets: a set that it names is there, one that it does not is not; names of getfd it does not tell."""
    w = wire(NEW, q35)
    w.ok("add-fd", {"fdset-id": 1, "fd": 9}, fdset_id=1)
    w.ok("getfd", fdname="a")
    w.ok("query-fdsets", [{"fdset-id": 2, "fds": []}])
    assert (fd(w, "/dev/fdset/1"), fd(w, "/dev/fdset/2"), fd(w, "a")) == (
        ("gone",),
        ("present",),
        ("present",),
    )
