"""A real QEMU with everything a recording needs around it, and nothing left of it afterwards."""

import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

from support.console import Console
from support.judge import Judge, read_trace, trace_arguments
from support.monitor import Monitor

#: Stopped at the start, TCG, and no device but those a story asks for.
BASE = [
    "-M", "q35,accel=tcg", "-cpu", "max", "-m", "256", "-smp", "1",
    "-display", "none", "-nodefaults", "-no-user-config", "-S",
]  # fmt: skip


class Machine:
    """One QEMU process with a recorded monitor `qmp`, a `judge` on a second one, and the guest's `console`.

    It runs in the folder `run`, where all its sockets and files are, so that every path in its argv and on the wire is relative
    and the same on every machine. `name` tells two machines of one folder apart. Used as a context manager; QEMU is
    killed and reaped when it ends, and by the kernel if this process dies first.
    """

    def __init__(self, qemu, run, arguments=(), *, guest=None, append="", name="", base=BASE):
        self.qemu, self.run, self.name = qemu, Path(run), name
        self.notes = []
        self._log = f"trace{name}.log"
        self.argv = ["qemu-system-x86_64", *base, *arguments, *monitor("qmp", name), *monitor("judge", name)]
        if guest:
            self.argv += guest_arguments(guest, self.run, append, name)
        self.argv += trace_arguments(self._log)
        self.t_start = time.time()
        self._stderr = (self.run / f"stderr{name}").open("w+")
        self.process = subprocess.Popen(
            [*dies_with_us(), qemu.binary, *qemu.args, *self.argv[1:]],
            cwd=self.run,
            stdin=subprocess.DEVNULL,
            stdout=self._stderr,
            stderr=self._stderr,
        )
        self.exit = self.t_exit = self.console = self.judge = self.qmp = None
        try:
            self.judge = Judge(self.run / f"judge{name}.sock", self.alive)
            self.qmp = Monitor(self.run / f"qmp{name}.sock", alive=self.alive)
            if guest:
                self.console = Console(self.run / f"serial{name}.sock", self.alive)
        except BaseException as error:
            self.end()
            error.add_note(f"QEMU said: {self.stderr}")
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def alive(self):
        """Tell whether QEMU still runs."""
        return self.process.poll() is None

    def note(self, text):
        """Keep a remark with its time, for who reads the recording."""
        self.notes.append([time.time(), text])

    def boot(self):
        """Let the guest run and wait until it answers."""
        self.qmp.ok("cont")
        self.console.ready()

    def kill(self, number):
        """Send QEMU a signal."""
        self.note(f"signal {signal.Signals(number).name} sent")
        self.process.send_signal(number)

    def wait(self, timeout=60):
        """Wait until QEMU has ended by itself."""
        self.exit = self.process.wait(timeout)
        self.t_exit = time.time()

    def end(self):
        """End QEMU, whatever it is doing, and everything that was opened for it."""
        if self.process.poll() is None:
            self.process.kill()
        if self.exit is None:
            self.wait()
        for opened in (self.console, self.qmp, self.judge):
            if opened:
                opened.close()
        if not self._stderr.closed:
            self._stderr.seek(0)
            # QEMU names itself, and whoever sent it a signal, with this machine's paths.
            self.stderr = re.sub(r"(?<=[\s(])/[^\s()]*/", "", self._stderr.read())
            self._stderr.close()

    def truth(self):
        """Return what the judge knows; only after the end. See support/judge.py for the shapes."""
        log = self.run / self._log
        return {
            **read_trace(log.read_text() if log.exists() else ""),
            "status": self.judge.status,
            "peripheral": self.judge.peripheral,
            "anonymous": self.judge.anonymous,
        }


def monitor(kind, name):
    """Return the arguments of a QMP monitor on the socket KINDNAME.sock."""
    return [
        "-chardev",
        f"socket,id={kind},path={kind}{name}.sock,server=on,wait=off",
        "-mon",
        f"chardev={kind},mode=control",
    ]


def guest_arguments(guest, run, append, name):
    """Return the arguments that boot the guest: commands on ttyS0, its kernel's messages on ttyS1."""
    for path in (guest.kernel, guest.initrd):
        link = run / path.name
        if not link.exists():
            link.symlink_to(path)
    return [
        "-kernel", guest.kernel.name, "-initrd", guest.initrd.name,
        "-append", f"console=ttyS1 panic=-1 {append}".strip(),
        "-chardev", f"socket,id=serial,path=serial{name}.sock,server=on,wait=off", "-serial", "chardev:serial",
        "-serial", f"file:kernel{name}.log",
    ]  # fmt: skip


def dies_with_us():
    """Return a prefix that makes the kernel kill the process when the thread that started it ends."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
