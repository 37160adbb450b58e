"""A dump of the guest's memory: QAPI ``DumpStatus``.

Theory. ``dump-guest-memory`` stops the VM, writes, and lets it go on; with ``detach`` it is answered at once and
DUMP_COMPLETED tells the end (dump/dump.c). A refusal may come before anything was done, or after a dump has failed.
"""

from __future__ import annotations

from typing import Final

from qemustate.statemachine.rows import Table, rows

#: QAPI ``DumpStatus`` (qapi/dump.json).
STATUSES: Final = ("none", "active", "completed", "failed")

_REF = "dump/dump.c qmp_dump_guest_memory()"

TABLE: Final = Table(
    name="dump",
    states=STATUSES,
    initial="none",
    rows=(
        *rows("execute dump-guest-memory", " ".join(STATUSES), "= active", cause="dump-guest-memory", ref=_REF),
        *rows("return dump-guest-memory", "active completed", "completed", cause="dumped", ref=_REF),
        *rows("return dump-guest-memory", "none failed", "completed", cause="dumped", ref="DUMP_COMPLETED was not seen"),
        *rows("return dump-guest-memory detached", "active", "active completed failed", ref=_REF),
        *rows("return dump-guest-memory detached", "none completed failed", "= active", ref=_REF),
        *rows("error dump-guest-memory", "active", "none completed failed", cause="refused", ref=_REF),
        *rows("error dump-guest-memory", "none completed failed", "=", ref=_REF),
        *rows("DUMP_COMPLETED completed", " ".join(STATUSES), "completed", cause="dumped", ref="qapi/dump.json DUMP_COMPLETED"),
        *rows("DUMP_COMPLETED failed", " ".join(STATUSES), "failed", cause="failed", ref="qapi/dump.json DUMP_COMPLETED"),
    ),
)  # fmt: skip
