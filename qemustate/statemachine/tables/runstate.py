"""The VM's run state: QAPI ``RunState``, 16 states, as QEMU keeps it and as little of it as QEMU tells.

Theory. QEMU's own table is ``runstate_transitions_def`` (system/runstate.c; softmmu/runstate.c before 8.1):
71 edges in 7.2, 85 in 10.0. What reaches us is STOP, RESUME, RESET, SUSPEND, WAKEUP and SHUTDOWN, none of
which names a state:

* STOP is one event for a pause, an I/O error, a watchdog, a panic, a shutdown with -no-shutdown, a saved or
  loaded snapshot, and the end of a migration. What decides is who asked. QEMU announces most causes before
  the STOP (WATCHDOG, GUEST_PANICKED, BLOCK_IO_ERROR, SHUTDOWN), and our own commands are known; these are the
  guards. Where a cause is in sight, the STOP is its (``stop-has-its-cause``). Where none is, the rows for an
  *unexplained* STOP apply: whatever nobody would have announced to us.
* RESET moves a stopped VM to ``prelaunch`` with no run-state event (main_loop_should_exit()).
* ``stop`` and ``cont`` send their event before their reply, or none when they change nothing; so the reply
  alone tells which states are left.
* A migration's moves are silent when the VM was stopped. QEMU sets ``finish-migrate``, sends MIGRATION
  ``completed``, and only then sets ``postmigrate`` (migration_iteration_finish()).
* The VM enters a state just before QEMU announces it (STOP, SUSPEND), or just after (RESUME, RESET, both
  within the same step of the main loop). Between entering a state and STOP it makes the jobs stand still, and they say so.

Hidden bits. ``+s``: the guest was asleep (S3) when it was stopped; since 9.0 QEMU remembers that and returns
to ``suspended``, not ``running``. ``finish-migrate+p``: the VM was stopped before the migration stopped it, so
no RESUME follows if the migration is given up. ``finish-migrate+u``: the migration has stopped the VM, and its
STOP has not been sent; believed in only while a question is on its way that may meet it. ``inmigrate-S``: an incoming VM that will not start by itself.
"""

from __future__ import annotations

from typing import Final

import msgspec

from qemustate.statemachine.rows import SILENT, Row, Table, coupling, rows

#: QAPI ``RunState``, in QEMU's order (qapi/run-state.json).
RUNSTATES: Final = (
    "debug", "inmigrate", "internal-error", "io-error", "paused", "postmigrate", "prelaunch", "finish-migrate",
    "restore-vm", "running", "save-vm", "shutdown", "suspended", "watchdog", "guest-panicked", "colo",
)  # fmt: skip

_ASLEEP: Final = ("paused+s", "save-vm+s", "restore-vm+s", "shutdown+s", "finish-migrate+s")
_HIDDEN: Final = {
    **{s: s[:-2] for s in _ASLEEP},
    "finish-migrate+p": "finish-migrate",
    "finish-migrate+u": "finish-migrate",
    "inmigrate-S": "inmigrate",
}

#: States in which the vCPUs stand still and RESUME, RESET or a migration may come next.
_STOPPED = "debug internal-error io-error paused postmigrate prelaunch restore-vm save-vm shutdown watchdog guest-panicked colo"
_STOPPED_S = "paused+s save-vm+s restore-vm+s shutdown+s"
#: What a migration may find, what `cont` may start, what a reset takes back to `prelaunch`: as QEMU's table has it.
_MIGRATABLE = "debug internal-error io-error paused postmigrate prelaunch shutdown watchdog guest-panicked"
_STARTABLE = "debug io-error paused postmigrate prelaunch restore-vm save-vm watchdog guest-panicked colo"
_RESETTABLE = "debug internal-error io-error paused postmigrate prelaunch restore-vm shutdown watchdog guest-panicked colo"
_FINISHING = "finish-migrate finish-migrate+s finish-migrate+p"
_EVERY = f"{_STOPPED} {_STOPPED_S} {_FINISHING} finish-migrate+u running suspended inmigrate inmigrate-S"
#: What a VM that was stopped may be given back by a migration (migration/global_state.c).
_RESTORED = "paused prelaunch io-error watchdog guest-panicked shutdown internal-error"
_WITHOUT_MIGRATION = f"{_STOPPED} {_STOPPED_S} running suspended inmigrate inmigrate-S".replace(
    "postmigrate ", ""
).replace(" colo", "")
_UNEXPLAINED = "!stop-sent !anything-sent !io-error !watchdog !panic !shutdown-pauses !ending !saving !loading !outgoing !colo"

