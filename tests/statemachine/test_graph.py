"""Which node a disk is on, and the nodes that come and go with others."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.verdict import stories

from qemustate.replay.source import Source, records
from qemustate.statemachine.fold import apply
from qemustate.statemachine.state import VM

STORIES = Path(__file__).parents[1] / "stories"
NEW = (10, 0, 2)


@pytest.fixture
def disk(wire, q35):
    """A VM that no other monitor can act on, with a disk on the node n1."""
    w = wire(NEW, q35)
    w.ok("blockdev-add", node_name="n1", driver="qcow2", file={"driver": "file", "node-name": "f1"})
    w.ok("blockdev-add", node_name="n2", driver="null-co")
    w.plug("vd1", drive="n1")
    return w


def on(w):
    return [node for kind, node in w.vm.devices["vd1"].uses if kind == "node"]


def node(w, name):
    return w.vm.names("node", w.vm.nodes[name])


def job(w, *statuses):
    for status in statuses:
        w.event("JOB_STATUS_CHANGE", id="j", status=status)


def ready(w, command, **arguments):
    """Begin a job, and let it be ready."""
    i = w.send(command, job_id="j", **arguments)
    job(w, "created", "running")
    w.answer(i)
    job(w, "ready")


def ends(w, kind, event="BLOCK_JOB_COMPLETED", **data):
    job(w, "waiting", "pending")
    w.event(event, type=kind, device="j", len=0, offset=0, speed=0, **data)
    job(w, "concluded", "null")


@pytest.mark.parametrize("version", ["7.2", "10.0"])
def test_what_is_believed_is_what_qemu_says(version, figures):
    """At every query-block in the stories a disk is on the node we believed in, or we believed in none."""
    asked = known = 0
    for path in stories(STORIES / version):
        vm = VM()
        for r in records(Source(path).vms[0]):
            answer = r.body.get("qmp", {}).get("return")
            if isinstance(answer, list) and answer and "removable" in answer[0]:
                for it in answer:
                    name = it["qdev"].removeprefix("/machine/peripheral/").split("/")[0]
                    uses = [use for kind, use in vm.devices[name].uses if kind == "node"]
                    asked += 1
                    known += bool(uses)
                    assert uses in ([], [it["inserted"]["node-name"]]), (path.name, r.seq)
            apply(vm, r.seq, r.time, r.kind, r.body)
    figures.append(f"the node of a disk, {version}: {asked} answers, {known} known before")

    assert asked >= 10
    assert known / asked > 0.6


def test_a_mirror_that_was_told_to_complete_moves_the_disk(disk):
    """When it ends well the disk is on the target; until then on the source."""
    ready(disk, "blockdev-mirror", device="n1", target="n2", sync="full")
    disk.ok("job-complete", id="j")
    assert on(disk) == ["n1"]
    ends(disk, "mirror")
    assert on(disk) == ["n2"]


def test_a_mirror_that_fails_or_is_left_moves_nothing(disk):
    """An error, or an end that nobody told to complete, leaves the disk where it is."""
    ready(disk, "blockdev-mirror", device="n1", target="n2", sync="full")
    ends(disk, "mirror")
    assert on(disk) == ["n1"]
    ready(disk, "blockdev-mirror", device="n1", target="n2", sync="full")
    disk.ok("block-job-complete", device="j")
    ends(disk, "mirror", error="Input/output error")
    assert on(disk) == ["n1"]


def test_a_mirror_may_replace_another_node(disk):
    """With ``replaces`` the disk stays, unless it is on that node."""
    ready(disk, "blockdev-mirror", device="n1", target="n2", sync="full", replaces="elsewhere")
    disk.ok("job-complete", id="j")
    ends(disk, "mirror")
    assert on(disk) == ["n1"]


def test_a_mirror_to_a_file_moves_the_disk_to_the_node_it_names(disk):
    """drive-mirror makes the node, which is nobody's; without a name none is believed in."""
    ready(disk, "drive-mirror", device="n1", target="file", sync="full", node_name="made")
    assert node(disk, "made") == ("present",)
    disk.ok("job-complete", id="j")
    ends(disk, "mirror")
    assert on(disk) == ["made"]
    ready(disk, "drive-mirror", device="made", target="file", sync="full")
    disk.ok("job-complete", id="j")
    ends(disk, "mirror")
    assert on(disk) == []


def test_a_commit_of_the_top_moves_the_disk_to_the_base(disk):
    """Where the base was not named, the disk is on a node that is not known; query-block names it."""
    ready(disk, "block-commit", device="n1", base_node="n2")
    disk.ok("job-complete", id="j")
    ends(disk, "commit")
    assert on(disk) == ["n2"]
    ready(disk, "block-commit", device="n2")
    disk.ok("job-complete", id="j")
    ends(disk, "commit")
    assert on(disk) == []
    disk.ok(
        "query-block", [{"qdev": "/machine/peripheral/vd1/virtio-backend", "inserted": {"node-name": "n9"}}]
    )
    assert on(disk) == ["n9"]


