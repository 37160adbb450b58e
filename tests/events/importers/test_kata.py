"""Kata Containers' logs."""

import pytest

from qemustate.events.observe import parsed

OLD = rb"""time="2019-03-05T01:02:03.4Z" level=info msg="launching /usr/bin/qemu-lite with: [-name sandbox-a -append x=1 y=2 -S]" sandbox=a source=virtcontainers subsystem=qemu
time="2019-03-05T01:02:03.5Z" level=info msg="{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 0, \"minor\": 11, \"major\": 2}}, \"capabilities\": []}}" sandbox=a subsystem=qmp
Mar 05 h kata[12]: time="2019-03-05T01:02:03.6Z" level=info msg="{\"arguments\":{\"id\":\"d0\"},\"execute\":\"device_del\"}" name=kata-runtime pid=3 sandbox=a subsystem=qmp
time="2019-03-05T01:02:03.7Z" level=info msg="{\"return\": {}}" sandbox=a subsystem=qmp
time="2019-03-05T01:02:03.8Z" level=info msg="read from QMP: {\"event\": \"STOP\"}" sandbox=a subsystem=qmp
time="2019-03-05T01:02:03.9Z" level=info msg="some other text" sandbox=a subsystem=qmp
"""

MIDDLE = b"""time="2021-05-29T13:46:09.454842360+08:00" level=debug msg="got QMP event" event="{SHUTDOWN map[guest:false reason:host-qmp-quit] 2021-05-29 13:46:09.000454749 +0800 CST}" name=containerd-shim-v2 pid=18529 sandbox=b source=virtcontainers/hypervisor subsystem=qmp
"""

NEW = b"""time="2026-01-29T13:46:09Z" level=debug msg="Executing QMP command: device_add: map[addr:02 bus:pci-bridge-0 driver:virtio-blk-pci id:virtio-drive-a num-queues:4]" sandbox=c source=virtcontainers/hypervisor subsystem=qmp
"""

RUST = b"""{"msg":"qemu args: -name sandbox-rs -m 2048M","level":"INFO","ts":"2024-05-06T07:08:07Z","sandbox":"rs"}
{"msg":"hotplug_block_device(): device_add arguments: bus: pcie.1, id: drive-1, driver: virtio-blk-pci, blkdev_add_args: {}","level":"INFO","ts":"2024-05-06T07:08:08Z","sandbox":"rs"}
{"msg":"The QMP received DEVICE_DELETED event for drive-1","level":"INFO","ts":"2024-05-06T07:08:09.5Z","sandbox":"rs"}
{"msg":"<- {\\"event\\": \\"STOP\\"}","level":"TRCE","ts":"2024-05-06T07:08:10Z","sandbox":"rs"}
{"msg":"-> execute quit: {}","level":"TRCE","ts":"2024-05-06T07:08:10Z","sandbox":"rs"}
"""


@pytest.mark.parametrize(
    ("content", "name", "said", "lacks"),
    [
        (OLD, "a", ["spawned", "opened", "greeting", "device_del", "reply", "STOP"], ("process",)),
        (MIDDLE, "b", ["SHUTDOWN"], ("commands", "replies", "beginning", "process")),
        (NEW, "c", ["device_add"], ("replies", "beginning", "process")),
        (RUST, "rs", ["spawned", "device_add", "DEVICE_DELETED", "STOP", "quit"], ("replies", "process")),
    ],
    ids=["1.x and 2.0", "2.1", "3.24", "runtime-rs"],
)
def test_generations(imported, content, name, said, lacks):
    """Each generation's log is read for what it tells, and named by its sandbox."""
    it = imported("kata", content)
    assert (it.name, it.said, it.lacks) == (name, said, lacks)
    assert it.skipped.count == 0
    assert all(it.times)


def test_sandboxes_are_vms(imported_all):
    """A log of several sandboxes is the traces of several VMs, each with its own lines only."""
    mixed = b"".join(line for lines in zip(*(it.splitlines(True) * 9 for it in (OLD, MIDDLE, NEW)), strict=False) for line in lines)  # fmt: skip
    found = imported_all("kata", mixed)
    assert sorted(found) == ["a", "b", "c"]
    assert set(found["b"].said) == {"SHUTDOWN"}
    assert found["a"].said[:6] == ["spawned", "opened", "greeting", "device_del", "reply", "STOP"]


def test_the_fraction_of_an_event_is_a_thousandfold(imported):
    """QEMU's microseconds, which the log shows as nanoseconds, come back as microseconds."""
    it = imported("kata", MIDDLE)
    assert parsed(it.bodies[0]) == {
        "event": "SHUTDOWN",
        "data": {"guest": False, "reason": "host-qmp-quit"},
        "timestamp": {"seconds": 1622267169, "microseconds": 454749},
    }
    assert it.times[0] - 1622267169454749 == 93


def test_a_fraction_that_was_right_stays(imported):
    """A fraction that can't have been microseconds is taken as it is."""
    it = imported("kata", MIDDLE.replace(b".000454749", b".454749000"))
    assert parsed(it.bodies[0])["timestamp"]["microseconds"] == 454749


def test_a_joined_command_line(imported):
    """Words that begin no option belong to the value before them."""
    it = imported("kata", OLD)
    assert it.bodies[0]["argv"] == ["/usr/bin/qemu-lite", "-name", "sandbox-a", "-append", "x=1 y=2", "-S"]


def test_an_event_that_cannot_be_read_is_counted(imported):
    """An event in another shape is left out and told; the lines around it are read."""
    it = imported(
        "kata", MIDDLE + b'time="2021" msg="got QMP event" event="{}" sandbox=b subsystem=qmp\n' + MIDDLE
    )
    assert it.said == ["SHUTDOWN", "SHUTDOWN"]
    assert it.skipped.first == [("t0.jsonl", 2, "no event as Go prints it")]
