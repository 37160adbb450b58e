"""Logs of a message a line: avocado-vt's and Incus's."""

from qemustate.events.importers.files import TraceFile
from qemustate.events.importers.formats import BY_NAME

NOON = 1_709_294_400_000_000

AVOCADO = b"""2024-03-01 12:00:00: {"QMP": {"version": {}, "capabilities": []}}
2024-03-01 12:00:00: {"execute": "qmp_capabilities", "id": "a"}
2024-03-01 12:00:01: {"return": {}, "id": "a"}
some other text
2024-03-01 12:00:02: {"timestamp": {"seconds": 1709294402, "microseconds": 5}, "event": "STOP"}
"""

INCUS = b"""[2024-03-01T12:00:00Z] QUERY: {"execute":"query-status"}
[2024-03-01T12:00:00Z] REPLY: {"return": {"status": "running", "running": true}}

[2024-03-01T14:00:01+02:00] Event: {"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}}
[2024-03-01T12:00:01Z] Event: {"event":
"""


def test_avocado(imported):
    """Of avocado-vt's log the shape of a message tells who speaks; the file's name holds the VM's."""
    it = imported("avocado-vt", AVOCADO, names=["qmpmonitor1-avocado-vt-vm1-pid-4711.log"])
    assert it.said == ["opened", "greeting", "qmp_capabilities", "reply", "STOP"]
    assert it.name == "avocado-vt-vm1"
    assert it.times[-1] == NOON + 2_000_000
    assert it.lacks == ("beginning", "process")
    assert it.skipped.count == 0


def test_incus(imported):
    """Of Incus's log each line says who speaks; a line that is cut is counted."""
    it = imported("incus", INCUS)
    assert it.said == ["query-status", "reply", "STOP"]
    assert it.times == [NOON, NOON, NOON + 1_000_000]
    assert it.lacks == ("beginning", "process")
    assert [line for _, line, _ in it.skipped.first] == [5]


def test_incus_is_named_by_its_folder(tmp_path):
    """Every instance's log has the same name, and lies in a folder of its own."""
    folder = tmp_path / "web1"
    folder.mkdir()
    (folder / "qemu.qmp.log").write_bytes(INCUS)
    (found,) = BY_NAME["incus"].find([TraceFile.at(folder / "qemu.qmp.log")])
    assert found.name == "web1"
