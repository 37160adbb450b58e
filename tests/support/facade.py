"""A VM's facade driven at random: what every such test does, whatever QEMU is behind it.

After each step the belief holds the truth (:mod:`support.truth`). What a subclass says is how a VM is launched and
asked for its truth, and how it is let go on.
"""

import asyncio
import contextlib
import gc
import os

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from support.truth import Believed

from qemustate import VirtualMachine
from qemustate.errors import MonitorUnavailable, OutcomeUnknown, QemuGone, QemustateError
from qemustate.events.reader import LogReader
from qemustate.hardware.properties import Blockdev, Chardev, Device, Fd, Netdev, Object
from qemustate.statemachine.checker import Checker
from qemustate.statemachine.fold import fold

MIB = 1 << 20
#: What is handed over as a descriptor.
_RANDOM = os.open("/dev/urandom", os.O_RDONLY)


def parts(name):
    """Return the parts of the device of that name: the kind, and a number."""
    back = f"{name}-back"
    match name[:-1]:
        case "scsi":
            return (
                Blockdev({"driver": "null-co", "node-name": back, "size": MIB, "read-zeroes": True}),
                Device(driver="scsi-hd", id=name, drive=back, bus="scsi.0"),
            )
        case "usb":
            return (Device(driver="usb-tablet", id=name, bus="usb.0"),)
        case "port":
            return (
                Chardev(backend="null", id=back),
                Device(driver="virtserialport", id=name, chardev=back, bus="vser.0"),
            )
        case "rng":
            source = Fd(_RANDOM) if name == "rng1" else "/dev/urandom"
            return (
                Object({"qom-type": "rng-random", "id": back, "filename": source}),
                Device(driver="virtio-rng-pci", id=name, rng=back),  # in a port that is free
            )
        case "nic":
            return (
                Netdev(type="hubport", id=back, hubid=0),
                Device(driver="virtio-net-pci", id=name, netdev=back, bus="rp1"),
            )
    return (
        Object({"qom-type": "memory-backend-ram", "id": back, "size": 128 * MIB}),
        Device(driver="pc-dimm", id=name, memdev=back),
    )


#: Devices that are gone as soon as QEMU is asked, and those whose guest has a say.
SYNC = ("scsi0", "scsi1", "usb0", "usb1", "port0", "port1")
ASKED = ("rng0", "rng1", "nic0", "dimm0")
NAMES = (*SYNC, *ASKED)
#: What a plug brings besides its device: name of the backend -> that of the device.
BACKS = {part.id: name for name in NAMES for part in parts(name) if part.id != name}
#: Seconds: none, no time at all, and enough for nearly everything.
DEADLINES = st.sampled_from((None, 0.0, 10.0))

names = st.sampled_from(NAMES)


