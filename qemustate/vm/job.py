"""A background job as an operation: awaited for its end, and moved by QEMU's verbs meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, ClassVar

from qemustate.errors import OperationRefused, OutcomeUnknown
from qemustate.vm.operation import Operation

if TYPE_CHECKING:
    from qemustate.vm.operations import Operations


class Job(Operation):
    """A job; ``subject`` is its id. Awaiting it waits until it has concluded; it is dismissed then.

    Verbs are QEMU's (job.c JobVerbTable). Each waits until QEMU has begun the job, raises OperationRefused where it has not,
    CommandRefused where the job is in no status for the verb, and what VirtualMachine.execute raises.
    """

    #: The intents that are jobs.
    INTENTS: ClassVar = frozenset(
        {"mirror", "commit", "stream", "backup", "snapshot", "snapshot-load", "snapshot-delete"}
    )

    operations: Operations

    @property
    def status(self) -> str | None:
        """Its status (QAPI ``JobStatus``); None where the facts allow more than one."""
        names = self._statuses()
        return names[0] if len(names) == 1 else None

    async def ready(self) -> None:
        """Wait until a mirror or an active commit is ``ready``: source and target are the same and stay so.

        Raises OperationRefused or OutcomeUnknown where it ends before that.
        """
        ready = self.operations.until(lambda _vm: self.status in ("ready", "standby"))
        try:
            await asyncio.wait((ready, self._end), return_when=asyncio.FIRST_COMPLETED)
        finally:
            seen = ready.done()
            ready.cancel()
        if not seen:
            await self.settled()
            raise OperationRefused(self.intent, self.subject, by="qemu", desc="it ended before it was ready")

    async def complete(self) -> Any:
        """End a job that is ready: a mirror's device is on the target from then on. Waits for its end.

        The log is on the disk before, and after.
        """
        await self.operations.durable()
        await self._verb("job-complete")
        return await self.settled()

    async def cancel(self, *, force: bool = False) -> None:
        """Cancel it, and wait for its end; a ready mirror that is not forced ends as completed, without the pivot (qapi block-job-cancel)."""
        if self.intent.startswith("snapshot"):
            await self._verb("job-cancel")
        else:
            await self.taken()
            await self.operations.execute("block-job-cancel", {"device": self.subject, "force": force})
        with contextlib.suppress(OperationRefused, OutcomeUnknown):
            await self.settled()

    async def pause(self) -> None:
        """Pause it."""
        await self._verb("job-pause")

    async def resume(self) -> None:
        """Resume it after :meth:`pause`."""
        await self._verb("job-resume")

    async def set_speed(self, speed: int) -> None:
        """Limit it to ``speed`` bytes per second; 0 for no limit."""
        await self.taken()
        await self.operations.execute("block-job-set-speed", {"device": self.subject, "speed": speed})

    async def finalize(self) -> None:
        """Finalize a job that was begun with ``auto-finalize`` false and is ``pending``."""
        await self._verb("job-finalize")

    async def _verb(self, command: str) -> None:
        await self.taken()  # QEMU knows of no job before it has been told of it
        await self.operations.execute(command, {"id": self.subject})

    def _statuses(self) -> tuple[str, ...]:
        vm = self.operations.vm
        cell = vm.jobs.get(self.subject)
        return ("undefined",) if cell is None else vm.names("job", cell)
