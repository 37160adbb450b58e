"""Set up the QEMU versions that the tests use, and name them in .cache/qemu.json.

7.2 is bookworm's: the system's own where it is installed, else installed with apt when root, else unpacked under .cache.
10.0 is bookworm-backports': always unpacked beside it, since an upgrade of the system's would take 7.2 away.

The file is a list of {"version", "full", "binary", "img", "args"}: `binary` is qemu-system-x86_64, `img` qemu-img, `args` what every
start needs (where the firmware is). A version that can't be had is {"version", "missing"}, the reason in one line; the
exit status is 0 all the same, and the tests that need it are skipped by name.

Beside them swtpm, which emulates a TPM for a QEMU: the system's own, else unpacked under .cache.
"""

import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import debian

WANTED = {"7.2": "", "10.0": "-backports"}
PACKAGES = ["qemu-system-x86", "qemu-utils"]
FIRMWARE = ["qemu-system-data", "seabios", "ipxe-qemu"]
CACHE = debian.ROOT / ".cache"
LISTED = CACHE / "qemu.json"


def full_version(binary):
    """Return what `binary --version` says, such as 7.2.22, or an empty string."""
    try:
        said = debian.run([str(binary), "--version"])
    except debian.Unavailable:
        return ""
    found = re.search(r"version (\d+\.\d+\.\d+)", said)
    return found[1] if found else ""


def is_version(binary, version):
    return full_version(binary).startswith(version + ".")


def usable(entry):
    """Tell whether an entry of an earlier run still stands."""
    return "binary" in entry and is_version(entry["binary"], entry["version"]) and Path(entry["img"]).exists()


def system(version):
    """Return the entry of the system's own QEMU where it is of this version."""
    binary, img = shutil.which("qemu-system-x86_64"), shutil.which("qemu-img")
    if binary and img and is_version(binary, version):
        return {"version": version, "full": full_version(binary), "binary": binary, "img": img, "args": []}
    return None


def install():
    """Install the release's own QEMU. Raises Unavailable when apt can't."""
    command = ["apt-get", "-qq", "-y", "--no-install-recommends", "install", *PACKAGES]
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    try:
        debian.run(command)
    except debian.Unavailable:
        # A fresh machine has never read its lists.
        debian.run(["apt-get", "-qq", "update"])
        debian.run(command)


def unpacked(version, release):
    """Unpack QEMU and the libraries that are missing here under .cache, and return the entry."""
    folder = CACHE / f"qemu-{version}"
    plan = debian.missing_with_dependencies([*PACKAGES, *FIRMWARE], release)
    qemu = [item for item in plan if item.startswith("qemu-system-x86=")]
    if not qemu or not re.search(rf"[=:]{re.escape(version)}[.+~]", qemu[0]):
        raise debian.Unavailable(
            f"{release} has {qemu[0] if qemu else 'no other qemu-system-x86'}, not {version}"
        )
    debian.fetch(plan, folder)
    entry = {
        "version": version,
        "full": "",
        "binary": str(started_with_its_libraries(folder, "qemu-system-x86_64")),
        "img": str(started_with_its_libraries(folder, "qemu-img")),
        "args": [argument for path in firmware(folder) for argument in ("-L", str(path))],
    }
    entry["full"] = full_version(entry["binary"])
    if not is_version(entry["binary"], version):
        raise debian.Unavailable(f"{entry['binary']} does not start")
    return entry


def firmware(folder):
    """Return the folders below `folder` where that QEMU's firmware is, QEMU's own first."""
    share = folder / "usr" / "share"
    return [share / "qemu", share / "seabios", folder / "usr" / "lib" / "ipxe" / "qemu"]


def started_with_its_libraries(folder, name):
    """Return a small starter of folder/usr/bin/name that also finds the libraries unpacked there."""
    starter = folder / name
    system = "usr/lib/x86_64-linux-gnu"
    libraries = ":".join(
        f"{folder}/{place}" for place in (system, "lib/x86_64-linux-gnu", f"{system}/{name}")
    )
    starter.write_text(
        "#!/bin/sh\n"
        f"LD_LIBRARY_PATH={shlex.quote(libraries)} QEMU_MODULE_DIR={shlex.quote(str(folder / system / 'qemu'))} "
        f'exec {shlex.quote(str(folder / "usr" / "bin" / name))} "$@"\n'
    )
    starter.chmod(0o755)
    return starter


def swtpm():
    """Return the path of swtpm, unpacking it where the system has none. Raises Unavailable."""
    folder = CACHE / "swtpm"
    starter = folder / "swtpm"
    if (path := shutil.which("swtpm")) or starter.exists():
        return path or starter
    debian.fetch(debian.missing_with_dependencies(["swtpm"], debian.codename()), folder)
    path = started_with_its_libraries(folder, "swtpm")
    try:
        debian.run([str(path), "--version"])
    except debian.Unavailable:
        path.unlink()
        raise
    return path


def set_up(version, suffix):
    """Return the entry of this version, getting it where needed. Raises Unavailable."""
    entry = system(version)
    if entry:
        return entry
    name = debian.codename()
    if not suffix and os.geteuid() == 0 and not shutil.which("qemu-system-x86_64"):
        try:
            install()
        except debian.Unavailable as error:
            print(f"qemu {version}: not installed ({error}); unpacking it instead", file=sys.stderr)
        entry = system(version)
    return entry or unpacked(version, name + suffix)


def main():
    """Set up the versions named as arguments, or all of them."""
    named = sys.argv[1:] or list(WANTED)
    if unknown := set(named) - set(WANTED):
        sys.exit(
            f"setup_qemu.py: no such version: {', '.join(sorted(unknown))} (there are {', '.join(WANTED)})"
        )
    CACHE.mkdir(exist_ok=True)
    known = {entry["version"]: entry for entry in json.loads(LISTED.read_text())} if LISTED.exists() else {}
    for version in named:
        if not usable(known.get(version, {})):
            try:
                known[version] = set_up(version, WANTED[version])
            except debian.Unavailable as error:
                known[version] = {"version": version, "missing": str(error)}
        entry = known[version]
        print(f"qemu {version}: {entry.get('binary') or 'MISSING: ' + entry['missing']}")
    LISTED.write_text(json.dumps([known[version] for version in WANTED if version in known], indent=1) + "\n")
    if not sys.argv[1:]:
        try:
            print(f"swtpm: {swtpm()}")
        except debian.Unavailable as error:
            print(f"swtpm: MISSING: {error}")


if __name__ == "__main__":
    main()
