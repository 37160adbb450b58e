"""What stands on what: a throttle group under a filter, nodes reopened onto others, and what QEMU keeps because it is used."""

import time

from stories.stage import PORTS, add_disk, add_node, gone, leave, look, remove, story


def throttled(group):
    """Return the options of a node that limits n1 by a group."""
    return {"driver": "throttle", "node-name": "t1", "throttle-group": group, "file": "n1"}


@story
def throttle(stage):
    """A filter limits a node by a group, is put on another group, and frees the first; what is used is kept by QEMU."""
    stage.image()
    vm = stage.bare(*PORTS)
    add_node(vm)
    for name in ("g1", "g2"):
        vm.qmp.ok("object-add", {"qom-type": "throttle-group", "id": name, "limits": {"iops-total": 100}})
    vm.qmp.ok("blockdev-add", throttled("g1"))
    vm.qmp.refused("object-del", {"id": "g1"})
    vm.qmp.refused("blockdev-del", {"node-name": "n1"})
    add_disk(vm, node="t1")
    time.sleep(0.3)
    vm.qmp.ok("cont")
    vm.qmp.ok("blockdev-reopen", {"options": [throttled("g2")]})
    vm.qmp.ok("object-del", {"id": "g1"})
    vm.qmp.refused("object-del", {"id": "g2"})
    vm.qmp.refused("blockdev-del", {"node-name": "t1"})
    vm.qmp.ok("query-named-block-nodes")
    vm.qmp.ok("stop")
    remove(vm)
    vm.qmp.ok("system_reset")
    gone(vm)
    time.sleep(0.3)
    vm.qmp.ok("blockdev-del", {"node-name": "t1"})
    vm.qmp.ok("object-del", {"id": "g2"})
    vm.qmp.ok("blockdev-del", {"node-name": "n1"})
    vm.qmp.ok("query-named-block-nodes")
    leave(vm)


@story
def reopen(stage):
    """A node is reopened without the one under it, which is free then, and onto another; a node that is not there is refused."""
    vm = stage.bare(*PORTS)
    for name in ("base", "other", "top"):
        stage.image(f"{name}.qcow2")
        if name != "top":
            add_node(vm, name, f"{name}.qcow2")
    top = {
        "driver": "qcow2",
        "node-name": "top",
        "file": {"driver": "file", "node-name": "file", "filename": "top.qcow2"},
    }
    vm.qmp.ok("blockdev-add", {**top, "backing": "base"})
    vm.qmp.refused("blockdev-del", {"node-name": "base"})
    vm.qmp.refused("blockdev-del", {"node-name": "file"})
    vm.qmp.ok("query-named-block-nodes")
    onto = {"driver": "qcow2", "node-name": "top", "file": "file"}
    vm.qmp.refused("blockdev-reopen", {"options": [{**onto, "backing": "nosuch"}]})
    vm.qmp.ok("blockdev-reopen", {"options": [{**onto, "backing": None}]})
    vm.qmp.ok("blockdev-del", {"node-name": "base"})
    vm.qmp.ok("blockdev-reopen", {"options": [{**onto, "backing": "other"}]})
    vm.qmp.refused("blockdev-del", {"node-name": "other"})
    vm.qmp.ok("query-named-block-nodes")
    vm.qmp.ok("blockdev-del", {"node-name": "top"})
    vm.qmp.ok("blockdev-del", {"node-name": "other"})
    vm.qmp.ok("query-named-block-nodes")
    look(vm)
    leave(vm)
