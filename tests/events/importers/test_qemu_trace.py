"""QEMU's trace log."""

import json

import pytest

from qemustate.events.observe import message, parsed
from qemustate.events.records import Record

TRACE = b"""\
qemu-system-x86_64: warning: something else
7@100.000001:qmp_enter_query_version {}
7@100.000002:monitor_qmp_respond mon 0xa resp: {"QMP": {"version": {}, "capabilities": ["oob"]}}
7@100.000003:monitor_qmp_respond mon 0xb resp: {"QMP": {"version": {}, "capabilities": ["oob"]}}
7@100.000004:handle_qmp_command mon 0xb req: {"execute": "qmp_capabilities"}
8@100.000005:monitor_qmp_cmd_in_band
8@100.000006:monitor_qmp_respond mon 0xb resp: {"return": {}}
7@100.000007:handle_qmp_command mon 0xa req: {"execute": "qmp_capabilities", "id": 1}
8@100.000008:monitor_qmp_respond mon 0xa resp: {"return": {}, "id": 1}
7@100.000009:handle_qmp_command mon 0xa req: {"execute": "cont", "id": 2}
8@100.000010:monitor_qmp_respond mon 0xa resp: {"timestamp": {"seconds": 100, "microseconds": 9}, "event": "RESUME"}
8@100.000011:monitor_qmp_respond mon 0xb resp: {"timestamp": {"seconds": 100, "microseconds": 9}, "event": "RESUME"}
8@100.000012:monitor_qmp_respond mon 0xa resp: {"return": {}, "id": 2}
7@100.000013:handle_qmp_command mon 0xa req: {"execute": "query-name"}
8@100.000014:monitor_qmp_respond mon 0xa resp: {"return": {}}
"""


def unstamped(trace):
    return b"".join(
        line.partition(b":")[2] if line[:1].isdigit() else line for line in trace.splitlines(keepends=True)
    )


def test_one_monitor_is_read(imported):
    """The monitor with most commands is read, so that no event comes twice."""
    it = imported("qemu-trace", TRACE)
    assert it.said == [
        "opened",
        "greeting",
        "qmp_capabilities",
        "reply",
        "cont",
        "RESUME",
        "reply",
        "query-name",
        "reply",
    ]
    assert it.times[0] == it.times[1] == 100_000_002
    assert it.times[-1] == 100_000_014
    assert it.origins[-1] == ("t0.jsonl", 15)
    assert it.lacks == ("beginning", "process")
    assert it.skipped.count == 0


def test_without_time_stamps(imported):
    """Without -msg timestamp=on only events have a time, their own."""
    it = imported("qemu-trace", unstamped(TRACE))
    assert it.said == imported("qemu-trace", TRACE).said
    assert [time for time in it.times if time] == [100_000_009]
    assert it.lacks == ("beginning", "process", "times")


@pytest.mark.parametrize(
    ("name", "gaps"), [("device_del", 2), ("query-status", 0), ("qom-list", 0), ("qom-set", 2)]
)
def test_what_another_monitor_changes_is_a_gap(imported, name, gaps):
    """A command of another monitor that may change the VM leaves a gap where it is asked and where it is answered."""
    other = (
        b'7@100.000015:handle_qmp_command mon 0xb req: {"execute": "%b", "id": [1]}\n'
        b'8@100.000016:monitor_qmp_respond mon 0xb resp: {"return": {}, "id": [1]}\n' % name.encode()
    )
    it = imported("qemu-trace", TRACE + other)
    assert it.kinds[:9] == imported("qemu-trace", TRACE).kinds
    assert [body["why"] for kind, _, body in it.entries if kind == "gap"] == [
        f"another monitor, {name}"
    ] * gaps


def test_commands_have_no_text_of_their_own(imported):
    """QEMU printed the commands anew, so none of their texts is kept as the client's."""
    trace = b'handle_qmp_command mon 0xa req: {"execute": "x", "arguments": {"a": 1.0}}\n'
    it = imported("qemu-trace", trace)
    assert "text" not in it.bodies[0]
    assert message(Record(1, 0, *it.entries[0][::2])).text == b'{"execute":"x","arguments":{"a":1.0}}'


def test_a_client_that_came_again(imported):
    """A second greeting on the same monitor is another connection."""
    it = imported("qemu-trace", TRACE + TRACE)
    assert it.kinds.count("opened") == 2
    assert it.kinds.count("lost") == 1


@pytest.mark.parametrize("text", [b"{", b"", b"garbage"])
def test_a_line_without_json_is_counted(imported, text):
    """A trace point whose text is cut is counted with its line, and the others are read."""
    it = imported("qemu-trace", TRACE + b"handle_qmp_command mon 0xa req: " + text + b"\n" + TRACE)
    assert it.skipped.count == 1
    assert it.skipped.first[0][:2] == ("t0.jsonl", 16)
    assert it.said[-1] == "reply"


def test_a_request_that_is_no_command_is_malformed(imported):
    """What QEMU parsed and refused is kept as malformed."""
    it = imported("qemu-trace", TRACE + b"handle_qmp_command mon 0xa req: []\n")
    assert it.kinds[-1] == "malformed"
    assert it.bodies[-1]["error"] == "QMP input must be a JSON object"


def test_the_trace_says_what_the_wire_said(shared, imported):
    """Of one session seen twice, the trace has all that the wire had from QEMU, in the same order and exactly."""
    wire = shared / "tool-logs" / "lifecycle-hotplug.server-to-client.jsonl"
    traced = imported(
        "qemu-trace", (shared / "tool-logs" / "lifecycle-hotplug.trace-msg-timestamp.log").read_bytes()
    )
    sent = [
        parsed(body) for kind, _, body in traced.entries if kind not in ("opened", "command", "malformed")
    ]
    assert sent == [json.loads(line) for line in wire.read_text().splitlines()]


def test_malformed_input_beside_the_project(shared, imported):
    """In a trace of malformed input nothing is left out: QEMU's answers are there, its parse errors included."""
    it = imported("qemu-trace", (shared / "tool-logs" / "parse-errors.trace-no-timestamp.log").read_bytes())
    assert it.skipped.count == 0
    assert it.kinds.count("failure") == 3
    assert it.kinds.count("malformed") == 1


def test_a_time_that_is_none(imported):
    """A line whose seconds no clock can show is none of QEMU's, and is passed over."""
    line = b'1@%s.000001:handle_qmp_command mon 0x1 req: {"execute": "stop"}\n'
    assert imported("qemu-trace", line % (b"9" * 5000) + line % b"5").times == [5_000_001]
