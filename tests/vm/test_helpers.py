"""Helpers of a VM, virtiofsd and swtpm among them: started before it, adopted with it, and ended with it."""

import os
import signal
import sys

import pytest
from support import found
from support.linux import bounded

from qemustate import VirtualMachine
from qemustate.errors import LaunchFailed
from qemustate.events.reader import LogReader
from qemustate.vm import helpers as helpers_module
from qemustate.vm.helpers import Helper
from qemustate.vm.process import start_time

pytestmark = pytest.mark.usefixtures("no_leaks")

#: Memory that another process can look into.
SHARED = ["-object", "memory-backend-memfd,id=ram,size=256M,share=on", "-machine", "memory-backend=ram"]


@pytest.fixture
def helpers(tmp_path):
    """Return a virtiofsd that serves a folder with a file in it, and a swtpm, with QEMU's options for both."""
    try:
        virtiofsd, swtpm = found.virtiofsd(), found.swtpm()
    except found.NotFound as missing:
        pytest.skip(str(missing))
    folder, fs, tpm = tmp_path / "folder", str(tmp_path / "fs"), str(tmp_path / "tpm")
    folder.mkdir()
    (folder / "hello").write_text("hello")
    (tmp_path / "nvram").mkdir()
    serving = (virtiofsd, f"--socket-path={fs}", "-o", f"source={folder}", "-o", "sandbox=chroot")
    trusted = (
        swtpm,
        "socket",
        "--tpm2",
        "--tpmstate",
        f"dir={tmp_path}/nvram",
        "--ctrl",
        f"type=unixio,path={tpm}",
    )
    options = [
        "-chardev", f"socket,id=fs,path={fs}", "-device", "vhost-user-fs-pci,chardev=fs,tag=shared",
        "-chardev", f"socket,id=tpm,path={tpm}", "-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-tis,tpmdev=tpm0",
    ]  # fmt: skip
    return [Helper("virtiofsd", serving, fs), Helper("swtpm", trusted, tpm)], options


def told(log):
    """Return what a log says of processes, in order."""
    return [
        (it.kind, it.body.get("name", ""), "pid" in it.body)
        for it in LogReader(log)
        if it.kind in ("helper", "spawned", "exited")
    ]


def running(log):
    """Return the helpers of a log whose processes are there."""
    started = {it.body["name"]: it.body for it in LogReader(log) if it.kind == "helper" and "pid" in it.body}
    return {name for name, it in started.items() if it["start"] and start_time(it["pid"]) == it["start"]}


def test_virtiofsd_and_swtpm_serve_a_guest_and_go_with_it(linux, helpers):
    """A guest mounts the folder and has its TPM; both helpers are found by who adopts the VM, and end after a QEMU that was killed."""
    serving, options = helpers
    log = linux.folder / "log"

    async def scenario():
        async with (
            linux.launch(*SHARED, *options, helpers=serving) as first,
            linux.shell() as shell,
        ):
            await first.resume()
            await shell.ready()
            await shell.settles(
                "modprobe virtiofs; mkdir -p /mnt; mount -t virtiofs shared /mnt && grep hello /mnt/hello"
            )
            assert (await shell.run("cat /sys/class/tpm/tpm0/tpm_version_major"))[1] == "2"
            first.leave()
            assert running(log) == {"virtiofsd", "swtpm"}
            async with VirtualMachine.adopt(log) as vm:
                await shell.run("echo more > /mnt/more")
                await vm.kill()
                # virtiofsd goes by itself when QEMU has gone.
                assert "swtpm" in running(log)

    bounded(scenario)
    assert (linux.folder / "folder" / "more").read_text() == "more\n"
    assert running(log) == set()
    assert told(log)[:3] == [("helper", "virtiofsd", True), ("helper", "swtpm", True), ("spawned", "", True)]
    assert sorted(told(log)[3:]) == [
        ("exited", "", False),
        ("helper", "swtpm", False),
        ("helper", "virtiofsd", False),
    ]
    assert not any(it.is_socket() for it in linux.folder.iterdir() if it.name in ("fs", "tpm"))