_VM_STOP = "system/cpus.c do_vm_stop()"
_VM_START = "system/cpus.c vm_prepare_start()"
_MAIN_LOOP = "system/runstate.c main_loop_should_exit()"
_MIGRATION = "migration/migration.c"
_INCOMING = f"{_MIGRATION} process_incoming_migration_bh()"


def _stop_rows() -> list[Row]:
    """STOP, by cause; the second half for a guest that was asleep (9.0 on)."""
    causes = [
        # guard           dest             cause          assumption
        ("stop-sent", "paused", "stop", "stop-is-ours"),
        ("anything-sent", "paused save-vm restore-vm", "another command", ""),
        ("io-error", "io-error", "io-error", "stop-has-its-cause"),
        ("watchdog", "watchdog", "watchdog", "stop-has-its-cause"),
        ("panic", "guest-panicked", "guest-panicked", "stop-has-its-cause"),
        ("shutdown-pauses", "shutdown", "shutdown", "stop-has-its-cause"),
        ("ending", "shutdown", "shutdown", ""),  # somebody else said so: set-action
        ("saving", "save-vm", "snapshot-save", "stop-has-its-cause"),
        ("loading", "restore-vm", "snapshot-load", "stop-has-its-cause"),
        ("outgoing !postcopy !background !colo", "finish-migrate", "migration", "stop-has-its-cause"),
        ("outgoing background", "paused", "background snapshot", "stop-has-its-cause"),
        ("colo", "colo", "COLO checkpoint", "stop-has-its-cause"),
        (_UNEXPLAINED, "paused", "nobody known", ""),
        (f"others {_UNEXPLAINED}", "save-vm restore-vm finish-migrate", "another monitor", ""),
        (f"debugger {_UNEXPLAINED}", "debug", "debugger", ""),
        (f"kvm {_UNEXPLAINED}", "internal-error", "accelerator", ""),
    ]
    found: list[Row] = []
    for guard, dest, cause, assume in causes:
        found += rows("STOP", "running", dest, when=guard, cause=cause, assume=assume, ref=_VM_STOP)
    asleep = {"paused", "save-vm", "restore-vm", "shutdown", "finish-migrate"}
    for guard, dest, cause, assume in causes:
        for state in (name for name in dest.split() if name in asleep):
            found += rows(
                "STOP",
                "suspended",
                f"{state}+s",
                when=guard,
                cause=cause,
                assume=assume,
                since="9.0",
                ref=_VM_STOP,
            )
    # Before 9.0 postcopy did not note that the VM had run: given up, it stays stopped.
    found += rows(
        "STOP",
        "running",
        "finish-migrate+p",
        when="outgoing postcopy !background",
        cause="migration",
        until="9.0",
        assume="stop-has-its-cause",
        ref=_MIGRATION,
    )
    # Before 9.0 a migration woke the guest first (qemu_system_wakeup_request), silently: the STOP is the first sign.
    found += rows(
        "STOP",
        "suspended",
        "finish-migrate",
        when="outgoing !background",
        cause="migration",
        until="9.0",
        ref=_MIGRATION,
    )
    found += rows("STOP", "finish-migrate+u", "finish-migrate", cause="migration", ref=_VM_STOP)
    return found


def _drained_rows() -> list[Row]:
    """A job that stands still: a stop whose cause is in sight may have begun, and STOP is sent when all jobs do."""
    return [
        *rows("drained", _EVERY, "=", ref=_VM_STOP),
        *(
            msgspec.structs.replace(row, trigger="drained", assumption="")
            for row in _STOPS
            if "!stop-sent" not in row.when
        ),
    ]


_STOPS: Final = _stop_rows()

