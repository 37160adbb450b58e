"""Queries that name what there is narrow what may be."""

from __future__ import annotations

import pytest

NEW = (10, 0, 2)


@pytest.fixture
def lost(wire, q35):
    """A VM with a disk, a vCPU, a DIMM and their backends, after a gap: all of them open."""
    w = wire(NEW, q35)
    w.ok("blockdev-add", node_name="n1", driver="null-co")
    w.ok("object-add", qom_type="memory-backend-ram", id="m1", size=1)
    w.ok("chardev-add", id="c1", backend={})
    w.plug("vd1", drive="n1")
    w.plug("cpu1", "max-x86_64-cpu", "")
    w.plug("dimm1", "pc-dimm", "", memdev="m1")
    w.put("gap", {"why": "somebody else acted"})
    return w


def kind(w, machine, name):
    return w.vm.names(machine, getattr(w.vm, machine + "s")[name])


def test_nodes(lost):
    """query-named-block-nodes names every node; the ones it made up itself are nobody's."""
    lost.ok("query-named-block-nodes", [{"node-name": "#block123"}, {"node-name": "other"}])
    assert kind(lost, "node", "n1") == ("gone",)
    assert kind(lost, "node", "other") == ("present",)
    assert set(lost.vm.nodes) == {"n1", "other"}


def test_chardevs_and_objects(lost):
    """query-chardev names every chardev; query-memdev and query-iothreads only their own kind of object."""
    lost.ok("query-chardev", [{"label": "compat_monitor0"}])
    lost.ok("query-memdev", [{"id": "m1", "size": 1}])
    lost.ok("query-iothreads", [{"id": "io1", "thread-id": 1}])
    assert kind(lost, "chardev", "c1") == ("gone",)
    assert kind(lost, "object", "m1") == kind(lost, "object", "io1") == ("present",)


def test_vcpus(lost):
    """query-hotpluggable-cpus names the vCPUs that are plugged, and by that those that are not."""
    lost.ok(
        "query-hotpluggable-cpus",
        [{"type": "max-x86_64-cpu", "props": {}, "qom-path": "/machine/unattached/device[0]"}],
    )
    assert lost.device("cpu1") == ("gone",)
    lost.ok("query-hotpluggable-cpus", [{"type": "max-x86_64-cpu", "qom-path": "/machine/peripheral/cpu2"}])
    assert lost.device("cpu2") == ("present", "unplugging")
    assert lost.device("vd1") == ("gone", "present", "unplugging")


def test_memory_devices(lost):
    """query-memory-devices names every memory device, and both sizes of virtio-mem."""
    lost.ok(
        "query-memory-devices",
        [
            {
                "type": "virtio-mem",
                "data": {"id": "vm0", "memdev": "/objects/m", "size": 1, "requested-size": 2},
            }
        ],
    )
    assert lost.device("dimm1") == ("gone",)
    assert lost.device("vm0") == ("present", "unplugging")
    assert lost.vm.to_json()["memory"]["devices"] == {"vm0": {"requested": 2, "actual": 1}}


def test_pci_and_block(lost):
    """query-pci and query-block name devices that are there, behind bridges too, and say nothing of others."""
    behind = {"qdev_id": "vd1", "bus": 1}
    lost.ok(
        "query-pci",
        [
            {
                "bus": 0,
                "devices": [
                    {"qdev_id": "", "bus": 0},
                    {"qdev_id": "rp0", "pci_bridge": {"devices": [behind]}},
                ],
            }
        ],
    )
    assert lost.device("vd1") == lost.device("rp0") == ("present", "unplugging")
    assert lost.device("dimm1") == ("gone", "present", "unplugging")
    lost.put("gap", {"why": "again"})
    lost.ok("query-block", [{"device": "", "qdev": "/machine/peripheral/vd1/virtio-backend"}])
    assert lost.device("vd1") == ("present", "unplugging")


def test_block_jobs(lost):
    """query-block-jobs tells the status of a block job that nobody saw begin."""
    lost.ok("query-block-jobs", [{"device": "j", "type": "mirror", "status": "ready", "error": "x"}])
    assert lost.job("j") == ("ready",)


def test_a_refused_verb_tells_the_status(lost):
    """A verb that a job cannot take names its status; no such job means that it is gone."""
    lost.ok("query-jobs", [{"id": "j", "type": "backup", "status": "running"}])
    lost.put("gap", {"why": "again"})
    assert len(lost.job("j")) > 5
    lost.refused("job-complete", "Job 'j' in state 'paused' cannot accept command verb 'complete'", id="j")
    assert lost.job("j") == ("paused",)
    lost.put("gap", {"why": "again"})
    lost.refused("job-dismiss", "Job not found", id="j")
    assert set(lost.job("j")) <= {"null", "undefined"}


def test_a_dismissed_job_is_gone(lost):
    """job-dismiss done: the job is null, whether or not its event was seen."""
    lost.ok("query-jobs", [{"id": "j", "type": "backup", "status": "concluded"}])
    lost.put("gap", {"why": "again"})
    lost.ok("job-dismiss", id="j")
    assert set(lost.job("j")) <= {"null", "undefined"}


def test_objects_by_their_place(lost):
    """qom-list of /objects names every object; those that QEMU makes itself are nobody's."""
    lost.ok("object-add", qom_type="iothread", id="io1")
    lost.put("gap", {"why": "somebody else acted"})
    listed = [{"name": "type", "type": "string"}, {"name": "m1", "type": "child<memory-backend-ram>"}]
    lost.ok("qom-list", [*listed, {"name": "pc.ram", "type": "child<memory-backend-ram>"}], path="/objects")
    assert kind(lost, "object", "m1") == ("present",)
    assert kind(lost, "object", "io1") == ("gone",)
    assert "pc.ram" not in lost.vm.objects


def test_what_qemu_made_itself(wire, q35):
    """query-memdev names the machine's own memory, which nobody was seen to make: it is there, and no contradiction."""
    w = wire(NEW, q35)
    w.ok("query-memdev", [{"id": "pc.ram", "size": 1}])
    assert kind(w, "object", "pc.ram") == ("present",)
    assert not w.rules


def test_refused_as_a_duplicate(wire, q35):
    """A node that is refused because its name is taken is there, whoever added it."""
    w = wire(NEW, q35)
    w.refused("blockdev-add", "Duplicate nodes with node-name='n1'", node_name="n1", driver="null-co")
    w.ok("blockdev-del", node_name="n1")
    assert kind(w, "node", "n1") == ("gone",)
    assert "impossible-transition" not in w.rules


def test_a_dump_that_nobody_saw(wire):
    """A trace that begins late knows nothing of dumps."""
    w = wire(NEW)
    w.event("NIC_RX_FILTER_CHANGED", path="/x")
    w.ok("query-dump", {"status": "completed", "completed": 1, "total": 1})
    assert not w.rules
