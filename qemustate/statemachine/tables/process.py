"""The QEMU process, as far as a log can know it.

Theory. POWERDOWN (a request to the guest), SHUTDOWN (QEMU will stop or pause), the end of the monitor's
stream and the exit of the process are four different facts. SIGKILL, an abort and the watchdog's
``poweroff`` end the stream with no SHUTDOWN before it. Only who started the process sees it exit; everybody
else sees the stream end, and knows no more than that the process may have gone.
"""

from __future__ import annotations

from typing import Final

from qemustate.statemachine.rows import Table, rows

TABLE: Final = Table(
    name="process",
    states=("not-started", "running", "ending", "exited"),
    initial="not-started",
    rows=(
        *rows(
            "spawned",
            "not-started running exited",
            "running",
            cause="launch",
            ref="a record of ours: somebody started it",
        ),
        *rows("greeting", "not-started running", "running", ref="only a running QEMU greets"),
        *rows("greeting", "ending", "=", ref="a QEMU about to exit may still greet"),
        *rows("return quit", "running ending", "ending", cause="quit", ref="monitor/qmp-cmds.c qmp_quit()"),
        *rows(
            "SHUTDOWN", "running ending", "ending", when="ending", cause="shutdown", ref="system/runstate.c"
        ),
        *rows(
            "SHUTDOWN",
            "running ending",
            "running",
            when="!ending",
            ref="-no-shutdown; an earlier one may have paused the VM too",
        ),
        *rows("lost", "not-started exited", "="),
        *rows(
            "lost", "running", "running exited", ref="a dropped connection, or a process gone without a word"
        ),
        *rows("lost", "ending", "ending exited", ref="qemu_cleanup() closes the monitors, then exits"),
        *rows(
            "exited",
            "not-started running ending",
            "exited",
            cause="exit",
            ref="a record of ours: wait4(2), or a pidfd",
        ),
    ),
    shows={"ending": "running"},
)
