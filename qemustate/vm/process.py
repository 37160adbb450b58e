"""The QEMU process: started, watched, ended, reaped. The only place that starts one.

QEMU gets a session of its own, so that a terminal's ^C reaches us and not the VM. Its monitor's socket is
bound and listened on here and handed over as a descriptor (``-chardev socket,fd=N,server=on,wait=off``;
QEMU ``chardev/char-socket.c``): a path in use is found before QEMU starts, and a connection can be
made at once, without polling for the path.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Self

from qemustate.errors import BadInput, LaunchFailed
from qemustate.vm.gate import WAITING, Gate
from qemustate.vm.listening import listen

if TYPE_CHECKING:
    from collections.abc import Sequence

#: How much of QEMU's stderr is shown, in bytes from its end.
_SHOWN: Final = 64 * 1024

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

#: The id of our monitor and its character device.
MONITOR: Final = "qemustate"


#: A process that was started here: ``pid``, ``wait()``, ``returncode``.
Child = subprocess.Popen[bytes]


class Process:
    """A QEMU that was started here. Ends with :meth:`wait` or :meth:`kill`; a context manager kills what still runs.

    ``argv`` is the command line as started, ``socket_path`` where its monitor listens, ``pid`` its number and ``start``
    its start in clock ticks since boot (field 22 of ``/proc/PID/stat``), which together name it until the host boots again.
    """

    def __init__(
        self,
        argv: Sequence[str],
        socket_path: str | os.PathLike[str],
        *,
        stdout: int | None = None,
        stderr: str | os.PathLike[str] | None = None,
        fds: Sequence[int] = (),
    ) -> None:
        """Start ``argv`` with a QMP monitor added that listens at ``socket_path``.

        ``stdout`` is a descriptor for QEMU's own standard output, else it shares ours, as it does stdin; ``stderr``
        a file to be made for its standard error, so that it is there for whoever comes after us, else one without a
        name. With such a file QEMU shares nothing of ours, whose pipes would stay open as long as it runs: what it prints
        goes there too, and it begins with :meth:`go`. ``fds`` are the descriptors that it inherits under the same numbers.
        Raises BadInput (socket path in use, ``-daemonize``, a zero byte) and LaunchFailed (no such program).
        """
        _check(argv)
        self.socket_path = Path(socket_path)
        self.stderr_path = None if stderr is None else Path(stderr)
        self.argv: list[str] = []
        self._gate = None if stderr is None else Gate()
        self._popen = self._start(argv, stdout, fds)
        self.pid: int = self._popen.pid
        self.start = start_time(self.pid)
        #: A descriptor that is readable once the process has ended (Linux pidfd_open(2)).
        self.pidfd: int = os.pidfd_open(self.pid)

    def _start(self, argv: Sequence[str], stdout: int | None, fds: Sequence[int]) -> subprocess.Popen[bytes]:
        with listen(self.socket_path) as listener:
            self.argv = [*argv, *monitor_options(listener.fileno())]
            self._stderr: IO[bytes] = (
                tempfile.TemporaryFile(prefix="qemustate-stderr-")  # noqa: SIM115  (closed by close())
                if self.stderr_path is None
                else self.stderr_path.open("w+b")
            )
            try:
                gate = self._gate
                return subprocess.Popen(
                    self.argv if gate is None else [*WAITING, *self.argv],
                    stdin=None if gate is None else gate.stdin,
                    stdout=stdout if gate is None or stdout is not None else self._stderr,
                    stderr=self._stderr,
                    pass_fds=(listener.fileno(), *fds),
                    start_new_session=True,
                )
            except BaseException as error:
                self._stderr.close()
                self.socket_path.unlink(missing_ok=True)
                if self._gate is not None:
                    self._gate.close()
                if isinstance(error, OSError):
                    raise LaunchFailed(f"{argv[0]}: cannot be started: {error.strerror}") from error
                raise
            finally:
                if self._gate is not None:
                    self._gate.handed()

    def go(self) -> None:
        """Let a QEMU that outlives us begin, now that it is on record: see :mod:`qemustate.vm.gate`."""
        if self._gate is not None:
            self._gate.open()

    def stderr(self) -> str:
        """Return the end of what QEMU has written to its standard error so far (at most 64 KiB)."""
        return tail(self._stderr.fileno())

    def poll(self) -> dict[str, int] | None:
        """Return how the process ended, ``{"status": n}`` or ``{"signal": n}``, or None while it runs.

        Reaps it, and removes its socket.
        """
        code = self._popen.poll()
        if code is None:
            return None
        self.socket_path.unlink(missing_ok=True)
        return {"signal": -code} if code < 0 else {"status": code}

    def wait(self, timeout: float | None = None) -> dict[str, int] | None:
        """Wait at most ``timeout`` seconds for the end; return as :meth:`poll` does."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(timeout)
        return self.poll()

    def signal(self, number: int) -> None:
        """Send a signal; nothing happens when the process has ended."""
        self._popen.send_signal(number)

    def kill(self) -> dict[str, int]:
        """End the process at once if it still runs; return how it ended."""
        self.signal(signal.SIGKILL)
        self._popen.wait()
        ended = self.poll()
        assert ended is not None
        return ended

    def failure(self, message: str) -> LaunchFailed:
        """Return the error that says why QEMU did not come up, with what it said."""
        return LaunchFailed(message, stderr=self.stderr(), returncode=self._popen.poll())

    def release(self) -> None:
        """Let go of the process, which runs on; whoever adopts our children reaps it."""
        os.close(self.pidfd)
        self.pidfd = -1
        self._stderr.close()
        self._popen.returncode = 0  # so that the standard library does not look for its end any more

    def close(self) -> None:
        """Kill what still runs, and let go of everything; nothing after :meth:`release`."""
        if self._stderr.closed:
            return
        if self._gate is not None:
            self._gate.close()
        self.kill()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
        self._stderr.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def start_helper(argv: Sequence[str], output: Path) -> tuple[Child, Gate]:
    """Start a helper of a VM, in a session of its own; it begins when the gate is opened, and what it prints is added to ``output``.

    Raises LaunchFailed where it cannot be started.
    """
    if shutil.which(argv[0]) is None:
        raise LaunchFailed(f"{argv[0]}: no such program, or not executable")
    gate = Gate()
    try:
        with output.open("ab") as file:
            child = subprocess.Popen(
                [*WAITING, *argv], stdin=gate.stdin, stdout=file, stderr=file, start_new_session=True
            )
    except OSError as error:
        gate.close()
        raise LaunchFailed(f"{argv[0]}: cannot be started: {error.strerror}") from error
    finally:
        gate.handed()
    return child, gate


