"""The timeline of a trace as it grows, as a user sees it."""

import signal
import subprocess
import sys

from qemustate.cli.follow import follow
from qemustate.events.writer import LogWriter
from qemustate.replay.subject import Subject


def test_a_closed_log_is_followed_to_its_end(tmp_path, capsys):
    """A log that is closed already is told as far as it goes, then the state; with a subject only of that."""
    log = tmp_path / "a.log"
    with LogWriter(log, vm="a", durability="os") as writer:
        writer.append("spawned", {"argv": ["qemu", "-device", "e1000,id=n1"]}, 1_000_000)
        writer.append("exited", {"status": 0}, 2_000_000)
    assert follow(str(log), None, None) == 0
    shown = capsys.readouterr().out
    assert "* exited status=0" in shown
    assert shown.index("* exited") < shown.index("vm a, after record 4")
    assert follow(str(log), "a", Subject.read("device=n1")) == 0
    assert capsys.readouterr().out.splitlines() == [
        "     2 00:00:01.000 * spawned qemu   [device n1: gone -> present (command line)]",
        "",
        "vm a, after record 4 at 1970-01-01T00:00:02.000Z",
        "  device     n1: present since 2 (command line), e1000",
    ]


def test_lines_come_at_once_and_interrupting_tells_the_state(tmp_path):
    """In a pipe too each line comes when its record does, and ^C ends it with the state and no complaint."""
    path = tmp_path / "growing.qmp"
    path.write_bytes(
        b'{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}}, "capabilities": []}}\n'
    )
    command = "from qemustate.cli.main import run; run()"
    with subprocess.Popen(
        [sys.executable, "-c", command, "replay", str(path), "--follow", "--only", "runstate"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            first = process.stdout.readline()
            assert "[runstate: " in first
            with path.open("ab") as file:
                file.write(b'{"timestamp": {"seconds": 9, "microseconds": 0}, "event": "RESUME"}\n')
            second = process.stdout.readline()
            assert "! RESUME   [runstate: any of 16 -> running" in second
            process.send_signal(signal.SIGINT)
            rest, complaints = process.communicate(timeout=30)
        finally:
            process.kill()
    assert rest.splitlines()[-1].startswith("  runstate   running")
    assert (complaints, process.returncode) == ("", 0)


def test_several_vms_are_told_apart(tmp_path):
    """Which VM the lines are about stands above them when it is another one; the end tells the state of each."""
    line = "2024-03-01 12:00:00.000+0000: 7: info : f:1 : {}\n"
    named = "Entering monitor (mon={} vm=0xff name={})"
    event = 'QEMU_MONITOR_RECV_EVENT: mon={} event={{"event": "{}"}}'
    told = [named.format("0xa", "one"), event.format("0xa", "RESUME"), named.format("0xb", "two")]
    told += [event.format("0xb", "RESUME"), event.format("0xa", "STOP"), "off"]
    path = tmp_path / "libvirtd.log"
    path.write_text("".join(map(line.format, told)))
    command = "from qemustate.cli.main import run; run()"
    arguments = ["replay", str(path), "--follow", "--only", "runstate"]
    with subprocess.Popen(
        [sys.executable, "-c", command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            shown = [process.stdout.readline().strip() for _ in range(5)]
            process.send_signal(signal.SIGINT)
            rest, complaints = process.communicate(timeout=30)
        finally:
            process.kill()
    headers = [it for it in shown if "!" not in it]
    assert headers == ["vm two:", "vm one:"]
    assert [it.split()[3] for it in shown if it not in headers] == ["RESUME", "RESUME", "STOP"]
    assert [it for it in rest.splitlines() if it.startswith("vm ")] == [
        "vm one, after record 3 at 2024-03-01T12:00:00.000Z",
        "vm two, after record 2 at 2024-03-01T12:00:00.000Z",
    ]
    assert (complaints, process.returncode) == ("", 0)
