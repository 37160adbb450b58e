"""Looks at the VM's life: who stopped it, what befell the guest, how it ended."""

from __future__ import annotations

from typing import Any, Final

from qemustate.statemachine import guards
from qemustate.statemachine.looks.registry import Asked, Sight, after, before

#: What can be behind a STOP, as guards.
_CAUSES: Final = sum(
    guards.may(name)
    for name in (
        "stop-sent", "anything-sent", "io-error", "watchdog", "panic", "shutdown-pauses", "ending", "saving", "loading",
        "outgoing", "colo",
    )
)  # fmt: skip


@after("event STOP")
def stopped(it: Sight, _qmp: dict[str, Any], _asked: Asked | None) -> None:
    """A STOP without a cause in sight."""
    if not it.vm.profile & _CAUSES:
        possible = " or ".join(it.vm.names("runstate", it.vm.runstate))
        it.found("stop-unexplained", "", f"the run state is {possible}")


@before("event GUEST_PANICKED")
def panicked(it: Sight, qmp: dict[str, Any], _asked: Asked | None) -> None:
    """The guest panicked."""
    it.found("guest-panicked", "", f"action {qmp['data'].get('action')}")


@before("event WATCHDOG")
def watchdog(it: Sight, qmp: dict[str, Any], _asked: Asked | None) -> None:
    """The watchdog fired."""
    it.found("watchdog-fired", "", f"action {qmp['data'].get('action')}")


@before("event BLOCK_IO_ERROR")
def io_error(it: Sight, qmp: dict[str, Any], _asked: Asked | None) -> None:
    """A request of the guest's disk failed."""
    data = qmp["data"]
    where = str(data.get("node-name") or data.get("device") or data.get("qom-path", ""))
    it.found("io-error", where, f"{data.get('operation')}: {data.get('reason')}, action {data.get('action')}")


@before("event SHUTDOWN")
def announced(it: Sight, _qmp: dict[str, Any], _asked: Asked | None) -> None:
    """The end was announced."""
    it.memory["ending"] = True


@before("lost")
def lost(it: Sight, body: dict[str, Any], _asked: Asked | None) -> None:
    """The stream ended, and nobody had announced it."""
    if "ending" not in it.memory and body.get("by") != "us":
        it.found("exit-unannounced", "", "the monitor's stream ended with no SHUTDOWN")


@after("event JOB_STATUS_CHANGE")
def load_failed(it: Sight, qmp: dict[str, Any], _asked: Asked | None) -> None:
    """A snapshot that cannot be loaded leaves the VM stopped (migration/savevm.c snapshot_load_job_bh())."""
    data = qmp["data"]
    cell = it.vm.jobs.get(data["id"])
    failed = cell and cell.type == "snapshot-load" and data["status"] == "aborting"
    if failed and it.vm.names("runstate", it.vm.runstate) == ("restore-vm",):
        it.found("load-failed", data["id"], "the VM stays in restore-vm")
