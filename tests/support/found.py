"""What scripts/setup_qemu.py and scripts/build_guest.sh have set up on this machine."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
CACHE = ROOT / ".cache"

#: The versions every story is recorded on.
VERSIONS = ("7.2", "10.0")


@dataclass(frozen=True)
class Qemu:
    """One QEMU: `args` go with every start (where its firmware is), `img` is its qemu-img."""

    version: str
    full: str
    binary: str
    img: str
    args: tuple[str, ...]


@dataclass(frozen=True)
class Guest:
    """The kernel and initrd of the small Linux guest."""

    kernel: Path
    initrd: Path


class NotFound(Exception):
    """Something is not set up; the text says what and why."""


def qemu(version):
    """Return the QEMU of this version. Raises NotFound with the reason that the set-up gave."""
    try:
        entries = json.loads((CACHE / "qemu.json").read_text())
    except FileNotFoundError:
        raise NotFound(f"QEMU {version}: not set up (make qemu)") from None
    entry = next(
        (entry for entry in entries if entry["version"] == version), {"missing": "not set up (make qemu)"}
    )
    if "missing" in entry:
        raise NotFound(f"QEMU {version}: {entry['missing']}")
    if not Path(entry["binary"]).exists():
        raise NotFound(f"QEMU {version}: {entry['binary']} is gone (make qemu)")
    return Qemu(version, entry["full"], entry["binary"], entry["img"], tuple(entry["args"]))


def guest():
    """Return the guest. Raises NotFound when it has not been built."""
    found = Guest(CACHE / "guest" / "vmlinuz", CACHE / "guest" / "initrd.img")
    if not found.kernel.exists() or not found.initrd.exists():
        raise NotFound("the Linux guest is not built (make guest)")
    return found


def storage_daemon():
    """Return the path of a qemu-storage-daemon, of whatever version. Raises NotFound where there is none."""
    return program("qemu-storage-daemon", "usr/bin")


def virtiofsd():
    """Return the path of a virtiofsd, which came with QEMU up to 7.2. Raises NotFound where there is none."""
    return program("virtiofsd", "usr/lib/qemu")


def swtpm():
    """Return the path of swtpm, the system's or the one unpacked here. Raises NotFound where there is none."""
    starter = CACHE / "swtpm" / "swtpm"
    path = shutil.which("swtpm") or (str(starter) if starter.exists() else None)
    if path is None:
        raise NotFound("swtpm is not set up (make qemu)")
    return path


def program(name, folder):
    """Return the path of a program of QEMU's that needs no libraries besides the system's."""
    for root in ("/", CACHE / f"qemu-{VERSIONS[0]}"):
        path = Path(root) / folder / name
        if path.exists():
            return str(path)
    raise NotFound(f"{name} is not installed")
