"""Asks a QEMU what it can do: a short-lived one that has no machine, once for each binary.

The answers are kept in memory and under ``$XDG_CACHE_HOME/qemustate``, by the binary's path, time of change and size. Devices
are asked for one by one when they are first wanted: some end QEMU with the question (``virtio-gpu-gl-pci`` of 7.2 where its
module does not fit), as listing all of them may, and nothing is known of those.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from qemustate.errors import CommandRefused, LaunchFailed, MonitorUnavailable, OutcomeUnknown
from qemustate.hardware.capabilities import Capabilities
from qemustate.qmp.blocking import Client
from qemustate.vm.process import Process

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_BARE: Final = ("-machine", "none", "-nodefaults", "-no-user-config", "-S", "-display", "none")

#: Seconds that the QEMU has for its greeting and for each answer.
_PATIENCE: Final = 10.0

_known: dict[str, Capabilities] = {}


def probe(qemu: str, drivers: Iterable[str] = ()) -> Capabilities:
    """Return what the program ``qemu`` can do, with the properties of these device types.

    Blocks for some 50 ms the first time. Raises LaunchFailed when there is no such program, or it does not come up.
    """
    binary = shutil.which(qemu)
    if binary is None:
        raise LaunchFailed(f"{qemu}: no such program, or not executable")
    key = _key(binary)
    file = _folder() / f"{key}.json"
    capabilities = _known.get(key) or _kept(file)
    if capabilities is None:
        with _asked(binary) as client:
            capabilities = _ask(client)
        _keep(file, capabilities)
    if wanted := [driver for driver in dict.fromkeys(drivers) if driver not in capabilities.properties]:
        _learn(binary, wanted, capabilities)
        _keep(file, capabilities)
    _known[key] = capabilities
    return capabilities


def _ask(client: Client) -> Capabilities:
    version = client.execute("query-version", timeout=_PATIENCE)["qemu"]
    machines = client.execute("query-machines", timeout=_PATIENCE)
    return Capabilities(
        (version["major"], version["minor"], version["micro"]),
        client.execute("query-qmp-schema", timeout=_PATIENCE),
        [machine[name] for machine in machines for name in ("name", "alias") if name in machine],
        {},
    )


def _learn(binary: str, wanted: list[str], capabilities: Capabilities) -> None:
    """Learn the properties of device types; of one that ends QEMU nothing is known."""
    while wanted:
        with contextlib.suppress(OutcomeUnknown), _asked(binary) as client:
            while wanted:
                driver = wanted.pop()
                capabilities.properties[driver] = _properties(client, driver)


def _properties(client: Client, driver: str) -> dict[str, str] | None:
    """Return a device type's properties and their types; None when there is no such device type."""
    try:
        listed = client.execute("device-list-properties", {"typename": driver}, timeout=_PATIENCE)
    except CommandRefused:
        return None
    return {entry["name"]: entry["type"] for entry in listed}


@contextlib.contextmanager
def _asked(binary: str) -> Iterator[Client]:
    with tempfile.TemporaryDirectory(prefix="qemustate-") as folder:
        path = Path(folder) / "monitor"
        with Process([binary, *_BARE], path) as process:
            try:
                client = Client.connect(path, timeout=_PATIENCE)
            except MonitorUnavailable as error:
                raise process.failure(f"{binary}: {error}") from error
            with client:
                yield client


def _key(binary: str) -> str:
    path = Path(binary).resolve()
    found = path.stat()
    return hashlib.sha256(f"{path} {found.st_mtime_ns} {found.st_size}".encode()).hexdigest()[:32]


def _folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "qemustate"


def _kept(file: Path) -> Capabilities | None:
    """Return what is kept, None where nothing is or where it cannot be read."""
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        return Capabilities.from_bytes(file.read_bytes())
    return None


def _keep(file: Path, capabilities: Capabilities) -> None:
    """Keep it for the next process; without a place to keep it, that asks again."""
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_name(f"{file.name}.{os.getpid()}.{threading.get_ident()}")
        try:
            new.write_bytes(capabilities.to_bytes())
            new.replace(file)
        finally:
            new.unlink(missing_ok=True)