class Facade(RuleBasedStateMachine):
    """Drives one VM after another over one log."""

    #: Whether answers get lost: connections are cut, and VMs let go of, while something is under way.
    rough = False
    #: A folder of this run's own, where logs are made.
    folder = None
    _count = 0
    #: How many steps were checked, connections lost, and of these with commands in flight.
    steps = losses = interrupted = 0

    def __init__(self):
        super().__init__()
        type(self)._count += 1
        self.place = self.folder / str(self._count)
        self.place.mkdir()
        self.log = self.place / "log"
        self.errors = []
        self.operations = []
        self.jobs = []
        self.tasks = []
        self.vm = None

    # --- what a subclass says

    def make_loop(self):
        return asyncio.new_event_loop()

    async def start(self):
        """Return a VM that was launched."""
        raise NotImplementedError

    def truth(self):
        """Return what is true now."""
        raise NotImplementedError

    async def caught_up(self):
        """Have everything that is true by now seen, if anybody is listening."""
        raise NotImplementedError

    def crashed(self, found=""):
        """QEMU has ended by itself, and all that is known is that nobody asked for that."""
        raise NotImplementedError

    # --- running

    @initialize()
    def begin(self):
        self.loop = self.make_loop()
        self.loop.set_exception_handler(lambda _loop, context: self.errors.append(context))
        self._launch()

    def run(self, coroutine):
        """Run the loop until this is done."""

        async def bounded():
            try:
                async with asyncio.timeout(60):
                    return await coroutine
            except TimeoutError:
                open_ = self.vm and self.vm.operations
                about = {it.subject for it in (open_ or {}).values()}
                raise AssertionError(f"still waiting: {open_}, {_last(self.log, *about)}") from None

        return self.loop.run_until_complete(bounded())

    def _launch(self):
        self.vm = self.run(self.start())
        self._watch()

    def _watch(self):
        self.believed = Believed(self.vm._recorder.vm)
        self.vm._recorder.on_record.append(self.believed.look)
        self.vm._recorder.on_record.append(self._count_losses)
        self._unanswered = 0

    def _count_losses(self, vm):
        if vm.monitor.since == vm.seq and vm.names("monitor", vm.monitor) == ("closed",):
            type(self).losses += 1
            type(self).interrupted += self._unanswered > 0
        self._unanswered = len(vm.pending)

    @property
    def _alive(self):
        return self.vm is not None and not self.vm._session.ended.done()

    def _spawn(self, coroutine):
        async def guarded():
            with contextlib.suppress(QemustateError):
                await coroutine

        self.tasks.append(self.loop.create_task(guarded()))

    # --- rules

    def _begin(self, call, *args, **more):
        """Begin an operation, in the loop; QEMU may be gone by then."""

        async def begun():
            return call(*args, **more)

        try:
            operation = self.run(begun())
        except QemustateError:
            return None
        self.operations.append(operation)
        return operation

    @rule(name=names, deadline=DEADLINES)
    def plug(self, name, deadline):
        self._begin(self.vm.plug, *parts(name), deadline=deadline)

    @rule(name=names, deadline=DEADLINES)
    def unplug(self, name, deadline):
        self._begin(self.vm.unplug, name, deadline=deadline)

    @rule(verb=st.sampled_from(("pause", "resume", "reset")), deadline=DEADLINES)
    def life(self, verb, deadline):
        self._begin(getattr(self.vm, verb), deadline=deadline)

    @rule(
        # No stream: QEMU breaks down (signal 11) when its nodes are listed just as one ends.
        kind=st.sampled_from(("mirror", "backup", "commit")),
        slow=st.booleans(),
        manual=st.booleans(),
    )
    def job(self, kind, slow, manual):
        args = ("src", "dst") if kind in ("mirror", "backup") else ("top",)
        more = {"speed": 1} if slow else {}
        if manual:
            more["auto_finalize"] = False
        job = self._begin(getattr(self.vm, kind), *args, **more)
        if job is not None:
            self.jobs.append(job)

    @rule(
        back=st.integers(1, 3),
        verb=st.sampled_from(("complete", "cancel", "force", "pause", "resume", "fast", "finalize")),
    )
    def job_verb(self, back, verb):
        # What is drawn does not hang on how quick QEMU was.
        if len(self.jobs) < back:
            return
        job = self.jobs[-back]
        match verb:
            case "force":
                self._spawn(job.cancel(force=True))
            case "fast":
                self._spawn(job.set_speed(0))
            case _:
                self._spawn(getattr(job, verb)())

    @rule(turns=st.integers(1, 12))
    def turn(self, turns):
        """Let the loop go round some times."""

        async def round_and_round():
            for _ in range(turns):
                await asyncio.sleep(0)

        self.run(round_and_round())

    @rule(turns=st.integers(0, 12))
    def cut(self, turns):
        """Cut our connection, now or in the middle of what comes next."""
        if self.rough:
            self._spawn(self._cut(turns))

    @rule(name=names, verb=st.sampled_from(("plug", "unplug")), turns=st.integers(1, 6))
    def interrupt(self, name, verb, turns):
        """Cut our connection in the middle of a plug or an unplug."""
        if self.rough:
            self._begin(getattr(self.vm, verb), *(parts(name) if verb == "plug" else (name,)))
            self.run(self._cut(turns))

    async def _cut(self, turns):
        for _ in range(turns):
            await asyncio.sleep(0)
        client = self.vm._session.monitor._client
        if client is not None and not client._ended.done():
            client._socket.shutdown(2)

    @rule()
    def back(self):
        """Wait for a connection that was cut; what is asked and told then is all that is believed from now on."""

        async def connected():
            with contextlib.suppress(QemuGone):
                await self.vm._link.back()

        self.run(connected())

    @rule()
    def leave_and_adopt(self):
        async def again():
            if not self.rough:
                await self._quiet()
            self.vm.leave()
            return await VirtualMachine.adopt(self.log, timeout=30)

        before = dict(self.vm.operations)
        try:
            self.vm = self.run(again())
        except QemuGone as gone:
            self.crashed(str(gone))
            return
        self._watch()
        # What was under way is still, or has ended now; nobody waits for the objects of before.
        kept = self.vm.operations
        self.operations = [*kept.values()]
        self.jobs = [it for it in kept.values() if hasattr(it, "finalize")]
        assert kept.keys() <= before.keys()

    async def _quiet(self):
        """Wait until nothing is under way but what hangs on a guest or on a verb.

        A guest that spins holds back the news that a device is gone.
        """
        for operation in self.operations:
            if operation.subject in SYNC and operation.intent == "unplug":
                with contextlib.suppress(QemustateError):
                    await self.vm.until(_ended_or_left(operation))
            elif operation.subject not in ASKED and operation not in self.jobs:
                with contextlib.suppress(QemustateError):
                    await operation.settled()
            elif operation.intent == "plug" or operation in self.jobs:
                with contextlib.suppress(QemustateError):
                    await operation.taken()
        with contextlib.suppress(QemustateError):
            await self.vm.execute("query-version")

    # --- after each step

    def check(self):
        """Hold the truth against what has been believed since the last time, and against what operations said."""
        if not self._alive:
            return
        believed = self.believed
        try:
            truth = self.truth()
        except (OutcomeUnknown, MonitorUnavailable):
            self.crashed()
            return
        self.run(self.caught_up())
        vm = self.vm._recorder.vm
        assert not self.errors, self.errors
        complaints = believed.complaints(vm, truth, {*NAMES, *BACKS})
        assert not complaints, (complaints, _last(self.log))
        believed.restart(vm)
        type(self).steps += 1

    def teardown(self):
        try:
            if self.vm is not None:
                self._finish()
        finally:
            if self.vm is not None:
                self.run(self.vm.close())
                self.run(_over(self.tasks))
                self.vm = None
                self.loop.close()
        gc.collect()
        assert not self.errors, self.errors

    def _finish(self):
        """Take everything away, end the VM, and look at what was left, in QEMU and in the log."""
        if self._alive:
            self.run(self._clean())
            self.check()
        if self._alive:
            truth = self.truth()
            stuck = {name for name in ASKED if name in truth["devices"]}
            assert truth["devices"] - stuck == self.cold["devices"]
            assert self.cold["devices"] <= {name for _, name, _ in truth["seats"]}
            assert truth["jobs"] == {}, (truth["jobs"], _last(self.log, *truth["jobs"]))
            # QEMU may keep a device that has gone, and so what it had, for long; whoever unplugged it was told.
            told = {
                name
                for it in LogReader(self.log)
                for _, arguments in it.body.get("left", ())
                for name in arguments.values()
            }
            vm = self.vm._recorder.vm  # a set that was removed may stay
            fds = {it for it in truth["fds"] if vm.names("fd", vm.fds[it]) != ("gone",)}
            fds -= {f"/dev/fdset/{number}" for number in told}
            assert not fds or "rng1" in stuck, (fds, _last(self.log, "fd"))
            for collection in ("objects", "chardevs", "netdevs"):
                left = (
                    truth[collection]
                    - self.cold[collection]
                    - {back for back in BACKS if BACKS[back] in stuck}
                    - told
                )
                assert not left, (collection, left, _last(self.log, *left, *(BACKS[it] for it in left)))
            nodes = {back for back in BACKS if BACKS[back] not in stuck} & truth["nodes"] - told
            assert not nodes, (nodes, _last(self.log, *(BACKS[it] for it in nodes)))
            open_ = {(it.intent, it.subject) for it in self.vm.operations.values()}
            assert open_ <= {("unplug", name) for name in stuck}
        live = self.vm
        self.run(live.close())
        assert all(it.ended for it in self.operations)
        replayed = fold(LogReader(self.log))
        assert replayed.to_plain() == live._recorder.vm.to_plain()
        checker = Checker()
        for record in LogReader(self.log):
            checker.see(record.seq, record.time, record.kind, record.body)
        checker.close()
        violations = [it for it in checker.findings if it.severity == "violation"]
        assert not violations, (violations, _last(self.log, *(it.subject for it in violations)))
        assert {it.name for it in self.place.iterdir()} <= self.kept

    async def _clean(self):
        """End every job, and unplug what there is."""
        vm = self.vm
        with contextlib.suppress(QemuGone):
            await vm._link.back()
            # A guest that was reset in the middle of its firmware spins, and QEMU finalizes nothing meanwhile.
            with contextlib.suppress(QemustateError):
                await vm.pause()
            for job in [it for it in vm.operations.values() if hasattr(it, "finalize")]:
                await self._cancel(job)
            for operation in vm.operations.values():
                if operation.subject not in ASKED:
                    with contextlib.suppress(QemustateError):
                        await operation.settled()
            await asyncio.gather(*(self._gone(name) for name in NAMES))
            there = self.truth()["devices"]
            for operation in vm.operations.values():
                if operation.subject not in there:  # it is only not told yet
                    with contextlib.suppress(QemustateError):
                        await operation.settled()

    async def _cancel(self, job):
        """Cancel a job, however often the connection is lost with that."""
        while not job.ended:
            await self.vm._link.back()
            try:
                await job.cancel(force=True)
            except (OutcomeUnknown, MonitorUnavailable):
                await asyncio.sleep(0.01)
            except QemustateError:
                return
            else:
                return

    async def _gone(self, name):
        """Unplug a device, if there is one; a guest that is none has 50 ms for it."""
        plugging = self.vm._operations.find("plug", name)
        with contextlib.suppress(QemustateError):
            if plugging is not None:
                await plugging.settled()
        with contextlib.suppress(QemustateError):
            await self.vm.unplug(name, deadline=0.05 if name in ASKED else None)


def _last(log, *about):
    """Return the last records of a log that are about one of these, or about anything, for who has to find out."""
    lines = [f"{it.seq} {it.time / 1e6 % 1000:.3f} {it.kind} {it.body}" for it in LogReader(log)]
    return [line[:300] for line in lines if not about or any(it in line for it in about)][-40:]


def _ended_or_left(unplug):
    """Return the condition that an unplug has ended, or that nothing is missing but the news of it."""
    return lambda state: unplug.ended or state.device(unplug.subject) == "gone"


async def _over(tasks):
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
