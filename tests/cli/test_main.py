"""The command as a program: what goes wrong is one line and a status, never a traceback."""

import gzip
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from qemustate.cli import main as command
from qemustate.cli.main import COMMANDS, guarded
from qemustate.events.writer import LogWriter

from .golden import HERE

QUIT = HERE.parent / "stories" / "7.2" / "quit.jsonl.xz"
PROGRAM = [sys.executable, "-c", "from qemustate.cli.main import run; run()"]


def run(*words, **more):
    return subprocess.run(
        [*PROGRAM, *map(str, words)], capture_output=True, text=True, check=False, timeout=120, **more
    )


def one_line(done):
    """Hold a run to status 2 and one line on standard error."""
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("qemustate: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def long_line(path):
    with path.open("wb") as file:
        for _ in range(100):
            file.write(b"x" * 1_000_000)


def long_recording(path):
    with path.open("wb") as file:
        file.write(b'{"t": 1.0, "dir": "rx", "raw": "{\\"return\\": \\"')
        for _ in range(100):
            file.write(b"x" * 1_000_000)
        file.write(b'\\"}"}\n')


def long_message(path):
    with path.open("wb") as file:
        file.write(b'{"return": "')
        for _ in range(100):
            file.write(b"x" * 1_000_000)
        file.write(b'"}\n')


BAD = {
    "not a log": (lambda path: path.write_text("hello\n"), "expected a qemustate log or one of"),
    "empty file": (lambda path: path.write_bytes(b""), "saw an empty file"),
    "directory": (lambda path: path.mkdir(), "expected traces in it, saw 0 files"),
    "absent": (lambda path: None, "No such file"),
    "truncated gzip": (
        lambda path: path.write_bytes(gzip.compress(b'{"return": {}}\n' * 99)[:-9]),
        "cut short",
    ),
    "truncated xz": (lambda path: path.write_bytes(QUIT.read_bytes()[:300]), "cut short"),
    "binary noise": (
        lambda path: path.write_bytes(random.Random(1).randbytes(100_000)),
        "expected a qemustate log",
    ),
    "unreadable": (lambda path: path.symlink_to("/proc/self/mem"), "Input/output error"),
    "100 MB on one line": (long_line, "expected a qemustate log"),
    "100 MB in a recording": (long_recording, "QMP messages"),
    "100 MB in a message": (long_message, "QMP messages"),
    "the head of a log": (lambda path: path.write_bytes(b"\x95\x01\x00\xa7segment\x80"), "segment"),
}


@pytest.mark.parametrize(
    "words", [("replay", "bad"), ("check", "bad"), ("import", "bad", "-o", "out.log")], ids=lambda it: it[0]
)
@pytest.mark.parametrize("bad", BAD)
def test_bad_input_is_one_line(tmp_path, bad, words):
    """Each kind of bad input ends with status 2 and one line that names the file and what was seen."""
    make, seen = BAD[bad]
    make(tmp_path / "bad")
    told = one_line(run(*words, cwd=tmp_path))
    assert "bad" in told
    if not (bad == "the head of a log" and words[0] == "import"):
        assert seen in told
    assert not (tmp_path / "out.log").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_a_file_of_somebody_else(tmp_path, monkeypatch, capsys):
    """A file that may not be read is one line."""
    path = tmp_path / "secret"
    path.write_bytes(b"{}")
    path.chmod(0)
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:3]:
        parent.chmod(parent.stat().st_mode | 0o055)
    os.seteuid(65534)
    try:
        assert guarded(["replay", str(path)]) == 2
    finally:
        os.seteuid(0)
    assert (
        capsys.readouterr().err
        == f"qemustate: {path}: expected a file that can be read, saw Permission denied\n"
    )


def test_a_reader_that_leaves_is_no_error(tmp_path):
    """When whoever reads the output goes away, the command ends without a word."""
    done = subprocess.run(
        ["sh", "-c", '"$@" | head -1 >/dev/null', "sh", *PROGRAM, "check", *[str(QUIT)] * 2000],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.stderr == ""


def test_an_output_that_is_gone_from_the_start():
    """A closed standard output is no traceback either."""
    done = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", *PROGRAM, "replay", str(QUIT)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") <= 1


