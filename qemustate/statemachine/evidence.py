"""What each thing on the wire means to the machines: one row per event, command and answer that matters.

A row says: seen *this* (under *that* condition), step *that machine* with *that trigger*, and set these
guards. What is not listed changes no machine. ``subject`` is the path in the event's data or the command's
arguments that names the device, job or backend. ``effect`` names a function of
:mod:`qemustate.statemachine.effects` for the few things a row cannot say.

The source of every row is the QAPI schema's own description of that event or command, unless ``ref`` says
otherwise.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec


class Evidence(msgspec.Struct, frozen=True):
    """One row: see the module's docstring."""

    #: ``STOP`` (an event), ``execute stop``, ``return stop``, ``error stop``
    seen: str
    #: ``runstate``, ``process``, ``monitor``, ``migration``, ``device``, ``devices`` (every one), ``job``, ``node``, ...
    machine: str = ""
    trigger: str = ""
    subject: str = ""
    #: (path, value) that must hold of the data, arguments, or ``desc`` (then: substring)
    where: tuple[str, Any] | None = None
    holds: tuple[str, ...] = ()
    denies: tuple[str, ...] = ()
    effect: str = ""
    ref: str = ""


_CAUSES: Final = ("io-error", "watchdog", "panic", "shutdown-pauses")

EVIDENCE: Final[tuple[Evidence, ...]] = (
    # --- run state
    Evidence("STOP", "", effect="held_back", ref="monitor/monitor.c: rate-limited causes may be late"),
    Evidence("STOP", "runstate", "STOP"),
    Evidence("RESUME", "runstate", "RESUME", denies=_CAUSES, effect="resumed"),
    Evidence("RESUME", "devices", "RESUME"),
    Evidence("RESET", "", effect="reset"),
    Evidence("RESET", "runstate", "RESET", denies=_CAUSES),
    Evidence("RESET", "devices", "RESET"),
    Evidence("SUSPEND", "runstate", "SUSPEND"),
    Evidence("WAKEUP", "runstate", "WAKEUP"),
    Evidence("SHUTDOWN", "", effect="shutdown"),
    Evidence("SHUTDOWN", "process", "SHUTDOWN"),
    Evidence("SHUTDOWN", "runstate", "SHUTDOWN"),
    Evidence("BLOCK_IO_ERROR", "", effect="io_error"),
    Evidence("WATCHDOG", "", effect="watchdog"),
    Evidence("GUEST_PANICKED", "", where=("action", "pause"), holds=("panic",)),
    Evidence("execute stop", "", holds=("stop-sent",)),
    Evidence("return stop", "", effect="stop_answered"),
    Evidence("error stop", "", effect="stop_answered"),
    Evidence("execute system_wakeup", "", holds=("wakeup-sent",)),
    Evidence("return system_wakeup", "", denies=("wakeup-sent",)),
    Evidence("error system_wakeup", "", denies=("wakeup-sent",)),
    Evidence("return stop", "runstate", "return stop", denies=("autostart",)),
    Evidence("return cont", "runstate", "return cont", holds=("autostart",)),
    Evidence("error cont", "runstate", "error cont:reset-required", where=("desc", "Resetting the Virtual Machine is required")),
    Evidence("error cont", "runstate", "error cont:finalizing", where=("desc", "Migration is not finalized yet")),
    Evidence("error system_wakeup", "runstate", "error system_wakeup:awake", where=("desc", "guest is not in suspended state")),
    Evidence("return system_wakeup", "runstate", "return system_wakeup"),
    Evidence("return query-status", "", effect="query_status"),
    Evidence("return set-action", "", effect="set_action"),
    Evidence("execute human-monitor-command", "", effect="hmp_sent"),
    Evidence("return human-monitor-command", "", effect="hmp_answered"),
    Evidence("error human-monitor-command", "", effect="hmp_answered"),
    Evidence("return quit", "process", "return quit"),
    # --- migration
    Evidence("MIGRATION", "", effect="migration"),
    Evidence("execute migrate", "", effect="migrate_sent"),
    Evidence("return migrate", "migration", "return migrate"),
    Evidence("return migrate", "", effect="couple_migration_guards"),
    Evidence("error migrate", "", effect="couple_migration_guards"),
    Evidence("return migrate_cancel", "migration", "return migrate_cancel"),
    Evidence("return migrate_cancel", "", effect="couple_migration_guards"),
    Evidence("return migrate-set-capabilities", "", effect="set_capabilities"),
    Evidence("return migrate-incoming", "migration", "return migrate-incoming"),
    Evidence("return query-migrate", "", effect="query_migrate"),
    # --- devices
    Evidence("execute device_add", "", effect="device_add_sent"),
    Evidence("return device_add", "", effect="device_added"),
    Evidence("error device_add", "", effect="device_add_refused"),
    Evidence("execute device_del", "device", "execute device_del", subject="id"),
    Evidence("return device_del", "", effect="device_del_taken"),
    Evidence("error device_del", "", effect="device_del_refused"),
    Evidence("DEVICE_DELETED", "", effect="device_deleted"),
    Evidence("DEVICE_UNPLUG_GUEST_ERROR", "", effect="unplug_refused"),
    Evidence("MEM_UNPLUG_ERROR", "", effect="unplug_refused"),
    Evidence("ACPI_DEVICE_OST", "", effect="ost"),
    Evidence("FAILOVER_NEGOTIATED", "", effect="negotiated"),
    Evidence("return qom-list", "", effect="qom_list"),
    # --- jobs
    Evidence("JOB_STATUS_CHANGE", "", effect="job_status"),
    Evidence("BLOCK_JOB_COMPLETED", "", effect="block_job_ended"),
    Evidence("BLOCK_JOB_CANCELLED", "", effect="block_job_ended"),
    Evidence("return query-jobs", "", effect="query_jobs"),
    Evidence("execute dump-guest-memory", "", holds=("saving",)),
    Evidence("return dump-guest-memory", "", effect="dump_answered"),
    Evidence("error dump-guest-memory", "", effect="couple_jobs"),
    Evidence("DUMP_COMPLETED", "", effect="couple_jobs"),
    Evidence("execute snapshot-save", "", holds=("saving",)),
    Evidence("error snapshot-save", "", effect="couple_jobs"),
    Evidence("execute snapshot-load", "", holds=("loading",)),
    Evidence("error snapshot-load", "", effect="couple_jobs"),
    # --- memory
    Evidence("BALLOON_CHANGE", "", effect="balloon"),
    Evidence("return qom-set", "", effect="memory_requested"),
    Evidence("return query-memory-devices", "", effect="query_memory_devices"),
    Evidence("return query-balloon", "", effect="query_balloon"),
    Evidence("MEMORY_DEVICE_SIZE_CHANGE", "", effect="memory_size"),
    # --- backends: the reply is the transition
    *(
        Evidence(f"{seen} {command}", machine, f"{seen} {what}", subject=subject)
        for command, machine, what, subject in (
            ("blockdev-add", "node", "add", "node-name"),
            ("blockdev-del", "node", "del", "node-name"),
            ("netdev_add", "netdev", "add", "id"),
            ("netdev_del", "netdev", "del", "id"),
            ("chardev-add", "chardev", "add", "id"),
            ("chardev-remove", "chardev", "del", "id"),
            ("object-add", "object", "add", "id"),
            ("object-del", "object", "del", "id"),
        )
        for seen in ("execute", "return", "error")
    ),
)  # fmt: skip

