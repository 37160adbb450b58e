"""After a crash of who launched it: a QEMU found from its log, connected to, asked, and owned again.

Nothing here ends a QEMU: one that is not understood, or held by somebody else, goes on as it was.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any, Final

from qemustate.errors import (
    BadInput,
    CommandRefused,
    LocalProtocolError,
    MonitorUnavailable,
    OutcomeUnknown,
    QemuGone,
)
from qemustate.events.format import segment_numbers
from qemustate.events.redact import redact_text
from qemustate.hardware.config import Config
from qemustate.vm.folder import clear, last_words
from qemustate.vm.found import Found
from qemustate.vm.helpers import Helpers
from qemustate.vm.intents import made_again
from qemustate.vm.link import Link
from qemustate.vm.listening import is_served
from qemustate.vm.recorder import Recorder, open_recorder
from qemustate.vm.session import Session

#: Seconds for which a QEMU that ends may be seen no more and still listen.
_DYING: Final = 2.0
#: Seconds between two tries to connect, where who had the monitor has not quite gone.
_PAUSE: Final = 0.05


async def adopt(log: Path, deadline: float, timeout: float) -> tuple[Recorder, Session]:  # noqa: ASYNC109
    """Open the log, find its QEMU, connect, ask; see VirtualMachine.adopt for the rest."""
    recorder = _open(log)
    session: Session | None = None
    try:
        process = await _find(recorder, log)
        session = Session(process, recorder, deadline=deadline)
        try:
            await asyncio.wait_for(_connect(session, process, log), timeout)
        except TimeoutError:
            raise MonitorUnavailable(
                f"{process.socket_path}: no greeting in {timeout:g} s: another client may hold the monitor"
            ) from None
    except BaseException as error:
        if session is not None:
            session.release()
        if isinstance(error, QemuGone):
            _bury(recorder)
        recorder.close()
        raise
    return recorder, session


def _open(log: Path) -> Recorder:
    if not segment_numbers(log):
        raise BadInput(str(log), expected="the log of a VM", seen="no such file")
    return open_recorder(log)


async def _find(recorder: Recorder, log: Path) -> Found:
    """Return the process that the log tells of. Raises QemuGone, BadInput."""
    vm = recorder.vm
    told = vm.spawned
    if not isinstance(told.get("pid"), int) or not told.get("monitor"):
        Helpers.found(recorder).close()
        raise BadInput(
            str(log), expected="the log of a QEMU that was launched here", seen="one without pid and monitor"
        )
    if vm.names("process", vm.process) == ("exited",):
        raise QemuGone(vm.exit or {})
    if vm.names("monitor", vm.monitor) != ("closed",):
        recorder.record("lost", {"why": "who had opened it is gone"})
    try:
        return Found.of(told)
    except ProcessLookupError:
        await _check_unserved(told, log)
        recorder.record("exited", {})
        raise QemuGone({}) from None


async def _check_unserved(told: dict[str, Any], log: Path) -> None:
    """Hold a QEMU that is not to be found to not serving its monitor either, which nobody else has. Raises BadInput."""
    end = asyncio.get_running_loop().time() + _DYING
    while is_served(told["monitor"]):  # a QEMU that was killed lets go of it a moment after
        if asyncio.get_running_loop().time() > end:
            raise BadInput(
                str(log),
                expected=f"process {told['pid']}, which started at {told.get('start')}, or nobody at its monitor",
                seen=f"no such process, and one that listens at {told['monitor']}: in another PID namespace?",
            )
        await asyncio.sleep(_PAUSE)


def _bury(recorder: Recorder) -> None:
    """End on record what a QEMU that has ended leaves open, and remove what it leaves behind."""
    vm = recorder.vm
    for correlation, body in list(vm.intents.items()):
        intent = made_again(body)
        done = intent is not None and intent.done(vm)
        ended = {
            "correlation": correlation,
            "intent": body["intent"],
            "subject": body.get("subject", ""),
            "outcome": "done" if done else "unknown",
            "why": "" if done else "QEMU has ended, and nobody saw how",
        }
        recorder.record("ended", ended)
    Helpers.found(recorder).close()
    place = Path(vm.spawned["monitor"]).parent
    if said := last_words(place).rstrip():
        recorder.record("note", {"text": f"QEMU's standard error: {redact_text(said)}"})
    clear(place)


async def _connect(session: Session, process: Found, log: Path) -> None:
    """Connect, ask and clear up, as often as it takes: a monitor takes one client at a time, and may be lost at any moment."""
    link = Link(session)
    while True:
        try:
            await link.reopen()
            await _check_uuid(session, process, log)
            await _close_left(session)
        except (MonitorUnavailable, OutcomeUnknown, LocalProtocolError):
            if session.ended.done():
                raise QemuGone(session.ended.result()) from None
            await asyncio.sleep(_PAUSE)
        else:
            return


async def _check_uuid(session: Session, process: Found, log: Path) -> None:
    """Hold the QEMU that answers to the UUID of the command line. Raises BadInput where it has another."""
    wanted = Config.from_argv(process.argv).options.get("uuid") if process.argv else None
    if wanted is None:
        return
    seen = (await session.execute("query-uuid"))["UUID"]
    if str(wanted).lower() != seen.lower():
        raise BadInput(str(log), expected=f"a QEMU with the UUID {wanted}", seen=seen)


async def _close_left(session: Session) -> None:
    """Close the descriptors that were handed over for a command that never came; names of theirs are ours alone."""
    for name, cell in list(session.vm.fds.items()):
        if not name.startswith("/") and "present" in session.vm.names("fd", cell):
            with contextlib.suppress(CommandRefused):
                await session.execute("closefd", {"fdname": name})
