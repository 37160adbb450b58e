"""A file descriptor that QEMU was handed: by name (``getfd``) or in a numbered set (``add-fd``).

Theory. A name lives in the monitor it was given to, which outlives its clients: the next one finds it there. Whoever uses it
(``netdev_add`` with ``fd=``, ``migrate`` to ``fd:``) takes it away (monitor/fds.c). A set is the whole QEMU's: a member leaves with ``remove-fd``, and the set
with its last user.
"""

from __future__ import annotations

from typing import Final

from qemustate.statemachine.rows import Table, rows

TABLE: Final = Table(
    name="fd",
    states=("gone", "present", "taken"),
    initial="gone",
    rows=(
        *rows(
            "return getfd", "gone present taken", "present", cause="getfd", ref="monitor/fds.c qmp_getfd()"
        ),
        *rows(
            "return closefd", "present gone taken", "gone", cause="closefd", ref="monitor/fds.c qmp_closefd()"
        ),
        *rows(
            "error closefd",
            "present taken gone",
            "gone",
            cause="not found",
            ref="monitor/fds.c qmp_closefd()",
        ),
        *rows(
            "return add-fd", "gone present taken", "present", cause="add-fd", ref="monitor/fds.c qmp_add_fd()"
        ),
        *rows(
            "return remove-fd",
            "present taken gone",
            "gone",
            cause="remove-fd",
            ref="monitor/fds.c qmp_remove_fd()",
        ),
        *rows("used", "present", "taken", cause="used", ref="monitor/fds.c monitor_get_fd()"),
        *rows("used", "gone taken", "="),
        *rows(
            "perhaps used",
            "present",
            "= taken",
            ref="a refused command may have looked it up before (monitor/fds.c)",
        ),
        *rows("perhaps used", "gone taken", "="),
        *rows("unanswered getfd", "gone taken", "= present", ref="the answer will not come"),
        *rows("unanswered getfd", "present", "="),
        *rows("unanswered closefd", "present", "= gone", ref="the answer will not come"),
        *rows("unanswered closefd", "gone taken", "="),
    ),
    shows={"taken": "gone"},
)
