"""A runtime of ten VMs that may be killed at any moment: run it, `kill -9` it, run it again.

    python examples/runtime.py FOLDER [QEMU]

All it remembers is a log for each VM. One that may run is adopted, with what was under way in it, any other launched. Then
each VM gets a disk and loses it again, over and over, until SIGTERM ends them all.
"""

import asyncio
import contextlib
import signal
import sys
from pathlib import Path

from qemustate import VirtualMachine
from qemustate.errors import BadInput, OperationRefused, QemuGone
from qemustate.hardware.config import Config
from qemustate.hardware.properties import Blockdev
from qemustate.hardware.storage import scsi_controller, scsi_disk

PC = {"machine": {"type": "q35", "accel": "tcg"}, "m": "64", "display": "none", "nodefaults": True, "S": True}
DISK = scsi_disk("disk", Blockdev({"driver": "null-co", "read-zeroes": True, "node-name": "data"}), "scsi0.0")


async def open_vm(log: Path, config: Config) -> VirtualMachine:
    """Adopt the VM of a log, or launch it where it does not run."""
    if log.exists():
        with contextlib.suppress(QemuGone, BadInput):  # it has ended; it never began
            vm = await VirtualMachine.adopt(log)
            print(log.stem, "adopted", vm.pid, *vm.operations.values(), flush=True)
            for operation in vm.operations.values():
                with contextlib.suppress(OperationRefused):  # it was taken back
                    await operation.settled()
            return vm
    vm = await VirtualMachine.launch(config, log=log)
    print(log.stem, "launched", vm.pid, flush=True)
    return vm


async def keep(log: Path, config: Config, stop: asyncio.Event) -> None:
    """Keep one VM busy until it is time to stop, then end it."""
    vm = await open_vm(log, config)
    try:
        while not stop.is_set():
            if vm.state.device("disk") == "gone":
                await vm.plug(*DISK, deadline=10)
            await vm.unplug("disk", deadline=10)
            print(log.stem, "hotplugged", flush=True)
    finally:
        await vm.close()


async def main(folder: str, qemu: str = "qemu-system-x86_64") -> None:
    """Run ten of them."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    config = Config(qemu, PC).add(scsi_controller("scsi0"))
    async with asyncio.TaskGroup() as group:
        for number in range(10):
            group.create_task(keep(Path(folder) / f"vm{number}.log", config, stop))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python runtime.py FOLDER [QEMU]")
    asyncio.run(main(*sys.argv[1:]))
