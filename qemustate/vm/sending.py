"""One step of an operation, sent until it is certain to be done; and steps taken back.

An answer may be lost with its monitor: the next connection begins with asking QEMU, and that, or sending the step once
more, tells whether it was done.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from qemustate.errors import CommandRefused, MonitorUnavailable, OutcomeUnknown, QemuGone, QemustateError
from qemustate.hardware.hotplug import Step
from qemustate.vm.intents import happened, is_over

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qemustate.vm.link import Link
    from qemustate.vm.recorder import Recorder

#: Refusals of a removal that pass by themselves: the frontend has left the machine and is not finalized yet (hw/core/qdev.c).
_BUSY: Final = ("in use", "is busy")
#: Refusals of a removal of what is not there: nothing is left to be removed.
_ABSENT: Final = ("not found", "Failed to find node", "DeviceNotFound")
#: Refusals to make what is there already (block.c, net/net.c, chardev/char.c, qom/object.c, system/qdev-monitor.c).
_TAKEN: Final = ("Duplicate", "duplicate", "already exists")
#: Seconds for which a removal that is refused as busy is tried again, and between two tries.
_PATIENCE: Final = 5.0
_AGAIN: Final = 0.05

#: Commands that remove something, and may be refused until it is let go of.
_REMOVALS: Final = frozenset(
    {
        "device_del",
        "blockdev-del",
        "netdev_del",
        "chardev-remove",
        "object-del",
        "remove-fd",
        "closefd",
        "job-dismiss",
    }
)
#: Commands that may be sent twice: the second time they do the same, nothing, or are refused.
_REPEATABLE: Final = _REMOVALS | {
    "blockdev-add", "netdev_add", "chardev-add", "object-add", "device_add", "getfd",
    "stop", "cont", "system_powerdown", "quit", "balloon", "qom-set", "migrate-set-capabilities", "migrate-set-parameters",
}  # fmt: skip


class Sender:
    """Sends the steps of one VM's operations."""

    def __init__(self, recorder: Recorder, link: Link) -> None:
        self._recorder = recorder
        self._link = link

    async def undo(self, made: Sequence[Step]) -> list[tuple[str, dict[str, Any]]]:
        """Take these steps back, last first; return and raise as :meth:`tidy` does."""
        return await self.tidy([Step(*step.undo) for step in reversed(made) if step.undo is not None])

    async def step(self, step: Step, made: Sequence[Step] = ()) -> None:
        """Send one step until it is certain to be done. Raises CommandRefused, QemuGone, OutcomeUnknown and what sending raises.

        ``made`` are the steps before it. A set of descriptors may go with the monitor it was sent on (QEMU 7.2 monitor/fds.c
        monitor_fdset_cleanup()), and is sent again then.
        """
        was_there, again = happened(self._recorder.vm, step) is True, False
        while True:
            await self._link.back()
            try:
                await self._patiently(step.command, step.arguments, step.fds)
            except CommandRefused as refusal:
                if again and not was_there and any(word in refusal.desc for word in _TAKEN):
                    return  # by the first time, whose answer was lost
                raise
            except OutcomeUnknown:
                await self._link.back()
                done = happened(self._recorder.vm, step)
                if done and not was_there:
                    return
                if done is None and step.command not in _REPEATABLE:
                    raise
                again = True
                for earlier in made:
                    if earlier.command == "add-fd" and happened(self._recorder.vm, earlier) is False:
                        await self.step(earlier)
            except MonitorUnavailable:
                await asyncio.sleep(_AGAIN)
            else:
                return

    async def _patiently(self, command: str, arguments: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Execute a command, again for a while if it is refused for a reason that passes. Raises as execute does."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _PATIENCE
        while True:
            try:
                await self._link.execute(command, arguments, fds=fds)
            except CommandRefused as refusal:
                if command == "device_del" and _is_pending(refusal):
                    return
                passing = command in _REMOVALS and any(word in refusal.desc for word in _BUSY)
                if not passing or loop.time() > until:
                    raise
                await asyncio.sleep(_AGAIN)
            else:
                return

    async def tidy(self, steps: Sequence[Step]) -> list[tuple[str, dict[str, Any]]]:
        """Send removals in order, and return those that are refused though there is something to remove. Raises QemuGone."""
        left = []
        for step in steps:
            if is_over(self._recorder.vm, step):
                continue
            try:
                await self.step(step)
            except CommandRefused as refusal:
                if refusal.error_class not in _ABSENT and not any(word in refusal.desc for word in _ABSENT):
                    left.append((step.command, step.arguments))
            except QemuGone:
                raise
            except QemustateError:
                left.append((step.command, step.arguments))
        return left


def _is_pending(refusal: CommandRefused) -> bool:
    """Say whether a refused ``device_del`` means that it is under way already (hw/pci/pcie.c, hw/ppc/spapr.c)."""
    return any(word in refusal.desc for word in ("already in the process of unplug", "already in progress"))
