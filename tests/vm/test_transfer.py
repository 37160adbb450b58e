"""A VM's state elsewhere: in another QEMU, in a file, in a snapshot, in a dump."""

import asyncio
import contextlib
import re
import socket

import pytest
from support.linux import bounded

from qemustate import VirtualMachine
from qemustate.errors import OperationRefused, OutcomeUnknown, QemuGone

pytestmark = pytest.mark.usefixtures("no_leaks")

MIB = 1 << 20


@pytest.fixture
def argv(q35):
    """Return the command line of a PC with firmware and little memory."""
    return [*q35, "-m", "32"]


@contextlib.asynccontextmanager
async def both(argv, folder):
    """Launch the two ends of a migration, the first one running."""
    async with (
        VirtualMachine.launch(argv, log=folder / "source") as source,
        VirtualMachine.launch([*argv, "-incoming", "defer"], log=folder / "target") as target,
    ):
        await source.resume()
        yield source, target


def test_a_guest_moves_while_it_runs(linux):
    """Both ends say when it is done; the guest goes on at the other, and the first stays behind until it is told to quit."""

    async def scenario():
        uri = f"unix:{linux.folder}/wire"
        target = linux.launch("-incoming", "defer", name="2", log="target")
        async with linux.boot() as (source, shell), target as there, linux.shell("2") as again:
            await shell.run("echo here > /tmp/note")
            coming = there.incoming(uri, deadline=90)
            await coming.taken()
            await source.migrate(uri, parameters={"max-bandwidth": 1 << 30}, deadline=90)
            await coming
            assert source.state.migration == "completed"
            assert (
                "postmigrate" in source.state["runstate"]["possible"]
            )  # a busy QEMU may be a moment from it
            # A target that was started with -S waits to be told.
            assert there.state.runstate == "paused"
            await there.resume()
            assert await again.run("cat /tmp/note") == (0, "here")

    bounded(scenario)


def test_a_vm_goes_into_a_file_and_comes_back(argv, tmp_path):
    """``exec:`` takes it through a command into a file, ``fd:`` brings it back from there by a descriptor of ours."""

    async def scenario():
        async with both(argv, tmp_path) as (source, target):
            await source.pause()
            await source.migrate(f"exec:cat > {tmp_path}/saved", deadline=60)
            with (tmp_path / "saved").open("rb") as saved:
                await target.getfd("saved", saved.fileno())
            await target.incoming("fd:saved", deadline=60)
            assert target.state.runstate == "paused"
            assert await target.resume() == "running"

    bounded(scenario)


def test_a_migration_by_a_descriptor(argv, tmp_path):
    """``fd:`` at both ends: a socket pair of ours is all that is between them."""

    async def scenario():
        async with both(argv, tmp_path) as (source, target):
            ours, theirs = socket.socketpair()
            with ours, theirs:
                await source.getfd("wire", ours.fileno())
                await target.getfd("wire", theirs.fileno())
            coming = target.incoming("fd:wire", deadline=60)
            await coming.taken()
            await source.migrate("fd:wire", deadline=60)
            await coming

    bounded(scenario)


def test_a_migration_that_is_cancelled_ends_as_refused(argv, tmp_path):
    """The source runs on and can try again; a second migration meanwhile is refused; the target, which got half a VM, ends."""

    async def scenario():
        uri = f"unix:{tmp_path}/wire"
        async with both(argv, tmp_path) as (source, target):
            coming = target.incoming(uri)
            await coming.taken()
            leaving = source.migrate(uri, parameters={"max-bandwidth": 4096})
            await source.until(lambda state: state.migration == "active")
            with pytest.raises(OperationRefused) as second:
                await source.migrate(uri)
            assert second.value.command in ("migrate", "migrate-set-capabilities")
            await source.cancel_migration()
            with pytest.raises(OperationRefused, match="the migration was cancelled"):
                await leaving
            assert source.state.runstate == "running"
            with pytest.raises((OutcomeUnknown, OperationRefused)):
                await coming
            with contextlib.suppress(QemuGone):
                await target.kill()
            await source.migrate(
                f"exec:cat > {tmp_path}/saved", parameters={"max-bandwidth": 1 << 30}, deadline=60
            )

    bounded(scenario)


