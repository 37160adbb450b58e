"""Who refers to whom, and what is said of it before QEMU says it."""

from __future__ import annotations

import pytest
from support.told import STORIES, VERSIONS, Told, read

from qemustate.statemachine import references
from qemustate.statemachine.state import VM
from qemustate.statemachine.uses import users

NEW = (10, 0, 2)


@pytest.mark.parametrize(
    ("kind", "told", "expected"),
    [
        ("node", {"driver": "qcow2", "file": "f", "backing": "b"}, [("node", "f"), ("node", "b")]),
        ("node", {"driver": "qcow2", "file": {"driver": "file", "filename": "x"}, "backing": None}, []),
        (
            "node",
            {"file": {"driver": "luks", "file": "raw", "key-secret": "s"}},
            [("node", "raw"), ("object", "s")],
        ),
        ("node", {"file": {"driver": "file", "node-name": "inner"}}, [("node", "inner")]),
        (
            "node",
            {"driver": "throttle", "throttle-group": "g", "file": "f"},
            [("object", "g"), ("node", "f")],
        ),
        (
            "node",
            {"driver": "quorum", "children": ["a", {"node-name": "b"}, "a"]},
            [("node", "a"), ("node", "b")],
        ),
        ("node", {"driver": "qcow2", "encrypt": {"format": "luks", "key-secret": "s"}}, [("object", "s")]),
        ("netdev", {"type": "vhost-user", "id": "n", "chardev": "c"}, [("chardev", "c")]),
        (
            "object",
            {"qom-type": "filter-mirror", "netdev": "n", "outdev": "c"},
            [("netdev", "n"), ("chardev", "c")],
        ),
        ("export", {"type": "nbd", "node-name": "n", "iothread": "i"}, [("node", "n"), ("object", "i")]),
        ("node", "nothing", []),
    ],
)
def test_what_a_backend_refers_to(kind, told, expected):
    """A name where options could stand is a reference, at any depth; options with a name are one to a node of their own."""
    assert list(references.of(kind, told)) == expected


def used(w, kind, name):
    return [f"{k} {n}" for k, n in users(w.vm, kind, name)]


def test_what_is_added_is_used_until_it_goes(wire, q35):
    """Nodes, exports and devices hold what they stand on, and let it go when they are gone."""
    w = wire(NEW, q35)
    w.ok("blockdev-add", node_name="n1", driver="null-co")
    w.ok("blockdev-add", node_name="f1", driver="raw", file="n1")
    w.ok("block-export-add", id="e1", type="nbd", node_name="n1")
    w.plug("vd1", drive="f1")
    assert used(w, "node", "n1") == ["node f1", "export e1"]
    assert used(w, "node", "f1") == ["device vd1"]
    assert w.vm.to_json()["nodes"]["n1"]["used_by"] == ["node f1", "export e1"]
    w.event("BLOCK_EXPORT_DELETED", id="e1")
    w.event("DEVICE_DELETED", device="vd1", path="/machine/peripheral/vd1")
    w.ok("blockdev-del", node_name="f1")

    assert used(w, "node", "n1") == used(w, "node", "f1") == []
    assert "used_by" not in w.vm.to_json()["nodes"]["n1"]
    assert not w.rules


def test_a_reopened_node_stands_on_what_it_is_given(wire, q35):
    """blockdev-reopen names all of a node's options anew: what it does not name is free (qapi/block-core.json)."""
    w = wire(NEW, q35)
    for name in ("a", "b"):
        w.ok("object-add", id=name, qom_type="throttle-group")
    w.ok("blockdev-add", node_name="n1", driver="null-co")
    limited = {"driver": "throttle", "node-name": "t1", "file": "n1"}
    w.ok("blockdev-add", **{**limited, "throttle-group": "a"})
    assert used(w, "object", "a") == ["node t1"]
    w.ok("blockdev-reopen", options=[{**limited, "throttle-group": "b"}])

    assert used(w, "object", "a") == []
    assert used(w, "object", "b") == ["node t1"]


def test_what_the_command_line_defines_refers_too(wire, q35):
    """-blockdev, -netdev and -object are read as the commands are."""
    w = wire(NEW, [*q35, "-blockdev", "driver=qcow2,node-name=top,file=n1,backing.driver=null-co,backing.node-name=low",
                   "-netdev", "vhost-user,id=nd,chardev=c1", "-device", "virtio-blk-pci,id=vd1,drive=top,iothread=io"])  # fmt: skip

    assert used(w, "node", "n1") == used(w, "node", "low") == ["node top"]
    assert used(w, "chardev", "c1") == ["netdev nd"]
    assert used(w, "object", "io") == ["device vd1"]


def test_a_vhost_user_netdev_takes_its_chardev_along(wire, q35):
    """After netdev_del the chardev is gone too, and query-chardev that does not name it contradicts nothing."""
    w = wire(NEW, q35)
    w.ok("chardev-add", id="c1", backend={"type": "socket"})
    w.ok("netdev_add", id="nd", type="vhost-user", chardev="c1")
    w.ok("netdev_del", id="nd")
    w.ok("query-chardev", [])

    assert w.vm.names("chardev", w.vm.chardevs["c1"]) == ("gone",)
    assert not w.rules


def test_after_a_job_nobody_knows_which_node_stands_on_which(wire, q35):
    """A commit that is done has rewired the graph: no node is said to be used by another."""
    w = wire(NEW, q35)
    w.ok("blockdev-add", node_name="base", driver="null-co")
    w.ok("blockdev-add", node_name="top", driver="qcow2", backing="base")
    w.ok("block-commit", job_id="j", device="top")
    w.event("BLOCK_JOB_COMPLETED", device="j", type="commit", len=0, offset=0, speed=0)

    assert used(w, "node", "base") == []


def test_in_use_is_said_before_the_refusal(wire, q35):
    """A note at the command, of what is certainly there and used; none where it may have gone."""
    w = wire(NEW, q35)
    w.ok("chardev-add", id="c1", backend={"type": "null"})
    w.plug("p1", "virtserialport", "vs0.0", chardev="c1")
    w.send("chardev-remove", id="c1")
    assert w.rules == ["backend-in-use"]
    assert w.checker.findings[0].message == "chardev c1 is used by device p1"
    w.put("gap", {"why": "x"})
    w.send("chardev-remove", id="c1")

    assert w.rules.count("backend-in-use") == 1


def test_references_survive_a_snapshot(wire, q35):
    """A state kept and read again knows who refers to whom."""
    w = wire(NEW, q35)
    w.ok("blockdev-add", node_name="n1", driver="raw", file="n0")

    assert VM.from_plain(w.vm.to_plain()).refers == w.vm.refers != {}


@pytest.mark.parametrize("version", VERSIONS)
def test_qemu_keeps_what_is_said_to_be_in_use(version, figures):
    """In every story, a node or a chardev that is said to be in use is refused; a netdev and an rng object QEMU lets go."""
    kept, let_go = 0, set()
    for path in sorted((STORIES / version).glob("*.jsonl.xz")):
        found = read(path)
        for said in (f for f in Told(found).findings if f.rule == "backend-in-use"):
            identifier = found[said.seq - 1].body["qmp"]["id"]
            answers = (r.kind for r in found[said.seq :] if r.body.get("qmp", {}).get("id") == identifier)
            if next(answers) == "failure":
                kept += 1
            else:
                let_go.add(said.message)
    figures.append(f"said to be in use, {version}: {kept} that QEMU kept, {len(let_go)} that it let go")

    assert kept >= 15
    assert let_go == {"netdev nd1 is used by device net1", "object random is used by device rng1"}
