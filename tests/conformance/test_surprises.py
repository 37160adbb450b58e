"""What QEMU does that its documentation would not make one expect, each told right."""

from __future__ import annotations

import pytest

OLD, NEW = "7.2", "10.0"


def statuses(story, job):
    """Return the statuses of a job, in order."""
    start = f"JOB_STATUS_CHANGE {job} "
    return [words.removeprefix(start) for words in story.said(start)]


# --- 1: a panic that powers off


def test_a_panic_that_powers_off_sends_no_stop(told):
    """GUEST_PANICKED with action `poweroff`: SHUTDOWN with its reason and the end of the process, never a STOP."""
    story = told("panic_poweroff")

    assert story.said("GUEST_PANICKED", "STOP", "SHUTDOWN") == [
        "GUEST_PANICKED poweroff",
        "SHUTDOWN guest-panic",
    ]
    assert story.steps[-1].process == ("exited",)
    assert story.at("SHUTDOWN guest-panic").runstate == ("running",)
    assert not story.violations


def test_a_panic_that_exits_with_failure_is_a_death_with_status_one(wire):
    """GUEST_PANICKED with action `poweroff` may end the process with status 1 (-action panic=exit-failure)."""
    w = wire("-action", "panic=exit-failure")
    w.event("GUEST_PANICKED", action="poweroff")
    w.event("SHUTDOWN", guest=True, reason="guest-panic")
    w.put("lost", {})
    w.put("exited", {"status": 1})

    assert w.vm.exit == {"status": 1}
    assert w.vm.names("process", w.vm.process) == ("exited",)
    assert not [f for f in w.checker.findings if f.severity == "violation"]


# --- 2: the watchdog


def test_a_watchdog_that_powers_off_says_no_goodbye(told):
    """WATCHDOG with action `poweroff`: end of file with no SHUTDOWN, which the rule says and the state survives."""
    story = told("watchdog_poweroff")

    assert story.said("WATCHDOG", "SHUTDOWN", "lost") == ["WATCHDOG poweroff", "lost"]
    assert story.steps[-1].process == ("exited",)
    assert not story.violations


@pytest.mark.parametrize("action", ["debug", "none", "inject-nmi", "shutdown"])
def test_a_watchdog_that_does_not_pause_stops_nothing(wire, action):
    """WATCHDOG with any action but `pause` leaves the run state as it was; `shutdown` is a POWERDOWN to the guest."""
    w = wire()
    if action == "shutdown":
        w.event("POWERDOWN")
    w.event("WATCHDOG", action=action)

    assert w.runstate == ("running",)


# --- 3: how many RESETs


def test_one_reset_is_announced_once_or_more(told):
    """One `system_reset` gives one to three RESET, the firmware's own among them, and the guest runs on."""
    story = told("suspend_wakeup")
    first, second = [s for s in story.steps if s.said == "-> system_reset"][:2]
    between = [s for s in story.steps if first.seq < s.seq < second.seq and s.said.startswith("RESET")]

    assert 2 <= len(between) <= 3
    assert between[0].said == "RESET host-qmp-system-reset"
    assert {s.said for s in between[1:]} == {"RESET guest-reset"}
    assert {s.runstate for s in between} == {("running",)}


# --- 4: resetting what stands still


def test_a_reset_takes_a_stopped_vm_back_to_prelaunch(told):
    """`system_reset` of a paused VM leads to `prelaunch`, where `stop` answers and does nothing."""
    story = told("reset")
    stopped = story.at("-> system_reset", 3)
    reset = story.after(stopped)

    assert stopped.runstate == ("paused",)
    assert (reset.said, reset.runstate) == ("RESET host-qmp-system-reset", ("prelaunch",))
    stop = story.at("-> stop", 2)
    assert story.after(stop).said == "<- stop"
    assert story.after(stop).runstate == ("prelaunch",)


# --- 5: sleep


def test_stop_of_a_sleeping_guest_differs_by_version(told, version):
    """7.2: `stop` in S3 is a silent no-op. 10.0: STOP to `paused`, and `cont` goes back to `suspended` with RESUME."""
    story = told("suspend_wakeup")
    asleep = story.at("-> stop")
    after = [s for s in story.steps if asleep.seq < s.seq <= story.at("<- cont", 2).seq]

    assert asleep.runstate == ("suspended",)
    if version == OLD:
        assert [s.said for s in after][:1] == ["<- stop"]
        assert {s.runstate for s in after} == {("suspended",)}
    else:
        assert [(s.said, s.runstate) for s in after if s.said in ("STOP", "RESUME")] == [
            ("STOP", ("paused",)),
            ("RESUME", ("suspended",)),
        ]


