"""``qemustate run``: launch a QEMU command line or a VM.toml, record it, show its timeline live."""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from qemustate.cli.common import add_parser as add
from qemustate.cli.common import complain, print_json
from qemustate.cli.lines import Changes
from qemustate.errors import BadInput, LaunchFailed, MonitorUnavailable, OutcomeUnknown
from qemustate.events.reader import LogReader
from qemustate.events.writer import LogWriter, WriterState
from qemustate.hardware.config import Config
from qemustate.hardware.properties import Device
from qemustate.replay.check import check, plain
from qemustate.replay.source import Source
from qemustate.statemachine import describe
from qemustate.statemachine.fold import apply
from qemustate.statemachine.state import VM
from qemustate.vm.foreground import run_qemu
from qemustate.vm.probe import probe
from qemustate.vm.recorder import open_recorder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qemustate.vm.recorder import Recorder

_MORE: Final = """\
VM.toml holds a command line in QEMU's own names: options at the top, a table for an option of key=value or a
device, [[device]] for one of several, qemu for the program; - is standard input. It is held against what that
QEMU says of itself. One QMP monitor of ours is added. A line is printed for each record that changed something,
and the state at the end. The first ^C asks QEMU to quit, another one kills it. When the terminal goes, QEMU is asked too.

exit status:
  0  QEMU ended with status 0
  1  it ended otherwise
  2  it did not come up, or bad input or usage

examples:
  qemustate run --log vm.log VM.toml
  qemustate run --log vm.log -- qemu-system-x86_64 -M q35 -m 256 -display none disk.img
"""

#: Seconds that the timeline has to show the last records.
_LAST_LINES: Final = 5.0
_PAUSE: Final = 0.02


def add_parser(subparsers: Any) -> None:
    """Add ``run`` to the command line."""
    parser = add(subparsers, "run", "launch a QEMU, record its monitor, show the timeline live", _MORE)
    parser.usage = "qemustate run [--log FILE] [--json] VM.toml|-- qemu-system-x86_64 ..."
    parser.add_argument(
        "--log",
        metavar="FILE",
        help="the log to write, or to go on with if it is there; without it, the log is thrown away",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the state at the end as JSON, and no timeline"
    )
    parser.add_argument("argv", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """Run; raises LaunchFailed, BadInput, RecordingFailed."""
    argv = _command_line(args.argv)
    with tempfile.TemporaryDirectory(prefix="qemustate-") as folder:
        log = Path(args.log or Path(folder) / "log")
        with contextlib.closing(open_recorder(log, on_state=tell_state)) as recorder:
            if args.json:
                ended = run_qemu(argv, recorder, tell, stdout=sys.stderr.fileno())
            else:
                with timeline(recorder):
                    ended = run_qemu(argv, recorder, tell)
        report = check(Source(log).vms[0])
        if args.json:
            state = {**report.to_json(), **recorder.vm.to_json()}
            print_json({"schema": 1, "source": {"format": "qemustate", "lacks": []}, "vms": [state]})
        else:
            print()
            for line in describe.state(recorder.vm):
                print(line)
            for it in report.findings:
                if it.severity != "note":
                    print("  " + describe.finding(plain(it)))
    return 0 if ended.get("status") == 0 else 1


def _command_line(words: list[str]) -> list[str]:
    """Return the command line that was given, or that a VM.toml says."""
    if words[:1] == ["--"] and len(words) > 1:
        return words[1:]
    if len(words) == 1 and words != ["--"]:
        config = Config.from_toml(sys.stdin.read() if words == ["-"] else Path(words[0]))
        _check(config, words[0])
        return config.argv()
    seen = " ".join(words) or "nothing"
    raise BadInput("qemustate run", expected="a VM.toml, or -- and a QEMU command line after it", seen=seen)


def _check(config: Config, source: str) -> None:
    """Raise BadInput for the first thing that this QEMU would refuse; where it cannot be asked, it will say so itself."""
    with contextlib.suppress(LaunchFailed, MonitorUnavailable, OutcomeUnknown):
        devices = [part.kind for part in config.parts() if isinstance(part, Device)]
        for problem in probe(config.qemu, devices).check_config(config):
            raise BadInput(source, problem.path, expected=problem.expected, seen=problem.seen)


@contextlib.contextmanager
def timeline(recorder: Recorder) -> Iterator[None]:
    """Print the timeline live, read behind the writer; at the end the recorder is closed and all is shown."""
    stop = threading.Event()
    shown = threading.Thread(target=_show, args=(recorder.writer.path, recorder.vm.seq, stop), daemon=True)
    shown.start()
    try:
        yield
    finally:
        recorder.close()
        shown.join(_LAST_LINES)
        stop.set()


def _show(log: Path, before: int, stop: threading.Event) -> None:
    """Print the timeline behind the writer, as fast as whoever reads it; records up to ``before`` are old."""
    lines, vm, ended = Changes(), VM(), False
    with contextlib.suppress(OSError):  # nobody looks on, and the VM goes on
        # An old log ends with a `closed` of its own.
        while not (ended or stop.wait(_PAUSE)):
            for record in LogReader(log).follow(stop, vm.seq + 1):
                apply(vm, record.seq, record.time, record.kind, record.body)
                if record.seq > before:
                    lines.see(vm, record.seq, record.time, record.kind, record.body)
                    sys.stdout.flush()
                    ended = record.kind == "closed"


def tell(text: str) -> None:
    """Say something on standard error, at once and whole, if anybody is there."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def tell_state(writer: LogWriter) -> None:
    """Say that the log cannot be written, or can again."""
    failed = writer.state is WriterState.FAILED
    complain(f"{writer.path}: {writer.why}; going on without" if failed else f"{writer.path}: written again")