def test_a_migration_that_fails_leaves_the_vm_running(argv, tmp_path):
    """With nobody at the other end it is refused, or has failed; the VM does not notice."""

    async def scenario():
        async with VirtualMachine.launch(argv, log=tmp_path / "log") as vm:
            await vm.resume()
            for uri, reason in (
                (f"unix:{tmp_path}/nobody", "No such file"),
                ("exec:false", "Broken pipe|Input/output error"),
                ("nonsense:", "migrat"),
            ):
                with pytest.raises(OperationRefused) as refused:
                    await vm.migrate(uri, deadline=60)
                assert refused.value.by == "qemu"
                assert re.search(reason, refused.value.desc)
                assert (await vm.execute("query-status"))["status"] == vm.state.runstate == "running"

    bounded(scenario)


def test_memory_is_dumped_to_a_file(argv, tmp_path):
    """A dump is done when it is complete, and the VM goes on; one that has no place to go is refused."""

    async def scenario():
        async with VirtualMachine.launch(argv, log=tmp_path / "log") as vm:
            await vm.resume()
            await vm.dump(str(tmp_path / "core"), deadline=60)
            assert vm.state.runstate == "running"
            with (tmp_path / "core").open("rb") as core:
                assert core.read(4) == b"\x7fELF"
            assert (tmp_path / "core").stat().st_size > 32 * MIB
            with pytest.raises(OperationRefused) as refused:
                await vm.dump(str(tmp_path / "nowhere" / "core"))
            assert refused.value.command == "dump-guest-memory"
            await vm.dump(str(tmp_path / "again"), deadline=60)

    bounded(scenario)


@pytest.mark.parametrize("runs", [True, False], ids=["running", "paused"])
def test_a_dump_that_fails_on_its_way_says_why(argv, tmp_path, runs):
    """What the disk refuses after the dump has begun is in the refusal, and when that has come the VM is as before, and can be dumped."""

    async def scenario():
        async with VirtualMachine.launch(argv, log=tmp_path / "log") as vm:
            if runs:
                await vm.resume()
            before = vm.state.runstate
            for number in range(3):
                with pytest.raises(OperationRefused) as refused:
                    await vm.dump("/dev/full", deadline=60)
                assert refused.value.by == "qemu"
                assert refused.value.desc == "dump: failed to write elf header: No space left on device"
                assert (await vm.execute("query-status"))["status"] == vm.state.runstate == before
                await vm.dump(str(tmp_path / f"core{number}"), deadline=60)
                assert "dump-error" not in vm.state["facts"]

    bounded(scenario)


@pytest.mark.parametrize("runs", [True, False], ids=["running", "paused"])
def test_one_dump_waits_for_another(argv, tmp_path, runs):
    """However soon the next is asked for, each is whole: QEMU says that one has ended before it has let go of its file."""
    cores = [tmp_path / f"core{number}" for number in range(6)]

    async def scenario():
        async with VirtualMachine.launch(argv, log=tmp_path / "log") as vm:
            if runs:
                await vm.resume()
            before = vm.state.runstate
            await asyncio.gather(*(vm.dump(str(core), deadline=60) for core in cores))
            assert vm.state.runstate == before

    bounded(scenario)
    assert (
        min(core.stat().st_size for core in cores) > 32 * MIB
    )  # and headers, of which firmware decides the number


def test_a_snapshot_is_taken_gone_back_to_and_deleted(argv, qemu, tmp_path, make_image):
    """A running VM goes back to what it was, and runs on; a tag that is not there is refused and changes nothing; no job is left."""
    disk = make_image("disk", "16M", "qcow2")
    node = [
        "-blockdev",
        f"driver=qcow2,node-name=n,file.driver=file,file.filename={disk}",
        "-device",
        "virtio-blk-pci,id=d,drive=n",
    ]

    async def scenario():
        async with VirtualMachine.launch([*argv, *node], log=tmp_path / "log") as vm:
            await vm.resume()
            await vm.snapshot("one", "n", ["n"], deadline=60)
            assert vm.state.runstate == "running"
            await vm.pause()
            await vm.snapshot_load("one", "n", ["n"], deadline=60)
            assert vm.state.runstate == (await vm.execute("query-status"))["status"]
            await vm.resume()
            with pytest.raises(OperationRefused, match="two"):
                await vm.snapshot_load("two", "n", ["n"], deadline=60)
            assert vm.state.runstate == (await vm.execute("query-status"))["status"]
            await vm.snapshot_delete("one", ["n"], deadline=60)
            with pytest.raises(OperationRefused):
                await vm.snapshot_load("one", "n", ["n"], deadline=60)
            assert await vm.execute("query-jobs") == []

    bounded(scenario)
