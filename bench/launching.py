"""From a command line to a VM that runs: ours, recorded, against a launch as ``qemu.machine`` does it with qemu.qmp."""

import asyncio
import subprocess
from itertools import count
from time import perf_counter

from qemu.qmp import QMPClient

from bench.measure import Line, Result, in_turns
from bench.roundtrip import qemu
from qemustate import VirtualMachine

OURS = "qemustate, VirtualMachine.launch"
PEER = "qemu.qmp, QEMU connects to us"
#: A PC that begins to run by itself.
MACHINE = ["-accel", "tcg", "-M", "q35", "-m", "64", "-display", "none", "-nodefaults"]


def launch(size, folder):
    """Measure the time from the start to the first answer that the VM runs; its end is not measured."""
    title = "Launch of a PC until QEMU says that it runs"
    command = qemu()
    if command is None:
        return Result(title, {}, notes=["not measured: there is no qemu-system-x86_64"])
    numbers = count()
    took = in_turns(
        size,
        {
            OURS: lambda: asyncio.run(_ours([*command, *MACHINE], folder / f"launch{next(numbers)}.log")),
            PEER: lambda: asyncio.run(_peer([*command, *MACHINE], folder / f"launch{next(numbers)}")),
        },
    )
    return Result(
        title,
        {name: (seconds * 1e3, "ms, median") for name, seconds in took.items()},
        [Line("of the time that qemu.qmp takes", took[OURS] / took[PEER])],
    )


async def _ours(command, log):
    begin = perf_counter()
    vm = await VirtualMachine.launch(command, log=log)
    status = await vm.execute("query-status")
    took = perf_counter() - begin
    assert status["running"]
    await vm.kill()
    await vm.close()
    return took


async def _peer(command, path):
    begin = perf_counter()
    client = QMPClient("bench")
    # As qemu.machine: it listens, and QEMU connects while it starts.
    await client.start_server(str(path))
    monitor = ["-chardev", f"socket,id=mon,path={path}", "-mon", "chardev=mon,mode=control"]
    with subprocess.Popen([*command, *monitor]) as process:  # noqa: ASYNC220  (as qemu.machine does)
        try:
            await client.accept()
            status = await client.execute("query-status")
            took = perf_counter() - begin
            assert status["running"]
        finally:
            await client.disconnect()
            process.kill()
    return took