def test_what_another_monitor_may_have_told_a_job_is_not_known(wire, q35):
    """A mirror that ends well and that we did not tell to complete may have moved the disk, if others can act."""
    w = wire(NEW, [*q35, "-qmp", "unix:a", "-qmp", "unix:b"])
    w.plug("vd1", drive="n1")
    ready(w, "blockdev-mirror", device="n1", target="n2", sync="full")
    ends(w, "mirror")
    assert on(w) == []


def test_what_happens_in_a_gap_is_not_known(disk):
    """A job that was under way in a gap may have been told to complete in it."""
    ready(disk, "blockdev-mirror", device="n1", target="n2", sync="full")
    disk.put("gap", {"why": "lost"})
    ends(disk, "mirror")
    assert on(disk) == []


def test_snapshots_put_the_disk_on_the_overlay(disk):
    """blockdev-snapshot, blockdev-snapshot-sync and a transaction of them move what was on the node."""
    disk.ok("blockdev-snapshot", node="n1", overlay="n2")
    assert on(disk) == ["n2"]
    disk.ok("blockdev-snapshot-sync", node_name="n2", snapshot_file="f", snapshot_node_name="n3")
    assert on(disk) == ["n3"]
    assert node(disk, "n3") == ("present",)
    sync = {
        "type": "blockdev-snapshot-sync",
        "data": {"node-name": "n4", "snapshot-file": "f", "snapshot-node-name": "n5"},
    }
    disk.ok(
        "transaction", actions=[{"type": "blockdev-snapshot", "data": {"node": "n3", "overlay": "n4"}}, sync]
    )
    assert on(disk) == ["n5"]
    disk.ok("blockdev-snapshot-sync", node_name="n5", snapshot_file="f")
    assert on(disk) == []


def test_a_medium_is_the_node_of_a_drive(disk):
    """Inserted, it is the node; removed, there is none; changed, QEMU made its node. qom-set of ``drive`` is another way."""
    disk.ok("blockdev-remove-medium", id="vd1")
    assert on(disk) == []
    disk.ok("blockdev-insert-medium", id="vd1", node_name="n2")
    assert on(disk) == ["n2"]
    disk.answer(disk.send("qom-set", path="/machine/peripheral/vd1", property="drive", value="n1"))
    assert on(disk) == ["n1"]
    disk.ok("blockdev-change-medium", id="vd1", filename="f")
    assert on(disk) == []


def test_a_node_inside_another_goes_with_it(disk):
    """A node defined in another one's options is there until something is taken out of the graph, then perhaps."""
    assert node(disk, "f1") == ("present",)
    disk.ok("query-named-block-nodes", [{"node-name": n} for n in ("n1", "n2", "f1", "unheard")])
    assert node(disk, "unheard") == ("present",)
    disk.ok("blockdev-del", node_name="n2")
    assert node(disk, "f1") == node(disk, "unheard") == ("gone", "present")
    disk.ok("query-named-block-nodes", [{"node-name": "n1"}, {"node-name": "f1"}])
    assert (node(disk, "f1"), node(disk, "unheard")) == (("present",), ("gone",))
    assert not disk.rules


def test_nodes_of_the_command_line(wire, q35):
    """-blockdev in both spellings, and -drive, define nodes inside their options."""
    told = '{"driver": "quorum", "node-name": "q", "children": [{"driver": "null-co", "node-name": "c0"}]}'
    w = wire(
        NEW,
        [
            *q35,
            "-blockdev",
            told,
            "-blockdev",
            "driver=raw,node-name=r,file.node-name=r0",
            "-drive",
            "if=none,node-name=d",
        ],
    )

    assert {name: node(w, name) for name in w.vm.nodes} == dict.fromkeys(
        ("q", "c0", "r", "r0", "d"), ("present",)
    )
    w.ok("blockdev-del", node_name="q")
    assert node(w, "c0") == ("gone", "present")
    assert node(w, "r") == ("present",)


def test_a_snapshot_of_the_state_keeps_what_may_go(disk):
    """A state that was stored and read back still knows which nodes are nobody's, and where a job would put the disk."""
    ready(disk, "blockdev-mirror", device="n1", target="n2", sync="full")
    disk.ok("job-complete", id="j")
    again = VM.from_plain(disk.vm.to_plain())

    assert again.inner.keys() == {"f1"}
    assert again.inner["f1"] is again.nodes["f1"]
    assert (again.jobs["j"].completing, again.jobs["j"].pivots_from, again.jobs["j"].pivots_to) == (
        True,
        "n1",
        "n2",
    )


def test_a_filter_goes_with_its_job(disk):
    """A node that a job names as its filter is there while it runs, and gone when a query no longer names it."""
    ready(disk, "block-commit", device="n1", base_node="n2", filter_node_name="above")
    assert node(disk, "above") == ("present",)
    disk.ok("job-complete", id="j")
    ends(disk, "commit")
    assert node(disk, "above") == ("gone", "present")
    disk.ok("query-named-block-nodes", [{"node-name": "n1"}, {"node-name": "n2"}, {"node-name": "f1"}])
    assert node(disk, "above") == ("gone",)
    assert not disk.rules