def test_a_reset_of_a_sleeping_guest_is_prelaunch_and_wakes_with_no_wakeup(told, wire):
    """Reset in S3 leads to `prelaunch`; after `cont` the guest is awake, and no WAKEUP ever said so."""
    story = told("suspend_wakeup")
    asleep = story.at("-> system_reset", 3)
    assert (asleep.runstate, story.after(asleep).runstate) == (("suspended",), ("prelaunch",))

    w = wire()
    w.event("SUSPEND")
    w.event("RESET", guest=False, reason="host-qmp-system-reset")
    i = w.send("cont")
    w.event("RESUME")
    w.answer(i)
    assert w.runstate == ("running",)
    assert not w.rules


@pytest.mark.parametrize("version", [NEW])  # 7.2 cannot stop a sleeping guest
def test_waking_a_stopped_guest_is_refused(wire):
    """10.0: `system_wakeup` of a guest that was stopped asleep fails, and `cont` still brings it back to its sleep."""
    w = wire()
    w.event("SUSPEND")
    i = w.send("stop")
    w.event("STOP")
    w.answer(i)
    w.refused("system_wakeup", "Unable to wake up: guest is not in suspended state")
    assert w.runstate == ("paused",)
    i = w.send("cont")
    w.event("RESUME")
    w.answer(i)

    assert w.runstate == ("suspended",)


def test_a_power_button_in_the_guests_sleep_is_only_announced(wire):
    """`system_powerdown` in S3: POWERDOWN, and the guest sleeps on."""
    w = wire()
    w.event("SUSPEND")
    i = w.send("system_powerdown")
    w.event("POWERDOWN")
    w.answer(i)

    assert w.runstate == ("suspended",)
    assert not w.rules


# --- 7: causes held back


def test_a_cause_that_comes_late_blames_no_other_stop(told, version):
    """10.0 holds BLOCK_IO_ERROR back for a second: the state it explains stays possible, and a later `stop` is ours."""
    story = told("io_error_stop")
    stops = [s for s in story.steps if s.said == "STOP"]

    assert all("io-error" in s.runstate for s in stops[:-1])
    assert stops[0].runstate == ("io-error",)
    assert stops[-1].runstate == ("paused",)
    if version == NEW:
        late = [s for s in story.steps if s.said.startswith("BLOCK_IO_ERROR")][-1]
        assert [s.said for s in story.steps if s.seq < late.seq].count("STOP") == 3
        assert late.runstate == ("running",)
    assert not story.violations


def test_a_cause_that_comes_after_the_reset_blames_nothing(wire, version):
    """10.0: the BLOCK_IO_ERROR of a STOP may arrive after the RESET that ended it, and explains no later STOP."""
    w = wire()
    w.event("BLOCK_IO_ERROR", device="", operation="write", action="stop")
    w.event("STOP")
    at = w.clock
    i = w.send("cont")
    w.event("RESUME")
    w.answer(i)
    w.event("STOP", at=at + 500_000)
    if version == NEW:
        assert "io-error" in w.runstate
    i = w.send("system_reset")
    w.event("RESET", guest=False, reason="host-qmp-system-reset")
    w.answer(i)
    assert "prelaunch" in w.runstate
    w.event("BLOCK_IO_ERROR", at=at + 400_000, device="", operation="write", action="stop")
    assert "prelaunch" in w.runstate
    assert not [f for f in w.checker.findings if f.severity == "violation"]


def test_a_failed_io_status_of_a_running_vm_contradicts_nothing(told, wire):
    """`cont` may leave a node's io-status at `failed`: query-block says nothing of the run state."""
    w = wire()
    w.ok("query-block", [{"device": "", "io-status": "failed", "locked": False, "removable": False}])

    assert w.runstate == ("running",)
    assert not w.rules
    assert told("io_error_stop").at("<- query-block").runstate == ("io-error",)


# --- 8: jobs


def test_a_drain_pauses_jobs_that_nobody_paused(told):
    """A second job's start, and quit, make running jobs go `paused`, `running` and ready ones `standby`, `ready`."""
    story = told("jobs_at_quit")
    started = [s.seq for s in story.steps if s.said in ("-> blockdev-backup", "<- blockdev-backup")]
    noise = [
        s.said
        for s in story.steps
        if started[0] < s.seq < started[1] and s.said.startswith("JOB_STATUS_CHANGE m1")
    ]

    assert len(noise) >= 2
    assert noise[0::2] == ["JOB_STATUS_CHANGE m1 standby"] * len(noise[0::2])
    assert noise[1::2] == ["JOB_STATUS_CHANGE m1 ready"] * len(noise[1::2])
    assert "-> job-pause" not in story.said()
    assert not story.findings


