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


#: What QEMU announces before the STOP it leads to.
CAUSES: Final = ("io-error", "watchdog", "panic", "shutdown-pauses")

EVIDENCE: Final[tuple[Evidence, ...]] = (
    # --- run state
    Evidence("STOP", "", effect="held_back", ref="monitor/monitor.c: rate-limited causes may be late"),
    Evidence("STOP", "runstate", "STOP"),
    Evidence("RESUME", "runstate", "RESUME", denies=CAUSES, effect="resumed"),
    Evidence("RESUME", "devices", "RESUME"),
    Evidence("RESET", "", effect="reset"),
    Evidence("RESET", "runstate", "RESET", denies=CAUSES),
    Evidence("RESET", "devices", "RESET"),
    Evidence("SUSPEND", "runstate", "SUSPEND"),
    Evidence("WAKEUP", "runstate", "WAKEUP"),
    Evidence("WAKEUP", "", denies=("woken",)),
    Evidence("SHUTDOWN", "", effect="shutdown"),
    Evidence("SHUTDOWN", "process", "SHUTDOWN"),
    Evidence("SHUTDOWN", "runstate", "SHUTDOWN"),
    Evidence("BLOCK_IO_ERROR", "", effect="io_error"),
    Evidence("WATCHDOG", "", effect="watchdog"),
    Evidence("GUEST_PANICKED", "", where=("action", "pause"), holds=("panic",)),
    Evidence("execute stop", "", holds=("stop-sent",)),
    Evidence("return stop", "", effect="stop_answered"),
    Evidence("error stop", "", effect="stop_answered"),
    Evidence("execute system_wakeup", "", holds=("wakeup-sent",), effect="wakeup_asked"),
    Evidence("return system_wakeup", "", effect="wakeup_done"),
    Evidence("error system_wakeup", "", effect="wakeup_refused"),
    Evidence("return stop", "runstate", "return stop", denies=("autostart",)),
    Evidence("return cont", "runstate", "return cont", holds=("autostart",)),
    Evidence("error cont", "runstate", "error cont:reset-required", where=("desc", "Resetting the Virtual Machine is required")),
    Evidence("error cont", "runstate", "error cont:finalizing", where=("desc", "Migration is not finalized yet")),
    Evidence("error system_wakeup", "runstate", "error system_wakeup:awake", where=("desc", "guest is not in suspended state")),
    Evidence("return system_wakeup", "runstate", "return system_wakeup"),
    Evidence("execute query-status", "", effect="status_asked", ref="system/cpus.c do_vm_stop(): a state is set, and then announced"),
    Evidence("return query-status", "", effect="query_status"),
    Evidence("return set-action", "", effect="set_action"),
    Evidence("execute human-monitor-command", "", effect="hmp_sent"),
    Evidence("return human-monitor-command", "", effect="hmp_answered"),
    Evidence("error human-monitor-command", "", effect="hmp_answered"),
    Evidence("return quit", "process", "return quit"),
    # --- migration
    Evidence("MIGRATION", "", effect="migration"),
    Evidence("execute migrate", "", effect="migrate_sent"),
    Evidence("return migrate", "", holds=("migrate-sent",), effect="migration_resumed"),
    Evidence("return migrate", "migration", "return migrate", denies=("incoming",), ref="migration/migration.c migrate_prepare(): refused while incoming"),
    Evidence("return migrate", "", effect="couple_migration_guards"),
    Evidence("return migrate", "", effect="migration_begun"),
    Evidence("error migrate", "", effect="couple_migration_guards"),
    Evidence("error migrate", "", effect="migrate_refused"),
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
    Evidence("return qom-list", "", effect="qom_list_objects", where=("path", "/objects")),
    # --- jobs
    Evidence("JOB_STATUS_CHANGE", "", effect="job_status"),
    Evidence("BLOCK_JOB_COMPLETED", "", effect="block_job_ended"),
    Evidence("BLOCK_JOB_CANCELLED", "", effect="block_job_ended"),
    Evidence("return query-jobs", "", effect="query_jobs"),
    Evidence("return query-jobs", "", effect="couple_jobs"),
    Evidence("execute dump-guest-memory", "dump", "execute dump-guest-memory", holds=("saving",)),
    Evidence("execute dump-guest-memory", "", effect="dump_asked"),
    Evidence("error dump-guest-memory", "dump", "error dump-guest-memory"),
    Evidence("return dump-guest-memory", "", effect="dump_answered"),
    Evidence("error dump-guest-memory", "", effect="couple_jobs"),
    Evidence("DUMP_COMPLETED", "runstate", "DUMP_COMPLETED"),
    Evidence("DUMP_COMPLETED", "", effect="dumped"),
    Evidence("DUMP_COMPLETED", "", effect="couple_jobs"),
    Evidence("return query-dump", "", effect="query_dump"),
    Evidence("execute snapshot-save", "", holds=("saving",)),
    Evidence("return snapshot-save", "", effect="couple_jobs"),
    Evidence("error snapshot-save", "", effect="couple_jobs"),
    Evidence("execute xen-save-devices-state", "", holds=("saving",), ref="migration/savevm.c qmp_xen_save_devices_state()"),
    Evidence("return xen-save-devices-state", "", effect="couple_jobs"),
    Evidence("error xen-save-devices-state", "", effect="couple_jobs"),
    Evidence("execute snapshot-load", "", holds=("loading",)),
    Evidence("return snapshot-load", "", effect="couple_jobs"),
    Evidence("error snapshot-load", "", effect="couple_jobs"),
    *(
        Evidence(f"error {verb}", "", effect="verb_refused", ref="job.c job_apply_verb(), find_job(), find_block_job()")
        for verb in (
            "job-cancel", "job-complete", "job-dismiss", "job-finalize", "job-pause", "job-resume",
            "block-job-cancel", "block-job-change", "block-job-complete", "block-job-dismiss", "block-job-finalize",
            "block-job-pause", "block-job-resume", "block-job-set-speed",
        )
    ),
    Evidence("return job-dismiss", "", effect="job_dismissed"),
    Evidence("return block-job-dismiss", "", effect="job_dismissed"),
    Evidence("return query-block-jobs", "", effect="query_block_jobs"),
    Evidence("return job-complete", "", effect="told_to_complete", ref="block/mirror.c mirror_complete()"),
    Evidence("return block-job-complete", "", effect="told_to_complete", ref="block/mirror.c mirror_complete()"),
    # --- disks: the node they are on, and what goes with a node
    Evidence("return x-blockdev-change", "", effect="children_changed"),
    Evidence("return blockdev-snapshot", "", effect="snapshot_taken"),
    Evidence("return blockdev-snapshot-sync", "", effect="snapshot_made"),
    Evidence("return transaction", "", effect="transaction_done"),
    Evidence("return blockdev-insert-medium", "", effect="medium_inserted"),
    *(
        Evidence(f"return {command}", "", effect="medium_removed")
        for command in ("blockdev-change-medium", "blockdev-remove-medium", "eject")
    ),
    Evidence("return qom-set", "", effect="drive_set", where=("property", "drive")),
    *(
        Evidence(seen, "", effect="graph_changed", ref="block.c bdrv_unref()")
        for seen in (
            "return blockdev-del", "return blockdev-reopen", "return x-blockdev-change", "return human-monitor-command",
            "return nbd-server-remove", "return nbd-server-stop", "BLOCK_EXPORT_DELETED", "DEVICE_DELETED",
        )
    ),
    # --- queries that name what there is
    Evidence("return query-named-block-nodes", "", effect="query_nodes"),
    Evidence("return query-chardev", "", effect="query_chardevs"),
    Evidence("return query-iothreads", "", effect="query_iothreads"),
    Evidence("return query-memdev", "", effect="query_memdevs"),
    Evidence("return query-hotpluggable-cpus", "", effect="query_cpus"),
    Evidence("return query-pci", "", effect="query_pci"),
    Evidence("return query-block", "", effect="query_block"),
    # --- memory
    Evidence("BALLOON_CHANGE", "", effect="balloon"),
    Evidence("return qom-set", "", effect="memory_requested"),
    Evidence("return query-memory-devices", "", effect="query_memory_devices"),
    Evidence("return query-balloon", "", effect="query_balloon"),
    Evidence("MEMORY_DEVICE_SIZE_CHANGE", "", effect="memory_size"),
    Evidence("return balloon", "", effect="balloon_asked"),
    # --- displays
    *(
        Evidence(f"{protocol}_{what}", "", effect="viewer")
        for protocol in ("VNC", "SPICE")
        for what in ("CONNECTED", "INITIALIZED", "DISCONNECTED")
    ),
    Evidence("return query-vnc", "", effect="query_vnc"),
    Evidence("return query-vnc-servers", "", effect="query_vnc_servers"),
    Evidence("return query-spice", "", effect="query_spice"),
    # --- exports and descriptors
    *(
        Evidence(f"{seen} block-export-{what}", "export", f"{seen} {what}", subject="id")
        for seen in ("execute", "return", "error")
        for what in ("add", "del")
    ),
    Evidence("BLOCK_EXPORT_DELETED", "export", "BLOCK_EXPORT_DELETED", subject="id"),
    Evidence("return query-fdsets", "", effect="query_fdsets"),
    Evidence("return query-block-exports", "", effect="query_exports"),
    Evidence("return getfd", "fd", "return getfd", subject="fdname"),
    Evidence("return closefd", "fd", "return closefd", subject="fdname"),
    Evidence("error closefd", "fd", "error closefd", subject="fdname"),
    Evidence("return add-fd", "", effect="fd_added"),
    Evidence("return remove-fd", "", effect="fd_removed"),
    *(
        Evidence(f"{seen} {command}", "", effect=effect, ref="monitor/fds.c monitor_get_fd()")
        for seen, effect in (("return", "fds_used"), ("error", "fds_perhaps_used"))
        for command in ("netdev_add", "chardev-add", "blockdev-add", "object-add", "device_add", "migrate")
    ),
    # --- backends: the reply is the transition
    Evidence("error blockdev-del", "node", "error del:not-found", "node-name", where=("desc", "Failed to find node"), ref="block.c bdrv_find_node()"),
    Evidence("error netdev_del", "netdev", "error del:not-found", "id", where=("desc", "not found"), ref="net/net.c qmp_netdev_del()"),
    Evidence("error chardev-remove", "chardev", "error del:not-found", "id", where=("desc", "not found"), ref="chardev/char.c qmp_chardev_remove()"),
    Evidence("error object-del", "object", "error del:not-found", "id", where=("desc", "not found"), ref="qom/object_interfaces.c user_creatable_del()"),
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
    Evidence("error blockdev-add", "node", "error add:duplicate", "node-name", where=("desc", "Duplicate nodes with node-name"), ref="block.c bdrv_assign_node_name()"),
    Evidence("error netdev_add", "netdev", "error add:duplicate", "id", where=("desc", "Duplicate ID"), ref="util/qemu-option.c qemu_opts_create()"),
    Evidence("error object-add", "object", "error add:duplicate", "id", where=("desc", "attempt to add duplicate property"), ref="qom/object.c object_property_try_add()"),
    Evidence("return blockdev-add", "", effect="node_added"),
    Evidence("return blockdev-reopen", "", effect="nodes_reopened"),
    Evidence("return object-add", "", effect="object_added"),
    Evidence("return netdev_add", "", effect="netdev_added"),
    Evidence("return netdev_del", "", effect="netdev_deleted"),
    Evidence("return block-export-add", "", effect="export_added"),
)  # fmt: skip

