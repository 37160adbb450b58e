"""The command ``qemustate``: finds the subcommand, and sees to it that no traceback reaches a user.

A subcommand is a module with ``add_parser(subparsers)`` and ``run(args)``, which returns the exit status. It
is imported when it is asked for.
"""

from __future__ import annotations

import argparse
import gc
import io
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NoReturn

from qemustate import __version__
from qemustate.cli.common import complain
from qemustate.errors import QemustateError

#: Name -> (module, what it does in one line).
COMMANDS: Final = {
    "run": ("qemustate.cli.run", "launch a QEMU, record its monitor, show the timeline live"),
    "tap": ("qemustate.cli.tap", "sit between a runtime and QEMU, change nothing, record all"),
    "import": ("qemustate.cli.import_", "turn foreign traces into a log"),
    "replay": ("qemustate.cli.replay", "show what happened in a trace, and the state it led to"),
    "check": ("qemustate.cli.check", "apply the rules to traces"),
    "diff": ("qemustate.cli.diff", "show where two traces first differ, and the states there"),
    "log": ("qemustate.cli.log", "look at, verify, repair or export a log"),
}

_EPILOG: Final = """\
a trace is a log of qemustate or any foreign format it knows, found by looking; - is standard input

exit status:
  0  done, and nothing to complain of
  1  a finding of severity violation, or a difference
  2  bad input or usage; one line on stderr says what

example:
  qemustate replay vm.log
"""

#: As a shell shows a process that SIGPIPE or SIGINT ended.
_BROKEN_PIPE: Final = 128 + 13
_INTERRUPTED: Final = 128 + 2


class Parser(argparse.ArgumentParser):
    """Reports a usage error in one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and where help is; exit with 2."""
        complain(f"{message} (see {self.prog} --help)")
        raise SystemExit(2)


#: So many more objects than before bring the collector on.
_COLLECTED: Final = 200_000


def main(argv: Sequence[str]) -> int:
    """Run the command line ``argv``, without the program's name; return the exit status."""
    parser = Parser(
        prog="qemustate",
        description="The life of a QEMU virtual machine as a log of facts, and its state as a fold over that log.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"qemustate {__version__}")
    subparsers: Any = parser.add_subparsers(
        title="commands", dest="command", metavar="COMMAND", required=True
    )
    wanted = next((word for word in argv if not word.startswith("-")), None)
    module: Any = None
    for name, (home, what) in COMMANDS.items():
        if name == wanted:
            module = import_module(home)
            module.add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=what)
    args = parser.parse_args(argv)
    # Messages are trees, which need no collector: it would walk each block of them as it is read.
    gc.set_threshold(_COLLECTED)
    status: int = module.run(args)
    return status


def guarded(argv: Sequence[str]) -> int:
    """Run :func:`main`; turn everything that may end it into an exit status and at most one line."""
    try:
        status = main(argv)
        sys.stdout.flush()
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 0
    except BrokenPipeError:
        return _BROKEN_PIPE
    except KeyboardInterrupt:
        return _INTERRUPTED
    except QemustateError as error:
        complain(str(error))
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        complain(f"{place}{error.strerror or error}")
    except MemoryError:
        complain("not enough memory for this input")
    except Exception as error:  # noqa: BLE001  (a mistake of ours is still no traceback for a user)
        at = traceback.extract_tb(error.__traceback__)[-1]
        complain(f"internal error at {Path(at.filename).name}:{at.lineno}: {type(error).__name__}: {error}")
    else:
        return status
    return 2


def run() -> NoReturn:
    """Run the command as a program."""
    # Whoever started us may have closed these; then nobody writes or reads them.
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115, PTH123
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115, PTH123
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115, PTH123
    for stream in (sys.stdout, sys.stderr):
        # What a guest or a log names may be no text the terminal can show.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    status = guarded(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            # Whoever read it is gone, or its disk is full; the interpreter would complain when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            if status == 0 and not isinstance(error, BrokenPipeError):
                complain(f"{stream.name}: {error.strerror}")
                status = 2
    raise SystemExit(status)
