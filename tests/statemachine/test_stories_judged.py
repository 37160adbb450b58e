"""The observer judged by QEMU itself: sound and sharp over every recorded story, on both versions."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.verdict import Truth, Verdict, judge, stories

from qemustate.replay.source import Source, records
from qemustate.statemachine.checker import Checker
from qemustate.statemachine.fold import apply
from qemustate.statemachine.state import VM

STORIES = Path(__file__).parents[1] / "stories"
VERSIONS = ["7.2", "10.0"]
NAMES = sorted({path.name for version in VERSIONS for path in stories(STORIES / version)})

#: The least share of records, of those that concern a machine, after which its belief is one state.
FLOOR = 0.97


def entries(path):
    return [(r.kind, r.time, r.body) for r in records(Source(path).vms[0])]


def verdict_of(path) -> Verdict:
    truth = Truth(path.with_name(path.name.replace(".jsonl.xz", ".truth.json.xz")))
    return judge(entries(path), truth, f"{path.parent.name}/{path.name.partition('.')[0]}")


@pytest.mark.parametrize("version", VERSIONS)
def test_sound_and_sharp_over_all_stories(version, figures):
    """The true state is in the belief at every record; it is single at 97 % of those that concern it; no false alarm."""
    total = Verdict()
    found = stories(STORIES / version)
    for path in found:
        total.add(verdict_of(path))
    figures.append(f"judged by QEMU itself, {version}: {len(found)} stories, {total.records} records")
    figures.extend(f"  {line}" for line in total.lines())

    assert len(found) >= 12
    assert total.wrong == []
    assert total.violations == []
    for machine in ("runstate", "device", "job", "migration"):
        assert total.checked[machine] >= 50
        assert total.sharp[machine] / total.checked[machine] >= FLOOR, total.blurred


@pytest.mark.parametrize("name", NAMES)
def test_live_state_and_replayed_state_are_equal_after_every_record(name):
    """The fold from a snapshot taken at every record is the fold from the beginning."""
    path = next(p for version in VERSIONS if (p := STORIES / version / name).exists())
    told = entries(path)
    live = VM()
    for seq, (kind, time, body) in enumerate(told, 1):
        again = VM.from_plain(live.to_plain())
        apply(live, seq, time, kind, body)
        apply(again, seq, time, kind, body)

        assert again.to_plain() == live.to_plain(), seq


#: Stories that send every verb to jobs that cannot take it, block-job-change to a QEMU that does not have it among them.
VERBS = {
    "amend", "amend_luks", "backup_verbs", "commit", "commit_cancelled", "create", "job_error", "job_transaction", "mirror_left",
    "mirror_verbs", "snapshot_verbs", "stream",
}  # fmt: skip

#: Stories of a migration whose target is killed, crashes, or ends because its source has given up.
UNANNOUNCED = {
    "colo", "colo_cancelled", "colo_checkpoint", "migration_again", "migration_cancelled_late",
    "migration_failed_in_device", "migration_target_fails", "migration_without_events", "postcopy_broken", "postcopy_cancelled",
    "postcopy_recovery_broken",
}  # fmt: skip

#: What the rules find in the stories, and are meant to: the story is about it.
TOLD = {
    # SIGKILL, an abort of QEMU's own, the watchdog's poweroff (hw/watchdog/watchdog.c) and a destination whose migration fails
    # (migration/migration.c process_incoming_migration_co()) end with no SHUTDOWN; a client that leaves sees none.
    "exit-unannounced": {
        "kill9", "kill9_unanswered", "watchdog_poweroff", "migration_cancelled", "migration_failed", "reconnect", "reconnect_unasked",
        "balloon_reset", "failover_cancelled", "gpu_again",
        "amend_luks", *UNANNOUNCED,
    },
    "command-without-reply": {"kill9_unanswered", "reconnect", "amend_luks", "balloon_reset", "gpu_again"},
    # Asked for by the story: an id added twice, text that is no JSON, a command that is none, a second monitor that acts.
    "duplicate-id": {"device_add_refused"},
    "malformed": {"pipeline"},
    "command-unknown": {"pipeline", "job_refused", *VERBS},
    "stop-unexplained": {"multi_monitor"},
    # device_del of what the guest, a reset or an earlier request has taken away.
    "use-of-gone": {
        "device_add_refused", "guest_eject", "guest_eject_pcie", "id_reuse", "second_device_del", "second_device_del_pcie",
        "gpu", "gpu_again", "no_id", "shpc_too_soon",
    },
    "guest-blinking": {"unplug_too_soon_pcie", "shpc_too_soon"},
    "unplug-refused": {"dimm"},
    "backend-under-frontend": {"net", "rng"},
    # Taken away on purpose while it is used.
    "backend-in-use": {
        "commit", "dimm", "disk_moved", "mirror_replaces", "mirror_verbs", "net", "nvdimm", "reopen", "rng", "serial_port", "stream",
        "throttle", "vhost_user_blk", "vhost_user_net",
    },
    # The guest's misfortunes.
    "guest-panicked": {"panic_pause", "panic_none", "panic_poweroff", "panic_no_shutdown"},
    "watchdog-fired": {"watchdog_pause", "watchdog_poweroff", "watchdog_reset"},
    "io-error": {"io_error_stop", "io_error_reset"},
    "load-failed": {"snapshot_jobs"},
    "job-failed": {
        "backup", "snapshot_jobs", "snapshot_unseen", "backup_verbs", "commit_cancelled", "create", "job_error", "job_transaction",
        "mirror_left", "stream",
    },
    "job-verb": {"backup", *VERBS},
    "migration-failed": {
        "migration_cancelled", "failover_cancelled", "migration_again", "migration_cancelled_late", "migration_failed_in_device",
        "migration_target_fails", "postcopy_cancelled",
    },
}  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
def test_real_recordings_break_no_rule_but_these(version):
    """A finding in a real recording is a fault of the rule, or is explained here."""
    for path in stories(STORIES / version):
        checker = Checker()
        for seq, (kind, time, body) in enumerate(entries(path), 1):
            checker.see(seq, time, kind, body)
        checker.close()
        story = path.name.partition(".")[0]
        left = [f for f in checker.findings if story not in TOLD.get(f.rule, ())]

        assert left == [], story


def test_the_judge_can_find_fault():
    """A belief that is wrong is found: the same story with another truth is unsound."""
    path = STORIES / "7.2" / "stop_cont.jsonl.xz"
    truth = Truth(path.with_name("stop_cont.truth.json.xz"))
    truth._states = ["io-error" if state == "paused" else state for state in truth._states]
    found = judge(entries(path), truth, "turned")

    assert found.unsound["runstate"] > 0
    assert "io-error" in found.wrong[0]


def test_the_judge_can_find_a_device_that_is_not_there():
    """A device believed present that QEMU does not list is found."""
    path = STORIES / "7.2" / "hotplug_acpi_ack.jsonl.xz"
    truth = Truth(path.with_name("hotplug_acpi_ack.truth.json.xz"))
    for run in truth._runs:
        run[5] = [name for name in run[5] if name != "rp0"]

    assert judge(entries(path), truth, "turned").unsound["device"] > 0


@pytest.mark.shared
@pytest.mark.parametrize("version", VERSIONS)
def test_shared_recordings_are_told_right(version, shared):
    """At every query in recordings that are not ours, QEMU's answer is in the belief."""
    asked = contradicted = 0
    for path in sorted((shared / "qmp-jsonl" / version).glob("*.jsonl")):
        checker = Checker()
        for record in records(Source(path).vms[0]):
            checker.see(record.seq, record.time, record.kind, record.body)
            asked += record.kind == "reply" and "'status'" in repr(record.body.get("qmp"))
        contradicted += sum(f.rule == "contradicted-by-query" for f in checker.findings)

    assert asked > 40
    assert contradicted == 0
