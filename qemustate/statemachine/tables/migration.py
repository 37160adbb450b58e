"""Migration: QAPI ``MigrationStatus``, outgoing and incoming in one machine.

Theory. QEMU has no table: the edges are the calls of migrate_set_state() in migration/*.c. MIGRATION events
announce them only with the capability ``events``; without it, a migration that was begun may be anywhere until
``query-migrate`` is asked. A new ``migrate`` starts over from any terminal status. 7.2 sends a bare ``setup`` for
incoming migrations, whatever the capability, and inserts ``device`` only with pause-before-switchover; 10.0
always inserts it.
"""

from __future__ import annotations

from typing import Final

from qemustate.statemachine.rows import SILENT, Row, Table, coupling, rows

#: QAPI ``MigrationStatus`` (qapi/migration.json), in QEMU's order.
STATUSES: Final = (
    "none", "setup", "cancelling", "cancelled", "active", "postcopy-active", "postcopy-paused",
    "postcopy-recover-setup", "postcopy-recover", "completed", "failed", "colo", "pre-switchover", "device", "wait-unplug",
)  # fmt: skip

#: Statuses in which nothing goes on.
RESTING: Final = ("none", "completed", "failed", "cancelled")

_ALIVE = "setup active pre-switchover device wait-unplug colo postcopy-active postcopy-paused postcopy-recover postcopy-recover-setup"

#: from -> to: source and destination, 7.2 and 10.0; ``since``/``until`` where they differ.
_EDGES: Final = (
    ("none completed failed cancelled", "setup", "", ""),
    ("none", "active", "", "9.0"),  # incoming: `setup` is announced, and not kept
    ("setup", "active wait-unplug failed cancelling postcopy-recover", "", ""),
    ("wait-unplug", "active cancelling failed", "", ""),
    ("active", "failed pre-switchover device postcopy-active cancelling colo", "", ""),
    ("active", "completed", "", "9.0"),
    ("pre-switchover", "device cancelling failed postcopy-active", "", ""),
    ("device", "completed failed cancelling postcopy-active", "", ""),
    ("colo", "completed cancelling", "", ""),
    ("cancelling", "cancelled failed completed", "", ""),
    ("postcopy-active", "completed failed postcopy-paused", "", ""),
    ("cancelling", "cancelling", "", ""),  # cancelled twice: by a command, before 9.0, and by `quit`
    ("cancelling", "postcopy-paused", "", ""),  # quit, while the connection is already broken
    (
        "postcopy-active postcopy-paused postcopy-recover",
        "cancelling",
        "",
        "",
    ),  # 9.0 refuses migrate_cancel, and does it at `quit`
    ("postcopy-paused", "postcopy-recover setup", "", ""),
    ("postcopy-paused", "postcopy-recover-setup failed", "9.1", ""),
    ("postcopy-recover-setup", "postcopy-recover postcopy-paused", "9.1", ""),
    ("postcopy-recover", "postcopy-active postcopy-paused failed", "", ""),
)

_REF = "migration/migration.c migrate_set_state()"


def _rows() -> list[Row]:
    found: list[Row] = []
    for sources, targets, since, until in _EDGES:
        for target in targets.split():
            found += rows(f"MIGRATION {target}", sources, target, since=since, until=until, ref=_REF)
            # Without events the same edges are silent, once a migration may be on.
            if not set(sources.split()) & {"none"}:
                found += rows(
                    SILENT,
                    sources,
                    target,
                    when="!migration-events outgoing",
                    since=since,
                    until=until,
                    ref=_REF,
                )
                found += rows(
                    SILENT,
                    sources,
                    target,
                    when="!migration-events incoming !new",
                    since=since,
                    until=until,
                    ref=_REF,
                )
    return found


#: Statuses after which the VM has been stopped, or is about to be.
_PAST = "device pre-switchover postcopy-active postcopy-paused postcopy-recover cancelling"

