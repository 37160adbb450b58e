"""Outputs of QEMU's iotests."""

from qemustate.events.observe import parsed
from qemustate.statemachine.fold import apply
from qemustate.statemachine.state import VM

OUTPUT = b"""QA output created by 185

=== Start ===
Formatting 'TEST_DIR/t.IMGFMT', fmt=IMGFMT size=67108864
QMP_VERSION
{ 'execute': 'qmp_capabilities' }
{"return": {}}
{'execute':'drive-mirror', 'arguments':{
            'device': 'src', 'target': 'TEST_DIR/t.IMGFMT',
            'mode': 'existing', 'sync': 'full'}}
WARNING: something: ELSE
{"timestamp": {"seconds":  TIMESTAMP, "microseconds":  TIMESTAMP}, "event": "JOB_STATUS_CHANGE", "data": {"status": "created", "id": "src"}}
{"return": {}}
{"timestamp": {"seconds":  TIMESTAMP, "microseconds":  TIMESTAMP}, "event": "BLOCK_JOB_COMPLETED", "data": {"device": "src", "len": LEN, "offset": (filtered), "speed": 0, "type": "mirror", "error": "Failed: ABC, D"}}
[{ "start": 0, "length": 1048576, "depth": 0},
{ "start": 1048576, "length": 1048576, "depth": 0}]
{
    "virtual-size": 1
}
{
    "timestamp": {
        "seconds":  TIMESTAMP,
        "microseconds":  TIMESTAMP
    },
    "event": "SHUTDOWN"
}
{
    QMP_VERSION
}
.{"execute": "quit", "arguments": {}}
*** done
"""

LISTED = b"""[{"data": {"id": "e"}, "event": "BLOCK_EXPORT_DELETED", "timestamp": {"microseconds": "USECS", "seconds": "SECS"}}]
[{"start": 0}, {"event": 5}]
"""

PYTHON = b"""=== Begin ===
{"execute": "job-dismiss", "arguments": {"id": "j"}}
{"data": {"id": "j", "status": "null"}, "event": "JOB_STATUS_CHANGE", "timestamp": {"microseconds": "USECS", "seconds": "SECS"}}
"""


def test_bash(imported):
    """Masks, single quotes, several lines and pretty-printing are read; other text and other JSON are no messages."""
    it = imported("iotests", OUTPUT)
    assert [said for said in it.said if said != "gap"] == [
        "opened", "greeting", "qmp_capabilities", "reply", "drive-mirror", "JOB_STATUS_CHANGE", "reply",
        "BLOCK_JOB_COMPLETED", "SHUTDOWN", "lost", "opened", "greeting", "quit",
    ]  # fmt: skip
    assert it.skipped.count == 0
    completed = parsed(it.bodies[it.said.index("BLOCK_JOB_COMPLETED")])
    assert completed["data"]["len"] == "LEN"
    assert completed["data"]["error"] == "Failed: ABC, D"
    mirror = parsed(it.bodies[it.said.index("drive-mirror")])
    assert mirror["arguments"]["mode"] == "existing"
    assert not any(it.times)


def test_python(imported):
    """What a Python test prints is read, with a gap before each command: order and events are not the wire's."""
    it = imported("iotests", PYTHON)
    assert it.said == ["gap", "job-dismiss", "JOB_STATUS_CHANGE"]
    assert it.lacks == ("times", "beginning", "process", "replies")


def test_a_damaged_message_is_counted(imported):
    """What begins as a message and is none is told by its line."""
    it = imported("iotests", OUTPUT + b'{"return": }\n' + PYTHON)
    assert it.skipped.first == [("t0.jsonl", 32, "JSON parse error, expecting value")]
    assert it.said[-1] == "JOB_STATUS_CHANGE"


def test_a_list_of_events(imported):
    """Events in a list are messages; other lists are not."""
    it = imported("iotests", PYTHON + LISTED)
    assert it.said == ["gap", "job-dismiss", "JOB_STATUS_CHANGE", "BLOCK_EXPORT_DELETED"]


def test_an_answer_to_what_is_not_printed(imported):
    """Where a test prints answers and not what was asked, events of other QEMUs may stand among its own."""
    done = b'{"data": {"status": "completed"}, "event": "MIGRATION", "timestamp": {"microseconds": "USECS", "seconds": "SECS"}}\n'
    it = imported("iotests", PYTHON + b'{"return": {}}\n' + done + b'{"return": {}}\n' + done)
    once = ["reply", "gap", "MIGRATION"]
    assert it.said == ["gap", "job-dismiss", "JOB_STATUS_CHANGE", *once, "gap", *once]
    assert_possible(it)


def test_events_are_printed_when_they_were_waited_for(imported):
    """An event behind an answer may be older than what the answer says."""
    running = b'{"return": [{"id": "j", "status": "running", "type": "mirror", "current-progress": 0, "total-progress": 9}]}\n'
    created = PYTHON.splitlines(keepends=True)[-1].replace(b"null", b"created")
    it = imported("iotests", b"=== Begin ===\n" + running + created)
    assert it.said == ["gap", "reply", "gap", "JOB_STATUS_CHANGE"]
    assert_possible(it)


def assert_possible(it):
    """Assert that no row of the tables is against any of the entries."""
    vm = VM()
    for seq, (kind, time, body) in enumerate(it.entries, 1):
        apply(vm, seq, time, kind, body)
        assert vm.violations == []
