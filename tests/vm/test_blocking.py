"""The facade for threads: the same names, each blocking until its end; callbacks may ask the VM."""

import inspect
import queue
import threading
from collections.abc import Awaitable

import pytest

from qemustate.errors import BadInput, OperationRefused, OutcomeUnknown
from qemustate.hardware.properties import Blockdev, Device
from qemustate.vm import blocking
from qemustate.vm.blocking import VirtualMachine
from qemustate.vm.cursor import Cursor
from qemustate.vm.job import Job
from qemustate.vm.operation import Operation
from qemustate.vm.virtual_machine import VirtualMachine as Asynchronous

SCSI = ["-device", "virtio-scsi-pci,id=scsi0"]


def disk(name):
    """Return the parts of a SCSI disk without a file."""
    return (
        Blockdev({"driver": "null-co", "node-name": f"{name}-node", "read-zeroes": True}),
        Device(driver="scsi-hd", id=name, drive=f"{name}-node", bus="scsi0.0"),
    )


@pytest.fixture
def vm(q35, tmp_path):
    """Return a running VM with a SCSI bus."""
    with VirtualMachine.launch([*q35, *SCSI], log=tmp_path / "log") as vm:
        yield vm


def test_a_life(vm):
    """Plug, unplug, refusals, any command: each call returns or raises at its end."""
    assert vm.plug(*disk("d0"))["is"] == "present"
    assert vm.state.device("d0") == "present"
    assert vm.execute("query-name") == {}
    with pytest.raises(OperationRefused, match="Duplicate"):
        vm.plug(*disk("d0"))
    vm.unplug("d0")
    assert vm.state.node("d0-node") == "gone"
    assert vm.resume() == "running"
    assert vm.until(lambda state: state.runstate == "running").runstate == "running"
    with pytest.raises(OutcomeUnknown):
        vm.powerdown(deadline=0.1)


def test_threads_do_not_wait_for_one_another(vm):
    """Ten threads plug and unplug at once, while another waits for what no guest will do."""
    waiting = threading.Thread(target=vm.powerdown)
    waiting.start()

    def work(number):
        vm.plug(*disk(f"d{number}"))
        vm.unplug(f"d{number}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert waiting.is_alive()
    assert {vm.state.device(f"d{number}") for number in range(10)} == {"gone"}
    vm.quit()  # with which the VM is powered down
    waiting.join()


def test_a_callback_may_ask_the_vm(vm):
    """A listener's method blocks in a thread of its own and is answered; one that fails is told of and stops nothing."""
    told, seen = queue.SimpleQueue(), threading.Event()
    loop = blocking._loop()
    loop.call_soon_threadsafe(loop.set_exception_handler, lambda _loop, context: told.put(context))

    class Listener:
        def on_enter_running(self):
            assert vm.execute("query-status")["status"] == "running"
            seen.set()

        def on_enter_paused(self):
            raise ZeroDivisionError

    end = vm.listen("runstate", Listener())
    vm.resume()
    assert seen.wait(60)
    seen.clear()
    vm.pause()
    assert isinstance(told.get(timeout=60)["exception"], ZeroDivisionError)
    vm.resume()
    assert seen.wait(60)
    end()
    loop.call_soon_threadsafe(loop.set_exception_handler, None)
    assert told.empty()


def test_jobs_and_records(vm, tmp_path):
    """A job has verbs that block and a result; records are iterated as they are written."""
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(bytes(1 << 20))
        vm.execute("blockdev-add", {"driver": "file", "node-name": name, "filename": str(tmp_path / name)})
    with vm.changes(1) as records:
        assert next(records).kind == "segment"
    job = vm.mirror("a", "b")
    job.ready()
    job.complete()
    assert job.result() is None


def test_left_and_adopted(q35, tmp_path):
    """Let go of in one place and adopted in another."""
    vm = VirtualMachine.launch([*q35, *SCSI], log=tmp_path / "log")
    vm.leave()
    with VirtualMachine.adopt(tmp_path / "log") as again:
        assert again.pid == vm.pid
        assert again.state.runstate == "prelaunch"


#: What only one of the two has: class of the twin -> name -> why.
APART = {
    "VirtualMachine": {
        "asynchronous": "the way from the twin to the asyncio facade",
        "start": "the asyncio facade returns every operation as it begins",
    },
    "BlockingOperation": {
        "asynchronous": "the way from the twin to the asyncio facade",
        "result": "what awaiting an operation is",
    },
    "Records": {},
}


def public(it):
    """Return the names that something shows."""
    return {name for name in dir(it) if not name.startswith("_")}


def test_it_has_every_method(vm):
    """What the asyncio facade shows, this one shows, with the same arguments, and nothing else but what is named."""
    job = vm.start("resume")
    for twin, one in ((vm, Asynchronous), (job, type(job.asynchronous)), (vm.changes(), Cursor)):
        apart = APART[type(twin).__name__]
        assert public(twin) - public(one) - vars(job.asynchronous).keys() == apart.keys()
        assert public(one) <= public(twin)
        for name in public(one):
            method = getattr(one, name)
            if callable(method) and name not in vars(type(twin)):
                # An instance's, of which the first argument is bound already.
                told = list(inspect.signature(method).parameters.values())
                assert list(inspect.signature(getattr(twin, name)).parameters.values()) == told
    with pytest.raises(AttributeError):
        vm._nothing  # noqa: B018
    with pytest.raises(AttributeError):
        vm.nothing  # noqa: B018


def test_jobs_have_their_verbs(vm):
    """A job shows what the asyncio facade's shows, and its status is read from any thread."""
    for name in ("a", "b"):
        vm.execute("blockdev-add", {"driver": "null-co", "size": 1 << 20, "node-name": name})
    job = vm.mirror("a", "b", speed=1, deadline=0.2)
    assert public(Job) <= public(job)
    job.taken()
    assert job.status in ("running", "ready")
    with pytest.raises(OutcomeUnknown, match=r"0\.2 s"):
        job.result()
    job.cancel(force=True)
    assert job.ended


def test_nothing_of_the_loop_is_handed_out(vm):
    """What is returned can be used in any thread: operations under way are twins too."""
    waiting = vm.start("powerdown", correlation="mine")
    assert not waiting.ended
    assert waiting.taken() is None
    for name in public(Asynchronous):
        if not callable(getattr(Asynchronous, name)):
            assert not isinstance(getattr(vm, name), Operation | Awaitable)
    assert {name: type(it).__name__ for name, it in vm.operations.items()} == {"mine": "BlockingOperation"}
    assert vm.operations["mine"].subject == ""
    vm.quit()  # with which it is powered down
    assert waiting.result() is None
    for method in ("state", "wait", "nonesuch"):
        with pytest.raises(BadInput, match="a method that begins an operation"):
            vm.start(method)


def test_a_migration_from_one_thread(q35, tmp_path):
    """The target listens when its operation is taken, and has come when that has its result."""
    uri = f"unix:{tmp_path}/wire"
    with (
        VirtualMachine.launch([*q35, "-m", "32"], log=tmp_path / "source") as source,
        VirtualMachine.launch([*q35, "-m", "32", "-incoming", "defer"], log=tmp_path / "target") as target,
    ):
        coming = target.start("incoming", uri, deadline=60)
        coming.taken()
        source.migrate(uri, deadline=60)
        coming.result()
        assert (source.state.migration, target.state.migration) == ("completed", "completed")