_ROWS: list[Row] = [
    *_STOPS,
    *_drained_rows(),
    # --- RESUME: the vCPUs are about to run
    *rows("RESUME", _STARTABLE, "running", cause="cont", ref=_VM_START),
    *rows("RESUME", "finish-migrate", "running", cause="migration ended", ref=f"{_MIGRATION} migration_iteration_finish()"),
    *rows("RESUME", "paused+s save-vm+s restore-vm+s finish-migrate+s", "suspended", cause="cont", since="9.0", ref=_VM_START),
    *rows("RESUME", "inmigrate inmigrate-S", "running", when="sleeps", cause="incoming migration", ref=_INCOMING),
    *rows("RESUME", "inmigrate inmigrate-S", "running", when="!sleeps", cause="incoming migration", assume="no-s3-no-sleep", ref=_INCOMING),
    *rows("RESUME", "inmigrate inmigrate-S", "suspended", when="sleeps", cause="incoming migration", since="9.0", ref=_INCOMING),
    # --- RESET: the machine was reset; the vCPUs go on, stand still, or wait for the launch
    *rows("RESET", f"running inmigrate inmigrate-S {_FINISHING} finish-migrate+u", "=", ref=_MAIN_LOOP),
    *rows("RESET", f"{_RESETTABLE} paused+s restore-vm+s shutdown+s suspended", "prelaunch", cause="reset", ref=_MAIN_LOOP),
    # --- The guest's own sleep
    *rows("SUSPEND", "running", "suspended", when="!woken", cause="guest", ref="system/runstate.c qemu_system_suspend()"),
    *rows("WAKEUP", "suspended", "running", cause="wakeup", ref="system/runstate.c qemu_system_wakeup_request()"),
    *rows(SILENT, "suspended", "running", when="wakeup-sent", cause="system_wakeup", ref="qemu_system_wakeup_request(): before WAKEUP is sent"),
    *rows("WAKEUP", "running", "=", when="woken", ref="the state was set when system_wakeup was called"),
    *rows("WAKEUP", "running", "=", when="outgoing", until="9.0", ref=f"{_MIGRATION}: a migration woke the guest"),
    *rows("WAKEUP", "running", "=", when="migrate-sent", until="9.0", ref=f"{_MIGRATION}: a migration woke the guest, and was given up"),
    *rows("WAKEUP", "finish-migrate finish-migrate+u postmigrate prelaunch paused", "=", ref="the wake-up was asked for before the VM stopped"),
    # --- SHUTDOWN and POWERDOWN change nothing by themselves; STOP or the end of the process follows
    *rows("SHUTDOWN", _EVERY, "=", ref=_MAIN_LOOP),
    # --- Answers: what they leave possible
    *rows("return stop", f"{_STOPPED} {_STOPPED_S} {_FINISHING}", "=", ref="monitor/qmp-cmds.c qmp_stop()"),
    *rows("return stop", "running", "finish-migrate+u", when="outgoing", cause="migration", ref="do_vm_stop(): the migration has stopped it, and STOP is sent after"),
    *rows("return stop", "suspended", "=", until="9.0", ref=_VM_STOP),
    *rows("return stop", "inmigrate inmigrate-S", "inmigrate-S", when="incoming", cause="stop", ref="monitor/qmp-cmds.c qmp_stop()"),
    *rows("return cont", "running suspended", "=", ref="monitor/qmp-cmds.c qmp_cont()"),
    *rows("return cont", "inmigrate inmigrate-S", "inmigrate", when="incoming", cause="cont", ref="monitor/qmp-cmds.c qmp_cont()"),
    *rows("error cont:reset-required", "internal-error shutdown shutdown+s", "=", ref="qmp_cont(): Resetting the Virtual Machine is required"),
    *rows("error cont:finalizing", f"{_FINISHING} finish-migrate+u", "=", ref="qmp_cont(): Migration is not finalized yet"),
    *rows("error cont:finalizing", "postmigrate", "finish-migrate postmigrate", ref="qmp_cont(): answered just before MIGRATION `completed` became true"),
    *rows("error cont:finalizing", "running", "finish-migrate+u", when="outgoing", cause="migration", ref="qmp_cont(): before STOP is sent"),
    *rows("error cont", _EVERY, "=", ref="qmp_cont()"),
    *rows("error system_wakeup:awake", _EVERY.replace(" suspended ", " "), "=", ref="qmp_system_wakeup(): guest is not in suspended state"),
    *rows("return system_wakeup", "suspended running", "running", cause="system_wakeup", ref="qemu_system_wakeup_request()"),
    # --- The launch: without -S the VM starts before QEMU answers its first command
    *rows("spawned", "prelaunch", "=", when="!incoming", ref="system/vl.c"),
    *rows("spawned", "prelaunch", "inmigrate", when="incoming autostart", cause="launch", ref="system/vl.c: -incoming"),
    *rows("spawned", "prelaunch", "inmigrate-S", when="incoming !autostart", cause="launch", ref="system/vl.c: -incoming -S"),
    *rows(SILENT, "prelaunch", "running", when="starting autostart !incoming", cause="launch", ref="system/vl.c qmp_x_exit_preconfig()"),
    *rows("first reply", "prelaunch", "running", when="autostart !incoming", cause="launch", assume="first-reply", ref="system/vl.c qmp_x_exit_preconfig()"),
    *rows("first reply", "prelaunch", "=", when="!autostart", ref="system/vl.c qmp_x_exit_preconfig()"),
    *rows("first reply", _EVERY.replace(" prelaunch ", " "), "=", ref="system/vl.c qmp_x_exit_preconfig()"),
    # --- Outgoing migration: entered silently by a VM that was stopped; while a question is open, before STOP is sent
    *rows(SILENT, "running", "finish-migrate+u", when="asked outgoing !background !colo", cause="migration", ref=f"{_VM_STOP}: set, and only then announced"),
    *rows(SILENT, _MIGRATABLE.replace("postmigrate ", ""), "finish-migrate+p", when="asked outgoing !background !colo", cause="migration", ref=f"{_MIGRATION} migration_completion()"),
    *rows("DUMP_COMPLETED", _EVERY.replace(" running ", " "), "=", ref="dump/dump.c dump_process(): sent before the VM goes on"),
    *rows("MIGRATION switchover", _FINISHING, "=", ref=f"{_MIGRATION} migration_completion(): after the STOP"),
    *rows("MIGRATION postcopy", _FINISHING, "=", ref=f"{_MIGRATION} postcopy_start()"),
    *rows("MIGRATION postcopy", "running", "=", until="10.0", ref=f"{_MIGRATION} postcopy_start(): before the STOP"),
    *rows("MIGRATION postcopy", _MIGRATABLE, "finish-migrate+p", cause="migration", ref=f"{_MIGRATION} postcopy_start()"),
    *rows("MIGRATION postcopy", "paused+s shutdown+s", "finish-migrate+p", cause="migration", since="9.0", ref=f"{_MIGRATION} postcopy_start()"),
    *rows("MIGRATION postcopy", "suspended", "finish-migrate", cause="migration", until="9.0", ref=f"{_MIGRATION} postcopy_start()"),
    *rows("MIGRATION switchover", _MIGRATABLE, "finish-migrate+p", cause="migration", ref=f"{_MIGRATION} migration_stop_vm()"),
    *rows("MIGRATION switchover", "paused+s shutdown+s", "finish-migrate+p", cause="migration", since="9.0", ref=f"{_MIGRATION} migration_stop_vm()"),
    *rows("MIGRATION switchover", "suspended", "finish-migrate", cause="migration", until="9.0", ref=f"{_MIGRATION} migration_stop_vm()"),
    *rows(SILENT, _MIGRATABLE.replace("postmigrate ", ""), "finish-migrate+p", when="switchover !background", cause="migration", ref=f"{_MIGRATION} migration_completion()"),
    *rows(SILENT, "paused+s shutdown+s", "finish-migrate+p", when="switchover !background", cause="migration", since="9.0", ref=f"{_MIGRATION} migration_completion()"),
    *rows(SILENT, "suspended", "finish-migrate", when="switchover !background", cause="migration", until="9.0", ref=f"{_MIGRATION} migration_completion()"),
    *rows(SILENT, _FINISHING, "postmigrate", when="switchover !migration-events", cause="migration", ref=f"{_MIGRATION} migration_iteration_finish()"),
    *rows("MIGRATION completed", f"{_FINISHING} {_MIGRATABLE} paused+s shutdown+s", "postmigrate", cause="migration", assume="postmigrate-at-once", ref=f"{_MIGRATION} migration_iteration_finish()"),
    *rows("MIGRATION completed", _FINISHING, "=", when="reset-meanwhile", ref="a busy main loop may serve a command in between"),
    *rows("MIGRATION completed", _FINISHING, "=", when="asked", ref="a command that it is serving may be answered in between"),
    *rows("MIGRATION completed", "colo", "=", ref="migration/colo.c primary_vm_do_failover(): RESUME follows"),
    *rows("MIGRATION completed", "running suspended", "=", ref="a background snapshot ends with the VM running"),
    *rows(SILENT, "paused shutdown watchdog finish-migrate inmigrate suspended", "colo", when="colo", cause="COLO checkpoint", ref="migration/colo.c"),
    *rows("no migration", _WITHOUT_MIGRATION, "=", ref="query-migrate: these states are a migration's doing"),
    # --- Outgoing migration given up: RESUME for a VM that ran; else 7.2 leaves postmigrate, 10.0 the state it had
    *rows("MIGRATION ended", f"running suspended {_STOPPED} {_STOPPED_S} finish-migrate finish-migrate+s", "=", ref=f"{_MIGRATION} migration_iteration_finish()"),
    *rows("MIGRATION ended", "finish-migrate+p", "postmigrate", cause="migration ended", until="9.0", ref=f"{_MIGRATION} migration_iteration_finish()"),
    *rows("MIGRATION ended", "finish-migrate+p", f"{_RESTORED} paused+s", cause="migration ended", since="8.2", ref=f"{_MIGRATION} migration_iteration_finish(): vm_resume(s->vm_old_state)"),
    # --- Incoming migration: ends with RESUME, or silently in the state the source had
    *rows("incoming completed", f"running suspended {_STOPPED} {_STOPPED_S}", "=", ref=_INCOMING),
    *rows("incoming completed", "inmigrate inmigrate-S", _RESTORED, cause="incoming migration", ref=_INCOMING),
    *rows("incoming completed", "inmigrate inmigrate-S", "paused+s", when="sleeps", cause="incoming migration", since="9.0", ref=_INCOMING),
    *rows(SILENT, "inmigrate inmigrate-S", _RESTORED, when="incoming !migration-events !new", cause="incoming migration", ref=_INCOMING),
    *rows("events on", "inmigrate inmigrate-S", "=", when="incoming", assume="events-in-time", ref="qapi/migration.json MigrationCapability events"),
    *rows("events on", "inmigrate inmigrate-S", "=", when="!incoming"),
    *rows("events on", f"{_STOPPED} {_STOPPED_S} {_FINISHING} finish-migrate+u running suspended", "=", when="!incoming"),
    # --- The end: qemu_cleanup() stops the vCPUs without a STOP
    *rows("teardown", "running", "running shutdown", cause="exit", ref="system/runstate.c qemu_cleanup(): vm_shutdown(), then the jobs"),
    *rows("teardown", "suspended", "suspended shutdown+s", cause="exit", since="9.0", ref="system/runstate.c qemu_cleanup()"),
    *rows("teardown", "suspended", "=", until="9.0", ref="system/runstate.c qemu_cleanup()"),
    *rows("teardown", f"{_STOPPED} {_STOPPED_S} {_FINISHING} finish-migrate+u inmigrate inmigrate-S", "="),
    *rows("lost", "running", "shutdown", when="ending", cause="exit", ref="system/runstate.c qemu_cleanup()"),
    *rows("lost", "suspended", "shutdown+s", when="ending", cause="exit", since="9.0", ref="system/runstate.c qemu_cleanup()"),
    *rows("lost", "suspended", "=", when="ending", until="9.0", ref="system/runstate.c qemu_cleanup()"),
    *rows("lost", "running suspended", "=", when="!ending"),
    *rows("lost", f"{_STOPPED} {_STOPPED_S} {_FINISHING} finish-migrate+u inmigrate inmigrate-S", "="),
]  # fmt: skip

TABLE: Final = Table(
    name="runstate",
    states=(*RUNSTATES, *_HIDDEN),
    initial="prelaunch",
    rows=tuple(_ROWS),
    shows=_HIDDEN,
    couplings=(coupling("vcpus-run", "running", ref="system/cpus.c"),),
)
