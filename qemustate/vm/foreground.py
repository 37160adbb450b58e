"""One QEMU, or one tap, in the foreground of a command: until it ends, or a signal asks for that."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from qemustate.errors import MonitorUnavailable, OutcomeUnknown, QemustateError
from qemustate.vm.session import Session
from qemustate.vm.tap import tap

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from qemustate.vm.recorder import Recorder, Scribe

#: The signals that ask a command to end.
_ENDING: Final = (signal.SIGINT, signal.SIGTERM)


def run_qemu(
    argv: Sequence[str], recorder: Recorder, tell: Callable[[str], None], *, stdout: int | None = None
) -> dict[str, int]:
    """Run a QEMU command line until it ends; return ``{"status": n}`` or ``{"signal": n}``.

    The first SIGINT or SIGTERM asks QEMU to quit, another one kills it; SIGHUP asks, and may come twice. ``tell`` is given sentences for a person,
    what QEMU wrote to its stderr among them; ``stdout`` and errors are those of Session.launch.
    """
    return asyncio.run(_run_qemu(argv, recorder, tell, stdout))


async def _run_qemu(
    argv: Sequence[str], recorder: Recorder, tell: Callable[[str], None], stdout: int | None
) -> dict[str, int]:
    asked = asyncio.Event()
    session: Session | None = None

    def on_signal() -> None:
        if asked.is_set() and session is not None:
            tell("killing QEMU")
            session.kill()
        asked.set()

    _on_signals(on_signal, asked.set)
    with tempfile.TemporaryDirectory(prefix="qemustate-") as folder:
        launching = asyncio.ensure_future(
            Session.launch(argv, recorder, Path(folder) / "monitor", stdout=stdout)
        )
        asking = asyncio.ensure_future(asked.wait())
        await asyncio.wait((launching, asking), return_when=asyncio.FIRST_COMPLETED)
        if not launching.done():
            launching.cancel()  # and with it goes the QEMU that has not come up yet
        try:
            session = await launching
        except asyncio.CancelledError:
            return recorder.vm.exit or {}
        with contextlib.closing(session):
            quitting = asyncio.ensure_future(_quit_when(asked, session, tell))
            ended = await session.wait()
            quitting.cancel()
            if said := session.process.stderr().rstrip():
                tell(said)
            return ended


async def _quit_when(asked: asyncio.Event, session: Session, tell: Callable[[str], None]) -> None:
    await asked.wait()
    tell("asking QEMU to quit; once more kills it")
    try:
        await session.execute("quit")
    except (OutcomeUnknown, MonitorUnavailable):
        return  # it goes, or the next signal makes it
    except QemustateError as error:
        tell(f"quit: {error}")


def run_tap(
    listen_at: str | os.PathLike[str],
    connect_to: str | os.PathLike[str],
    scribe: Scribe,
    tell: Callable[[str], None],
) -> None:
    """Run a tap until QEMU goes, or SIGINT, SIGTERM or SIGHUP comes; see :func:`qemustate.vm.tap.tap`."""

    async def serve() -> None:
        stop = asyncio.Event()
        _on_signals(stop.set, stop.set)
        await tap(listen_at, connect_to, scribe, tell, stop)

    asyncio.run(serve())


def _on_signals(action: Callable[[], None], hangup: Callable[[], None]) -> None:
    """Do ``action`` at a signal that asks for the end; ``hangup`` when the terminal goes, unless that is to be ignored (nohup)."""
    loop = asyncio.get_running_loop()
    for number in _ENDING:
        loop.add_signal_handler(number, action)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        loop.add_signal_handler(signal.SIGHUP, hangup)
