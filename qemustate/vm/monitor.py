"""A monitor in use: every message recorded before anything acts on it, and every deadline that passes.

QEMU serves all its monitors from one thread, and a thread stuck in a dead disk answers none of them. Nobody
is told; so whoever waits writes down that it waited too long, and the state follows from that: *stalled*,
behind which command, for how long, until the next answer comes.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from qemustate.errors import CommandRefused, MonitorUnavailable
from qemustate.qmp.aio import Client
from qemustate.qmp.messages import Command, Event, Failure, Greeting, Reply
from qemustate.qmp.schema import Problem, Schema, check_properties
from qemustate.qmp.sockets import open_socket

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from qemustate.qmp.connection import Ended, Incoming
    from qemustate.vm.recorder import Recorder

#: Seconds until an answer is overdue.
DEADLINE: Final = 5.0

#: What stands for the greeting among the things waited for.
_GREETING: Final = "greeting"


class Monitor:
    """One connection to QEMU's monitor at a time. ``deadline`` in seconds: how long an answer may take.

    When it has passed a ``deadline`` is recorded for the oldest unanswered command, and again each time the
    wait has doubled. Nothing is given up: who waits goes on waiting, and a late answer counts.
    """

    def __init__(self, recorder: Recorder, *, deadline: float = DEADLINE) -> None:
        self._recorder = recorder
        self._deadline = deadline
        self._client: Client | None = None
        self._connected = False
        #: One that has not negotiated yet.
        self._opening: Client | None = None
        #: Why the connection ends, where we end it.
        self._leaving: dict[str, Any] = {}
        self._schema: Schema | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}  # by command id, or the greeting's

    async def open(self, address: str | Path, *, first: bool = False, alone: bool = False) -> None:
        """Connect to the UNIX socket at ``address`` and negotiate, however long that takes.

        ``first`` when nobody can have spoken on a monitor of this QEMU before, ``alone`` when nobody but us has
        since we left. Otherwise, where no greeting comes in time, ``held`` is recorded: another client has the monitor.
        Raises MonitorUnavailable.
        """
        sock = open_socket(address)
        told = {"first": first, "alone": alone}
        self._recorder.record(
            "opened", {"address": str(address), **{name: True for name, it in told.items() if it}}
        )
        self._expect(_GREETING, held=not first)
        # Ids must not repeat in the life of a QEMU; the log's numbers never do.
        first_id = 1 if first else self._recorder.vm.seq
        self._opening = Client(sock, on_messages=self._messages, on_end=self._ended, first_id=first_id)
        try:
            await self._opening.negotiate()
            self._client = self._opening
            self._connected = True
        finally:
            self._opening = None

    async def execute(
        self, name: str, arguments: dict[str, Any] | None = None, *, fds: Sequence[int] = ()
    ) -> Any:
        """Execute a command and return what it returned; ``fds`` go with it.

        Raises CommandRefused; OutcomeUnknown when the monitor closed before the answer; MonitorUnavailable,
        LocalProtocolError or RecordingFailed when the command was not sent.
        """
        if self._client is None:
            raise MonitorUnavailable(f"{name}: not sent, the monitor is not open")
        return await self._client.execute(name, arguments, fds=fds)

    async def doubts(self, name: str, arguments: dict[str, Any] | None = None) -> list[Problem]:
        """Return what this QEMU itself has against a command, before it is sent: nothing where all is well.

        Names, types, required arguments and enum values come from its ``query-qmp-schema``, asked once;
        ``device_add``'s properties, which that does not have, from ``device-list-properties``. They are doubts:
        QEMU has the last word, and :meth:`execute` sends the command all the same. Raises what it raises.
        """
        if self._schema is None:
            self._schema = Schema(await self.execute("query-qmp-schema"))
        found = self._schema.check_command(name, arguments)
        driver = (arguments or {}).get("driver")
        if name == "device_add" and isinstance(driver, str):
            try:
                properties = await self.execute("device-list-properties", {"typename": driver})
            except CommandRefused as refusal:
                return [*found, Problem("driver", "a device of this QEMU", refusal.desc)]
            found += check_properties(driver, arguments or {}, properties)
        return found

    @property
    def connected(self) -> bool:
        """Whether a connection is open and negotiated, so that it takes commands."""
        return self._connected

    async def wait_closed(self) -> None:
        """Wait until the monitor has closed; return at once where it never opened."""
        if self._client is not None:
            await self._client.wait_closed()

    def close(self, *, gone: bool = False, alone: bool = False) -> None:
        """Read what has arrived, then close; ``gone`` when that is because QEMU has ended, ``alone`` as in the ``lost`` record."""
        self._leaving = {} if gone else {"by": "us", **({"alone": True} if alone else {})}
        for client in (self._opening, self._client):
            if client is not None:
                client.close()

    def _messages(self, messages: Sequence[Incoming]) -> None:
        self._recorder.messages(messages)
        for message in messages:
            kind = type(message)
            if kind is Event:
                continue
            if isinstance(message, Command):
                self._expect(message.id)
            elif isinstance(message, Reply | Failure):
                if message.command is not None:
                    self._arrived(message.command.id)
            elif kind is Greeting:
                self._arrived(_GREETING)

    def _expect(self, what: str, *, held: bool = False) -> None:
        loop = asyncio.get_running_loop()
        self._timers[what] = loop.call_later(self._deadline, self._overdue, what, self._deadline, held)

    def _arrived(self, what: str) -> None:
        timer = self._timers.pop(what, None)
        if timer is not None:
            timer.cancel()

    def _overdue(self, what: str, after: float, held: bool) -> None:
        # QEMU answers in order: what waits behind something else is not what it is stuck in.
        told = what == next(iter(self._timers))
        if told and held:
            self._recorder.record("held", {})
        elif told:
            waiting = {"waiting": _GREETING} if what == _GREETING else {"waiting": "answer", "id": what}
            self._recorder.record("deadline", {**waiting, "after": round(after * 1_000_000)})
        more = after if told else self._deadline
        loop = asyncio.get_running_loop()
        self._timers[what] = loop.call_later(more, self._overdue, what, after + more, held)

    def _ended(self, ended: Ended) -> None:
        self._connected = False
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._recorder.messages(ended.malformed)
        self._recorder.record(
            "lost", {"why": "left", **self._leaving} if self._leaving else {"why": "end of stream"}
        )
