"""Text goldens: a file holds commands and, below each, what it printed.

::

    # why
    qemustate log verify vm.log
    ----
    what it printed; lines of standard error begin with "! "
    exit 0

Besides ``qemustate`` there are ``cut FILE N`` (keep the first N bytes), ``flip FILE N`` (flip a bit of byte N)
and ``gzip FILE``. Commands run in one folder, in which ``7.2``, ``10.0`` (stories) and ``traces`` and ``toml`` stand.
"""

import contextlib
import gzip
import io
import re
import shlex
from pathlib import Path

from qemustate.cli.main import guarded

HERE = Path(__file__).parent
_EXIT = re.compile(r"exit \d+")


def furnish(folder):
    """Put the recordings into a folder."""
    for name in ("7.2", "10.0"):
        (folder / name).symlink_to(HERE.parent / "stories" / name)
    for name in ("traces", "toml"):
        (folder / name).symlink_to(HERE / "testdata" / name)
    (folder / "quits").mkdir()
    for path in sorted((HERE.parent / "stories" / "7.2").glob("quit*")):
        (folder / "quits" / path.name).symlink_to(path)


def run(text):
    """Run all commands of a golden's text in the current folder; return the text as it should be."""
    out = []
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith("#"):
            out.append(line)
        elif line:
            out += [line, "----", *_command(shlex.split(line)), ""]
            if next(lines, "") == "----":
                for expected in lines:
                    if _EXIT.fullmatch(expected):
                        break
    return "\n".join(out)


def _command(words):
    """Yield what a command prints, and its exit status."""
    stdout, stderr = io.StringIO(), io.StringIO()
    status = 0
    if words[0] == "qemustate":
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            status = guarded(words[1:])
    else:
        _change(*words)
    yield from stdout.getvalue().splitlines()
    yield from (f"! {line}" for line in stderr.getvalue().splitlines())
    yield f"exit {status}"


def _change(what, name, number="0"):
    path, at = Path(name), int(number)
    data = path.read_bytes()
    if what == "cut":
        path.write_bytes(data[:at])
    elif what == "flip":
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    elif what == "gzip":
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(data))
    else:
        raise ValueError(what)
