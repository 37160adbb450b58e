"""Fetch Debian packages and unpack them in a folder, leaving the machine's own packages alone.

The mirror, its keys and its proxies are those the machine's apt is set up with. Everything apt writes goes to a private
folder, so this works without root and changes nothing of the system's.

Command line: debian.py FOLDER PACKAGE... unpacks the packages (not their dependencies) in FOLDER. A package may be
`meta>prefix`, which is the first dependency of `meta` that starts with `prefix`.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / ".cache" / "apt"
ETC = Path("/etc/apt")


class Unavailable(Exception):
    """A package can't be had; the text is one line that says why."""


def run(argv, **options):
    """Run argv and return what it printed. Raises Unavailable with the last thing it said when it fails."""
    try:
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
            env={**os.environ, "LC_ALL": "C"},
            **options,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{argv[0]}: {error}") from None
    if done.returncode:
        said = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        # apt names the cause in a line that starts with E:, and goes on with its consequences.
        causes = (
            [line for line in said if line.startswith("E:")] or said[-1:] or [f"status {done.returncode}"]
        )
        raise Unavailable(f"{argv[0]}: {causes[0][:200]}")
    return done.stdout


def codename():
    """Return the code name of the installed Debian. Raises Unavailable on anything that is not Debian."""
    try:
        release = dict(
            re.findall(r'^(\w+)="?([^"\n]*)"?$', Path("/etc/os-release").read_text(), re.MULTILINE)
        )
    except OSError:
        release = {}
    if release.get("ID") != "debian":
        raise Unavailable("this machine is not Debian")
    return release.get("VERSION_CODENAME", "")


def one_line_sources(text):
    """Yield (options, uri, suite, components) of each `deb` line."""
    for line in text.splitlines():
        entry = re.match(r"deb\s+(\[[^]]*\]\s+)?(\S+)\s+(\S+)\s+(.*?)\s*(#.*)?$", line)
        if entry:
            yield (entry[1] or "").strip(), entry[2], entry[3], entry[4].split()


def stanza_sources(text):
    """Yield (options, uri, suite, components) of each deb822 stanza, in the one-line form's terms."""
    text = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", text):
        fields = {
            key.lower(): value.split()
            for key, value in re.findall(r"^([\w-]+):((?:.*)(?:\n[ \t].*)*)", stanza, re.MULTILINE)
        }
        if "deb" not in fields.get("types", []) or fields.get("enabled", ["yes"])[0].lower() in (
            "no",
            "false",
        ):
            continue
        # A key written out in the stanza has no one-line form; apt then falls back on the keys it trusts anyway.
        keys = [key for key in fields.get("signed-by", []) if key.startswith("/")]
        options = f"[signed-by={','.join(keys)}]" if keys else ""
        for uri in fields.get("uris", []):
            for suite in fields.get("suites", []):
                yield options, uri, suite, fields.get("components", [])


def sources(name):
    """Return one-line sources for the release `name` and its backports. Raises Unavailable when apt knows no mirror of it."""
    found = []
    for path in [ETC / "sources.list", *sorted((ETC / "sources.list.d").glob("*.list"))]:
        found += one_line_sources(path.read_text()) if path.exists() else []
    for path in sorted((ETC / "sources.list.d").glob("*.sources")):
        found += stanza_sources(path.read_text())
    lines = []
    for options, uri, suite, components in found:
        if "main" in components and suite.startswith(name):
            lines.append(f"deb {options} {uri} {suite} main")
        if "main" in components and suite == name:
            lines.append(f"deb {options} {uri} {name}-backports main")
    if not lines:
        raise Unavailable(f"apt is set up with no source of {name}")
    return list(dict.fromkeys(lines))


def private_apt(extra=()):
    """Return the arguments that make apt use the private folder, whose lists are read on first use."""
    lists = STATE / "state" / "lists" / "partial"
    lists.mkdir(parents=True, exist_ok=True)
    (STATE / "cache" / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    wanted = "\n".join(sources(codename())) + "\n"
    listed = STATE / "sources.list"
    arguments = [
        "-qq",
        "-o", f"Dir::State={STATE / 'state'}",
        "-o", "Dir::State::status=/var/lib/dpkg/status",
        "-o", f"Dir::Cache={STATE / 'cache'}",
        "-o", f"Dir::Etc::sourcelist={listed}",
        "-o", "Dir::Etc::sourceparts=-",
        # Root's apt otherwise downloads as the user _apt, who can't write here.
        "-o", f"APT::Sandbox::User={'root' if os.geteuid() == 0 else ''}",
        "-o", "Debug::NoLocking=1",
        "-o", "Acquire::Retries=2",
        *extra,
    ]  # fmt: skip
    stamp = STATE / "updated"
    if not stamp.exists() or not listed.exists() or listed.read_text() != wanted:
        listed.write_text(wanted)
        run(["apt-get", *arguments, "-o", "APT::Update::Error-Mode=any", "update"])
        stamp.touch()
    return arguments


def fetch(packages, into):
    """Download the packages (`name` or `name=version`) and unpack them in the folder `into`."""
    arguments = private_apt()
    archives = STATE / "archives"
    shutil.rmtree(archives, ignore_errors=True)
    archives.mkdir(parents=True)
    try:
        run(["apt-get", *arguments, "download", *packages], cwd=archives)
    except Unavailable:
        # The mirror moved on since the lists were read.
        (STATE / "updated").unlink(missing_ok=True)
        run(["apt-get", *private_apt(), "download", *packages], cwd=archives)
    into.mkdir(parents=True, exist_ok=True)
    for archive in sorted(archives.glob("*.deb")):
        run(["dpkg", "-x", str(archive), str(into)])
    shutil.rmtree(archives)


def missing_with_dependencies(packages, release):
    """Return what installing the packages from `release` would add or change here, as name=version."""
    plan = run(
        ["apt-get", *private_apt(), "-s", "--no-install-recommends", "-t", release, "install", *packages]
    )
    return [
        f"{name}={version}"
        for name, version in re.findall(r"^Inst (\S+) (?:\[\S+\] )?\((\S+) ", plan, re.MULTILINE)
    ]


def dependency(meta, prefix):
    """Return the first dependency of the package `meta` whose name starts with `prefix`."""
    shown = run(["apt-cache", *private_apt(), "depends", "--no-recommends", "--no-suggests", meta])
    names = re.findall(rf"^\s*Depends: ({re.escape(prefix)}\S+)", shown, re.MULTILINE)
    if not names:
        raise Unavailable(f"{meta} depends on no {prefix}*")
    return names[0]


if __name__ == "__main__":
    try:
        wanted = [dependency(*name.split(">")) if ">" in name else name for name in sys.argv[2:]]
        fetch(wanted, Path(sys.argv[1]))
    except Unavailable as error:
        sys.exit(f"debian.py: {error}")
