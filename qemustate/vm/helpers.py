"""Helper processes that live and die with a VM: virtiofsd, swtpm, and whatever else QEMU connects to.

They are started before QEMU, since it connects to them while it starts, and end after it. They are in sessions of their
own, outlive us as QEMU does, and are found again by pid and start.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from qemustate.errors import LaunchFailed
from qemustate.events.redact import redact_argv
from qemustate.vm.found import Found
from qemustate.vm.process import Child, ended, identity, reaped, start_helper, start_time, tail

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qemustate.vm.recorder import Recorder

#: Seconds that a helper has to make its socket, and to end after SIGTERM.
_COMING: Final = 10.0
_LEAVING: Final = 2.0
_PAUSE: Final = 0.01


class Helper(msgspec.Struct, frozen=True):
    """A helper to be: its name in the log, its command line, and the socket that it makes, which is waited for and removed at the end."""

    name: str
    argv: tuple[str, ...]
    socket: str = ""


class _Running:
    """A helper that runs, our child or found."""

    def __init__(self, name: str, pid: int, socket: str, child: Child | None) -> None:
        self.name, self.pid, self.socket, self.child = name, pid, socket, child
        self.pidfd = os.pidfd_open(pid)

    def outcome(self) -> dict[str, Any]:
        """Return how it ended, as in its record: nobody can see that of another's child."""
        if self.child is None:
            return reaped(self.pidfd) or {"gone": True}
        code = self.child.wait()
        return {"signal": -code} if code < 0 else {"status": code}


class Helpers:
    """The helpers of one VM."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._running: dict[str, _Running] = {}

    async def start(self, helpers: Sequence[Helper], output: Path) -> None:
        """Start them one after another, each once the one before has made its socket; what they print is in ``output``.

        Raises LaunchFailed with the end of that.
        """
        for helper in helpers:
            child, gate = start_helper(helper.argv, output)
            with contextlib.closing(gate):
                self._watch(_Running(helper.name, child.pid, helper.socket, child))
                self._recorder.record(
                    "helper",
                    {
                        "name": helper.name,
                        "argv": redact_argv(helper.argv),
                        **identity(child.pid, start_time(child.pid)),
                        **({"socket": helper.socket} if helper.socket else {}),
                    },
                )
                gate.open()
            await self._socket(helper, output)

    @classmethod
    def found(cls, recorder: Recorder) -> Helpers:
        """Find those that the log tells of; one that is gone is recorded as that."""
        helpers = cls(recorder)
        for name, body in list(recorder.vm.helpers.items()):
            try:
                Found(body["pid"], body.get("start"), boot=body.get("boot")).release()
                helpers._watch(_Running(name, body["pid"], body.get("socket", ""), None))
            except ProcessLookupError:
                recorder.record("helper", {"name": name, "gone": True})
        return helpers

    def close(self) -> None:
        """End them all, and remove their sockets."""
        for running in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(running.pidfd, signal.SIGTERM)
        for running in list(self._running.values()):
            if not ended(running.pidfd, _LEAVING):
                signal.pidfd_send_signal(running.pidfd, signal.SIGKILL)
                ended(running.pidfd, None)
            self._ended(running.name)

    def release(self) -> None:
        """Let go of them; they run on."""
        for running in self._running.values():
            asyncio.get_running_loop().remove_reader(running.pidfd)
            os.close(running.pidfd)
            if running.child is not None:
                running.child.returncode = (
                    0  # so that the standard library does not look for its end any more
                )
        self._running.clear()

    def _watch(self, running: _Running) -> None:
        self._running[running.name] = running
        asyncio.get_running_loop().add_reader(running.pidfd, self._ended, running.name)

    def _ended(self, name: str) -> None:
        running = self._running.pop(name, None)
        if running is None:
            return
        outcome = running.outcome()
        asyncio.get_running_loop().remove_reader(running.pidfd)
        os.close(running.pidfd)
        if running.socket:
            Path(running.socket).unlink(missing_ok=True)
        self._recorder.record("helper", {"name": name, **outcome})

    async def _socket(self, helper: Helper, output: Path) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + _COMING
        while helper.socket and not _is_socket(helper.socket):
            if helper.name not in self._running:
                raise _failure(f"{helper.argv[0]}: ended before it had made {helper.socket}", output)
            if loop.time() > until:
                raise _failure(f"{helper.argv[0]}: has not made {helper.socket} in {_COMING:g} s", output)
            await asyncio.sleep(_PAUSE)


def _failure(message: str, output: Path) -> LaunchFailed:
    with output.open("rb") as file:
        return LaunchFailed(message, stderr=tail(file.fileno()))


def _is_socket(path: str) -> bool:
    return Path(path).is_socket()