def tail(fd: int) -> str:
    """Return the end of a file's text, at most 64 KiB."""
    size = os.fstat(fd).st_size
    return os.pread(fd, _SHOWN, max(0, size - _SHOWN)).decode(errors="replace")


def monitor_options(fd: int) -> list[str]:
    """Return the options that put a QMP monitor on a listening socket handed over as ``fd``."""
    return [
        "-chardev", f"socket,id={MONITOR},fd={fd},server=on,wait=off",
        "-mon", f"chardev={MONITOR},mode=control",
    ]  # fmt: skip


def _check(argv: Sequence[str]) -> None:
    if not argv:
        raise BadInput("command line", expected="a QEMU program and its options", seen="nothing")
    if shutil.which(argv[0]) is None:
        raise LaunchFailed(f"{argv[0]}: no such program, or not executable")
    if bad := next((word for word in argv if "\0" in word), ""):
        raise BadInput("command line", expected="words without a zero byte", seen=repr(bad))
    if "-daemonize" in argv or "--daemonize" in argv:
        raise BadInput(
            "command line", expected="a QEMU that stays our child, so that its end is seen", seen="-daemonize"
        )


def start_time(pid: int) -> int | None:
    """Return the start of a process in clock ticks since boot; None when there is no such process.

    Field 22 of ``/proc/PID/stat``; the command in field 2 may hold spaces and brackets (Linux proc(5)). A process
    that has ended and was not reaped yet (state Z) is none any more.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    fields = text.rpartition(b")")[2].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def boot_id() -> str | None:
    """Return the id of this boot of the host, which is another after each (Linux random(4)); None where it cannot be read."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return None


def identity(pid: int, start: int | None) -> dict[str, Any]:
    """Return what names a process for good, for its record: number, start, and the boot that both count in."""
    boot = boot_id()
    return {"pid": pid, "start": start, **({} if boot is None else {"boot": boot})}


def spawned(process: Process) -> dict[str, Any]:
    """Return the body of the ``spawned`` record of a process, its secrets not yet replaced."""
    told = {
        "argv": process.argv,
        **identity(process.pid, process.start),
        "binary": shutil.which(process.argv[0]),
        "monitor": str(process.socket_path.absolute()),
    }
    if process.stderr_path is not None:
        told["stderr"] = str(process.stderr_path.absolute())
    return told


def ended(pidfd: int, timeout: float | None) -> bool:
    """Wait at most ``timeout`` seconds (None: as long as it takes) for the end of a process, ours or not; say whether it has ended."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(None if timeout is None else timeout * 1000))


def reaped(pidfd: int) -> dict[str, int]:
    """Return how a process that has ended did, and reap it, if it is a child of ours; else ``{}`` (Linux waitid(2))."""
    try:
        told = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return {}
    if told is None:
        return {}
    return {"status" if told.si_code == os.CLD_EXITED else "signal": told.si_status}
