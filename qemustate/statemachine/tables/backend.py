"""A backend: block node, netdev, chardev or object. No events: the reply is the transition.

Theory. ``blockdev-add``, ``netdev_add``, ``chardev-add`` and ``object-add`` have happened when they are answered,
and so have their opposites; a refusal leaves everything as it was. A command whose answer is never seen leaves both
possible.
"""

from __future__ import annotations

from typing import Final

from qemustate.statemachine.rows import Table, rows

_REF: Final = "block/monitor, net/net.c, chardev/char.c, qom/qom-qmp-cmds.c: done when answered"

TABLE: Final = Table(
    name="backend",
    states=("gone", "adding", "present", "removing"),
    initial="gone",
    rows=(
        *rows(
            "launched",
            "gone present",
            "present",
            cause="command line",
            ref="-blockdev, -netdev, -chardev, -object",
        ),
        *rows("execute add", "gone", "adding", ref=_REF),
        *rows("execute add", "adding present removing", "="),
        *rows("return add", "adding gone removing", "present", cause="added", ref=_REF),
        *rows("error add", "adding", "gone", cause="refused", ref=_REF),
        *rows("error add", "gone present removing", "="),
        *rows("execute del", "present", "removing", ref=_REF),
        *rows("execute del", "gone adding removing", "="),
        *rows("return del", "removing present adding", "gone", cause="removed", ref=_REF),
        *rows("error del:not-found", "gone adding removing", "gone", cause="not found", ref=_REF),
        *rows("error del", "removing", "present", cause="refused", ref=_REF),
        *rows("error del", "gone adding present", "="),
        *rows("unanswered", "adding removing", "gone present", ref="the answer will not come"),
        *rows("unanswered", "gone present", "="),
    ),
    shows={"removing": "present"},
)