#: Events that move no machine, each with the reason. With :data:`EVIDENCE` these are all that QEMU 7.2 to 10.0 send.
INFORMATIONAL: Final = {
    "BLOCK_EXPORT_DELETED": "an export is no machine here; the node it used is told by its own commands",
    "BLOCK_IMAGE_CORRUPTED": "the node stays; if fatal, its I/O fails from now on",
    "BLOCK_JOB_ERROR": "the job's status follows in JOB_STATUS_CHANGE, if it changes",
    "BLOCK_JOB_PENDING": "JOB_STATUS_CHANGE `pending` came just before",
    "BLOCK_JOB_READY": "JOB_STATUS_CHANGE `ready` came just before",
    "BLOCK_WRITE_THRESHOLD": "a threshold is no state of the node",
    "COLO_EXIT": "MIGRATION tells the status; the run state follows in STOP and RESUME",
    "CPU_POLARIZATION_CHANGE": "topology of an s390x guest",
    "DEVICE_TRAY_MOVED": "the device stays; only its tray moved",
    "GUEST_CRASHLOADED": "a crash kernel was loaded; the VM goes on",
    "GUEST_PVSHUTDOWN": "a request of the guest; SHUTDOWN follows",
    "HV_BALLOON_STATUS_REPORT": "statistics of a Hyper-V balloon",
    "MEMORY_FAILURE": "handled or not, what follows from it is told by other events",
    "MIGRATION_PASS": "progress within a status",
    "NETDEV_STREAM_CONNECTED": "the netdev stays; its peer came",
    "NETDEV_STREAM_DISCONNECTED": "the netdev stays; its peer went",
    "NETDEV_VHOST_USER_CONNECTED": "the netdev stays; its backend came",
    "NETDEV_VHOST_USER_DISCONNECTED": "the netdev stays; its backend went",
    "NIC_RX_FILTER_CHANGED": "the guest's filter; nothing of QEMU's",
    "POWERDOWN": "a request to the guest; the run state is unchanged",
    "PR_MANAGER_STATUS_CHANGED": "the helper process came or went; the object stays",
    "QUORUM_FAILURE": "an I/O request failed; the node stays",
    "QUORUM_REPORT_BAD": "a child disagreed; the node stays",
    "RDMA_GID_STATUS_CHANGED": "the host's network, of a device removed in 9.1",
    "RTC_CHANGE": "the guest set its clock",
    "SPICE_CONNECTED": "somebody looks",
    "SPICE_DISCONNECTED": "somebody looks no more",
    "SPICE_INITIALIZED": "somebody looks",
    "SPICE_MIGRATE_COMPLETED": "the display followed a migration, which MIGRATION tells of",
    "SUSPEND_DISK": "the guest hibernates; SHUTDOWN follows",
    "UNPLUG_PRIMARY": "the guest is asked to let go of a failover primary, which stays in the machine",
    "VFIO_MIGRATION": "the device's own share of a migration, which MIGRATION tells of",
    "VFU_CLIENT_HANGUP": "the peer of a device served elsewhere went",
    "VNC_CONNECTED": "somebody looks",
    "VNC_DISCONNECTED": "somebody looks no more",
    "VNC_INITIALIZED": "somebody looks",
    "VSERPORT_CHANGE": "the guest opened or closed a port; the device stays",
}

#: Every event there is, 7.2 to 10.0.
EVENTS: Final = frozenset(row.seen for row in EVIDENCE if " " not in row.seen) | INFORMATIONAL.keys()

#: Commands that begin a job: name -> QAPI ``JobType``.
JOB_COMMANDS: Final = {
    "blockdev-mirror": "mirror", "drive-mirror": "mirror", "block-commit": "commit", "block-stream": "stream",
    "blockdev-backup": "backup", "drive-backup": "backup", "blockdev-create": "create", "x-blockdev-amend": "amend",
    "snapshot-save": "snapshot-save", "snapshot-load": "snapshot-load", "snapshot-delete": "snapshot-delete",
}  # fmt: skip