def test_jobs_go_on_after_shutdown(told):
    """JOB_STATUS_CHANGE comes after SHUTDOWN too, while QEMU ends its jobs; each is followed to its end."""
    story = told("jobs_at_quit")
    after = [s for s in story.steps if s.seq > story.at("SHUTDOWN host-qmp-quit").seq]

    assert {s.said.split()[1] for s in after if s.said.startswith("JOB_STATUS_CHANGE")} == {"m1", "b1"}
    assert after[-1].jobs["b1"] == ("null",)
    assert not story.violations


def test_loading_a_snapshot_that_is_not_there_leaves_the_vm_stopped(told):
    """snapshot-load of a missing tag: STOP, no RESUME, the job fails, and the VM stays in `restore-vm`."""
    story = told("snapshot_jobs")

    assert statuses(story, "bad") == ["created", "running", "aborting", "concluded", "null"]
    failed = story.at("JOB_STATUS_CHANGE bad concluded")
    assert failed.runstate == ("restore-vm",)
    assert failed.qmp["data"] == {"status": "concluded", "id": "bad"}


def test_a_soft_cancel_of_a_ready_mirror_ends_completed(told):
    """block-job-cancel of a ready mirror without force: BLOCK_JOB_COMPLETED, by way of `waiting` and `pending`."""
    story = told("mirror")

    assert statuses(story, "cancel")[-5:] == ["ready", "waiting", "pending", "concluded", "null"]
    assert statuses(story, "force")[-3:] == ["aborting", "concluded", "null"]
    assert not story.violations


def test_a_failed_transaction_shows_its_jobs_come_and_go_before_the_error(wire):
    """`created`, `aborting`, `concluded`, `null`, and only then the error: the job is gone, nothing is wrong."""
    w = wire()
    i = w.send("transaction", actions=[])
    for status in ("created", "aborting", "concluded", "null"):
        w.event("JOB_STATUS_CHANGE", id="t0", status=status)
    w.refuse(i, "Cannot find device='' nor node-name='nope'")

    assert w.job("t0") == ("null",)
    assert not w.rules


# --- 9: dumps


def test_a_dump_is_completed_before_the_vm_goes_on(told, wire):
    """DUMP_COMPLETED comes before RESUME: the VM is still `save-vm` in between."""
    story = told("dump_guest_memory")
    for nth in (1, 2):
        done = story.at("DUMP_COMPLETED", nth)
        assert done.runstate == ("save-vm",)
        following = next(s for s in story.steps if s.seq > done.seq and s.said == "RESUME")
        assert following.runstate == ("running",)

    w = wire()
    i = w.send("dump-guest-memory", paging=False, protocol="file:a", detach=True)
    w.event("STOP")
    w.answer(i)
    w.event("DUMP_COMPLETED", result={"status": "completed", "total": 1, "completed": 1})
    w.refused(
        "dump-guest-memory", "There is a dump in process, please wait.", paging=False, protocol="file:b"
    )
    assert w.runstate == ("save-vm",)
    w.event("RESUME")
    assert w.runstate == ("running",)
    assert not w.rules


# --- 11: hotplug, beyond what holds for every device


def test_a_request_at_clock_zero_is_pending_until_a_reset(wire):
    """ACPI, asked for before the first cont: every repeat is refused, and the reset completes it."""
    w = wire("-device", "virtio-rng-pci,id=r0,bus=rp0", running=False)
    w.ok("device_del", id="r0")
    w.refused("device_del", "Device r0 is already in the process of unplug", id="r0")
    assert w.device("r0") == ("unplugging",)
    w.event("RESET", guest=False, reason="host-qmp-system-reset")
    w.event("DEVICE_DELETED", path="/machine/peripheral/r0/virtio-backend")
    w.event("DEVICE_DELETED", device="r0", path="/machine/peripheral/r0")

    assert w.device("r0") == ("gone",)
    assert not w.rules


def test_a_native_request_is_refused_again_for_five_seconds(told):
    """Native PCIe: a repeat within five seconds of virtual time is refused, also for as long as the VM is paused."""
    for name in ("second_device_del_pcie", "unplug_paused_pcie"):
        story = told(name)
        refused = story.at("<! device_del")
        assert "already in the process of unplug" in refused.qmp["error"]["desc"]
        assert ("unplugging",) in refused.devices.values()
        assert not story.violations


