"""A QEMU that runs already: found by its number and its start, and watched.

Linux gives a process number away again; number, start in clock ticks since boot (proc(5), field 22 of ``/proc/PID/stat``) and the boot's
own id together name a process for good, for whoever sees the same numbers: that of a process is another in each PID namespace
(pid_namespaces(7)). Its exit status belongs to its parent: nobody else can see it. Who let it go and finds it again may be that parent still.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qemustate.vm.process import boot_id, ended, reaped, start_time, tail

if TYPE_CHECKING:
    from collections.abc import Sequence


class Found:
    """A running process, as :class:`qemustate.vm.process.Process` is one; how it ended is ``{}`` where it is no child of ours.

    ``boot`` is the id of the boot that it was started in, None where that was not noted. Raises ProcessLookupError where there is no such
    process, or another one of that number, or the host has booted since.
    """

    def __init__(
        self,
        pid: int,
        start: int | None,
        *,
        boot: str | None = None,
        argv: Sequence[str] = (),
        socket_path: str | os.PathLike[str] = "",
        stderr: str | os.PathLike[str] | None = None,
    ) -> None:
        self.pid, self.start, self.argv = pid, start, list(argv)
        self.socket_path = Path(socket_path)
        self.stderr_path = None if stderr is None else Path(stderr)
        self._how: dict[str, int] = {}
        if boot not in (None, boot_id()):
            raise ProcessLookupError(f"process {pid} was started before the host was")
        self.pidfd: int = os.pidfd_open(pid)
        if start is None or start_time(pid) != start:
            os.close(self.pidfd)
            raise ProcessLookupError(f"process {pid} that started at {start} is gone")

    @classmethod
    def of(cls, spawned: dict[str, Any]) -> Found:
        """Find the process that a ``spawned`` record tells of."""
        return cls(
            spawned["pid"],
            spawned.get("start"),
            boot=spawned.get("boot"),
            argv=spawned.get("argv", ()),
            socket_path=spawned.get("monitor", ""),
            stderr=spawned.get("stderr"),
        )

    def stderr(self) -> str:
        """Return the end of what it has written to its standard error, where that is a file we know of."""
        if self.stderr_path is not None:
            with contextlib.suppress(OSError), self.stderr_path.open("rb") as file:
                return tail(file.fileno())
        return ""

    def poll(self) -> dict[str, int] | None:
        """Return how it has ended, None while it runs; its socket goes with it."""
        if self.pidfd >= 0 and not ended(self.pidfd, 0):
            return None
        if self.pidfd >= 0:
            self._how = self._how or reaped(self.pidfd)
        if self.socket_path.is_socket():
            self.socket_path.unlink(missing_ok=True)
        return self._how

    def wait(self, timeout: float | None = None) -> dict[str, int] | None:
        """Wait at most ``timeout`` seconds for the end; return as :meth:`poll` does."""
        ended(self.pidfd, timeout)
        return self.poll()

    def signal(self, number: int) -> None:
        """Send a signal; nothing happens when the process has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def kill(self) -> dict[str, int]:
        """End the process at once if it still runs; return how it ended."""
        self.signal(signal.SIGKILL)
        ended(self.pidfd, None)
        return self.poll() or {}

    def release(self) -> None:
        """Let go of the process, which runs on."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    def close(self) -> None:
        """Kill what still runs, and let go of everything."""
        if self.pidfd >= 0:
            self.kill()
        self.release()
