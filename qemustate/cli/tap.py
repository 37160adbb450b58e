"""``qemustate tap``: sit between a runtime and QEMU, change nothing, record all."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

from qemustate.cli.common import add_parser as add
from qemustate.cli.run import tell, tell_state
from qemustate.events.writer import LogWriter
from qemustate.vm.foreground import run_tap
from qemustate.vm.recorder import Scribe

if TYPE_CHECKING:
    import argparse

_MORE: Final = """\
Clients connect to the --listen socket instead of QEMU's own and meet what they would meet there: the same
bytes and file descriptors both ways, one client at a time. The socket appears once QEMU takes connections and
goes when QEMU goes; then the tap ends, as it does on ^C. Secrets are not written to the log.

exit status:
  0  QEMU has gone, or the tap was told to end
  2  bad input or usage; one line on stderr says what

example:
  qemustate tap --listen /run/vm/qmp.sock --connect /run/vm/qemu.sock --log vm.log
"""


def add_parser(subparsers: Any) -> None:
    """Add ``tap`` to the command line."""
    parser = add(subparsers, "tap", "sit between a runtime and QEMU, change nothing, record all", _MORE)
    parser.add_argument(
        "--listen", metavar="SOCK", required=True, help="the socket for the runtime, made here"
    )
    parser.add_argument("--connect", metavar="SOCK", required=True, help="the socket of QEMU's monitor")
    parser.add_argument(
        "--log", metavar="FILE", required=True, help="the log to write, or to go on with if it is there"
    )


def run(args: argparse.Namespace) -> int:
    """Tap; raises BadInput, RecordingFailed."""
    with contextlib.closing(Scribe(LogWriter(args.log, on_state=tell_state))) as scribe:
        run_tap(args.listen, args.connect, scribe, tell)
    return 0
