"""What a VM can be asked to do: every operation by its name, as the steps that it sends.

Each method begins an intent of :mod:`qemustate.vm.intents` and returns at once; awaiting what it returns waits for the end.
All take ``deadline`` (seconds after which who waits is told that it is not known yet) and ``correlation`` (the caller's id for the log).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

from qemustate.errors import BadInput, NoPlace, QemustateError
from qemustate.hardware import release
from qemustate.hardware.hotplug import Step, plug_steps
from qemustate.hardware.properties import Device, Part
from qemustate.vm.job import Job
from qemustate.vm.places import hotplug_kind, is_taken, topology
from qemustate.vm.probe import probe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qemustate.hardware.topology import Topology
    from qemustate.vm.operation import Operation
    from qemustate.vm.operations import Operations
    from qemustate.vm.recorder import Recorder
    from qemustate.vm.session import Session


class Verbs:
    """The operations of a VM; the rest of it is :class:`qemustate.vm.virtual_machine.VirtualMachine`."""

    _recorder: Recorder
    _session: Session
    _operations: Operations
    _tasks: set[asyncio.Task[Any]]

    def begin(
        self,
        intent: str,
        *steps: Step,
        subject: str = "",
        arguments: dict[str, Any] | None = None,
        deadline: float | None = None,
        correlation: str | None = None,
    ) -> Operation:
        """Begin an intent of :data:`qemustate.vm.intents.INTENTS`; what the methods above do."""
        return self._operations.begin(
            intent, subject, arguments, steps, deadline=deadline, correlation=correlation
        )

    # --- life

    def pause(self, *, deadline: float | None = None, correlation: str | None = None) -> Operation:
        """Stop the vCPUs (``stop``). Its value is the run state."""
        return self.begin("pause", Step("stop", {}), deadline=deadline, correlation=correlation)

    def resume(self, *, deadline: float | None = None, correlation: str | None = None) -> Operation:
        """Let the vCPUs go on (``cont``). Its value is the run state; None where it may be ``running`` or ``suspended``."""
        return self.begin("resume", Step("cont", {}), deadline=deadline, correlation=correlation)

    def reset(self, *, deadline: float | None = None, correlation: str | None = None) -> Operation:
        """Reset the machine (``system_reset``)."""
        return self.begin("reset", Step("system_reset", {}), deadline=deadline, correlation=correlation)

    def powerdown(self, *, deadline: float | None = None, correlation: str | None = None) -> Operation:
        """Ask the guest to power off (``system_powerdown``); done when it has, and QEMU has ended or, with ``-no-shutdown``, is in ``shutdown``."""
        return self.begin(
            "powerdown", Step("system_powerdown", {}), deadline=deadline, correlation=correlation
        )

    def quit(self, *, deadline: float | None = None, correlation: str | None = None) -> Operation:
        """End QEMU (``quit``); done when its process has ended, also where the guest was first."""
        return self.begin("quit", Step("quit", {}), deadline=deadline, correlation=correlation)

    def kill(self, *, deadline: float | None = None, correlation: str | None = None) -> Operation:
        """Kill QEMU (SIGKILL); done when its process has ended."""
        operation = self.begin("kill", deadline=deadline, correlation=correlation)
        self._session.kill()
        return operation

    # --- devices

    def plug(self, *parts: Part, deadline: float | None = None, correlation: str | None = None) -> Operation:
        """Plug a device with the backends it needs, or backends alone, in any order; its value is the device's entry of the state.

        The last device among the parts, or else the last backend, is what the operation is about. A device that names no
        bus is given a place, as :meth:`advice` knows them; NoPlace says that there is none, or who is in the one it names. When a step is refused, what was plugged
        before is taken back. The same plug while one is under way joins it. Raises BadInput for parts that cannot be plugged, or another plug
        of that id under way.
        """
        fd_prefix = f"qemustate{self._recorder.vm.seq}"
        steps = plug_steps(self._placed(parts), fd_prefix=fd_prefix, fdset=self._recorder.vm.seq * _SETS)
        if not steps:
            raise BadInput("plug", expected="at least one part", seen="none")
        subject = str(steps[-1].arguments.get("id") or steps[-1].arguments.get("node-name", ""))
        if (busy := self._operations.find("plug", subject)) is not None:
            if busy.request != parts:
                raise BadInput(
                    f"plug {subject}", expected="no other plug of that id under way", seen=f"{busy.id}"
                )
            return self._operations.join(busy, "joined", deadline)
        operation = self.begin("plug", *steps, subject=subject, deadline=deadline, correlation=correlation)
        operation.request = parts
        return operation

    def _placed(self, parts: Sequence[Part]) -> list[Part]:
        """Give a place to each device that has none, and a free slot to one that only names its bus. Raises NoPlace.

        What else a bus that was named cannot take, and whether who may have left is still in the way, is for QEMU to say. Of a port
        that is occupied only 10.0 says it: 7.2 takes a device that no guest will see (hw/pci/pci.c do_pci_register_device()).
        """
        places = topology(self._recorder.vm)
        placed: list[Part] = []
        for part in parts:
            if isinstance(part, Device):
                # A vCPU's place is its numbers, and which there are only QEMU knows.
                named = "bus" in part or part.kind.endswith(("-cpu", "-cpu-core"))
                try:
                    part = places.place(part)
                except NoPlace:
                    if not named or is_taken(self._recorder.vm, places, part):
                        raise
                places.occupy(part)
            placed.append(part)
        return placed

    async def advice(self, *parts: Part) -> list[str]:
        """Return what speaks against plugging these parts, a sentence each, before QEMU says it; nothing if all is well.

        Their properties are held against what this QEMU says of itself, which is asked of a short-lived one the first
        time and kept (:mod:`qemustate.vm.probe`); the devices' places against what is there.
        """
        devices = [part for part in parts if isinstance(part, Device)]
        binary = str(self._recorder.vm.spawned["binary"])
        known = await asyncio.to_thread(probe, binary, [device.kind for device in devices])
        found = [
            f"{part.option} {part.id or part.kind}: {problem}"
            for part in parts
            for problem in known.check(part)
        ]
        places = topology(self._recorder.vm)
        for device in devices:
            found += places.check(device) if "bus" in device else _no_place(places, device)
        return found

    def unplug(
        self, name: str, *, deadline: float | None = None, correlation: str | None = None
    ) -> Operation:
        """Unplug a device, and with it the backends that :meth:`plug` brought, or backends that it brought alone; done when all are gone.

        A second request while one is under way does what the policy of its bus says
        (:mod:`qemustate.hardware.release`): it joins it, or sends the request once more; ``how`` tells which. A device whose plug is
        under way is unplugged when that has ended.
        """
        vm = self._recorder.vm
        cell = vm.devices.get(name)
        policy = release.policy(hotplug_kind(cell))
        if (busy := self._operations.find("unplug", name)) is not None:
            asked = cell.asked if cell else 0
            waited = time.time() - asked / 1_000_000
            if not (asked and policy.again == "repeat" and waited >= policy.again_after / 1000):
                return self._operations.join(busy, "joined", deadline)
            self._keep(asyncio.ensure_future(self._again(name)))
            return self._operations.join(busy, "repeated", deadline)
        plugging = self._operations.find("plug", name)
        plugged = vm.plugged.get(name, ()) if plugging is None else vm.intents[plugging.id]["steps"]
        steps = [Step(undo[0], undo[1]) for _, _, undo in reversed(plugged) if undo]
        request = Step("device_del", {"id": name})
        if not plugged or plugged[-1][0] == "device_add":
            steps = [request, *(step for step in steps if step != request)]
        told = {
            "told": not policy.silent,
            "repeat": policy.again != "join",
            "settles": f"DEVICE_DELETED, or {policy.settled_by}; {_at_reset(policy)}",
        }
        return self._operations.begin(
            "unplug", name, told, steps, deadline=deadline, correlation=correlation, after=plugging
        )

    async def _again(self, name: str) -> None:
        with contextlib.suppress(QemustateError):
            await self._operations.execute("device_del", {"id": name})

    # --- memory and vCPUs

    def balloon(
        self, size: int, *, deadline: float | None = None, correlation: str | None = None
    ) -> Operation:
        """Ask the guest's balloon to leave it ``size`` bytes; done when it says so."""
        step = Step("balloon", {"value": size})
        return self.begin(
            "balloon", step, arguments={"bytes": size}, deadline=deadline, correlation=correlation
        )

    # --- state elsewhere

    def dump(
        self,
        path: str,
        *,
        paging: bool = False,
        deadline: float | None = None,
        correlation: str | None = None,
    ) -> Operation:
        """Dump the guest's memory to the file ``path`` (ELF); the VM goes on when it is done. One dump waits for the one before it."""
        step = Step("dump-guest-memory", {"paging": paging, "protocol": f"file:{path}", "detach": True})
        before = [it for it in self._operations.open.values() if it.intent == "dump"]
        return self._operations.begin(
            "dump", "", {"path": path}, [step],
            deadline=deadline, correlation=correlation, after=before[-1] if before else None,
        )  # fmt: skip

    def migrate(
        self,
        uri: str,
        *,
        capabilities: Mapping[str, bool] | None = None,
        parameters: Mapping[str, Any] | None = None,
        deadline: float | None = None,
        correlation: str | None = None,
    ) -> Operation:
        """Migrate to ``uri``; ``capabilities`` and ``parameters`` in QAPI's names (qapi/migration.json) are set before.

        ``unix:PATH``, ``tcp:HOST:PORT``, ``exec:COMMAND``, or ``fd:NAME`` after :meth:`getfd`. Done when its status is ``completed``.
        """
        steps = [*_migration_settings(capabilities, parameters), Step("migrate", {"uri": uri})]
        return self.begin(
            "migrate", *steps, arguments={"intent": "migrate"}, deadline=deadline, correlation=correlation
        )

    def incoming(
        self,
        uri: str,
        *,
        capabilities: Mapping[str, bool] | None = None,
        parameters: Mapping[str, Any] | None = None,
        deadline: float | None = None,
        correlation: str | None = None,
    ) -> Operation:
        """Take in a migration at ``uri``, in a VM launched with ``-incoming defer``; done when all of it has come.

        It listens once the operation is :meth:`~qemustate.vm.operation.Operation.taken`.
        """
        steps = [*_migration_settings(capabilities, parameters), Step("migrate-incoming", {"uri": uri})]
        return self.begin(
            "incoming", *steps, arguments={"intent": "incoming"}, deadline=deadline, correlation=correlation
        )

    async def cancel_migration(self) -> None:
        """Cancel an outgoing migration; its operation ends as refused."""
        await self.execute("migrate_cancel")

    # --- jobs

    def mirror(self, node: str, target: str, **more: Any) -> Job:
        """Copy a node's contents to another while it is written to (``blockdev-mirror``); ``complete`` moves its device there.

        ``more`` are further arguments in QAPI's names with underscores (``sync``, by default ``full``), ``job`` its id, and
        ``deadline`` and ``correlation``. So for all jobs.
        """
        return self._job(
            "mirror", "blockdev-mirror", {"device": node, "target": target, "sync": "full"}, more
        )

    def commit(self, node: str, **more: Any) -> Job:
        """Write what a chain of overlays holds into a lower one (``block-commit``); of the active layer, ``complete`` ends it."""
        return self._job("commit", "block-commit", {"device": node}, more)

    def stream(self, node: str, **more: Any) -> Job:
        """Copy what lower nodes hold into this one (``block-stream``)."""
        return self._job("stream", "block-stream", {"device": node}, more)

    def backup(self, node: str, target: str, **more: Any) -> Job:
        """Copy a node as it is now to another (``blockdev-backup``)."""
        return self._job(
            "backup", "blockdev-backup", {"device": node, "target": target, "sync": "full"}, more
        )

    def snapshot(self, tag: str, vmstate: str, devices: Sequence[str], **more: Any) -> Job:
        """Save the whole VM as ``tag`` in the nodes ``devices``, its memory in the node ``vmstate`` (``snapshot-save``)."""
        return self._snapshot("snapshot", "snapshot-save", tag, devices, {"vmstate": vmstate, **more})

    def snapshot_load(self, tag: str, vmstate: str, devices: Sequence[str], **more: Any) -> Job:
        """Take the whole VM back to what ``tag`` holds (``snapshot-load``)."""
        return self._snapshot("snapshot-load", "snapshot-load", tag, devices, {"vmstate": vmstate, **more})

    def snapshot_delete(self, tag: str, devices: Sequence[str], **more: Any) -> Job:
        """Delete ``tag`` from the nodes ``devices`` (``snapshot-delete``)."""
        return self._snapshot("snapshot-delete", "snapshot-delete", tag, devices, more)

    def _snapshot(
        self, intent: str, command: str, tag: str, devices: Sequence[str], more: dict[str, Any]
    ) -> Job:
        return self._job(intent, command, {"tag": tag, "devices": list(devices)}, more)

    def _job(self, intent: str, command: str, arguments: dict[str, Any], more: dict[str, Any]) -> Job:
        deadline, correlation = more.pop("deadline", None), more.pop("correlation", None)
        name = more.pop("job", None) or f"{intent}-{self._recorder.vm.seq}"
        arguments |= {key.replace("_", "-"): value for key, value in more.items()} | {"job-id": name}
        if not command.startswith("snapshot"):
            # QEMU keeps it when it has ended, so that how it ended can be asked.
            arguments["auto-dismiss"] = False
        made = self.begin(
            intent, Step(command, arguments), subject=name, arguments={"intent": intent},
            deadline=deadline, correlation=correlation,
        )  # fmt: skip
        assert isinstance(made, Job)
        return made

    async def execute(
        self, name: str, arguments: dict[str, Any] | None = None, *, fds: Sequence[int] = ()
    ) -> Any:
        """Execute any command and return what it returned; ``fds`` go with it. May be called from a callback.

        Raises CommandRefused; OutcomeUnknown when the monitor closed before the answer; MonitorUnavailable,
        LocalProtocolError or RecordingFailed when it was not sent.
        """
        return await self._operations.execute(name, arguments, fds=fds)

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


#: How many sets of descriptors one plug may need; their numbers are those of its record and the next.
_SETS: Final = 1000


def _no_place(places: Topology, device: Device) -> list[str]:
    try:
        places.place(device)
    except NoPlace as none:
        return [none.seen]
    return []


def _migration_settings(
    capabilities: Mapping[str, bool] | None, parameters: Mapping[str, Any] | None
) -> list[Step]:
    """Return the steps that set up a migration; its events are switched on, since its end is told by them."""
    wanted = {"events": True, **(capabilities or {})}
    told = [{"capability": name, "state": state} for name, state in wanted.items()]
    steps = [Step("migrate-set-capabilities", {"capabilities": told})]
    return [*steps, Step("migrate-set-parameters", dict(parameters))] if parameters else steps


def _at_reset(policy: release.Policy) -> str:
    return {
        "completes": "a reset would complete it",
        "forgets": "a reset would make QEMU forget it",
        "open": "what a reset does to it differs",
        "nothing pending": "a reset changes nothing",
    }[policy.reset]
