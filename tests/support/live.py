"""A real QEMU without a guest, to be asked what it makes of a part."""

import contextlib
import socket
import subprocess
import time
from pathlib import Path

from qemustate.errors import CommandRefused
from qemustate.hardware.hotplug import plug_steps
from qemustate.qmp.blocking import Client
from qemustate.qmp.messages import Event

#: Stopped at the start, TCG, little memory, and no device but those of the machine itself.
BASE = ["-accel", "tcg", "-S", "-m", "64", "-display", "none", "-nodefaults", "-no-user-config"]


class Live:
    """One QEMU with a monitor on a socket pair; killed and reaped by :meth:`end`."""

    def __init__(self, qemu, arguments, *, cwd, pass_fds=()):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        monitor = [
            "-chardev",
            f"socket,id=monitor,fd={theirs.fileno()}",
            "-mon",
            "chardev=monitor,mode=control",
        ]
        self.version = qemu.version
        self.process = subprocess.Popen(
            [qemu.binary, *qemu.args, *BASE, *monitor, *arguments],
            pass_fds=(theirs.fileno(), *pass_fds),
            cwd=cwd,
        )
        theirs.close()
        try:
            self.qmp = Client.connect(ours, timeout=60)
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise

    def end(self):
        """Kill and reap it."""
        self.qmp.close()
        self.process.kill()
        self.process.wait()

    def ok(self, name, /, fds=(), **arguments):
        """Execute a command that is not refused; `_` in a member's name stands for `-`."""
        members = {key.replace("_", "-"): value for key, value in arguments.items()}
        return self.qmp.execute(name, members or None, fds=fds, timeout=60)

    def answer(self, name, /, **arguments):
        """Execute a command, and return what QEMU says if it refuses, else None."""
        try:
            self.ok(name, **arguments)
        except CommandRefused as refusal:
            return refusal.desc
        return None

    def refused(self, name, /, **arguments):
        """Execute a command that is refused, and return what QEMU says."""
        refusal = self.answer(name, **arguments)
        assert refusal is not None, f"{name} {arguments} was accepted"
        return refusal

    def run(self, *steps):
        """Execute steps of :mod:`qemustate.hardware.hotplug`."""
        for step in steps:
            self.qmp.execute(step.command, step.arguments, fds=step.fds, timeout=60)

    def event(self, name, seconds=30, **data):
        """Wait for an event of that name with at least these data."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            for message in self.qmp.receive(left):
                if (
                    isinstance(message, Event)
                    and message.name == name
                    and data.items() <= message.data.items()
                ):
                    return message
        raise AssertionError(f"no {name} {data} within {seconds} s")

    def devices(self):
        """Return the ids of its devices, sorted."""
        listed = self.ok("qom-list", path="/machine/peripheral")
        return sorted(entry["name"] for entry in listed if entry["type"].startswith("child<"))

    def descriptors(self):
        """Return what its descriptors stand for; one that is closed between listing and reading is none."""
        found = []
        for fd in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found.append(str(fd.readlink()))
        return found

    def run_part(self, *parts):
        """Plug parts."""
        self.run(*plug_steps(parts))
