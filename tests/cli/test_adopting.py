"""What docs/adopting.md tells people to do works as it stands there."""

import json
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import qemustate
from qemustate.events.reader import LogReader

PAGE = (Path(__file__).parent.parent.parent / "docs" / "adopting.md").read_text()
BARE = ["-accel", "tcg", "-M", "none", "-S", "-display", "none", "-nodefaults"]


def block(language):
    """Return the page's block in a language."""
    return re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)[1]


def ask(stream, *names):
    """Execute commands and wait for each one's answer."""
    for name in names:
        stream.write(json.dumps({"execute": name, "id": name}).encode())
        while json.loads(stream.readline()).get("id") != name:
            pass


def test_the_wrapper_around_a_monitor_handed_over(qemu, tmp_path):
    """With the monitor an open descriptor, the wrapper's trace tells commands, replies and events."""
    wrapper = tmp_path / "qemu"
    wrapper.write_text(block("sh"))
    wrapper.chmod(0o755)
    ours, theirs = socket.socketpair()
    handed_over = ["-chardev", f"socket,id=m,fd={theirs.fileno()}", "-mon", "chardev=m,mode=control"]
    environment = {"QEMU": qemu.binary, "TRACES": str(tmp_path), "PATH": "/usr/bin:/bin"}
    command = [str(wrapper), *qemu.args, *BARE, *handed_over]
    with subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment) as process, ours:
        theirs.close()
        with ours.makefile("rwb", 0) as stream:
            stream.readline()
            ask(stream, "qmp_capabilities", "query-status", "cont", "stop", "query-status", "quit")
    [trace] = tmp_path.glob("*.trace")
    if qemu.version == "7.2":  # the other one is started through a script of its own
        assert trace.name == f"qemu-{process.pid}.trace"
    [vm] = qemustate.replay(trace)
    assert "paused" in vm.state["runstate"]["possible"]
    assert "running" not in vm.state["runstate"]["possible"]
    assert vm.state["monitor"]["qemu"].startswith(qemu.version)


def test_reading_along_on_a_second_monitor(qemu, tmp_path):
    """The page's program sees what somebody else makes the VM do, until QEMU goes."""
    log = tmp_path / "vm.log"
    monitors = [f"unix:{tmp_path / name},server=on,wait=off" for name in ("first", "second")]
    program = block("py").replace("/run/vm/second.sock", str(tmp_path / "second")).replace("vm.log", str(log))
    command = [qemu.binary, *qemu.args, *BARE, "-qmp", monitors[0], "-qmp", monitors[1]]
    with subprocess.Popen(command), socket.socket(socket.AF_UNIX) as other:
        wait_until((tmp_path / "second").exists)
        with subprocess.Popen([sys.executable, "-c", program]) as reading:
            wait_until(lambda: log.exists() and kinds(log).count("reply") == 4)
            other.connect(str(tmp_path / "first"))
            with other.makefile("rwb", 0) as stream:
                stream.readline()
                ask(stream, "qmp_capabilities", "cont", "quit")
    assert reading.returncode == 0
    [vm] = qemustate.replay(log)
    assert kinds(log)[-4:] == ["event", "event", "lost", "closed"]
    assert vm.state["monitor"]["is"] == "closed"
    assert vm.at(vm.seq - 3).state["runstate"]["is"] == "running"


def kinds(log):
    """Return the kinds of a log's records."""
    return [record.kind for record in LogReader(log)]


def wait_until(there):
    """Wait for something that nothing tells of."""
    while not there():
        time.sleep(0.01)
