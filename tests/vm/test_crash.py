"""Who owns a VM is killed at any moment, and the next who comes finds what is so, ends what was open, and goes on."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import time
from collections import Counter

import pytest
from support import embedder

from qemustate import VirtualMachine
from qemustate.errors import BadInput, QemuGone
from qemustate.events.reader import LogReader
from qemustate.statemachine.fold import apply
from qemustate.statemachine.state import VM

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000), pytest.mark.usefixtures("no_leaks", "orphans")]


@pytest.fixture
def orphans():
    """Make this process the parent of what its children leave."""
    with embedder.adopting_orphans():
        yield


class Place:
    """Where one VM after another is run: the command line, what the bare machine holds, how long its log is undisturbed."""

    def __init__(self, folder, qemu):
        self.folder = folder
        self.argv = [qemu.binary, *qemu.args, *embedder.MACHINE]
        self.count = 0
        self.ends = Counter()
        told = folder / "bare"
        with self.new() as (here, peers):
            assert embedder.embed(self.argv, here, peers, told=told) == 0
            self.bare = {name.replace(f"{here}", "{}"): n for name, n in json.loads(told.read_text()).items()}
        with self.new() as (here, peers):
            assert embedder.embed(self.argv, here, peers) == 0
            records = list(LogReader(here / "log"))
        self.points = [("record", n) for n in range(1, len(records))]
        for n in range(1, sum(record.kind == "command" for record in records) + 1):
            self.points += [("sent", n), ("answered", n)]

    @contextlib.contextmanager
    def new(self):
        """Lend a folder with two images in it, and the peers of the devices."""
        self.count += 1
        here = self.folder / f"{self.count}"
        here.mkdir()
        for name in embedder.NODES:
            with (here / name).open("wb") as file:
                file.truncate(embedder.MIB)
        with embedder.Peers() as peers:
            yield here, peers
        shutil.rmtree(here)

    def embed(self, here, peers, point, **more):
        """Run the scenario up to a point, where it is killed."""
        kind, number = point
        told = {"record": number} if kind == "record" else {"sent": number, "answered": kind == "answered"}
        return embedder.embed(self.argv, here, peers, **told, **more) == signal.SIGKILL

    def check(self, here, peers):
        """Adopt the VM of a log that was broken off, hold it against QEMU, use it, end it."""
        asyncio.run(self._check(here, peers))
        spawned = [it.body["pid"] for it in LogReader(here / "log") if it.kind == "spawned"]
        assert all(embedder.ended(pid) for pid in spawned)
        left = {it.name for it in here.iterdir() if not it.name.startswith("log.0")}
        assert left == {"log", *embedder.NODES}
        vm, violations = VM(), []
        for record in LogReader(here / "log"):
            apply(vm, record.seq, record.time, record.kind, record.body)
            violations += [(record.seq, *it) for it in vm.violations]
            if record.kind == "ended":
                self.ends[record.body["outcome"]] += 1
        assert violations == []
        assert vm.intents == {}

    async def _check(self, here, peers):
        async with asyncio.timeout(60):
            try:
                async with VirtualMachine.adopt(here / "log", deadline=30) as vm:
                    await self._use(vm, here, peers)
            except BadInput:
                assert not any(it.kind == "spawned" for it in LogReader(here / "log"))
                self.ends["no QEMU yet"] += 1
            except QemuGone:
                asked = [it.body["intent"] for it in LogReader(here / "log") if it.kind == "begun"]
                assert "quit" in asked
                self.ends["QEMU gone"] += 1

    async def _use(self, vm, here, peers):
        begun = {it.body["correlation"]: it.body for it in LogReader(here / "log") if it.kind == "begun"}
        await embedder.settled(vm)
        if vm.state.process != "running" or "quit" in {body["intent"] for body in begun.values()}:
            await vm.wait()
            self.ends["QEMU gone"] += 1
            return
        await self._compare(vm, here)
        ended = {it.body["correlation"] for it in LogReader(here / "log") if it.kind == "ended"}
        assert begun.keys() - ended == vm.operations.keys()
        for operation in vm.operations.values():
            assert (operation.intent, operation.subject) in embedder.NEVER
            assert operation.settles
            self.ends["pending, owned"] += 1
        names = [
            step[1]["fdname"]
            for body in begun.values()
            for step in body.get("steps", ())
            if step[0] == "getfd"
        ]
        assert await embedder.names_left(vm, names) == []
        for name in (*embedder.DEVICES, *embedder.NODES):
            if "present" in (vm.state.device(name), vm.state.node(name)):
                await vm.unplug(name)
        for name in embedder.DEVICES:
            await peers.plug(vm, name)
        await self._compare(vm, here)

    async def _compare(self, vm, here):
        await embedder.agrees(vm)
        bare = {name.format(here): n for name, n in self.bare.items()}
        # Firmware that has run has set up devices, with an event descriptor or more for each.
        ran = any(
            it.kind == "event" and it.body["qmp"]["event"] == "RESUME" for it in LogReader(here / "log")
        )
        await embedder.holds(vm, here, bare, apart="anon_inode:" if ran else "")


@pytest.fixture
def place(tmp_path, qemu):
    """Return a Place."""
    return Place(tmp_path, qemu)


def each(place, points, work):
    """Do ``work(here, peers, point)`` for each point in a folder of its own; raise what failed, all of it."""
    failed = []
    for point in points:
        with place.new() as (here, peers):
            try:
                work(here, peers, point)
            except Exception as error:
                failed.append(f"{point}: {type(error).__name__}: {error}")
                for it in LogReader(here / "log"):
                    if it.kind == "spawned" and not embedder.ended(it.body["pid"]):
                        os.kill(it.body["pid"], signal.SIGKILL)
                        os.waitpid(it.body["pid"], 0)
    assert not failed, f"{len(failed)} of {len(points)}\n" + "\n".join(failed)


def test_killed_at_every_record(place, qemu, full, figures):
    """Wherever in its life its owner is killed, the VM is adopted, is what QEMU says, leaks nothing, and can be used and ended."""
    killed = 0
    start = time.monotonic()

    def work(here, peers, point):
        nonlocal killed
        killed += place.embed(here, peers, point)
        place.check(here, peers)

    points = place.points if full else place.points[3::15]
    each(place, points, work)
    took = time.monotonic() - start
    told = ", ".join(f"{name} {count}" for name, count in sorted(place.ends.items()))
    figures.append(
        f"owner killed at {killed} points of {len(points)}, QEMU {qemu.version}, {took:.0f} s; intents: {told}"
    )
