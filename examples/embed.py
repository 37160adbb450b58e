"""A VM of your own: launched, given a disk, relieved of it, ended; whatever happens to it is in its log.

python examples/embed.py FOLDER [QEMU]
"""

import asyncio
import sys
from pathlib import Path

from qemustate import VirtualMachine
from qemustate.errors import OperationRefused, OutcomeUnknown
from qemustate.hardware.config import Config
from qemustate.hardware.properties import Blockdev, Device
from qemustate.hardware.storage import scsi_controller, scsi_disk


def config(qemu: str) -> Config:
    """Describe a PC in QEMU's own names; the same maps are plugged below."""
    return Config(
        qemu,
        {"machine": {"type": "q35", "accel": "tcg"}, "S": True, "display": "none", "nodefaults": True},
    ).add(scsi_controller("scsi0"))


class Watch:
    """Callbacks: a method for each state that is of interest."""

    def on_enter_running(self) -> None:
        """It runs."""
        print("running")


async def main(folder: str, qemu: str = "qemu-system-x86_64") -> None:
    """Run the VM."""
    image = Path(folder) / "disk.raw"
    image.write_bytes(bytes(1 << 20))
    node = Blockdev({"driver": "file", "node-name": "data", "filename": str(image)})

    async with VirtualMachine.launch(config(qemu), log=Path(folder) / "vm.log") as vm:
        vm.listen("runstate", Watch())
        await vm.resume()

        # Two commands, one operation: where the second is refused, the first is taken back.
        await vm.plug(*scsi_disk("disk0", node, "scsi0.0"), deadline=10, correlation="request-1")
        print("disk0 is", vm.state.device("disk0"), "on", vm.state.node("data"), "node")
        try:
            await vm.plug(Device(driver="scsi-hd", id="disk1", drive="nothing", bus="scsi0.0"))
        except OperationRefused as refused:
            print(refused)

        unplug = vm.unplug("disk0", deadline=10)
        try:
            await unplug
        except OutcomeUnknown as unknown:  # a guest that says nothing; the operation goes on
            print(unknown)
            await unplug.settled()
        print("disk0 is", vm.state.device("disk0"))
    print("QEMU ended with", dict(vm.state["process"]["exit"]))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python embed.py FOLDER [QEMU]")
    asyncio.run(main(*sys.argv[1:]))
