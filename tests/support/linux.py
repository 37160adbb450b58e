"""The small Linux guest in a VM of ours: launched, booted, and asked over its serial port without holding up the loop."""

import asyncio
import contextlib

from support.console import Console

from qemustate import VirtualMachine

#: A PC that is told to start, with as little in it as the guest needs.
BASE = ["-M", "q35,accel=tcg", "-cpu", "max", "-display", "none", "-nodefaults", "-no-user-config", "-S"]

#: Native PCIe hotplug; without it q35 plugs by ACPI (QEMU hw/i386/pc_q35.c, the default since 6.1).
NATIVE = ["-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"]


def bounded(scenario, seconds=270):
    """Run a scenario; raise TimeoutError when it takes longer than that."""

    async def main():
        async with asyncio.timeout(seconds):
            return await scenario()

    return asyncio.run(main())


class Linux:
    """Starts VMs with the guest in them; their files are in ``folder``."""

    def __init__(self, qemu, guest, folder):
        self.qemu, self.guest, self.folder = qemu, guest, folder

    def argv(self, *more, name="", append="", memory="256"):
        """Return the command line of a VM whose guest talks on ``serialNAME``."""
        return [
            self.qemu.binary, *self.qemu.args, *BASE, "-m", memory, *more,
            "-kernel", str(self.guest.kernel), "-initrd", str(self.guest.initrd),
            "-append", f"console=ttyS1 panic=-1 {append}".strip(),
            "-chardev", f"socket,id=serial,path={self.folder}/serial{name},server=on,wait=off", "-serial", "chardev:serial",
            "-serial", f"file:{self.folder}/kernel{name}.log",
        ]  # fmt: skip

    def launch(self, *more, log="log", helpers=(), **options):
        """Launch it and do not let it run yet."""
        return VirtualMachine.launch(self.argv(*more, **options), log=self.folder / log, helpers=helpers)

    @contextlib.asynccontextmanager
    async def boot(self, *more, **options):
        """Launch it, wait until the guest is there, and yield the VM and its :class:`Shell`; end it afterwards."""
        async with (
            self.launch(*more, **options) as vm,
            self.shell(options.get("name", "")) as shell,
        ):
            await vm.resume()
            await shell.ready()
            yield vm, shell

    @contextlib.asynccontextmanager
    async def shell(self, name=""):
        """Connect to a guest's serial port."""
        console = Console(self.folder / f"serial{name}", lambda: True)
        try:
            yield Shell(console)
        finally:
            console.close()


class Shell:
    """A :class:`support.console.Console` whose waiting is awaited."""

    def __init__(self, console):
        self._console = console

    async def ready(self):
        """Wait until the guest is there (again)."""
        await asyncio.to_thread(self._console.ready)

    async def run(self, line):
        """Run a line and return (status, output)."""
        return await asyncio.to_thread(self._console.run, line)

    async def settles(self, line):
        """Run a line again and again until its status is 0."""
        await asyncio.to_thread(self._console.settles, line)

    def post(self, line):
        """Type a line and wait for nothing."""
        self._console.post(line)