#: Events whose last value is kept: event -> (the fact's name, the member that names the subject or none, the member with the value).
FACTS: Final = {
    "RTC_CHANGE": ("rtc-offset", "", "offset"),
    "DEVICE_TRAY_MOVED": ("tray-open", "id", "tray-open"),
    "VSERPORT_CHANGE": ("port-open", "id", "open"),
    "PR_MANAGER_STATUS_CHANGED": ("pr-manager-connected", "id", "connected"),
    "VFIO_MIGRATION": ("vfio-migration", "device-id", "device-state"),
    "BLOCK_IMAGE_CORRUPTED": ("image-corrupted", "node-name", "msg"),
    "GUEST_CRASHLOADED": ("guest-crashloaded", "", "action"),
    "QUORUM_FAILURE": ("quorum-failure", "reference", "sectors-count"),
    "MEMORY_FAILURE": ("memory-failure", "recipient", "action"),
    "NETDEV_STREAM_CONNECTED": ("netdev-peer", "netdev-id", "addr"),
    "NETDEV_STREAM_DISCONNECTED": ("netdev-peer", "netdev-id", ""),
    "NETDEV_VHOST_USER_CONNECTED": ("netdev-peer", "netdev-id", "chardev-id"),
    "NETDEV_VHOST_USER_DISCONNECTED": ("netdev-peer", "netdev-id", ""),
    "MIGRATION_PASS": ("migration-pass", "", "pass"),
    "BLOCK_WRITE_THRESHOLD": ("write-threshold-exceeded", "node-name", "amount-exceeded"),
}

