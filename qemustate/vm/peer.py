"""Who listens at the other end of a UNIX socket: the QEMU process, found without being told its number."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from pathlib import Path
from typing import Any

import msgspec

from qemustate.vm.process import start_time


class Peer(msgspec.Struct, frozen=True):
    """A running QEMU: its number, start (clock ticks since boot), command line, and a pidfd that the holder closes."""

    pid: int
    start: int | None
    argv: list[str]
    pidfd: int

    def spawned(self) -> dict[str, Any]:
        """Return the body of a ``spawned`` record, its secrets not yet replaced; ``late``: it ran before we came."""
        return {"argv": self.argv, "pid": self.pid, "start": self.start, "late": True}


def find(sock: socket.socket) -> Peer | None:
    """Return the QEMU that called listen(2) for the connected ``sock``; None when that was none we can see.

    A launcher may have made the socket and handed it over; then the kernel names the launcher (SO_PEERCRED
    in Linux unix(7)), and that is not taken for QEMU.
    """
    pid, _, _ = struct.unpack(
        "3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    )
    if pid <= 0:
        return None
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return None
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        argv = [os.fsdecode(word).encode(errors="replace").decode() for word in words]
        if "qemu" in Path(argv[0]).name:
            return Peer(pid, start_time(pid), argv, pidfd)
    os.close(pidfd)
    return None