@pytest.mark.parametrize("words", [("replay", QUIT), ("replay", QUIT, "--json"), ("--version",)], ids=str)
@pytest.mark.parametrize("buffered", ["", "1"])
def test_an_output_that_is_full(words, buffered):
    """Where the output cannot be written, that is one line and status 2, however it is buffered."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*PROGRAM, *map(str, words)],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60, env={**os.environ, "PYTHONUNBUFFERED": buffered},
        )  # fmt: skip
    if (words, buffered) != (("--version",), "1"):  # argparse says nothing when it cannot print
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "No space left on device" in done.stderr


def test_an_input_that_is_closed():
    """A closed standard input is an empty one."""
    done = subprocess.run(
        ["sh", "-c", '"$@" <&-', "sh", *PROGRAM, "replay", "-"], capture_output=True, text=True, check=False
    )
    assert one_line(done) == "qemustate: -: expected a trace, saw an empty file\n"


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), 130), (BrokenPipeError(32, "x"), 141)])
def test_leaving_early_is_quiet(monkeypatch, capsys, error, status):
    """Control-C and a pipe that broke end as a shell expects, without a word."""

    def leave(_argv):
        raise error

    monkeypatch.setattr(command, "main", leave)
    assert guarded([]) == status
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError(), "not enough memory"),
        (RecursionError("deep"), "internal error at test_main.py"),
        (OSError(28, "No space left on device", "x.log"), "x.log: No space left on device"),
        (ZeroDivisionError("1/0"), "ZeroDivisionError: 1/0"),
    ],
)
def test_no_exception_is_a_traceback(monkeypatch, capsys, error, told):
    """Whatever is raised ends with status 2 and one line."""

    def fail(_argv):
        raise error

    monkeypatch.setattr(command, "main", fail)
    assert guarded([]) == 2
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_helps(name, capsys):
    """Each command's help has an example of it and tells what the exit status means."""
    assert guarded([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"qemustate {name} " in out.partition("example")[2]
    assert "exit status" in out


PARTS = [
    b'{"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 10}}, "capabilities": []}}\n',
    b'{"execute": "device_del", "arguments": {"id": "a"}}\n',
    b'{"event": "DEVICE_DELETED", "data": {"device": "a", "path": "/a"}, "timestamp": {"seconds": 1, "microseconds": 2}}\n',
    b'{"return": {}}\n', b'{"error": {}}\n', b'{"event": "STOP"}\n', b'{"event": "JOB_STATUS_CHANGE", "data": {}}\n',
    b'{"execute": "query-status", "id": {}}', b'{"return": {"status": "running"}, "id": {}}', b'{"return": [], "id": inf}',
    b'{"t": 1, "dir": "rx", "raw": "{\\"event\\": \\"RESUME\\"}"}\n', b'{"t": 1e12, "dir": "tx", "raw": "{"}\n',
    b'handle_qmp_command mon 0x1 req: {"execute": "cont"}\n', b'monitor_qmp_respond mon 0x1 resp: {"return": 1}\n',
    b"\x95\x01\x00\xa7segment", b"\xff", b"{", b"[" * 2000,
    b'{"return": %s}\n' % (b"[" * 1100 + b"]" * 1100), b'{"error": {"class": %s}}\n' % (b"[" * 1100 + b"]" * 1100),
    b'{"execute": "device_del\\n", "arguments": {"id": "a\\u001b[2J\\n"}}\n', b'{"error": {"class": "\\u0007", "desc": "\\n"}}\n',
    b'{"event": "DEVICE_DELETED", "data": {"device": "\\u009b\\u202e", "path": "/\\n"}}\n',
]  # fmt: skip


@settings(deadline=None, max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.lists(st.sampled_from(PARTS) | st.binary(max_size=6), max_size=12).map(b"".join),
    json=st.booleans(),
)
@example(content=b"", json=True)
def test_any_bytes_end_in_a_status(tmp_path, capsys, content, json):
    """Whatever the bytes, replay and check end with a status of theirs, and nothing internal goes wrong."""
    path = tmp_path / "trace"
    path.write_bytes(content)
    for name in ("replay", "check"):
        status = guarded([name, str(path), *(["--json"] if json else [])])
        captured = capsys.readouterr()
        assert status in (0, 1, 2)
        assert "internal error" not in captured.err
        assert all(line.isprintable() for line in (captured.out + captured.err).split("\n"))
        assert (status == 2) <= (captured.err != "")


#: Bodies that no writer of ours makes, though a log can hold them: of messages, and of facts.
NO_MESSAGES = [
    ("event", {"qmp": [1]}), ("event", {}), ("command", {"qmp": True}), ("reply", {"text": 5}), ("failure", {"text": "{"}), ("greeting", {"qmp": "QMP"}),
]  # fmt: skip
NO_FACTS = [
    ("spawned", {"argv": 7}), ("spawned", {"argv": [[]]}), ("exited", {"status": {}}), ("begun", {"steps": 3}), ("ended", {"subject": []}),
    ("deadline", {"correlation": []}), ("helper", {}), ("opened", {"first": []}), ("malformed", {}),
]  # fmt: skip


@pytest.mark.parametrize("entry", [*NO_MESSAGES, *NO_FACTS], ids=str)
def test_a_record_that_means_nothing_is_named_or_shown(tmp_path, capsys, entry):
    """Where a whole log holds a record that is not what its kind says, nothing internal goes wrong."""
    log = str(tmp_path / "vm.log")
    with LogWriter(log, "vm", "os") as writer:
        for kind, body in (("opened", {}), entry):
            writer.append(kind, body, 0)
    for words in (("replay",), ("check",), ("replay", "--json")):
        status = guarded([*words, log])
        captured = capsys.readouterr()
        if entry in NO_MESSAGES:
            assert status == 2
            assert captured.err.startswith(f"qemustate: {log}, record 3: expected a sound record of kind ")
        else:
            assert captured.err == ""
    for words in (("log", "cat"), ("log", "stat")):
        assert guarded([*words, log]) == 0
        assert capsys.readouterr().err == ""


LIBVIRT = Path(__file__).parents[1] / "events" / "importers" / "testdata" / "libvirt-9.0"


def test_importing_several_vms_makes_a_folder(tmp_path, capsys):
    """A trace of several VMs becomes a folder of logs, named as the VMs, which is a trace of them again."""
    out = tmp_path / "logs"
    assert guarded(["import", str(LIBVIRT), "-o", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["ho1.log", "ho2.log"]
    assert capsys.readouterr().out.count(" from libvirt") == 2
    assert guarded(["replay", str(out), "--vm", "ho2", "--json"]) == 0
    assert '"name": "ho2"' in capsys.readouterr().out


def test_a_failed_import_leaves_nothing(tmp_path, capsys):
    """Where an import fails half way, the logs written so far are gone, and their folder."""
    folder = tmp_path / "traces"
    folder.mkdir()
    (folder / "a.qmp").write_bytes(b'{"execute": "stop"}\n')
    (folder / "b.qmp").write_bytes(b'{"execute": 5}\n')
    assert guarded(["import", str(folder), "-o", str(tmp_path / "out")]) == 2
    assert "b.qmp: expected QMP messages" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