TABLE: Final = Table(
    name="migration",
    states=STATUSES,
    initial="none",
    rows=(
        *_rows(),
        *rows("MIGRATION setup", "setup", "=", ref="7.2 announces an incoming setup that it does not keep"),
        *rows("MIGRATION none", "none", "="),
        *rows("MIGRATION completed", "active", "completed", when="incoming", since="9.0", ref=_REF),
        *rows("MIGRATION completed", "setup", "completed", when="saving", ref="migration/savevm.c qemu_savevm_state()"),
        *rows("MIGRATION completed", "active", "completed", when="background", since="9.0", ref="migration/migration.c bg_migration_completion()"),
        *rows("MIGRATION completed", "active", "completed", when="others", since="9.0", ref="another monitor may have set the capability"),
        # The events come before the reply; where they are not sent, the reply says that it was begun.
        *rows("return migrate", f"{_ALIVE} cancelling", "=", when="!begun", ref="migration/migration.c qmp_migrate()"),
        *rows("return migrate", "completed failed cancelled", "=", when="migration-events !begun", ref="it may have failed at once"),
        *rows("return migrate", "none completed failed cancelled", "setup", when="!migration-events !begun", cause="migrate", ref="qmp_migrate()"),
        *rows("error migrate", "none completed failed cancelled", "= failed", when="!migration-events", cause="refused", ref="qmp_migrate(): some refusals come when it has begun"),
        *rows("error migrate", "none completed failed cancelled", "=", when="migration-events", ref="MIGRATION told"),
        *rows("error migrate", f"{_ALIVE} cancelling", "="),
        *rows("return migrate_cancel", "setup active pre-switchover device wait-unplug colo", "cancelling", when="!migration-events", cause="migrate_cancel", ref="qmp_migrate_cancel()"),
        *rows("return migrate_cancel", f"none cancelling cancelled completed failed {_ALIVE}", "=", ref="qmp_migrate_cancel()"),
        *rows("events on", "none setup", "=", when="incoming", assume="events-in-time"),
        *rows("events on", " ".join(STATUSES), "=", when="!incoming"),
        # An incoming VM: 10.0 keeps `setup` while it waits, 7.2 only announces it.
        *rows("first reply", "none", "setup", when="incoming !deferred", cause="launch", since="9.0", ref="qemu_start_incoming_migration()"),
        *rows("first reply", "none", "=", until="9.0"),
        *rows("first reply", "none", "=", when="!incoming"),
        *rows("first reply", "none", "=", when="deferred"),
        *rows("first reply", " ".join(STATUSES[1:]), "="),
        *rows("return migrate-incoming", "none", "setup", cause="migrate-incoming", since="9.0", ref="qemu_start_incoming_migration()"),
        *rows("return migrate-incoming", "none", "=", until="9.0"),
        *rows("return migrate-incoming", " ".join(STATUSES[1:]), "="),
        # A snapshot is a migration to a file: it leaves the status of one, announced only with `events`.
        *rows("saving", "none completed failed cancelled", "= setup active completed failed", when="!migration-events", cause="snapshot", ref="migration/savevm.c qemu_savevm_state()"),
        *rows("saving", " ".join(STATUSES), "=", ref="migration/savevm.c qemu_savevm_state()"),
        *rows("saved", "none setup active completed failed cancelled", "completed", cause="snapshot", ref="migration/savevm.c qemu_savevm_state()"),
        *rows("saved", _ALIVE.replace("setup active ", "") + " cancelling", "=", ref="migration/savevm.c qemu_savevm_state()"),
        *rows(SILENT, "none", "active", when="incoming !migration-events !new", ref="process_incoming_migration_co()"),
    ),
    couplings=(
        coupling("outgoing", f"{_ALIVE} cancelling", when="!incoming migrate-sent"),
        coupling("switchover", _PAST, opens=True, when="!incoming migrate-sent migration-events", ref="migration/migration.c migration_completion()"),
        coupling("switchover", "active", opens=True, when="!incoming migrate-sent migration-events", until="9.0", ref="7.2 stops a VM while `active`"),
        coupling("switchover", f"{_ALIVE} cancelling completed failed cancelled", when="!incoming migrate-sent !migration-events"),
        coupling("postcopy", "postcopy-active postcopy-paused postcopy-recover", when="!incoming", until="9.0", ref="migration/migration.c postcopy_start()"),
        coupling("colo", "colo", when="migrate-sent", ref="migration/colo.c"),
        coupling("colo", "colo", when="incoming", ref="migration/colo.c"),
    ),
)  # fmt: skip
