"""virtiofsd and swtpm, started before a VM that uses them, adopted with it, and ended with it."""

import pytest
from support import found
from support.linux import bounded

from qemustate import VirtualMachine
from qemustate.errors import LaunchFailed
from qemustate.events.reader import LogReader
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
