"""The facade for threads: the same names, each blocking until its end; callbacks may ask the VM."""

import queue
import threading

import pytest

from qemustate.errors import OperationRefused, OutcomeUnknown
from qemustate.hardware.properties import Blockdev, Device
from qemustate.vm import blocking
from qemustate.vm.blocking import VirtualMachine
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


def test_it_has_every_method(vm):
    """What the asyncio facade shows, this one shows."""
    public = {name for name in dir(Asynchronous) if not name.startswith("_")}

    assert public <= set(dir(vm))
    with pytest.raises(AttributeError):
        vm._nothing  # noqa: B018
    with pytest.raises(AttributeError):
        vm.nothing  # noqa: B018
