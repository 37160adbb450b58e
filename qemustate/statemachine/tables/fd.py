"""A file descriptor that QEMU was handed: by name (``getfd``) or in a numbered set (``add-fd``).

Theory. A name lives in the monitor it was given to, which outlives its clients: the next one finds it there. Whoever uses it
(``netdev_add`` with ``fd=``, ``migrate`` to ``fd:``) takes it away (monitor/fds.c). A set is the whole QEMU's: a member leaves with ``remove-fd``, and the set
with its last user.

Before 10.0 nothing leaves a set while the VM does not run (monitor/fds.c monitor_fdset_cleanup() looks at runstate_is_running()): a member that was
removed is listed until something is tidied up there when it runs again. Hidden state ``removed``: no longer wanted, and perhaps still listed;
shows as ``gone``.
"""

from __future__ import annotations

from typing import Final

from qemustate.statemachine.rows import SILENT, Row, Table, rows

_ANY: Final = "gone present taken removed"
_STAYS: Final = "monitor/fds.c monitor_fdset_cleanup()"

_ROWS: list[Row] = [
    *rows("return getfd", _ANY, "present", cause="getfd", ref="monitor/fds.c qmp_getfd()"),
    *rows("return closefd", _ANY, "gone", cause="closefd", ref="monitor/fds.c qmp_closefd()"),
    *rows("error closefd", _ANY, "gone", cause="not found", ref="monitor/fds.c qmp_closefd()"),
    *rows("return add-fd", _ANY, "present", cause="add-fd", ref="monitor/fds.c qmp_add_fd()"),
    *rows("return remove-fd", _ANY, "gone", cause="remove-fd", ref="monitor/fds.c qmp_remove_fd()"),
    *rows("return remove-fd", "present removed", "removed", when="!vcpus-run", until="10.0", cause="remove-fd", ref=_STAYS),
    *rows(SILENT, "removed", "gone", ref=_STAYS),
    *rows("used", "present", "taken", cause="used", ref="monitor/fds.c monitor_get_fd()"),
    *rows("used", "gone taken removed", "="),
    *rows("perhaps used", "present", "= taken", ref="a refused command may have looked it up before (monitor/fds.c)"),
    *rows("perhaps used", "gone taken removed", "="),
    # --- the answer will not come
    *rows("unanswered getfd", "gone taken removed", "= present", ref="the answer will not come"),
    *rows("unanswered getfd", "present", "="),
    *rows("unanswered closefd", "present", "= gone", ref="the answer will not come"),
    *rows("unanswered closefd", "gone taken removed", "="),
    *rows("unanswered add-fd", "gone taken removed", "= present", ref="the answer will not come"),
    *rows("unanswered add-fd", "present", "="),
    *rows("unanswered remove-fd", "present", "= gone", ref="the answer will not come"),
    *rows("unanswered remove-fd", "present removed", "removed", when="!vcpus-run", until="10.0", ref=_STAYS),
    *rows("unanswered remove-fd", "gone taken", "="),
    *rows("unanswered remove-fd", "removed", "gone", ref="the answer will not come"),
]  # fmt: skip

TABLE: Final = Table(
    name="fd",
    states=("gone", "present", "taken", "removed"),
    initial="gone",
    rows=tuple(_ROWS),
    shows={"taken": "gone", "removed": "gone"},
)

#: Internal states in which ``query-fdsets`` names a set, and in which it does not.
LISTED: Final = ("present", "removed")
NOT_LISTED: Final = ("gone", "taken")