#: Events that move no machine, each with the reason. With :data:`EVIDENCE` these are all that QEMU 7.2 to 10.0 send.
INFORMATIONAL: Final = {
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
    "SPICE_MIGRATE_COMPLETED": "the display followed a migration, which MIGRATION tells of",
    "SUSPEND_DISK": "the guest hibernates; SHUTDOWN follows",
    "UNPLUG_PRIMARY": "the guest is asked to let go of a failover primary, which stays in the machine",
    "VFIO_MIGRATION": "the device's own share of a migration, which MIGRATION tells of",
    "VFU_CLIENT_HANGUP": "the peer of a device served elsewhere went",
    "VSERPORT_CHANGE": "the guest opened or closed a port; the device stays",
}

#: Every event there is, 7.2 to 10.0.
EVENTS: Final = frozenset(row.seen for row in EVIDENCE if " " not in row.seen) | INFORMATIONAL.keys()

#: Commands that move no machine by themselves, each with the reason; so do all other ``query-*`` and ``x-query-*``.
UNMOVING: Final = {
    command: reason
    for reason, commands in {
        "its job tells of itself in JOB_STATUS_CHANGE":
            "blockdev-mirror drive-mirror blockdev-backup drive-backup block-commit block-stream blockdev-create "
            "x-blockdev-amend snapshot-delete job-cancel job-finalize job-pause job-resume "
            "block-job-cancel block-job-change block-job-finalize block-job-pause block-job-resume "
            "block-job-set-speed",
        "RESET tells of it": "system_reset",
        "a request to the guest": "system_powerdown inject-nmi send-key input-send-event announce-self",
        "MIGRATION tells of it":
            "migrate-continue migrate-pause migrate-recover migrate-start-postcopy client_migrate_info",
        "a parameter, no state": "migrate-set-parameters block_set_io_throttle block-latency-histogram-set "
            "block-set-write-threshold watchdog-set-action set_link set-numa-node rtc-reset-reinjection "
            "trace-event-get-state trace-event-set-state set-vcpu-dirty-limit cancel-vcpu-dirty-limit calc-dirty-rate",
        "the node stays the node": "block_resize blockdev-set-active "
            "blockdev-snapshot-internal-sync blockdev-snapshot-delete-internal-sync change-backing-file "
            "x-blockdev-set-iothread block-dirty-bitmap-add block-dirty-bitmap-clear "
            "block-dirty-bitmap-disable block-dirty-bitmap-enable block-dirty-bitmap-merge block-dirty-bitmap-remove "
            "x-debug-block-dirty-bitmap-sha256 x-debug-query-block-graph",
        "NBD's own exports; BLOCK_EXPORT_DELETED tells of their end": "nbd-server-add nbd-server-start",
        "a medium in a drive; the device stays": "blockdev-close-tray blockdev-open-tray",
        "the chardev stays": "chardev-change chardev-send-break ringbuf-read ringbuf-write",
        "displays and their clients": "add_client change-vnc-password display-reload display-update expire_password "
            "screendump set_password",
        "the monitor's own": "qmp_capabilities device-list-properties qom-get qom-list-properties qom-list-types",
        "written to a file; the VM goes on": "memsave pmemsave dumpdtb",
        "what a device is told by its other side": "cxl-add-dynamic-capacity cxl-inject-correctable-error "
            "cxl-inject-dram-event cxl-inject-general-media-event cxl-inject-memory-module-event cxl-inject-poison "
            "cxl-inject-uncorrectable-errors cxl-release-dynamic-capacity device-sync-config sev-inject-launch-secret "
            "request-ebpf xen-event-inject xen-event-list yank",
        "record and replay of the vCPUs, not of QMP": "replay-break replay-delete-break replay-seek",
        "start-up; the first answer after it tells": "x-exit-preconfig",
        "COLO; STOP, RESUME and MIGRATION tell": "x-colo-lost-heartbeat xen-colo-do-checkpoint xen-load-devices-state "
            "xen-save-devices-state xen-set-global-dirty-log xen-set-replication",
    }.items()
    for command in commands.split()
}  # fmt: skip

#: Commands that begin a job: name -> QAPI ``JobType``.
JOB_COMMANDS: Final = {
    "blockdev-mirror": "mirror", "drive-mirror": "mirror", "block-commit": "commit", "block-stream": "stream",
    "blockdev-backup": "backup", "drive-backup": "backup", "blockdev-create": "create", "x-blockdev-amend": "amend",
    "snapshot-save": "snapshot-save", "snapshot-load": "snapshot-load", "snapshot-delete": "snapshot-delete",
}  # fmt: skip
