"""The monitor connection: QMP's own states, and the two that incidents are made of.

Theory. QEMU greets whoever it accepts, takes only ``qmp_capabilities`` until it has been answered, and then
anything (monitor/qmp.c). One client at a time: a second one connects at the socket and is not greeted until
the first leaves (*held*). One dispatcher serves all monitors, so a wedged main loop leaves every client without an
answer (*stalled*): a command is overdue, which the one who waits writes down as a ``deadline``. An event shows
that QEMU lives, an answer that it serves again.
"""

from __future__ import annotations

from typing import Final

from qemustate.statemachine.rows import Table, rows

_OPEN = "connecting negotiating ready stalled held"

TABLE: Final = Table(
    name="monitor",
    states=("closed", "connecting", "negotiating", "ready", "stalled", "held"),
    initial="closed",
    rows=(
        *rows("opened", f"closed {_OPEN}", "connecting", cause="connect", ref="a record of ours: connect(2)"),
        *rows(
            "held",
            "connecting held",
            "held",
            cause="another client",
            ref="chardev/char-socket.c: one client at a time",
        ),
        *rows(
            "greeting",
            "closed connecting held",
            "negotiating",
            cause="greeting",
            ref="monitor/qmp.c monitor_qmp_event()",
        ),
        *rows(
            "return qmp_capabilities",
            "closed negotiating stalled",
            "ready",
            cause="negotiated",
            ref="monitor/qmp-cmds-control.c",
        ),
        *rows("return qmp_capabilities", "ready", "="),
        *rows(
            "negotiation refused",
            "negotiating stalled",
            "negotiating",
            ref="QEMU answers Expecting capabilities negotiation",
        ),
        *rows(
            "answer", "ready stalled", "ready", cause="answered", ref="monitor/qmp.c monitor_qmp_respond()"
        ),
        *rows("answer", "closed", "ready", ref="a trace that began in the middle"),
        *rows(
            "answer",
            "negotiating connecting",
            "=",
            ref="the reply to a client that left goes to the next one",
        ),
        *rows("deadline", "connecting", "=", ref="no greeting yet"),
        *rows(
            "deadline",
            "negotiating ready stalled",
            "stalled",
            cause="overdue",
            ref="a record of ours: a deadline passed",
        ),
        *rows(
            "lost",
            f"closed {_OPEN}",
            "closed",
            cause="end of stream",
            ref="a record of ours: read(2) gave nothing",
        ),
    ),
)
