"""What the tests of live VMs share: command lines, a log, a full disk, and the fold to compare with."""

import contextlib
import os
import subprocess
from pathlib import Path

import pytest
from support.linux import Linux

from qemustate.events.reader import LogReader
from qemustate.statemachine.fold import apply
from qemustate.statemachine.state import VM
from qemustate.vm.recorder import open_recorder

#: No machine, no devices: up in some 15 ms.
BARE = ["-accel", "tcg", "-M", "none", "-S", "-display", "none", "-nodefaults"]
#: A PC with a port to plug into.
Q35 = [
    "-machine",
    "q35,accel=tcg",
    "-S",
    "-display",
    "none",
    "-nodefaults",
    "-device",
    "pcie-root-port,id=rp0",
]


@pytest.fixture
def bare(qemu):
    """Return the command line of a QEMU without a machine."""
    return [qemu.binary, *qemu.args, *BARE]


@pytest.fixture
def q35(qemu):
    """Return the command line of a PC with one root port."""
    return [qemu.binary, *qemu.args, *Q35]


@pytest.fixture
def recorder(tmp_path):
    """Return a recorder of a new log, closed afterwards."""
    recorder = open_recorder(tmp_path / "log")
    yield recorder
    recorder.close()


@pytest.fixture
def small_disk(tmp_path):
    """Return a folder on a disk of 1 MiB; needs root."""
    if os.geteuid():
        pytest.skip("a small tmpfs can be mounted by root only")
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder):
    """Fill the disk that a folder is on; return the file to delete afterwards."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return filler


@pytest.fixture
def filled():
    """Return the function that fills a disk."""
    return fill


def states(log):
    """Return the replayed state after every record of a log, by number."""
    vm, found = VM(), {}
    for record in LogReader(log):
        apply(vm, record.seq, record.time, record.kind, record.body)
        found[record.seq] = vm.to_plain()
    return found


def kinds(log):
    """Return the kinds of a log's records."""
    return [record.kind for record in LogReader(log)]


@pytest.fixture(scope="session")
def replayed():
    """Return the function that gives the state after every record of a log."""
    return states


@pytest.fixture(scope="session")
def kinds_of():
    """Return the function that gives the kinds of a log's records."""
    return kinds


def descriptors():
    """Return how many descriptors this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def no_leaks():
    """Hold the test to leaving no descriptor open."""
    before = descriptors()
    yield
    assert descriptors() == before


@pytest.fixture
def linux(qemu, guest, tmp_path):
    """Return a support.linux.Linux, which starts VMs with the small Linux guest."""
    return Linux(qemu, guest, tmp_path)


@pytest.fixture
def make_image(qemu, tmp_path):
    """Return a function that makes a disk image and returns its path: ``make_image(name, size, form, *options)``."""

    def make(name, size, form="raw", *options):
        path = tmp_path / name
        subprocess.run([qemu.img, "create", "-q", "-f", form, *options, path, size], check=True)
        return path

    return make
