"""A QEMU process and our monitor of it, from launch or adoption to its end, with all of it on record."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING, Any, Self

from qemustate.errors import MonitorUnavailable
from qemustate.events.redact import redact_argv
from qemustate.vm.monitor import DEADLINE, Monitor
from qemustate.vm.process import Process, spawned

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from qemustate.statemachine.state import VM
    from qemustate.vm.found import Found
    from qemustate.vm.recorder import Recorder

#: Seconds that a QEMU which closed its monitor before the first answer has to end.
_DYING = 2.0


class Session:
    """A QEMU process and our monitor of it; :meth:`launch` makes one that takes commands."""

    def __init__(self, process: Process | Found, recorder: Recorder, *, deadline: float = DEADLINE) -> None:
        """Watch a running process; one that was just started here is recorded as that."""
        self.process = process
        self.monitor = Monitor(recorder, deadline=deadline)
        self._recorder = recorder
        #: How QEMU ended, once it has: ``{"status": n}``, ``{"signal": n}``, or ``{}`` where nobody could see.
        self.ended: asyncio.Future[dict[str, int]] = asyncio.get_running_loop().create_future()
        if isinstance(process, Process):
            told = spawned(process)
            recorder.record("spawned", {**told, "argv": redact_argv(told["argv"])})
            process.go()
        asyncio.get_running_loop().add_reader(process.pidfd, self._exited)

    @classmethod
    async def launch(
        cls,
        argv: Sequence[str],
        recorder: Recorder,
        socket_path: str | os.PathLike[str],
        *,
        deadline: float = DEADLINE,
        stdout: int | None = None,
        stderr: str | os.PathLike[str] | None = None,
        fds: Sequence[int] = (),
    ) -> Self:
        """Start a QEMU command line with our monitor at ``socket_path`` added, and negotiate.

        ``deadline`` as for Monitor, ``stdout``, ``stderr`` and ``fds`` as for Process. Raises LaunchFailed with
        QEMU's own words when it did not come up, BadInput where the command line or the path will not do.
        """
        process = Process(argv, socket_path, stdout=stdout, stderr=stderr, fds=fds)
        session = cls(process, recorder, deadline=deadline)
        try:
            await session.monitor.open(process.socket_path, first=True)
        except MonitorUnavailable as error:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(session.wait(), _DYING)
            failure = process.failure(f"{argv[0]}: QEMU did not come up: {error}")
            session.close()
            raise failure from error
        except BaseException:
            session.close()
            raise
        return session

    @property
    def vm(self) -> VM:
        """The state, as folded so far."""
        return self._recorder.vm

    async def execute(
        self, name: str, arguments: dict[str, Any] | None = None, *, fds: Sequence[int] = ()
    ) -> Any:
        """Execute a command; see :meth:`qemustate.vm.monitor.Monitor.execute`."""
        return await self.monitor.execute(name, arguments, fds=fds)

    async def wait(self) -> dict[str, int]:
        """Wait until QEMU has ended; return what :attr:`ended` holds."""
        return await asyncio.shield(self.ended)

    def kill(self) -> None:
        """End QEMU at once; :meth:`wait` tells when that is done."""
        self.process.signal(signal.SIGKILL)

    def end(self) -> None:
        """Kill QEMU if it still runs, and record its end."""
        if not self.ended.done():
            self.process.kill()
            self._exited()

    def close(self) -> None:
        """Kill QEMU if it still runs, and let go of everything."""
        self.end()
        self.process.close()

    def release(self) -> None:
        """Let go of a QEMU that runs on, for another process to adopt; nothing more is recorded."""
        if not self.ended.done():
            asyncio.get_running_loop().remove_reader(self.process.pidfd)
        self.monitor.close(alone=True)
        self.process.release()

    def _exited(self) -> None:
        """Record the end, after the last words on the monitor."""
        if self.ended.done():
            return
        how = self.process.wait()
        assert how is not None
        asyncio.get_running_loop().remove_reader(self.process.pidfd)
        self.monitor.close(gone=True)
        self._recorder.record("exited", dict(how))
        self.ended.set_result(how)
