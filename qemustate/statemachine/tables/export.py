"""A block export: what a node is served to others as.

Theory. ``block-export-add`` answered means that it is served. ``block-export-del`` answered means that it is going: it is
gone with BLOCK_EXPORT_DELETED, and with it its hold on the node (block/export/export.c). A client that leaves may
end it too, and so does shutting the server down.
"""

from __future__ import annotations

from typing import Final

from qemustate.statemachine.rows import Table, rows

_REF = "block/export/export.c qmp_block_export_add(), qmp_block_export_del()"
_ALL = "gone adding present leaving"

TABLE: Final = Table(
    name="export",
    states=("gone", "adding", "present", "leaving"),
    initial="gone",
    rows=(
        *rows("execute add", "gone", "adding", ref=_REF),
        *rows("execute add", "adding present leaving", "="),
        *rows("return add", _ALL, "present", cause="added", ref=_REF),
        *rows("error add", "adding", "gone", cause="refused", ref=_REF),
        *rows("error add", "gone present leaving", "="),
        *rows("execute del", _ALL, "="),
        *rows("return del", "present leaving", "leaving", cause="removal asked", ref=_REF),
        *rows("return del", "gone adding", "gone", ref="BLOCK_EXPORT_DELETED came before the reply"),
        *rows("error del", _ALL, "="),
        *rows("BLOCK_EXPORT_DELETED", _ALL, "gone", cause="BLOCK_EXPORT_DELETED", ref="block/export/export.c blk_exp_delete_bh()"),
        *rows("unanswered", "adding", "gone present", ref="the answer will not come"),
        *rows("unanswered", "gone present leaving", "="),
    ),
    shows={"leaving": "removing"},
)  # fmt: skip
