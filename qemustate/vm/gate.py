"""A process that waits until it is on record, and only then becomes the program it was started for.

Who starts a process may die before it has written down its number, and then nobody would know of what runs there. So
a shell is started, which waits for a word on its standard input and replaces itself by the program; where its starter
dies first the word never comes, and it ends. Number and start stay what they were (Linux execve(2)).
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

#: What stands before the program's own command line.
WAITING: Final = ("/bin/sh", "-c", 'read -r _ && exec "$@" </dev/null', "sh")


class Gate:
    """The word that a process waits for; ``stdin`` is its standard input, until :meth:`handed`."""

    def __init__(self) -> None:
        self.stdin, self._ours = os.pipe()

    def handed(self) -> None:
        """Note that the process has its standard input."""
        os.close(self.stdin)

    def open(self) -> None:
        """Let the process go on; nothing where it has ended."""
        if self._ours >= 0:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._ours, b"\n")
            self.close()

    def close(self) -> None:
        """Let the process end where it still waits."""
        if self._ours >= 0:
            os.close(self._ours)
            self._ours = -1
