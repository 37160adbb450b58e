"""The folder of one VM, beside its log: our monitor's socket, and the file that has QEMU's standard error."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

from qemustate.vm.process import tail

if TYPE_CHECKING:
    from pathlib import Path

MONITOR: Final = "monitor"
STDERR: Final = "stderr"
#: What its helpers have printed.
HELPERS: Final = "helpers"


def last_words(folder: Path) -> str:
    """Return the end of what QEMU has written to its standard error; nothing where there is no such file."""
    try:
        fd = os.open(folder / STDERR, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return tail(fd)
    finally:
        os.close(fd)


def clear(folder: Path) -> None:
    """Remove what is ours in a folder, and the folder where nothing else is in it."""
    for name in (MONITOR, STDERR, HELPERS):
        with contextlib.suppress(OSError):
            (folder / name).unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()
