"""The examples do what they say, as a reader would run them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import qemustate
from qemustate.vm.process import start_time

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"
STORY = EXAMPLES.parent / "tests/stories/7.2/unplug_ignored.jsonl.xz"

KATA = """\
time="2026-01-29T13:46:09Z" level=debug msg="Executing QMP command: device_add: map[bus:pci-bridge-0 driver:virtio-blk-pci id:disk]" sandbox=c source=virtcontainers/hypervisor subsystem=qmp
time="2026-01-29T13:46:19Z" level=debug msg="Executing QMP command: device_del: map[id:disk]" sandbox=c source=virtcontainers/hypervisor subsystem=qmp
time="2026-01-29T13:46:20Z" level=debug msg="got QMP event" event="{DEVICE_DELETED map[device:disk path:/machine/peripheral/disk] 2026-01-29 13:46:20.000454749 +0000 UTC}" sandbox=c source=virtcontainers/hypervisor subsystem=qmp
"""


def example(name, *arguments):
    """Run an example to its end and return what it printed."""
    command = [sys.executable, EXAMPLES / name, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_says_how_it_is_run(path):
    """Without arguments each example names those that it takes."""
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr.startswith(f"usage: python {path.name} ")
    assert done.stderr.count("\n") == 1


def test_a_story_is_told():
    """A recording is read as any log is: the life of the disk that the guest did not give back until it was reset."""
    said = example("read_a_log.py", STORY)
    assert "vd1: gone since 25 (DEVICE_DELETED), virtio-blk-pci, on rp0" in said
    assert "[device vd1: unplugging -> gone (reset)]" in said


def test_a_log_of_kata_is_read(tmp_path):
    """What Kata logs of its commands and events is enough to tell a device's life, and what is not in there is named."""
    (tmp_path / "kata.log").write_text(KATA)
    said = example("read_a_log.py", tmp_path / "kata.log", "disk")
    assert said.startswith("c: ")
    assert "no replies" in said
    assert "! DEVICE_DELETED device=disk" in said


@pytest.mark.parametrize(
    "log", ["lp1894804-libvirtd-device-deleted-missing.log", "lp1914282-blockcopy-stuck.log"]
)
def test_a_log_of_libvirt_is_read(shared, log):
    """Logs that people have attached to their bug reports."""
    assert "run state: " in example("read_a_log.py", shared / "realworld" / log)


def test_a_tap_records_a_runtime_that_knows_nothing_of_it(qemu, tmp_path):
    """Each of the runtime's commands and what QEMU said to it are in the log, with what its rules think of that."""
    said = example("tap.py", tmp_path, qemu.binary)
    assert said.count("-> device_add") == 2
    assert "refused: GenericError: Duplicate device ID 'tablet'" in said
    assert "[device tablet: present -> gone (device_del)]" in said
    assert not list(tmp_path.glob("*.sock"))


def test_a_vm_of_ones_own(qemu, tmp_path):
    """Launch, callbacks, plug, a refusal, unplug, the end, and the log that tells it again."""
    assert example("embed.py", tmp_path, qemu.binary).splitlines() == [
        "running",
        "disk0 is present on present node",
        "plug disk1: refused by qemu: device_add: GenericError: Property 'scsi-hd.drive' can't find value 'nothing'",
        "disk0 is gone",
        "QEMU ended with {'status': 0}",
    ]
    [vm] = qemustate.replay(tmp_path / "vm.log")
    assert vm.devices["disk0"]["is"] == "gone"
    assert [it.severity for it in vm.findings if it.severity == "violation"] == []


def test_the_runtime_is_killed_and_adopts_its_vms(qemu, tmp_path):
    """Ten VMs are hotplugged to, survive the kill -9 of their runtime twice, are adopted by the next, and end with the last."""
    command = [sys.executable, EXAMPLES / "runtime.py", tmp_path, qemu.binary]

    def run(until, number):
        """Run it until every VM has been hotplugged to; end it with a signal; return the VMs' process numbers."""
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as runtime:
            pids, busy = {}, set()
            for line in runtime.stdout:
                name, what, *more = line.split()
                if what == "hotplugged":
                    busy.add(name)
                else:
                    assert what == until
                    pids[name] = int(more[0])
                if len(busy) == 10:
                    break
            runtime.send_signal(number)
            runtime.stdout.read()
        assert runtime.returncode == (0 if number == signal.SIGTERM else -number)
        return pids

    pids = {}
    try:
        pids = run("launched", signal.SIGKILL)
        assert len(pids) == 10
        assert run("adopted", signal.SIGKILL) == pids
        assert all(start_time(pid) for pid in pids.values())
        assert run("adopted", signal.SIGTERM) == pids
        deadline = time.monotonic() + 60
        while any(start_time(pid) for pid in pids.values()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not any(start_time(pid) for pid in pids.values())
    finally:
        for pid in pids.values():
            if start_time(pid):
                os.kill(pid, signal.SIGKILL)

    assert sorted(it.name for it in tmp_path.iterdir()) == [f"vm{number}.log" for number in range(10)]
    for log in tmp_path.glob("*.log"):
        [vm] = qemustate.replay(log)
        assert (vm.state["process"]["is"], vm.devices["disk"]["is"], vm.state["nodes"]["data"]["is"]) == (
            "exited", "gone", "gone",
        )  # fmt: skip
        assert "intents" not in vm.state
        assert [it for it in vm.findings if it.severity == "violation"] == []