def test_a_dimm_refused_by_its_guest_is_told_by_ost(told):
    """x86: _OST status 130 is the only refusal there is, and the DIMM is present again."""
    story = told("dimm")
    refused = next(
        s for s in story.steps if s.said.startswith("ACPI") and s.qmp["data"]["info"].get("status") == 130
    )

    assert refused.devices["dimm2"] == ("present",)
    assert story.vm.devices["dimm2"].refused
    assert not story.said("DEVICE_UNPLUG_GUEST_ERROR", "MEM_UNPLUG_ERROR")


def test_ten_checks_no_id(wire, version):
    """10.0 takes any id for a device; 7.2 refuses one that begins with a digit. Either is told by its answer."""
    w = wire()
    if version == NEW:
        w.plug("1bad", "virtio-rng-pci")
        assert w.device("1bad") == ("present",)
    else:
        w.refused(
            "device_add",
            "Parameter 'id' expects an identifier",
            id="1bad",
            driver="virtio-rng-pci",
            bus="rp0",
        )
        assert w.device("1bad") == ("gone",)
    assert not w.rules


# --- 12: the protocol


def test_the_reply_of_a_dropped_client_goes_to_the_next(told, recorded):
    """An answer right after the greeting may be the last client's: no breach, and what it settles is settled."""
    assert not told("reconnect.c2").violations
    second = recorded("proto_reconnect.c2")
    assert not second.violations
    assert "reply-without-command" not in {f.rule for f in second.findings}


def test_a_late_reply_settles_what_was_unknown(wire):
    """The answer to a device_add whose client left comes to the next one: the device is there."""
    w = wire()
    i = w.send("device_add", id="vd1", driver="virtio-blk-pci", bus="rp0")
    w.put("lost", {"by": "us"})
    w.put("opened", {})
    version = dict(zip(("major", "minor", "micro"), w.vm.version, strict=True))
    w.put("greeting", {"qmp": {"QMP": {"version": {"qemu": version}, "capabilities": []}}})
    assert {"gone", "present"} <= set(w.device("vd1"))
    w.answer(i)

    assert w.device("vd1") == ("present",)
    assert "reply-without-command" not in w.rules


def test_infinity_in_a_reply_is_read(wire):
    """QEMU prints `inf` where JSON has no word for it: the answer is read, and settles its command."""
    w = wire()
    i = w.send("query-block")
    w.put("reply", {"text": f'{{"return": [{{"rate": inf}}], "id": "{i}"}}'})

    assert not w.vm.pending
    assert not w.rules


def test_an_out_of_band_command_overtakes(wire):
    """exec-oob is answered before what was sent earlier: each answer finds its own command."""
    w = wire()
    slow = w.send("device_add", id="vd1", driver="virtio-blk-pci", bus="rp0")
    w.put("command", {"qmp": {"exec-oob": "migrate-pause", "id": "oob"}})
    w.put("failure", {"qmp": {"error": {"class": "GenericError", "desc": "no"}, "id": "oob"}})
    assert w.device("vd1") == ("adding",)
    w.answer(slow)

    assert w.device("vd1") == ("present",)
    assert not w.rules


def test_events_kept_back_by_a_full_socket_are_only_late(wire):
    """QEMU buffers without limit: events that are read minutes later are in order, and no breach."""
    w = wire()
    sent = w.clock
    w.clock += 600_000_000
    w.event("SUSPEND", at=sent + 1000)
    w.event("WAKEUP", at=sent + 2000)

    assert w.runstate == ("running",)
    assert not w.rules


def test_text_in_an_unclosed_bracket_is_lost_without_a_word(wire):
    """QEMU reads on inside an unclosed bracket: what was sent there is never answered, and only noted."""
    w = wire()
    w.put("malformed", {"data": b'{"execute": "stop"', "from": "client", "error": "unclosed"})
    w.send("query-name")
    w.checker.close()

    assert w.runstate == ("running",)
    assert w.rules == ["malformed", "command-without-reply"]


# --- 13: a crash


@pytest.mark.shared
def test_adding_a_cpu_again_kills_7_2_under_tcg(recorded, version):
    """7.2 under TCG aborts when an unplugged CPU is added again: end of file, the command unanswered, no violation."""
    story = recorded("hp_cpu")

    assert not story.violations
    if version == OLD:
        assert story.vm.exit in ({"signal": 6}, {"signal": 11})
        assert story.steps[-1].devices["cpu1"] == ("gone", "present")
        assert [f.subject for f in story.findings if f.rule == "command-without-reply"] == ["device_add"]
    else:
        assert story.said("<- device_add", "<! device_add").count("<- device_add") >= 2
