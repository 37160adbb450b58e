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
from qemustate.events.format import segment_numbers, segment_path
from qemustate.events.reader import LogReader
from qemustate.events.snapshots import truncate
from qemustate.statemachine.fold import apply
from qemustate.statemachine.state import VM

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000), pytest.mark.usefixtures("no_leaks", "orphans")]


@pytest.fixture
def orphans():
    """Make this process the parent of what its children leave."""
    with embedder.adopting_orphans():
        yield


#: QEMU's version -> what the bare machine holds, and the records of a run that nobody disturbs.
_UNDISTURBED = {}


class Place:
    """Where one VM after another is run: the command line, what the bare machine holds, how long its log is undisturbed."""

    def __init__(self, folder, qemu):
        self.folder = folder
        self.argv = [qemu.binary, *qemu.args, *embedder.MACHINE]
        self.count = 0
        self.ends = Counter()
        if qemu.version not in _UNDISTURBED:
            _UNDISTURBED[qemu.version] = self._undisturbed(folder / "bare")
        self.bare, self.records = _UNDISTURBED[qemu.version]
        self.points = [("record", n) for n in range(1, len(self.records))]
        for n in range(1, sum(record.kind == "command" for record in self.records) + 1):
            self.points += [("sent", n), ("answered", n)]

    def _undisturbed(self, told):
        """Run it once with a look after every step, and once without; return what the bare machine holds, and the records."""
        with self.new() as (here, peers):
            assert embedder.embed(self.argv, here, peers, told=told) == 0
            bare = {name.replace(f"{here}", "{}"): n for name, n in json.loads(told.read_text()).items()}
        with self.new() as (here, peers):
            assert embedder.embed(self.argv, here, peers) == 0
            return bare, list(LogReader(here / "log"))

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
        killed = embedder.embed(self.argv, here, peers, **told, **more) == signal.SIGKILL
        self.spawned = [it.body["pid"] for it in LogReader(here / "log") if it.kind == "spawned"]
        return killed

    def check(self, here, peers):
        """Adopt the VM of a log that was broken off, hold it against QEMU, use it, end it."""
        self.pending = set()
        open_ = {it.body["correlation"] for it in LogReader(here / "log") if it.kind == "begun"}
        open_ -= {it.body["correlation"] for it in LogReader(here / "log") if it.kind == "ended"}
        asyncio.run(self._check(here, peers))
        assert all(embedder.ended(pid) for pid in self.spawned)
        segments = {segment_path(here / "log", number).name for number in segment_numbers(here / "log")}
        assert {it.name for it in here.iterdir()} == {*segments, *embedder.NODES}
        reader, violations = LogReader(here / "log"), []
        first = reader.nearest_snapshot(reader.first_seq + 1) if reader.first_seq > 1 else None
        vm = VM() if first is None else VM.from_plain(first.body["state"])
        for record in reader:
            apply(vm, record.seq, record.time, record.kind, record.body)
            violations += [(record.seq, *it) for it in vm.violations]
            if record.kind == "ended" and record.body["correlation"] in open_ - self.pending:
                self.ends[record.body["outcome"]] += 1
        self.ends["pending, owned"] += len(open_ & self.pending)
        assert violations == []
        assert vm.intents == {}

    async def _check(self, here, peers):
        async with asyncio.timeout(60):
            try:
                async with VirtualMachine.adopt(here / "log", deadline=30) as vm:
                    await self._use(vm, here, peers)
            except BadInput:
                assert not self.spawned
                self.ends["no QEMU yet"] += 1
            except QemuGone:
                asked = [it.body["intent"] for it in LogReader(here / "log") if it.kind == "begun"]
                # It was told to, or it was never let begin: who was to record it was killed first.
                assert "quit" in asked or not any(it.kind == "greeting" for it in LogReader(here / "log"))
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
        assert begun.keys() - ended <= vm.operations.keys() == vm._recorder.vm.intents.keys()
        for operation in vm.operations.values():
            assert (operation.intent, operation.subject) in embedder.NEVER
            assert operation.settles
            self.pending.add(operation.id)
        names = [
            step[1]["fdname"]
            for body in begun.values()
            for step in body.get("steps", ())
            if step[0] == "getfd"
        ]
        assert await embedder.names_left(vm, names) == []
        for name in (*embedder.DEVICES, *embedder.NODES):
            if (vm.state.device(name), vm.state.node(name)) != ("gone", "gone"):
                await vm.unplug(name)
        for name in embedder.DEVICES:
            await peers.plug(vm, name)
        await self._compare(vm, here)

    async def _compare(self, vm, here):
        await embedder.agrees(vm)
        bare = {name.format(here): n for name, n in self.bare.items()}
        # Firmware that has run has set up devices, with an event descriptor or more for each; in a log whose old
        # segments are deleted that may not be told any more.
        log = LogReader(here / "log")
        ran = log.first_seq > 1 or any(
            it.kind == "command" and it.body["qmp"]["execute"] == "cont" for it in log
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
                for pid in place.spawned:
                    if not embedder.ended(pid):
                        os.kill(pid, signal.SIGKILL)
                        os.waitpid(pid, 0)
    assert not failed, f"{len(failed)} of {len(points)}\n" + "\n".join(failed)


def test_killed_at_every_record(place, qemu, full, figures):
    """Wherever in its life its owner is killed, the VM is adopted, is what QEMU says, leaks nothing, and can be used and ended."""
    killed = 0
    start = time.monotonic()

    def work(here, peers, point):
        nonlocal killed
        killed += place.embed(here, peers, point)
        place.check(here, peers)

    points = place.points if full else place.points[3::20]
    each(place, points, work)
    took = time.monotonic() - start
    told = ", ".join(f"{name} {count}" for name, count in sorted(place.ends.items()))
    figures.append(
        f"owner killed at {killed} points of {len(points)}, QEMU {qemu.version}, {took:.0f} s; of what was open: {told}"
    )


def number_of(place, name, **arguments):
    """Return the number of the record that sends this command in the undisturbed run."""
    return next(
        it.seq
        for it in place.records
        if it.kind == "command"
        and it.body["qmp"]["execute"] == name
        and arguments.items() <= it.body["qmp"].get("arguments", {}).items()
    )


#: Where the owner is killed before its successor is, too: in the middle of a plug, of a job, of an unplug.
MIDDLES = {
    "a plug": ("netdev_add", {"id": "n0"}),
    "a job": ("blockdev-mirror", {}),
    "an unplug": ("device_del", {"id": "c0"}),
}


@pytest.mark.parametrize("middle", MIDDLES)
def test_killed_while_adopting(place, qemu, full, figures, middle):
    """Who adopts the VM may be killed at every record as well: the next one finds the same as if there had been no other."""
    name, arguments = MIDDLES[middle]
    point = ("record", number_of(place, name, **arguments) + (middle == "a job"))
    with place.new() as (here, peers):
        place.embed(here, peers, point)
        before = sum(1 for _ in LogReader(here / "log"))
        assert embedder.adopt_apart(here / "log") == 0
        count = sum(1 for _ in LogReader(here / "log")) - before
        place.check(here, peers)
    killed = 0

    def work(here, peers, number):
        nonlocal killed
        place.embed(here, peers, point)
        last = [it.seq for it in LogReader(here / "log")][-1]
        killed += embedder.adopt_apart(here / "log", record=last + number) == signal.SIGKILL
        place.check(here, peers)

    points = range(1, count + 1) if full else range(3, count + 1, 25)
    each(place, points, work)
    assert killed >= len(points) - 2
    figures.append(
        f"owner killed in the middle of {middle}, its successor at {killed} records of {len(points)}, QEMU {qemu.version}"
    )


def test_killed_with_its_log_torn(place):
    """What a crash of the host cuts off the log costs no more than itself: QEMU is asked."""

    def work(here, peers, point):
        place.embed(here, peers, point)
        with (here / "log").open("r+b") as file:
            file.truncate(file.seek(0, os.SEEK_END) - 5)
        place.check(here, peers)

    each(place, [("record", number_of(place, name, **it)) for name, it in MIDDLES.values()], work)


def test_killed_with_a_log_of_many_segments(place, full):
    """Segments and the snapshots they begin with change nothing, nor that the old segments are deleted."""

    def work(here, peers, point):
        place.embed(here, peers, point, segment_bytes=6000)
        kinds = [it.kind for it in LogReader(here / "log")]
        if point[1] > 60:
            assert "snapshot" in kinds
        if point[1] % 2:
            truncate(here / "log")
        place.check(here, peers)

    each(place, place.points[20 : len(place.records) : 1 if full else 41], work)


def test_killed_together_with_qemu(place):
    """When QEMU was killed with its owner, that is what who comes to adopt it is told; what was open has ended, nothing is left."""

    def work(here, peers, point):
        place.embed(here, peers, point)
        [pid] = place.spawned
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with pytest.raises(QemuGone):
            asyncio.run(adopt(here / "log"))
        ended = [it.body for it in LogReader(here / "log") if it.kind == "ended"]
        begun = [it.body for it in LogReader(here / "log") if it.kind == "begun"]
        assert {it["correlation"] for it in ended} == {it["correlation"] for it in begun}
        assert {it.name for it in here.iterdir()} == {"log", *embedder.NODES}

    each(place, [("record", number_of(place, name, **it)) for name, it in MIDDLES.values()], work)


async def adopt(log):
    """Adopt a VM, and end it."""
    await (await VirtualMachine.adopt(log)).close()
