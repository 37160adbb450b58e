"""Rules over a trace, each named, and what they find.

A rule says what it *needs*: a trace that lacks commands, replies, events, times, its beginning or the process's
end cannot break a rule that is about them. Such a rule is *not checked*: never passed, never violated.
"""

from __future__ import annotations

from typing import Final

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """One thing a rule says about a trace, with the record it rests on.

    ``seq`` is that record's number, ``severity`` and ``rule`` are the rule's (:data:`RULES`), ``subject`` is the device, job,
    command, ... it is about, or a machine such as ``runstate``, and ``message`` a sentence.
    """

    seq: int
    severity: str
    rule: str
    subject: str
    message: str


class Rule(msgspec.Struct, frozen=True):
    """A rule: its name, how bad a breach is (``violation``, ``warning``, ``note``), its sentence, what it needs."""

    name: str
    severity: str
    sentence: str
    needs: tuple[str, ...] = ()


RULES: Final = {
    rule.name: rule
    for rule in (
        # --- what cannot be
        Rule("impossible-transition", "violation", "QEMU cannot do this from any state the facts allow"),
        Rule(
            "contradicted-by-query",
            "violation",
            "QEMU's answer to a query is not among the states the facts allow",
        ),
        Rule("unreadable", "violation", "a QMP message whose members are not what the schema says they are"),
        Rule("malformed", "violation", "what was received is no QMP message"),
        # --- the wire
        Rule(
            "reply-without-command",
            "warning",
            "an answer to a command that is not in the trace",
            ("commands", "beginning"),
        ),
        Rule(
            "id-in-flight",
            "warning",
            "a command bears the id of one that is not answered yet: nobody can tell whose answer is whose",
            ("commands", "replies"),
        ),
        Rule("command-without-reply", "note", "a command that nothing answers", ("commands", "replies")),
        Rule("command-unknown", "warning", "a command that this QEMU does not have", ("replies",)),
        Rule(
            "schema-mismatch",
            "warning",
            "a command that does not fit the schema this QEMU gave",
            ("commands", "replies"),
        ),
        Rule("event-unknown", "warning", "an event that no QEMU from 7.2 to 10.0 sends"),
        Rule(
            "clock-backwards",
            "note",
            "an event is older than the one before it, and its kind is not rate-limited",
            ("times",),
        ),
        Rule("monitor-stalled", "warning", "a command was overdue: QEMU did not serve its monitor"),
        Rule("gap", "note", "facts may be missing here"),
        # --- what was asked for
        Rule("operation-overdue", "warning", "an operation had not ended when its deadline passed"),
        Rule(
            "operation-left-behind",
            "warning",
            "a refused operation left something that could not be taken back",
        ),
        Rule("operation-unfinished", "note", "an operation was begun and never ended"),
        # --- the VM's life
        Rule(
            "stop-unexplained",
            "warning",
            "a STOP that nobody in this trace asked for and no event explains",
            ("commands",),
        ),
        Rule("exit-unannounced", "warning", "QEMU went away with no SHUTDOWN before it", ("events",)),
        Rule("guest-panicked", "warning", "the guest panicked", ("events",)),
        Rule("watchdog-fired", "warning", "the guest stopped feeding its watchdog", ("events",)),
        Rule("io-error", "warning", "the guest's disk failed", ("events",)),
        Rule("load-failed", "warning", "a snapshot could not be loaded, and the VM is left in restore-vm"),
        # --- devices
        Rule("duplicate-id", "warning", "an id was used whose bearer is still there", ("replies",)),
        Rule(
            "use-of-gone",
            "warning",
            "a command names something that is certainly not there",
            ("commands", "beginning"),
        ),
        Rule(
            "slot-reused",
            "warning",
            "a device was plugged into a port whose device is not gone yet",
            ("commands",),
        ),
        Rule(
            "guest-blinking",
            "warning",
            "an unplug came while the guest was still powering the slot",
            ("replies",),
        ),
        Rule("unplug-refused", "warning", "the guest refused to give a device up"),
        Rule(
            "unplug-lost",
            "warning",
            "a device left the machine, and DEVICE_DELETED never named it",
            ("events",),
        ),
        Rule(
            "unplug-pending",
            "note",
            "an unplug was asked for and the guest has not answered it",
            ("commands", "events"),
        ),
        Rule(
            "unplug-overdue",
            "warning",
            "an unplug was asked for over half a minute ago, and the guest has not answered it",
            ("commands", "events", "times"),
        ),
        # --- backends
        Rule(
            "backend-under-frontend",
            "warning",
            "a backend was removed while a device that uses it was there",
            ("commands", "replies"),
        ),
        Rule(
            "backend-in-use",
            "note",
            "a command takes away a backend that something which is there refers to; QEMU refuses most",
            ("commands",),
        ),
        Rule("backend-leaked", "note", "a backend is left whose device is gone", ("commands", "replies")),
        # --- jobs, migration, memory
        Rule("job-failed", "warning", "a job ended with an error"),
        Rule(
            "job-at-its-end",
            "warning",
            "a job was reported running with all its work done, and over ten seconds later nothing had come of it",
            ("replies", "times"),
        ),
        Rule("job-verb", "warning", "a verb that a job in this status cannot take", ("commands", "events")),
        Rule("job-left-concluded", "note", "a job is over and waits for job-dismiss"),
        Rule("migration-failed", "warning", "a migration failed, and nothing in the trace says why"),
        Rule(
            "memory-short", "note", "memory was requested of a device and not reached", ("commands", "events")
        ),
    )
}

#: Events that QEMU limits to one a second, so that they come late (monitor/monitor.c, QEMU 10.0).
RATE_LIMITED: Final = frozenset(
    [
        "RTC_CHANGE",
        "WATCHDOG",
        "BALLOON_CHANGE",
        "QUORUM_REPORT_BAD",
        "QUORUM_FAILURE",
        "VSERPORT_CHANGE",
        "MEMORY_DEVICE_SIZE_CHANGE",
        "HV_BALLOON_STATUS_REPORT",
        "BLOCK_IO_ERROR",
    ]
)
