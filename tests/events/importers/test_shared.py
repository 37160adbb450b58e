"""The recordings beside the project, all of them: how many messages, what could not be read, and what is found.

``VIOLATIONS`` and ``OTHERS`` say of each kind of finding that remains why it is true.
"""

from collections import Counter

import pytest

from qemustate.events.records import MESSAGE_KINDS
from qemustate.replay.check import check
from qemustate.replay.source import Source, records

#: Folder -> files, and messages by kind.
MESSAGES = {
    "iotests/10.0.2": (45, {"greeting": 23, "command": 486, "reply": 778, "failure": 108, "event": 526}),
    "libvirt-replies": (6, {"command": 313, "reply": 283, "failure": 30}),
    "libvirt-hotplug-cpus": (4, {"command": 26, "reply": 26}),
    "realworld": (4, {"command": 3, "reply": 5, "failure": 1, "event": 8}),
    "tool-logs": (7, {"greeting": 5, "command": 29, "reply": 33, "failure": 11, "event": 18, "malformed": 1}),
    "qmp-jsonl/7.2": (27, {"greeting": 27, "command": 451, "reply": 377, "failure": 97, "event": 269, "malformed": 25}),
    "qmp-jsonl/10.0": (27, {"greeting": 27, "command": 454, "reply": 379, "failure": 99, "event": 269, "malformed": 25}),
}  # fmt: skip

#: File -> lines that could not be read.
SKIPPED = {
    # Its two lines of text bear no mark of a test: it is taken for plain QMP, of which all lines are messages.
    "tests__remove-bitmap-from-backing.out": 2
}

#: (File, rule) -> how many violations, all of them true.
VIOLATIONS = {
    # What the tests sent to see how QEMU refuses it.
    ("proto_errors.jsonl", "malformed"): 25,
    ("parse-errors.trace-no-timestamp.log", "malformed"): 1,
    # The answers were edited by hand: the core added as vcpu8 is vcpu1 in them.
    ("ppc64-modern-bulk-monitor.json", "contradicted-by-query"): 2,
}

#: Folder -> rules whose findings are notes or warnings there, with what they rest on.
OTHERS = {
    "iotests/10.0.2": {
        "gap": "before each command: tests print neither all events nor in the order of the wire",
        "job-failed": "tests of jobs that fail",
    },
    "libvirt-replies": {},
    "libvirt-hotplug-cpus": {},
    "realworld": {
        "unplug-lost": "Launchpad 1894804: DEVICE_DELETED named only a child of the device",
        "job-at-its-end": "Launchpad 1914282: the mirror had copied everything, and was not ready for minutes",
    },
    "tool-logs": {
        "gap": "qmp-shell shows events late, or not at all",
        "command-unknown": "no-such was sent on purpose",
    },
    "qmp-jsonl/7.2": {},
    "qmp-jsonl/10.0": {},
}
_RECORDED = {
    "backend-in-use": "backends are deleted under their devices, to see that QEMU refuses it",
    "backend-under-frontend": "a netdev and a node are deleted while in use, to see that QEMU lets or refuses it",
    "command-unknown": "nosuch-cmd was sent on purpose",
    "command-without-reply": "QEMU went away, or the recording ended, before the answer",
    "duplicate-id": "ids are used twice on purpose",
    "exit-unannounced": "QEMU was killed, or aborted, or the client saw only its stream end",
    "guest-panicked": "the guest panics on purpose",
    "job-failed": "snapshot jobs with wrong names",
    "job-verb": "verbs that a job's state does not take, on purpose",
    "load-failed": "a snapshot that is not there is loaded",
    "migration-failed": "the source cancelled",
    "reply-without-command": "an id beyond 64 bits comes back as a double",
    "unplug-refused": "guests that refuse",
    "use-of-gone": "a device that is gone is unplugged again",
    "watchdog-fired": "the watchdog fires on purpose",
}
OTHERS["qmp-jsonl/7.2"] = OTHERS["qmp-jsonl/10.0"] = _RECORDED


def files_of(shared, folder):
    """Return the traces in a folder."""
    paths = sorted(path for path in (shared / folder).iterdir() if path.is_file())
    return [path for path in paths if path.name != "README.md" and not path.name.endswith(".meta.json")]


@pytest.mark.parametrize("folder", MESSAGES)
def test_all_messages_are_there(shared, folder):
    """Every file of a folder is read, with the messages it has, and no line left out without a reason."""
    counted, skipped = Counter(), {}
    paths = files_of(shared, folder)
    for path in paths:
        for trace in Source(path).vms:
            counted.update(it.kind for it in records(trace) if it.kind in MESSAGE_KINDS | {"malformed"})
            if trace.skipped.count:
                skipped[path.name] = trace.skipped.count
    files, messages = MESSAGES[folder]
    assert (len(paths), dict(counted)) == (files, messages)
    assert skipped == {path.name: SKIPPED[path.name] for path in paths if path.name in SKIPPED}


@pytest.mark.parametrize("folder", MESSAGES)
def test_every_finding_is_explained(shared, folder):
    """What is found is what is known to be true; nothing else is found."""
    violations, others = Counter(), set()
    paths = files_of(shared, folder)
    for path in paths:
        for trace in Source(path).vms:
            for it in check(trace).findings:
                if it.severity == "violation":
                    violations[path.name, it.rule] += 1
                else:
                    others.add(it.rule)
    names = {path.name for path in paths}
    assert dict(violations) == {key: count for key, count in VIOLATIONS.items() if key[0] in names}
    assert others - set(OTHERS[folder]) == set()


def test_a_job_that_stood_at_its_end(shared):
    """Launchpad 1914282: what libvirt said of the mirror job is told, from waiting to null."""
    (trace,) = Source(shared / "realworld" / "lp1914282-blockcopy-stuck.log").vms
    assert trace.name == "instance-00000013"
    told = [it for it in records(trace) if it.kind == "event"]
    assert [it.body["qmp"]["data"]["status"] for it in told] == ["waiting", "pending", "concluded", "null"]
    assert [it.body["origin"][1] for it in told] == [4, 5, 6, 7]
    answers = [it.body["qmp"]["return"][0] for it in records(trace) if it.kind == "reply"]
    assert [(it["status"], it["len"] - it["offset"]) for it in answers] == [
        ("running", 1 << 30), ("running", 0), ("ready", 0),
    ]  # fmt: skip


def test_an_unplug_that_was_lost(shared):
    """Launchpad 1894804: the device is gone by its child's event, and that it never was named is told."""
    (trace,) = Source(shared / "realworld" / "lp1894804-libvirtd-device-deleted-missing.log").vms
    assert trace.name == "instance-0000003a"
    report = check(trace)
    assert [(it.rule, it.subject) for it in report.findings] == [("unplug-lost", "virtio-disk1")]
    assert report.vm.to_json()["devices"]["virtio-disk1"]["is"] == "gone"


def test_the_same_session_from_both_sides(shared):
    """What the trace log says of a session and what the wire said lead to the same events, at the same times."""
    told = []
    for name in ("lifecycle-hotplug.trace-msg-timestamp.log", "lifecycle-hotplug.server-to-client.jsonl"):
        (trace,) = Source(shared / "tool-logs" / name).vms
        told.append([it.body["qmp"] for it in records(trace) if it.kind == "event"])
    assert told[0] == told[1]
    assert len(told[0]) == 6
