"""A QEMU virtual machine in the hands of a runtime: launched or adopted, changed by operations, let go of or ended.

::

    async with VirtualMachine.launch(config, log="vm.log") as vm:
        await vm.plug(*disk("d0", "disk.qcow2"), deadline=10)
        ...

Every method that changes something is an operation: it is begun on record, and ends *done* (awaiting it returns), *refused*
(OperationRefused) or *unknown* (OutcomeUnknown, once its ``deadline`` in seconds has passed). Operations on different
devices do not wait for one another.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from qemustate.errors import BadInput, QemustateError
from qemustate.events.redact import redact_text
from qemustate.hardware.config import Config
from qemustate.statemachine.machine import Callbacks
from qemustate.statemachine.view import Glimpse, State
from qemustate.vm import adoption
from qemustate.vm.cursor import Cursor
from qemustate.vm.folder import HELPERS, MONITOR, STDERR, clear
from qemustate.vm.helpers import Helper, Helpers
from qemustate.vm.job import Job
from qemustate.vm.link import Link
from qemustate.vm.monitor import DEADLINE
from qemustate.vm.opening import Opening
from qemustate.vm.operation import Operation
from qemustate.vm.operations import Operations
from qemustate.vm.recorder import Recorder, open_recorder
from qemustate.vm.resizing import Resizing
from qemustate.vm.session import Session

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from qemustate.statemachine.state import VM

#: Seconds that QEMU has to quit before it is killed.
_LEAVING: Final = 5.0
#: Where our files of a VM are, beside its log.
_FOLDER: Final = ".d"


class VirtualMachine(Resizing):
    """One VM. Made by :meth:`launch` or :meth:`adopt`; used in the event loop it was made in."""

    def __init__(self, recorder: Recorder, session: Session, helpers: Helpers) -> None:
        self._recorder = recorder
        self._session = session
        self._helpers = helpers
        self._link = Link(session)
        self._operations = Operations(recorder, self._link, self._made)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._left = False

    # --- making and leaving

    @classmethod
    def launch(
        cls,
        config: Config | Sequence[str],
        *,
        log: str | os.PathLike[str],
        folder: str | os.PathLike[str] | None = None,
        name: str | None = None,
        helpers: Sequence[Helper] = (),
        deadline: float = DEADLINE,
    ) -> Opening[Self]:
        """Launch a QEMU: await this, or use it with ``async with``, which ends the VM at the end of the block.

        ``config`` is a Config or a command line, ``log`` the log to write, or to go on with; ``name`` the VM's name in a
        new log. ``folder`` is where our monitor's socket and QEMU's standard error are, by default ``LOG.d``; it is made
        where it is not there. ``helpers`` are started before QEMU and end with it. ``deadline`` in seconds is how long an answer
        may take until the monitor counts as stalled. QEMU is in a session of its own and outlives us.

        Raises LaunchFailed with QEMU's own words, BadInput for what cannot be, LogBusy, LogDamaged.
        """
        return Opening(cls._launch(config, Path(log), folder, name, helpers, deadline))

    @classmethod
    async def _launch(
        cls,
        config: Config | Sequence[str],
        log: Path,
        folder: str | os.PathLike[str] | None,
        name: str | None,
        helpers: Sequence[Helper],
        deadline: float,
    ) -> Self:
        argv, fds = (config.argv(), config.fds) if isinstance(config, Config) else (list(config), ())
        place = log.with_name(log.name + _FOLDER) if folder is None else Path(folder)
        recorder = open_recorder(log, vm=name)
        running = Helpers(recorder)
        try:
            Helpers.found(recorder).close()  # of a launch that did not get as far as QEMU
            if "running" in recorder.vm.names("process", recorder.vm.process):
                raise BadInput(
                    str(log), expected="the log of a VM that does not run", seen="one that may run: adopt it"
                )
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            await running.start(helpers, place / HELPERS)
            session = await Session.launch(
                argv, recorder, place / MONITOR, deadline=deadline, stderr=place / STDERR, fds=fds
            )
        except BaseException as error:
            running.close()
            recorder.close()
            if not isinstance(error, BadInput):  # else what is in it is somebody else's
                clear(place)
            raise
        vm = cls(recorder, session, running)
        vm._link.watch()
        return vm

    @classmethod
    def adopt(
        cls, log: str | os.PathLike[str], *, deadline: float = DEADLINE, timeout: float = 10.0
    ) -> Opening[Self]:
        """Adopt a QEMU that an earlier process launched, from its log: await this, or use it with ``async with``.

        The log's lock is taken, QEMU found by pid and start, its monitor opened and asked for all that the log leaves open; what was
        under way goes on under the same ids, see :attr:`operations`. ``timeout`` in seconds is how long the monitor's
        greeting may take. A QEMU that cannot be talked to is left alone.

        Raises QemuGone when it has ended, which is recorded then; LogBusy while its owner lives; MonitorUnavailable;
        BadInput for a log that tells of no QEMU, or of another one; LogDamaged.
        """
        return Opening(cls._adopt(Path(log), deadline, timeout))

    @classmethod
    async def _adopt(cls, log: Path, deadline: float, timeout: float) -> Self:  # noqa: ASYNC109  (what is left when it is over differs)
        recorder, session = await adoption.adopt(log, deadline, timeout)
        vm = cls(recorder, session, Helpers.found(recorder))
        vm._link.watch()
        vm._operations.resume()
        return vm

    async def close(self) -> None:
        """End the VM: QEMU is asked to quit and killed if it does not; helpers end, the log is closed. Nothing after :meth:`leave`."""
        if self._left:
            return
        try:
            if not self._session.ended.done():
                with contextlib.suppress(QemustateError, TimeoutError):
                    await asyncio.wait_for(self.quit().settled(), _LEAVING)
        finally:
            self._end()

    def leave(self) -> None:
        """Let go of a VM that runs on, with its helpers; its log is closed, and tells another process how to adopt it."""
        if self._left:
            return
        self._let_go()
        self._session.release()
        self._helpers.release()
        self._recorder.close()

    def _let_go(self) -> None:
        self._left = True
        self._link.stop()
        self._operations.close()
        for task in self._tasks:
            task.cancel()

    def _end(self) -> None:
        self._let_go()
        self._session.end()
        self._helpers.close()
        if said := self.stderr().rstrip():
            self._recorder.record("note", {"text": f"QEMU's standard error: {redact_text(said)}"})
        self._session.close()
        self._recorder.close()
        clear(self._session.process.socket_path.parent)

    # --- looking

    @property
    def state(self) -> State:
        """The state as of now; it does not change any more."""
        return State(self._recorder.vm)

    @property
    def pid(self) -> int:
        """QEMU's process number."""
        return self._session.process.pid

    @property
    def log(self) -> Path:
        """The log's path."""
        return self._recorder.writer.path

    @property
    def operations(self) -> dict[str, Operation]:
        """What is under way, by correlation."""
        return dict(self._operations.open)

    def stderr(self) -> str:
        """Return the end of what QEMU has written to its standard error."""
        return self._session.process.stderr()

    def changes(self, start_seq: int | None = None) -> Cursor:
        """Return a cursor over the log's records, from number ``start_seq`` on or from the next one: see Cursor."""
        return Cursor(self._recorder, start_seq)

    async def until(self, predicate: Callable[[State], bool]) -> State:
        """Wait until ``predicate`` holds of the state, now or after any record to come; return that state.

        What the predicate is given is good for the call only; it may be called after every record. Raises QemuGone when QEMU ends before that.
        """
        found: list[State] = []

        def holds(vm: VM) -> bool:
            if predicate(Glimpse(vm)):
                found.append(State(vm))
            return bool(found)

        waiting = self._operations.until(holds)
        try:
            await asyncio.wait((waiting, self._session.ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if not found:
            await self._link.back()
        return found[0]

    def listen(self, machine: str, listener: object) -> Callable[[], None]:
        """Call the listener's ``on_enter_STATE``, ``on_exit_STATE`` and ``on_uncertain`` when that machine's state changes.

        ``machine`` is ``runstate``, ``process``, ``monitor``, ``migration``, ``device``, ``job``, ``node``, ...; of a machine that a VM
        has more than one of, the id is the argument. Methods are called from the event loop, after the records are
        written; one that is a coroutine function becomes a task. Returns what ends it.
        """
        callbacks = Callbacks(listener)
        loop = asyncio.get_running_loop()

        def look(vm: VM) -> None:
            for which, subject, before, cell in vm.changed:
                if which == machine:
                    after = vm.names(which, cell)
                    loop.call_soon(call, before, after, (subject,) if subject else ())

        def call(before: tuple[str, ...], after: tuple[str, ...], arguments: tuple[str, ...]) -> None:
            for result in callbacks.react(before, after, *arguments):
                if asyncio.iscoroutine(result):
                    self._keep(asyncio.ensure_future(result))

        self._recorder.on_record.append(look)
        return lambda: self._recorder.on_record.remove(look)

    # --- anything

    async def getfd(self, name: str, fd: int) -> None:
        """Hand QEMU a descriptor under a name; ``execute("closefd", {"fdname": name})`` takes it back."""
        await self.execute("getfd", {"fdname": name}, fds=(fd,))

    async def add_fd(self, fd: int, fdset: int | None = None, opaque: str | None = None) -> str:
        """Put a descriptor into a set, a new one where none is named; return the path by which QEMU opens it."""
        more = {"fdset-id": fdset, "opaque": opaque}
        told = await self.execute(
            "add-fd", {name: it for name, it in more.items() if it is not None}, fds=(fd,)
        )
        return f"/dev/fdset/{told['fdset-id']}"

    async def wait(self) -> dict[str, int]:
        """Wait until QEMU has ended; return ``{"status": n}``, ``{"signal": n}``, or ``{}`` where nobody could see."""
        return await self._session.wait()

    # --- below

    def _made(self, identifier: str, intent: str, subject: str, settles: str) -> Operation:
        if intent not in Job.INTENTS:
            return Operation(identifier, intent, subject, settles)
        job = Job(identifier, intent, subject, settles)
        job.operations = self._operations
        return job
