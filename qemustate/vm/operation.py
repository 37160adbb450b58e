"""Something that was asked for and may take its time: awaited, given up waiting for, never forgotten.

An operation ends in one of three ways. *Done*: awaiting it returns its value. *Refused*, by QEMU, by the guest or before
anything was sent: OperationRefused. *Unknown*: its deadline passed, OutcomeUnknown, which says what would settle it.
The operation itself goes on whoever waits, and when it ends the log says so; :meth:`Operation.settled` waits for
that without a deadline. Cancelling who waits changes nothing but that. Who asks for the same thing again meanwhile waits for the
same end, with a deadline of their own.
"""

from __future__ import annotations

import asyncio
import copy
from typing import TYPE_CHECKING, Any, Self

from qemustate.errors import OutcomeUnknown

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


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
        # Nobody may ever ask; that is no mistake.
        self._end: asyncio.Future[Any] = loop.create_future()
        self._end.add_done_callback(_looked_at)
        self._taken = self._with_end()
        self._answer = self._with_end()

    def joined(self, how: str) -> Self:
        """Return the same operation for somebody else to wait for; ``how`` as above."""
        other = copy.copy(self)
        other.how, other.overdue = how, False
        other._answer = self._with_end()  # noqa: SLF001  (one of its own kind)
        return other

    def _with_end(self) -> asyncio.Future[Any]:
        """Return a future that is done with the end, if not before."""
        future: asyncio.Future[Any] = self._end.get_loop().create_future()
        future.add_done_callback(_looked_at)
        self._end.add_done_callback(lambda end: _pass_on(end, future))
        return future

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
        if self._end.done():
            return
        if error is None:
            self._end.set_result(value)
        else:
            self._end.set_exception(error)

    def when_ended(self, tell: Callable[[], object]) -> None:
        """Call ``tell`` when it has ended."""
        self._end.add_done_callback(lambda _end: tell())

    def late(self, seconds: float) -> None:
        """Note that its deadline has passed: who waits is told that, and it goes on."""
        self.overdue = True
        if not self._answer.done():
            why = f"not ended in {seconds:g} s"
            self._answer.set_exception(
                OutcomeUnknown(f"{self.intent} {self.subject}".rstrip(), None, why, settles=self.settles)
            )


def _pass_on(end: asyncio.Future[Any], future: asyncio.Future[Any]) -> None:
    if future.done():
        return
    if (error := end.exception()) is not None:
        future.set_exception(error)
    else:
        future.set_result(end.result())


def _looked_at(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()
