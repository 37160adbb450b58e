"""The operations of one VM: begun on record, sent step by step, waited for, ended on record.

Each runs in a task of its own, so a guest that says nothing holds up only what waits for it. Steps that were
done are taken back when a later one is refused, in reverse, and all of that is in the log like any other command. What
a lost monitor leaves open is asked of QEMU on the next connection, and gone on with from there.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import TYPE_CHECKING, Any, Final

from qemustate.errors import (
    BadInput,
    CommandRefused,
    LocalProtocolError,
    MonitorUnavailable,
    OperationRefused,
    OutcomeUnknown,
    QemuGone,
    QemustateError,
)
from qemustate.events.redact import redact_message
from qemustate.hardware.hotplug import Step
from qemustate.vm.intents import INTENTS, Intent, Refusal, happened, made_again
from qemustate.vm.link import Link
from qemustate.vm.operation import Operation
from qemustate.vm.sending import Sender

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qemustate.statemachine.state import VM
    from qemustate.vm.recorder import Recorder

#: Seconds between one question and the next where QEMU does not tell by itself.
_ASKING: Final = (0.1, 0.2, 0.5, 1.0, 2.0)
#: Seconds between one question and the next where QEMU is about to be through.
_PAUSE: Final = 0.02
#: Seconds for which the announcement of what is known is waited for where it may never come. Where it does it takes an RCU grace
#: period (hw/core/qdev.c device_finalize()), which has no bound on a busy host, nor under TCG beside a vCPU that spins.
_MOMENT: Final = 1.0


class Seen:
    """The end of an intent, kept as it was when it was first seen: others may undo at once what it does."""

    def __init__(self, intent: Intent) -> None:
        self._intent = intent
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_over = False
        self.refusal: Refusal | None = None
        self.value: Any = None

    def look(self, vm: VM) -> bool:
        """Say whether it is over, now or since an earlier record."""
        if not self.is_over:
            self.refusal = self._intent.refused(vm)
            self.is_over = self.refusal is not None or self._intent.done(vm)
            if self.is_over:
                self.value = self._intent.value(vm)
        return self.is_over

    def look_or_doubt(self, vm: VM) -> bool:
        """Say whether it is over, or not certain not to be."""
        return self.look(vm) or self._intent.doubt(vm)


class Operations:
    """What is under way in one VM, by correlation: ``open``."""

    def __init__(
        self, recorder: Recorder, link: Link, make: Callable[[str, str, str, str], Operation]
    ) -> None:
        self.open: dict[str, Operation] = {}
        self._make = make
        self._recorder = recorder
        self._link = link
        self._sender = Sender(recorder, link)
        self._waiting: dict[asyncio.Future[None], Callable[[VM], bool]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: set[asyncio.TimerHandle] = set()
        self._count = itertools.count(1)
        self._hurry: dict[str, asyncio.Event] = {}
        recorder.on_record.append(self._look)

    @property
    def vm(self) -> VM:
        """The state, as folded so far."""
        return self._recorder.vm

    def close(self) -> None:
        """Stop waiting for anything; what is open stays open in the log, and who waits is told that it is unknown here."""
        self._recorder.on_record.remove(self._look)
        for task in self._tasks:
            task.cancel()
        for timer in self._timers:
            timer.cancel()
        for future in self._waiting:
            future.cancel()
        for operation in self.open.values():
            what = f"{operation.intent} {operation.subject}".rstrip()
            why = "nobody here looks after the VM any more"
            operation.end(error=OutcomeUnknown(what, None, why, settles=operation.settles))

    # --- beginning

    def begin(
        self,
        name: str,
        subject: str = "",
        arguments: dict[str, Any] | None = None,
        steps: Sequence[Step] = (),
        *,
        deadline: float | None = None,
        correlation: str | None = None,
        after: Operation | None = None,
    ) -> Operation:
        """Begin an operation and return it; nothing is sent before ``after`` has ended.

        ``deadline`` in seconds: when it has passed, who waits is told, and it goes on. ``correlation`` is an id of the
        caller's for the log. Raises BadInput for one that is in use.
        """
        identifier = correlation or f"{self.vm.seq + 1}.{next(self._count)}"
        if identifier in self.vm.intents:
            raise BadInput("correlation", expected="one that is not in use", seen=identifier)
        body: dict[str, Any] = {"intent": name, "correlation": identifier, "subject": subject}
        if arguments:
            body["arguments"] = arguments
        if steps:
            body["steps"] = [
                [step.command, _redacted(step), list(step.undo) if step.undo else None] for step in steps
            ]
        self._recorder.record("begun", body)
        intent = INTENTS[name](subject, arguments or {}, tuple(steps), self.vm.intents[identifier]["seq"])
        return self._start(identifier, intent, deadline, after=after)

    def resume(self) -> None:
        """Go on with everything that the log says has begun and not ended; for a process that has just adopted the VM."""
        found = {identifier: made_again(body) for identifier, body in self.vm.intents.items()}
        last = {intent.sets: identifier for identifier, intent in found.items() if intent is not None}
        for identifier, intent in found.items():
            if intent is not None and intent.sets and last[intent.sets] != identifier:
                made = self._make(identifier, intent.name, intent.subject, intent.settles)
                desc = "what was asked for later counts"
                self._end(made, "refused", OperationRefused(intent.name, intent.subject, by="us", desc=desc))
            elif intent is not None:
                self._start(identifier, intent, None, resumed=True)

    def find(self, intent: str, subject: str) -> Operation | None:
        """Return the operation of that name about that subject, if one is under way."""
        return next((it for it in self.open.values() if (it.intent, it.subject) == (intent, subject)), None)

    def _start(
        self,
        identifier: str,
        intent: Intent,
        deadline: float | None,
        *,
        resumed: bool = False,
        after: Operation | None = None,
    ) -> Operation:
        made = self._make(identifier, intent.name, intent.subject, intent.settles)
        self.open[identifier] = made
        self._hurry[identifier] = asyncio.Event()
        task = asyncio.ensure_future(self._run(made, intent, resumed=resumed, after=after))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._limit(made, deadline)
        return made

    def join(self, operation: Operation, how: str, deadline: float | None) -> Operation:
        """Return an operation that is under way for one more to wait for, who has a deadline of their own."""
        joined = operation.joined(how)
        self._limit(joined, deadline)
        return joined

    def _limit(self, operation: Operation, deadline: float | None) -> None:
        if deadline is not None:
            timer = asyncio.get_running_loop().call_later(deadline, self._overdue, operation, deadline)
            self._timers.add(timer)
            operation.when_ended(timer.cancel)
            operation.when_ended(lambda: self._timers.discard(timer))

    def _overdue(self, operation: Operation, seconds: float) -> None:
        if operation.ended:
            return
        waiting = f"{operation.intent} {operation.subject}".rstrip()
        self._recorder.record(
            "deadline",
            {"waiting": waiting, "correlation": operation.id, "after": round(seconds * 1_000_000)},
        )
        operation.late(seconds)
        self._hurry[operation.id].set()

    # --- running

    async def _run(
        self, operation: Operation, intent: Intent, *, resumed: bool, after: Operation | None
    ) -> None:
        seen = Seen(intent)
        if after is not None:
            with contextlib.suppress(QemustateError):
                await after.settled()
        try:
            if intent.durable:
                await self.durable()
            await self._send(operation.id, intent, seen, resumed=resumed)
            operation.take()
            await self._settle(operation, intent, seen)
            left = await self._sender.tidy((*intent.then, *intent.tidy))
            if left:
                desc = "what it brought could not be removed"
                raise OperationRefused(intent.name, intent.subject, by="qemu", desc=desc, left=left)
            if intent.durable:
                await self.durable()
            self._end(operation, "done", value=seen.value)
        except OperationRefused as refusal:
            if intent.tidy:
                with contextlib.suppress(QemuGone):
                    await self._sender.tidy(intent.tidy)
            refusal.state = self._state(intent)
            self._end(operation, "refused", refusal)
        except QemuGone as gone:
            if intent.done(self.vm):
                self._end(operation, "done", value=intent.value(self.vm))
            else:
                self._end(operation, "unknown", _unknown(intent, str(gone)))
        except OutcomeUnknown as unknown:
            self._end(operation, "unknown", _unknown(intent, unknown.why))
        except QemustateError as error:
            self._end(
                operation,
                "refused",
                OperationRefused(intent.name, intent.subject, by="us", desc=str(error)),
            )
        finally:
            seen.over.cancel()

    def _end(
        self,
        operation: Operation,
        outcome: str,
        error: OperationRefused | OutcomeUnknown | None = None,
        *,
        value: Any = None,
    ) -> None:
        body: dict[str, Any] = {
            "correlation": operation.id,
            "intent": operation.intent,
            "subject": operation.subject,
            "outcome": outcome,
            "why": "" if error is None else error.why,
        }
        if isinstance(error, OperationRefused) and error.left:
            body["left"] = [list(undo) for undo in error.left]
        self._recorder.record("ended", body)
        self.open.pop(operation.id, None)
        self._hurry.pop(operation.id, None)
        operation.end(value, error)

    async def _send(self, identifier: str, intent: Intent, seen: Seen, *, resumed: bool) -> None:
        """Send the steps; take back those done when one is refused. Raises OperationRefused, QemuGone, OutcomeUnknown."""
        if resumed and not await self._go_on(identifier, intent):
            return
        made: list[Step] = []
        for step in intent.steps:
            if step is intent.steps[-1]:
                self._watch(identifier, intent, seen)
            try:
                if not (resumed and happened(self.vm, step)):
                    await self._sender.step(step, made)
            except CommandRefused as refusal:
                if step.command == "device_del" and refusal.error_class == "DeviceNotFound" and intent.then:
                    continue  # it went by itself, and what it was plugged with is still there
                left = await self._sender.undo(made)
                raise OperationRefused(
                    intent.name, intent.subject, by="qemu", desc=refusal.desc, error_class=refusal.error_class,
                    command=refusal.command, arguments=refusal.arguments, left=left,
                ) from refusal  # fmt: skip
            except OutcomeUnknown:
                if intent.going(self.vm) or intent.done(self.vm):
                    return
                raise
            except QemuGone:
                raise
            except QemustateError as error:
                left = await self._sender.undo(made)
                raise OperationRefused(
                    intent.name, intent.subject, by="us", desc=str(error), left=left
                ) from error
            made.append(step)

    async def _go_on(self, identifier: str, intent: Intent) -> bool:
        """Say whether an intent that another process began is to be sent (again). Raises OperationRefused, OutcomeUnknown."""
        sent = intent.steps[: self.vm.intents[identifier]["sent"]]
        await self._link.back()
        if intent.done(self.vm) or intent.going(self.vm):
            return False
        if intent.recovery == "resend":
            return True
        if intent.recovery == "undo":
            made = [step for step in sent if happened(self.vm, step) is not False]
            left = await self._sender.undo(made)
            desc = "who began it ended before it was done; it was taken back"
            raise OperationRefused(intent.name, intent.subject, by="us", desc=desc, left=left)
        if len(sent) < len(intent.steps) or happened(self.vm, sent[-1]) is False:
            desc = "who began it ended before QEMU was told"
            raise OperationRefused(intent.name, intent.subject, by="us", desc=desc)
        raise _unknown(intent, "who began it ended, and nothing shows whether QEMU took it")

    async def _settle(self, operation: Operation, intent: Intent, seen: Seen) -> None:
        """Wait until it is done. Raises OperationRefused, QemuGone."""
        hurry = self._hurry[operation.id]
        asking = itertools.chain(_ASKING, itertools.repeat(_ASKING[-1]))
        while True:
            doubted = intent.doubt(self.vm)
            # In doubt QEMU is asked; when that comes to nothing, again after a while.
            ended = self.until(seen.look if doubted else seen.look_or_doubt)
            hurried = asyncio.ensure_future(hurry.wait())
            try:
                await asyncio.wait(
                    (ended, hurried, self._link.session.ended),
                    timeout=next(asking) if intent.poll or doubted else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
            finally:
                hurried.cancel()
                ended.cancel()
            if seen.is_over:
                if intent.quiet is not None:
                    await self._quiet(*intent.quiet)
                    seen.refusal = intent.refused(self.vm) or seen.refusal
                if intent.confirm and seen.refusal is None:
                    await self._ask(intent)
                    seen.refusal = intent.refused(self.vm)
                if seen.refusal is not None:
                    by, desc = seen.refusal
                    if intent.reason:
                        desc = (await self._ask(intent) or {}).get(intent.reason) or desc
                    raise OperationRefused(intent.name, intent.subject, by=by, desc=desc)
                if intent.sets and seen.value is None:
                    await self._ask(intent)
                    seen.value = intent.value(self.vm)
                if intent.announced is not None:
                    await asyncio.wait(
                        (self.until(intent.announced), self._link.session.ended),
                        timeout=_MOMENT if intent.poll else None,
                        return_when=asyncio.FIRST_COMPLETED,
                    )
                return
            await self._link.back()
            hurry.clear()
            await self._ask(intent)

    async def _quiet(self, command: str, is_quiet: Callable[[Any], bool]) -> None:
        """Ask until the answer says that QEMU is through. Raises QemuGone."""
        while True:
            await self._link.back()
            with contextlib.suppress(OutcomeUnknown, MonitorUnavailable, LocalProtocolError):
                if is_quiet(await self._link.execute(command)):
                    return
            await asyncio.sleep(_PAUSE)

    def _watch(self, identifier: str, intent: Intent, seen: Seen) -> None:
        """Look out for the end on every record from the one that answers the last step, which is about to be sent, on."""

        def over(vm: VM) -> bool:
            begun = vm.intents.get(identifier, {"answered": 0})
            return bool(begun["answered"] >= len(intent.steps)) and seen.look(vm)

        self._waiting[seen.over] = over
        seen.over.add_done_callback(lambda it: self._waiting.pop(it, None))

    async def _ask(self, intent: Intent) -> Any:
        if intent.ask is not None:
            with contextlib.suppress(CommandRefused, OutcomeUnknown, MonitorUnavailable, LocalProtocolError):
                return await self._link.execute(*intent.ask)
        return None

    async def durable(self) -> None:
        """Have the log on the disk, without standing in anybody's way; where the disk refuses, the VM comes first."""
        with contextlib.suppress(QemustateError):
            await asyncio.to_thread(self._recorder.writer.sync)

    async def execute(
        self, name: str, arguments: dict[str, Any] | None = None, *, fds: Sequence[int] = ()
    ) -> Any:
        """Execute a command; raises what Monitor.execute raises."""
        return await self._link.execute(name, arguments, fds=fds)

    # --- waiting

    def until(self, condition: Callable[[VM], bool]) -> asyncio.Future[None]:
        """Return a future that is done once the condition holds of the state, now or after any record to come."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if condition(self.vm):
            future.set_result(None)
        else:
            self._waiting[future] = condition
            future.add_done_callback(lambda it: self._waiting.pop(it, None))
        return future

    def _look(self, vm: VM) -> None:
        for future, condition in list(self._waiting.items()):
            if not future.done() and condition(vm):
                future.set_result(None)

    def _state(self, intent: Intent) -> Any:
        state = self.vm.to_json()
        for collection in ("devices", "jobs"):
            if intent.subject in state[collection]:
                return state[collection][intent.subject]
        return state["runstate"]


def _redacted(step: Step) -> dict[str, Any]:
    message = {"execute": step.command, "arguments": step.arguments}
    kept: dict[str, Any] = redact_message("command", message)["arguments"]
    return kept


def _unknown(intent: Intent, why: str) -> OutcomeUnknown:
    name = f"{intent.name} {intent.subject}".rstrip()
    return OutcomeUnknown(name, None, why, settles=intent.settles)