def test_a_helper_that_does_not_come_up_keeps_the_vm_from_starting(q35, helpers, tmp_path):
    """What it said is in the error, what was started before it ends again, and no QEMU is started."""
    (virtiofsd, swtpm), _ = helpers
    broken = Helper("swtpm", (swtpm.argv[0], "socket", "--tpmstate", "nonsense"), swtpm.socket)

    async def scenario():
        with pytest.raises(LaunchFailed, match="ended before it had made") as failed:
            await VirtualMachine.launch(q35, log=tmp_path / "log", helpers=[virtiofsd, broken])
        assert "nonsense" in failed.value.stderr

    bounded(scenario)
    assert told(tmp_path / "log")[:2] == [("helper", "virtiofsd", True), ("helper", "swtpm", True)]
    assert not (tmp_path / "log.d").exists()
    assert ("spawned", "", True) not in told(tmp_path / "log")
    assert running(tmp_path / "log") == set()


#: Makes a socket of that path and stays; whoever asks it to go is not heard.
STUBBORN = (
    "import signal, socket, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); time.sleep(1000)"
)


def refused(q35, folder, *serving):
    """Launch with helpers of which the last does not come up; return the error."""

    async def scenario():
        with pytest.raises(LaunchFailed) as failed:
            await VirtualMachine.launch(q35, log=folder / "log", helpers=serving)
        return failed.value

    error = bounded(scenario)
    assert running(folder / "log") == set()
    assert "spawned" not in {kind for kind, _, _ in told(folder / "log")}
    assert [it.name for it in folder.iterdir()] == ["log"]
    return error


def test_a_helper_that_ends_at_once(q35, tmp_path):
    """What it printed is in the error; a helper before it ends, and nothing of either stays."""
    first = Helper("first", (sys.executable, "-c", STUBBORN.replace("SIG_IGN", "SIG_DFL"), str(tmp_path / "one")), str(tmp_path / "one"))  # fmt: skip
    error = refused(
        q35, tmp_path, first, Helper("h", ("sh", "-c", "echo broken >&2; exit 3"), str(tmp_path / "s"))
    )

    assert "ended before it had made" in str(error)
    assert error.stderr == "broken\n"
    ends = {it.body["name"]: it.body for it in LogReader(tmp_path / "log") if it.kind == "helper"}
    assert ends == {"h": {"name": "h", "status": 3}, "first": {"name": "first", "signal": signal.SIGTERM}}


def test_a_helper_that_makes_no_socket(q35, tmp_path, monkeypatch):
    """It is waited for so long and no longer; one that cannot be started is named."""
    monkeypatch.setattr(helpers_module, "_COMING", 0.2)

    error = refused(q35, tmp_path, Helper("h", ("sleep", "1000"), str(tmp_path / "s")))
    assert f"sleep: has not made {tmp_path}/s in 0.2 s" in str(error)
    (tmp_path / "log").unlink()
    assert "nonesuch: no such program" in str(refused(q35, tmp_path, Helper("h", ("nonesuch",))))


def test_a_helper_that_does_not_want_to_go(q35, tmp_path, monkeypatch):
    """One that hears no SIGTERM is killed when its VM has ended, and its socket is removed."""
    monkeypatch.setattr(helpers_module, "_LEAVING", 0.2)
    path = tmp_path / "s"

    async def scenario():
        async with VirtualMachine.launch(
            q35,
            log=tmp_path / "log",
            helpers=[Helper("h", (sys.executable, "-c", STUBBORN, str(path)), str(path))],
        ):
            assert path.is_socket()

    bounded(scenario)
    assert [it.body for it in LogReader(tmp_path / "log") if it.kind == "helper"][-1] == {
        "name": "h",
        "signal": signal.SIGKILL,
    }
    assert [it.name for it in tmp_path.iterdir()] == ["log"]


def test_a_helper_that_goes_by_itself(q35, tmp_path):
    """Its end is on record when it comes, with how, and the VM goes on; whoever adopts the VM finds those that are left."""

    async def scenario():
        helpers = [Helper("short", ("true",)), Helper("long", ("sleep", "1000"))]
        vm = await VirtualMachine.launch(q35, log=tmp_path / "log", helpers=helpers)
        await vm.until(lambda state: ("helper", "short", False) in told(tmp_path / "log"))
        assert (await vm.execute("query-status"))["status"] == "prelaunch"
        vm.leave()
        [pid] = [it.body["pid"] for it in LogReader(tmp_path / "log") if it.body.get("name") == "long"]
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)  # noqa: ASYNC222 - it has been killed
        await (await VirtualMachine.adopt(tmp_path / "log")).close()

    bounded(scenario)
    ends = [it.body for it in LogReader(tmp_path / "log") if it.kind == "helper" and "pid" not in it.body]
    assert ends == [{"name": "short", "status": 0}, {"name": "long", "gone": True}]
