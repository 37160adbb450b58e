"""The committed stories are whole, and real QEMUs still tell them the same way."""

import json
import lzma
import os
from pathlib import Path

import pytest
import record_stories
from stories.stage import STORIES, shape
from support import found

FOLDER = Path(__file__).parent / "stories"
NAMES = [name.rstrip("_") for name in STORIES]
COMMITTED = sorted(path for version in found.VERSIONS for path in (FOLDER / version).glob("*.jsonl.xz"))

#: Two short stories stand for all, unless everything is asked for: one of firmware only, one with the guest.
SAMPLE = NAMES if os.environ.get("QEMUSTATE_FULL") == "1" else ["stop_cont", "hotplug_acpi_ack"]

#: In these QEMU and the guest race: the same things happen, and another order is as true as the one that was committed. Jobs stand still
#: for a moment whenever QEMU changes the block graph, and how often they say so varies.
REORDERED = {
    "backup",
    "backup_verbs",
    "balloon",
    "balloon_reset",
    "colo_cancelled",
    "commit",
    "commit_cancelled",
    "cpu",
    "dimm",
    "disk_moved",
    "failover_reset",
    "id_reuse",
    "job_drained",
    "job_refused",
    "job_transaction",
    "migration_again",
    "migration_cancelled_in_device",
    "migration_cancelled_late",
    "migration_failed_in_device",
    "migration_pause_before_switchover",
    "mirror_left",
    "mirror_replaces",
    "mirror_verbs",
    "no_id",
    "reset_pending",
    "rng",
    "serial_port",
    "stream",
    "throttle",
    "unplug_ignored",
    "vhost_user_blk",
    "vhost_user_net",
    "vnc",
}

#: In these the race decides what happens, and only what was asked is the same.
RACES = {
    "kill9_unanswered",
    "unplug_too_soon_pcie",
    "shpc_too_soon",
    "multi_monitor",
    "jobs_at_quit",
    "job_error",
    "snapshot_verbs",
    "amend",  # 7.2 measures the CPU for a new key, and may fail
    "amend_luks",
    "colo",
    "migration_target_fails",
    "postcopy_cancelled",
    "postcopy_recovery_broken",
    "postcopy_reset",  # the guest may not come to its reset before the end
}


#: Over, or one end of it, before the second monitor has asked, and the run state never changed.
BRIEF = {"quit", "reopen", "vnc_password", "migration_target_fails"}

#: QEMU may answer no more: 7.2's target aborts at the checkpoint that its source waits for.
WEDGES = {("7.2", "colo_checkpoint")}


def read_wire(path):
    """Return the lines of a committed recording."""
    return [json.loads(line) for line in lzma.decompress(path.read_bytes()).decode().splitlines()]


def test_the_stories_are_listed(rewrite):
    """The README has a line for each story, which is what its docstring begins with."""
    readme = FOLDER / "README.md"
    heading = "## What happens in them\n\n"
    before, _, listed = readme.read_text().partition(heading)
    lines = [
        f"- `{name.rstrip('_')}`: {function.__doc__.splitlines()[0]}\n" for name, function in STORIES.items()
    ]
    if rewrite:
        listed = "".join(lines)
        readme.write_text(before.rstrip("\n") + "\n\n" + heading + listed)

    assert listed.splitlines(keepends=True) == lines


def test_every_story_is_committed_for_every_version():
    """No story was forgotten, and no recording is left of a story that is gone."""
    for version in found.VERSIONS:
        told = {path.name.split(".")[0] for path in COMMITTED if path.parent.name == version}

        assert told == set(NAMES)


@pytest.mark.parametrize(
    "path", COMMITTED, ids=lambda path: f"{path.parent.name}/{path.name.split('.jsonl')[0]}"
)
def test_a_recording_is_whole(path):
    """The wire begins with a greeting, its times never go back, and QEMU's end and truth lie beside it."""
    stem = path.name.removesuffix(".jsonl.xz")
    meta = json.loads((path.parent / f"{stem}.meta.json").read_text())
    truth = json.loads(lzma.decompress((path.parent / f"{stem}.truth.json.xz").read_bytes()))
    wire = read_wire(path)
    times = [line["t"] for line in wire]

    assert "QMP" in json.loads(wire[0]["raw"])
    assert {line["dir"] for line in wire} == {"tx", "rx"}
    assert times == sorted(times)
    assert meta["t_start"] <= times[0] <= times[-1] <= meta["t_exit"]
    assert isinstance(meta["exit"], int)
    assert meta["qemu"].startswith(path.parent.name)
    assert all(meta["t_start"] <= t <= meta["t_exit"] for t, *_ in truth["runstate"] + truth["trace"])


def test_a_recording_holds_nothing_of_the_machine_it_was_made_on():
    """No path of a home or a checkout is in what is committed."""
    for path in COMMITTED:
        stem = path.name.removesuffix(".jsonl.xz")
        text = lzma.decompress(path.read_bytes()).decode() + (path.parent / f"{stem}.meta.json").read_text()

        assert not any(word in text for word in (str(found.ROOT), "/root/", "/home/", "/tmp/"))


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLE)
def test_a_story_told_again_has_the_same_shape(name, qemu, guest):
    """A fresh recording has the commands, answers and events of the committed one, in the same order."""
    plain = {story.rstrip("_"): story for story in STORIES}
    try:
        told = record_stories.play(plain[name], qemu, guest)
    except found.NotFound as missing:  # a program that a story needs beside QEMU
        pytest.skip(str(missing))
    except TimeoutError as wedged:
        if (qemu.version, name) not in WEDGES:
            raise
        pytest.skip(f"QEMU is wedged: {wedged}")
    for recording, (wire, meta, truth) in told.items():
        expected = shape(read_wire(FOLDER / qemu.version / f"{recording}.jsonl.xz"))
        seen = shape(wire)

        assert meta["exit"] is not None
        assert truth["runstate"] or truth["status"] or name in BRIEF
        if name in RACES:
            expected, seen = asked(expected), asked(seen)
        if name in REORDERED:
            expected, seen = set(expected), set(seen)

        assert seen == expected


def asked(steps):
    """Return the names of the commands in a shape, each once."""
    return {step for step in steps if step.startswith(">")}
