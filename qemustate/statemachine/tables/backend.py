"""A backend: block node, netdev, chardev or object. No events: the reply is the transition.

Theory. ``blockdev-add``, ``netdev_add``, ``chardev-add`` and ``object-add`` have happened when they are answered,
and so have their opposites; a refusal leaves everything as it was. A command whose answer is never seen leaves both
possible.

A block node that was defined inside another one's options, or made by a snapshot or a job, is nobody's (``inner``): it is there as
long as something uses it, and goes with no answer of its own (block.c bdrv_unref()).
"""

from __future__ import annotations

from typing import Final

from qemustate.statemachine.rows import Table, rows

_REF: Final = "block/monitor, net/net.c, chardev/char.c, qom/qom-qmp-cmds.c: done when answered"

TABLE: Final = Table(
    name="backend",
    states=("gone", "adding", "present", "removing", "inner"),
    initial="gone",
    rows=(
        *rows(
            "launched",
            "gone present inner",
            "present",
            cause="command line",
            ref="-blockdev, -netdev, -chardev, -object",
        ),
        *rows("execute add", "gone", "adding", ref=_REF),
        *rows("execute add", "adding present removing inner", "="),
        *rows("return add", "adding gone removing inner", "present", cause="added", ref=_REF),
        *rows("error add", "adding", "gone", cause="refused", ref=_REF),
        *rows("error add", "gone present removing inner", "="),
        *rows(
            "error add:duplicate", "gone adding", "present", cause="refused", ref="somebody else has made it"
        ),
        *rows("error add:duplicate", "present removing inner", "="),
        *rows("execute del", "present", "removing", ref=_REF),
        *rows("execute del", "gone adding removing inner", "="),
        *rows("return del", "removing present adding inner", "gone", cause="removed", ref=_REF),
        *rows("error del:not-found", "gone adding removing inner", "gone", cause="not found", ref=_REF),
        *rows("error del", "removing", "present", cause="refused", ref=_REF),
        *rows("error del", "gone adding present inner", "="),
        *rows("unanswered", "adding removing", "gone present", ref="the answer will not come"),
        *rows("unanswered", "gone present inner", "="),
        *rows("defined", "gone", "inner", cause="defined inside another", ref="block.c bdrv_open_child()"),
        *rows("defined", "adding present removing inner", "="),
        *rows("graph changed", "inner", "inner gone", cause="unused", ref="block.c bdrv_unref()"),
        *rows("graph changed", "gone adding present removing", "="),
    ),
    shows={"removing": "present", "inner": "present"},
)
