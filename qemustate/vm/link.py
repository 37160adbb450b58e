"""The monitor of a running QEMU, kept open: when it is lost and QEMU lives on, it is opened again and asked.

What happened while nobody listened is never sent again (QEMU ``monitor/qmp.c``), so each new connection begins with
the queries that tell what is so now. Operations wait here until that is done.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from qemustate.errors import (
    CommandRefused,
    LocalProtocolError,
    MonitorUnavailable,
    OutcomeUnknown,
    QemuGone,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qemustate.statemachine.state import VM
    from qemustate.vm.session import Session

#: What is asked on a new connection: everything of which the state keeps a belief and QEMU has an answer.
QUESTIONS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("query-status", {}),
    ("qom-list", {"path": "/machine/peripheral"}),
    ("qom-list", {"path": "/objects"}),
    ("query-named-block-nodes", {"flat": True}),
    ("query-chardev", {}),
    ("query-fdsets", {}),
    ("query-jobs", {}),
    ("query-block-exports", {}),
    ("query-memory-devices", {}),
    ("query-balloon", {}),
    ("query-dump", {}),
    ("query-migrate", {}),
)

#: Seconds between attempts to connect: the first, and the longest.
_PAUSE: Final = 0.05
_LONGEST: Final = 2.0


class Link:
    """A session's monitor, opened again as often as it takes until QEMU ends or :meth:`stop`."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._ready = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None

    def watch(self) -> None:
        """Begin, with a monitor that takes commands."""
        self._ready.set()
        self._watching = asyncio.ensure_future(self._watch())

    def stop(self) -> None:
        """Leave the monitor as it is from now on."""
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None

    async def execute(
        self, name: str, arguments: dict[str, Any] | None = None, *, fds: Sequence[int] = ()
    ) -> Any:
        """Execute a command on the monitor as it is now; raises what Monitor.execute raises."""
        return await self.session.monitor.execute(name, arguments, fds=fds)

    async def back(self) -> None:
        """Wait until the monitor takes commands and the state is what QEMU says. Raises QemuGone."""
        while not self.session.ended.done():
            if not self.session.monitor.connected:
                self._ready.clear()  # whoever heard of its end before :meth:`_watch` did
            elif self._ready.is_set():
                return
            ready = asyncio.ensure_future(self._ready.wait())
            try:
                await asyncio.wait((ready, self.session.ended), return_when=asyncio.FIRST_COMPLETED)
            finally:
                ready.cancel()
        raise QemuGone(self.session.ended.result())

    async def ask(self) -> None:
        """Ask everything; what QEMU does not know it refuses, and that is an answer too. Raises OutcomeUnknown, MonitorUnavailable.

        Nodes are asked for only where they are in doubt: QEMU 7.2 and 10.0 may crash where they list them just as a
        stream job ends.
        """
        for name, arguments in QUESTIONS:
            if name != "query-named-block-nodes" or _nodes_in_doubt(self.session.vm):
                with contextlib.suppress(CommandRefused):
                    await self.execute(name, arguments)

    async def reopen(self) -> None:
        """Connect once more and ask everything. Raises MonitorUnavailable, OutcomeUnknown."""
        monitor, process = self.session.monitor, self.session.process
        await monitor.open(process.socket_path, alone=True)
        await self.ask()

    async def _watch(self) -> None:
        while True:
            await self.session.monitor.wait_closed()
            self._ready.clear()
            pause = _PAUSE
            while True:
                # An end of QEMU is seen a little after its monitor's.
                await asyncio.wait((self.session.ended,), timeout=pause)
                if self.session.ended.done():
                    return
                try:
                    await self.reopen()
                except (MonitorUnavailable, OutcomeUnknown, LocalProtocolError):
                    pause = min(2 * pause, _LONGEST)
                else:
                    break
            self._ready.set()


def _nodes_in_doubt(vm: VM) -> bool:
    return any(len(vm.names("node", cell)) > 1 for cell in vm.nodes.values())
