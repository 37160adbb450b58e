"""Block jobs with their verbs, on real images: each ends as done or refused, and none stays behind."""

import pytest
from support.linux import bounded

from qemustate import VirtualMachine
from qemustate.errors import CommandRefused, OperationRefused

pytestmark = pytest.mark.usefixtures("no_leaks")

SIZE = "4M"


@pytest.fixture
def machine(q35, make_image, tmp_path):
    """Return a VM to be launched with a disk `top` over `base`, and a node `copy` of the same size."""
    base = make_image("base.qcow2", SIZE, "qcow2")
    make_image("top.qcow2", SIZE, "qcow2", "-b", str(base), "-F", "qcow2")
    make_image("copy.raw", SIZE)
    nodes = [
        f"driver=qcow2,node-name=base,file.driver=file,file.filename={tmp_path}/base.qcow2",
        f"driver=qcow2,node-name=top,backing=base,file.driver=file,file.filename={tmp_path}/top.qcow2",
        f"driver=file,node-name=copy,filename={tmp_path}/copy.raw",
    ]
    argv = [
        *q35,
        "-m",
        "32",
        *(word for node in nodes for word in ("-blockdev", node)),
        "-device",
        "virtio-blk-pci,id=d,drive=top",
    ]
    return VirtualMachine.launch(argv, log=tmp_path / "log")


async def write(vm, node):
    """Have something to copy."""
    said = await vm.execute("human-monitor-command", {"command-line": f'qemu-io {node} "write 0 3M"'})
    assert "error" not in said.lower()


async def nodes_below(vm):
    """Return the nodes that the disk stands on, from the top down."""
    [disk] = [
        it for it in await vm.execute("query-block") if it["qdev"] == "/machine/peripheral/d/virtio-backend"
    ]
    return disk["inserted"]["node-name"]


def test_a_backup_is_paused_resumed_sped_up_and_finalized(machine):
    """Every verb does what it says, is refused where the job is in no status for it, and the job is dismissed at its end."""

    async def scenario():
        async with machine as vm:
            await write(vm, "top")
            backup = vm.backup("top", "copy", speed=1 << 16, auto_finalize=False, job="b")
            await vm.until(lambda state: state.job("b") == "running")
            with pytest.raises(CommandRefused, match="job-finalize"):
                await backup.finalize()
            await backup.pause()
            await vm.until(lambda state: state.job("b") == "paused")
            with pytest.raises(OperationRefused) as second:
                await vm.backup("top", "copy", job="b2")
            assert second.value.command == "blockdev-backup"
            await backup.resume()
            await backup.set_speed(0)
            await vm.until(lambda state: state.job("b") == "pending")
            assert not backup.ended
            await backup.finalize()
            await backup
            assert vm.state.job("b") == "null"
            assert await vm.execute("query-jobs") == []

    bounded(scenario)


def test_a_stream_and_a_commit_of_the_active_layer(machine):
    """A stream fills the overlay; a commit writes it into the layer below and, once completed, leaves the disk on that."""

    async def scenario():
        async with machine as vm:
            await write(vm, "top")
            await vm.stream("top", base_node="base", job="s")
            await write(vm, "top")
            commit = vm.commit("top", job="c")
            await commit.ready()
            assert commit.status == "ready"
            await commit.complete()
            assert await nodes_below(vm) == "base"
            assert await vm.execute("query-jobs") == []

    bounded(scenario)


def test_a_mirror_moves_the_disk_or_not(machine):
    """A ready mirror that is cancelled ends as done and the disk stays; one that is completed moves it; one that is forced is refused."""

    async def scenario():
        async with machine as vm:
            await write(vm, "top")
            slow = vm.mirror("top", "copy", speed=1 << 12)
            await vm.until(lambda state: state.job(slow.subject) == "running")
            await slow.cancel(force=True)
            with pytest.raises(OperationRefused, match="cancel"):
                await slow
            copied = vm.mirror("top", "copy")
            await copied.ready()
            await copied.cancel()
            await copied
            assert await nodes_below(vm) == "top"
            moved = vm.mirror("top", "copy")
            await moved.ready()
            await moved.complete()
            assert await nodes_below(vm) == "copy"
            assert await vm.execute("query-jobs") == []

    bounded(scenario)


def test_a_job_whose_target_is_too_small_fails_with_the_reason(machine, make_image, tmp_path):
    """What makes it fail is in the refusal, and nothing of it stays."""
    small = make_image("small.raw", "1M")

    async def scenario():
        async with machine as vm:
            await write(vm, "top")
            await vm.execute("blockdev-add", {"driver": "file", "node-name": "small", "filename": str(small)})
            with pytest.raises(OperationRefused) as refused:
                await vm.backup("top", "small", deadline=30)
            assert refused.value.by == "qemu"
            assert refused.value.desc
            assert await vm.execute("query-jobs") == []
            await vm.execute("blockdev-del", {"node-name": "small"})

    bounded(scenario)
