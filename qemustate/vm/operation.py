"""Something that was asked for and may take its time: awaited, given up waiting for, never forgotten.

An operation ends in one of three ways. *Done*: awaiting it returns its value. *Refused*, by QEMU, by the guest or before
anything was sent: OperationRefused. *Unknown*: its deadline passed, OutcomeUnknown, which says what would settle it.
The operation itself goes on whoever waits, and when it ends the log says so; :meth:`Operation.settled` waits for
that without a deadline. Cancelling who waits changes nothing but that.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from qemustate.errors import OutcomeUnknown

if TYPE_CHECKING:
    from collections.abc import Generator


class Operation:
    """One operation: ``await`` it for its value.

    ``id`` is its correlation in the log, ``intent`` its name ("plug"), ``subject`` what it is about, ``settles`` the
    sentence that says what would end it. ``how`` tells what a second request for the same thing came to: "asked" for a
    first one, "joined", or "repeated" where QEMU was asked once more.
    """

    def __init__(self, identifier: str, intent: str, subject: str, settles: str) -> None:
        self.id, self.intent, self.subject, self.settles = identifier, intent, subject, settles
        self.how = "asked"
        self.overdue = False
        #: What was asked for, to tell the same request from another one.
        self.request: Any = None
        loop = asyncio.get_running_loop()
        self._end: asyncio.Future[Any] = loop.create_future()
        self._answer: asyncio.Future[Any] = loop.create_future()
        self._taken: asyncio.Future[Any] = loop.create_future()
        # Nobody may ever ask; that is no mistake.
        for future in (self._end, self._answer, self._taken):
            future.add_done_callback(_looked_at)

    def __repr__(self) -> str:
        state = "unfinished" if not self.ended else "refused" if self._end.exception() else "done"
        return f"<{self.intent} {self.subject or 'VM'} ({self.id}): {state}>"

    @property
    def ended(self) -> bool:
        """Whether it is done or refused, or can never be known any more."""
        return self._end.done()

    def __await__(self) -> Generator[Any, None, Any]:
        return asyncio.shield(self._answer).__await__()

    async def taken(self) -> None:
        """Wait until QEMU has answered all that it was sent: the guest has been asked, the target of a migration listens.

        Raises as :meth:`settled` does where it ended before that.
        """
        await asyncio.shield(self._taken)

    async def settled(self) -> Any:
        """Wait for its end, however long that takes; return and raise as awaiting it in time would have."""
        return await asyncio.shield(self._end)

    def take(self) -> None:
        """Note that QEMU has answered everything, for whoever waits."""
        if not self._taken.done():
            self._taken.set_result(None)

    def end(self, value: Any = None, error: BaseException | None = None) -> None:
        """Note the end, for whoever waits."""
        for future in (self._end, self._answer, self._taken):
            if not future.done():
                if error is None:
                    future.set_result(value)
                else:
                    future.set_exception(error)

    def late(self, seconds: float) -> None:
        """Note that its deadline has passed: who waits is told that, and it goes on."""
        self.overdue = True
        if not self._answer.done():
            why = f"not ended in {seconds:g} s"
            self._answer.set_exception(
                OutcomeUnknown(f"{self.intent} {self.subject}".rstrip(), None, why, settles=self.settles)
            )


def _looked_at(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()
