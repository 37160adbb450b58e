"""What a QEMU command line says that guards need: how it starts, who else may act, what was cold-plugged.

Only facts that affect a transition are read here. Options QEMU does not know are none of our business; what
cannot be read (``-readconfig``, a machine we do not know) leaves the guard open.

Source: QEMU ``qemu-options.hx`` and ``system/vl.c``; :mod:`qemustate.hardware.cmdline` reads the options.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import msgspec

from qemustate.errors import BadInput
from qemustate.hardware import cmdline, release
from qemustate.hardware.properties import PARTS
from qemustate.statemachine import guards, references
from qemustate.statemachine.references import Reference

#: The ``-global`` by which bridges and ports are not ACPI's but have hotplug of their own (hw/acpi/ich9.c, hw/acpi/piix4.c).
_ACPI_OFF: Final = tuple(
    [owner, "acpi-pci-hotplug-with-bridge-support", "off"] for owner in ("ICH9-LPC", "PIIX4_PM")
)
#: The ``-global`` by which the guest is not offered S3 (hw/acpi/core.c).
_NO_S3: Final = tuple([owner, "disable_s3", "1"] for owner in ("ICH9-LPC", "PIIX4_PM"))


class ColdDevice(msgspec.Struct, frozen=True, eq=False):
    """One ``-device`` of the command line: its driver, id (or empty), bus (or empty), all its properties."""

    driver: str
    id: str
    bus: str
    properties: dict[str, Any]


class Launch(msgspec.Struct, frozen=True, eq=False):
    """What the command line says; None where it leaves a thing open."""

    autostart: bool = True
    incoming: bool = False
    deferred: bool = False
    shutdown_pauses: bool | None = False
    debugger: bool = False
    kvm: bool | None = None
    monitors: int | None = None
    machine: str = ""
    acpi_off: bool = False
    sleeps: bool = True
    devices: tuple[ColdDevice, ...] = ()
    #: The devices above are all that ``-device`` and its shorthands make, in QEMU's order.
    counted: bool = True
    #: (kind, id) of cold-plugged backends: node, netdev, chardev, object
    backends: tuple[tuple[str, str], ...] = ()
    #: What those refer to: (kind, id, its references).
    refers: tuple[tuple[str, str, tuple[Reference, ...]], ...] = ()
    #: Names of block nodes that are defined inside the options of others, or by -drive.
    inner: tuple[str, ...] = ()

    def profile(self) -> int:
        """Return the guards that the launch decides."""
        bits = _known("autostart", self.autostart) | _known("incoming", self.incoming)
        bits |= _known("deferred", self.deferred) | _known("sleeps", self.sleeps)
        bits |= _known("debugger", self.debugger) | _known("kvm", self.kvm)
        return bits | _known("others", None if self.monitors is None else self.monitors > 1)


def _known(guard: str, value: bool | None) -> int:
    if value is None:
        return guards.open_(guard)
    return guards.held(guard) if value else guards.denied(guard)


def spelled_out(option: str, text: str | None) -> dict[str, Any]:
    """Return what the argument of an option says; nothing where it is broken."""
    try:
        value = cmdline.read(option, text)
    except BadInput:
        return {}
    return cmdline.plain(value) if isinstance(value, dict) else {}


def node_names(told: Any) -> list[str]:
    """Return the names of all block nodes that these options define, at any depth."""
    found: list[str] = []
    _gather(told, found)
    return found


def _gather(told: Any, found: list[str]) -> None:
    if told.__class__ is dict:
        for key, value in told.items():
            if value.__class__ is dict or value.__class__ is list:
                _gather(value, found)
            elif key.endswith("node-name") and (key == "node-name" or key.endswith(".node-name")):
                found.append(str(value))
    elif told.__class__ is list:
        for item in told:
            _gather(item, found)


@lru_cache(maxsize=512)
def read(argv: tuple[str, ...]) -> Launch:
    """Read a QEMU command line (``argv[0]`` is the program)."""
    autostart, incoming, deferred, debugger, acpi_off, sleeps = True, False, False, False, False, True
    shutdown_pauses: bool | None = False
    kvm: bool | None = None
    machine = ""
    monitors, defaults = 0, True
    counted = True
    devices: list[ColdDevice] = []
    written: list[ColdDevice] = []
    backends: list[tuple[str, str]] = []
    inner: list[str] = []
    refers: list[tuple[str, str, tuple[Reference, ...]]] = []
    for name, text in cmdline.words(argv):
        value = text or ""
        match name:
            case "S":
                autostart = False
            case "incoming":
                incoming, deferred = True, value == "defer"
            case "no-shutdown":
                shutdown_pauses = True
            case "action":
                shutdown_pauses = (
                    spelled_out(name, text).get("shutdown", "pause" if shutdown_pauses else "") == "pause"
                )
            case "s" | "gdb":
                debugger = True
            case "enable-kvm":
                kvm = True
            case "accel":
                kvm = spelled_out(name, text).get("accel") != "tcg"
            case "machine":
                settings = spelled_out(name, text)
                machine = settings.get("type", machine)
                acpi_off = acpi_off or (release.is_pc(machine) and settings.get("acpi") == "off")
                if "accel" in settings:
                    kvm = settings["accel"] != "tcg"
            case "mon" | "qmp" | "qmp-pretty" | "monitor":
                monitors += value != "none"
                defaults = defaults and name != "monitor"
            case "nodefaults" | "nographic" | "daemonize":
                defaults = defaults and name != "nodefaults"
            case "global":
                told = list(spelled_out(name, text).values())
                acpi_off = acpi_off or told in _ACPI_OFF
                sleeps = sleeps and told not in _NO_S3
            case "device":
                settings = spelled_out(name, text)
                # Those in JSON are made after the others (system/vl.c qemu_create_cli_devices()).
                (written if value.startswith("{") else devices).append(
                    ColdDevice(
                        str(settings.get("driver", "")),
                        str(settings.get("id", "")),
                        str(settings.get("bus", "")),
                        settings,
                    )
                )
            case "blockdev" | "netdev" | "chardev" | "object":
                settings = spelled_out(name, text)
                part = PARTS[name](settings)
                kind = "node" if name == "blockdev" else name
                if part.id:
                    backends.append((kind, part.id))
                    refers.append((kind, part.id, references.of(kind, settings)))
                if name == "blockdev":
                    inner += (node for node in node_names(settings) if node != part.id)
            case "drive":
                settings = spelled_out(name, text)
                inner += node_names(settings)
                counted = counted and settings.get("if") != "virtio"
            case "readconfig":
                shutdown_pauses, counted = None, False
            case "virtfs" | "watchdog" | "soundhw" | "audio":
                counted = False
            case _:
                pass
    return Launch(
        autostart, incoming, deferred, shutdown_pauses, debugger, kvm, monitors + defaults, machine, acpi_off, sleeps,
        (*devices, *written), counted, tuple(backends), tuple(it for it in refers if it[2]), tuple(inner),
    )  # fmt: skip


@lru_cache(maxsize=4096)
def hotplug_kind(driver: str, launch: Launch | None, parent: str) -> int:
    """Return the guards (:data:`qemustate.statemachine.guards.DEVICE_KINDS`) that describe how a device is unplugged.

    ``parent`` is the driver of the device that provides the bus, to tell a root port from a bridge; empty if unknown.
    """
    machine, acpi_off = (None, False) if launch is None else (launch.machine, launch.acpi_off)
    kind = release.kind(driver, machine, parent, acpi_off=acpi_off)
    if not kind:
        return guards.open_(*guards.DEVICE_KINDS)
    others = [name for name in guards.DEVICE_KINDS if name != kind]
    return guards.held(kind) | guards.denied(*others)
