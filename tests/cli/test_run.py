"""``qemustate run`` as a user runs it."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from qemustate.events.reader import LogReader

COMMAND = [sys.executable, "-c", "from qemustate.cli.main import run; run()", "run"]
BARE = ["-accel", "tcg", "-M", "none", "-S", "-display", "none", "-nodefaults"]


def run(*words, **more):
    """Run the command to its end."""
    return subprocess.run([*COMMAND, *map(str, words)], capture_output=True, text=True, timeout=60, **more)


class Running:
    """The command while it runs; `lines` reads its timeline up to a word."""

    def __init__(self, folder, *words, stdin=None):
        self.process = subprocess.Popen(
            [*COMMAND, *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(folder)},
            stdin=stdin,
        )
        self.shown = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def until(self, word):
        """Read the timeline up to the first line with a word."""
        for line in self.process.stdout:
            self.shown.append(line)
            if word in line:
                return
        raise AssertionError(f"no {word!r} in {self.shown}, {self.process.stderr.read()}")

    def end(self):
        """Wait for the end; return what else was printed, and the complaints."""
        return self.process.communicate(timeout=60)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_timeline_is_shown_live_and_a_signal_ends_it(qemu, tmp_path, number):
    """Launch and negotiation are shown while QEMU runs; a signal makes it quit in order; the state is printed; nothing is left."""
    log = tmp_path / "vm.log"
    folder = tmp_path / "tmp"
    folder.mkdir()
    with Running(folder, "--log", log, "--", qemu.binary, *qemu.args, *BARE) as running:
        running.until("negotiating -> ready")
        running.process.send_signal(number)
        shown, complaints = running.end()
    assert running.process.returncode == 0
    assert "process: not-started -> running (launch)" in running.shown[0]
    assert "process    exited" in shown
    assert "with status 0" in shown
    assert "asking QEMU to quit" in complaints
    kinds = [record.kind for record in LogReader(log)]
    assert kinds[:4] == ["segment", "spawned", "opened", "greeting"]
    assert kinds[-3:] == ["lost", "exited", "closed"]
    assert list(folder.iterdir()) == []


def test_a_terminal_that_goes_takes_qemu_with_it(qemu, tmp_path):
    """A hangup, which comes from the kernel and from the shell, makes QEMU quit in order though nobody can be told."""
    log = tmp_path / "vm.log"
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [*COMMAND, "--log", log, "--", qemu.binary, *qemu.args, *BARE],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    while b"negotiating -> ready" not in shown:
        shown += os.read(ours, 1 << 16)
    os.close(ours)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 2
    records = [(record.kind, record.body) for record in LogReader(log)]
    assert [kind for kind, _ in records[-3:]] == ["lost", "exited", "closed"]
    assert records[-2][1] == {"status": 0}


def test_a_wedged_qemu_is_killed_by_the_second_signal(qemu, tmp_path):
    """One that does not answer `quit` goes with the second signal, and that shows in the exit status."""
    log = tmp_path / "vm.log"
    with Running(tmp_path, "--log", log, "--", qemu.binary, *qemu.args, *BARE) as running:
        running.until("negotiating -> ready")
        spawned = next(record for record in LogReader(log) if record.kind == "spawned")
        os.kill(spawned.body["pid"], signal.SIGSTOP)
        running.process.send_signal(signal.SIGINT)
        running.process.stderr.readline()
        running.process.send_signal(signal.SIGINT)
        shown, complaints = running.end()
    assert running.process.returncode == 1
    assert "killing QEMU" in complaints
    assert "with signal 9" in shown


def test_json_is_the_contract(qemu, tmp_path):
    """With --json the state alone is printed, as JSON, findings with it; what QEMU itself prints goes to stderr."""
    log = tmp_path / "vm.log"
    with Running(tmp_path, "--json", "--log", log, "--", qemu.binary, *qemu.args, *BARE) as running:
        while not log.exists() or "reply" not in [record.kind for record in LogReader(log)]:
            time.sleep(0.01)
        running.process.send_signal(signal.SIGTERM)
        shown, _ = running.end()
    document = json.loads(shown)
    assert document["schema"] == 1
    assert document["source"] == {"format": "qemustate", "lacks": []}
    [vm] = document["vms"]
    assert vm["process"]["exit"] == {"status": 0}
    assert vm["findings"] == []
    assert "not_checked" in vm


def test_a_log_is_gone_on_with(qemu, tmp_path):
    """A second run on the same log appends, shows only what is new, and what QEMU prints is kept apart from JSON."""
    log = tmp_path / "vm.log"
    for runs in (1, 2):
        ended = run("--log", log, "--", qemu.binary, *qemu.args, "-M", "nonesuch")
        assert ended.stdout.count("spawned") == 1
        assert [record.kind for record in LogReader(log)].count("spawned") == runs
    ended = run("--json", "--log", log, "--", qemu.binary, *qemu.args, "--version")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "QEMU emulator version" in ended.stderr


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "expected a VM.toml, or -- and a QEMU command line after it, saw nothing"),
        (["VM.toml"], "VM.toml: expected a file that can be read, saw No such file or directory"),
        (
            ["VM.toml", "--json"],
            "expected a VM.toml, or -- and a QEMU command line after it, saw VM.toml --json",
        ),
        (["--"], "expected a VM.toml, or -- and a QEMU command line after it, saw --"),
        (["--", "qemu-nonesuch"], "qemu-nonesuch: no such program, or not executable"),
        (["--", "true", "-daemonize"], "saw -daemonize"),
        (["--log", "none/vm.log", "--", "true"], "none/vm.log"),
    ],
)
def test_what_cannot_be_run_is_one_clear_line(tmp_path, words, complaint):
    """Bad usage and a missing program: exit status 2, one line on stderr, no traceback."""
    ended = run(*words, cwd=tmp_path)
    assert ended.returncode == 2
    assert complaint in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert ended.stdout == ""


def test_a_qemu_that_dies_at_once_is_heard(qemu, tmp_path):
    """What QEMU said is shown, and the exit status is 2."""
    ended = run("--", qemu.binary, *qemu.args, "-M", "nonesuch", cwd=tmp_path)
    assert ended.returncode == 2
    assert "unsupported machine type" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("given", ["file", "stdin"])
def test_a_toml_is_a_command_line(qemu, tmp_path, given):
    """A VM.toml is launched with its devices, from a file or from standard input, commas in names and all."""
    text = f"""
        qemu = "{qemu.binary}"
        L = {json.dumps([word for word in qemu.args if word != "-L"])}
        nodefaults = true
        S = true
        display = "none"
        name = "a,b"
        machine = {{type = "q35", accel = "tcg"}}
        [[device]]
        driver = "virtio-rng-pci"
        id = "rng0"
        max-bytes = 1024
    """
    path = tmp_path / "VM.toml"
    path.write_text(text)
    log = tmp_path / "vm.log"
    source = path if given == "file" else "-"
    with path.open() as stdin, Running(tmp_path, "--json", "--log", log, source, stdin=stdin) as running:
        while not log.exists() or "reply" not in [record.kind for record in LogReader(log)]:
            assert running.process.poll() is None, running.end()
            time.sleep(0.01)
        running.process.send_signal(signal.SIGTERM)
        shown, _ = running.end()
    [vm] = json.loads(shown)["vms"]
    assert vm["process"]["exit"] == {"status": 0}
    assert vm["devices"]["rng0"]["driver"] == "virtio-rng-pci"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('machine = "q36"', "VM.toml, machine.type: expected a machine of this QEMU, q35, saw q36"),
        (
            '[[device]]\ndriver = "virtio-rng-pci"\nid = "r0"\nmax-bytes = "1k"',
            'VM.toml, device r0: max-bytes: expected uint64, saw "1k"',
        ),
        (
            '[[netdev]]\ntype = "user"\nid = "n0"\nrestrict = "on"',
            'VM.toml, netdev n0: restrict: expected boolean, saw "on"',
        ),
    ],
)
def test_what_this_qemu_would_refuse_is_named_before(qemu, tmp_path, text, complaint):
    """A property of the wrong type and a machine that is not there are one line that names the place."""
    (tmp_path / "VM.toml").write_text(f'qemu = "{qemu.binary}"\n{text}\n')
    ended = run("VM.toml", cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert complaint in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_log_in_use_is_named(qemu, tmp_path):
    """A second writer of the same log is refused, and the first goes on."""
    log = tmp_path / "vm.log"
    with Running(tmp_path, "--log", log, "--", qemu.binary, *qemu.args, *BARE) as running:
        running.until("negotiating -> ready")
        second = run("--log", log, "--", "true")
        assert second.returncode == 2
        assert "vm.log" in second.stderr
        running.process.send_signal(signal.SIGTERM)
        running.end()
    assert running.process.returncode == 0
    assert [record.kind for record in LogReader(log)][-1] == "closed"


def test_help_teaches():
    """There is an example, and what the exit status means."""
    told = run("--help")
    assert told.returncode == 0
    assert "qemustate run --log vm.log -- qemu-system-x86_64" in told.stdout
    assert "exit status" in told.stdout
