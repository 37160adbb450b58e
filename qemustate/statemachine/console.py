"""HMP passthrough: what a line of the human monitor does in QMP's words.

``human-monitor-command`` runs a line as a monitor's user would type it. Lines that plug, unplug, migrate or make
and remove backends call the functions of the QMP commands (monitor/hmp-cmds.c, hw/core/qdev-monitor.c), and
so mean what those mean. The answer is the text printed: nothing where it was done, ``Error: ...`` where it was not
(monitor/hmp.c hmp_handle_error()).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from qemustate.statemachine.launch import spelled_out

if TYPE_CHECKING:
    from qemustate.statemachine.state import VM


class Meant(NamedTuple):
    """A QMP command and its arguments."""

    name: str
    arguments: dict[str, Any]


def _named(command: str, argument: str = "id") -> Callable[[str], Meant | None]:
    return lambda rest: Meant(command, {argument: rest.split()[0]}) if rest else None


def _described(command: str, option: str) -> Callable[[str], Meant | None]:
    def read(rest: str) -> Meant | None:
        told = spelled_out(option, rest)
        return None if not told or _HELP & {*map(str, told.values())} else Meant(command, told)

    return read


def _capability(rest: str) -> Meant | None:
    words = rest.split()
    if len(words) < 2:
        return None
    wanted = {"capability": words[0], "state": words[1] == "on"}
    return Meant("migrate-set-capabilities", {"capabilities": [wanted]})


#: Asks for a list instead.
_HELP: Final = {"help", "?"}


def _plain(command: str) -> Callable[[str], Meant | None]:
    return lambda _: Meant(command, {})


#: First word -> what the rest means (hmp-commands.hx); to save a snapshot stops the VM as its job does.
_LINES: Final[dict[str, Callable[[str], Meant | None]]] = {
    "stop": _plain("stop"),
    "s": _plain("stop"),
    "cont": _plain("cont"),
    "c": _plain("cont"),
    "system_wakeup": _plain("system_wakeup"),
    "savevm": _plain("snapshot-save"),
    "loadvm": _plain("snapshot-load"),
    "dump-guest-memory": lambda rest: Meant("dump-guest-memory", {"detach": "-d" in rest.split()}),
    "device_add": _described("device_add", "device"),
    "device_del": _named("device_del"),
    "netdev_add": _described("netdev_add", "netdev"),
    "netdev_del": _named("netdev_del"),
    "object_add": _described("object-add", "object"),
    "object_del": _named("object-del"),
    "chardev-add": _described("chardev-add", "chardev"),
    "chardev-remove": _named("chardev-remove"),
    "migrate": lambda rest: Meant("migrate", {"uri": rest.split()[-1]}) if rest else None,
    "migrate_cancel": _plain("migrate_cancel"),
    "migrate_set_capability": _capability,
}


def meant(name: str, arguments: dict[str, Any]) -> Meant:
    """Return the command itself, or the QMP command that a passed-through line is the same as."""
    if name == PASSTHROUGH and (same := _read(str(arguments.get("command-line", "")))):
        return same
    return Meant(name, arguments)


def asked(vm: VM, name: str) -> bool:
    """Return whether a command of that name is unanswered, in whichever way it was given."""
    return any(meant(it[1], it[2]).name == name for it in vm.pending.values())


@lru_cache(maxsize=256)
def _read(line: str) -> Meant | None:
    word, _, rest = line.strip().partition(" ")
    return _LINES[word](rest.strip().strip('"')) if word in _LINES else None


def opaque(name: str, arguments: dict[str, Any]) -> bool:
    """Return whether a command is a line that may do anything to the run state."""
    if name != PASSTHROUGH:
        return False
    word = str(arguments.get("command-line", "?")).split()[:1]
    return not word or (word[0] not in _LINES and word[0] not in _HARMLESS)


#: Lines that leave the run state alone, or change it as everybody can see.
_HARMLESS: Final = frozenset(
    [
        "info",
        "system_reset",
        "system_powerdown",
        "quit",
        "q",
        "print",
        "p",
        "x",
        "xp",
        "help",
        "?",
        "drive_add",
        "drive_del",
        "block_resize",
        "eject",
        "change",
        "screendump",
        "log",
        "logfile",
        "trace-event",
        "set_link",
        "balloon",
        "sendkey",
        "mouse_move",
        "mouse_button",
        "qom-list",
        "qom-get",
        "delvm",
        "hostfwd_add",
        "hostfwd_remove",
        "commit",
        "qemu-io",
    ]
)


#: The QMP command that passes lines on.
PASSTHROUGH: Final = "human-monitor-command"


def refused(answer: Any) -> dict[str, str] | None:
    """Return the error object for the text a passed-through line printed; None where it was done."""
    text = answer if isinstance(answer, str) else ""
    _, error, desc = text.partition("Error: ")
    if not error and (not text.strip() or any(said in text for said in _DONE)):
        return None
    missing = "Device '" in desc and "' not found" in desc
    return {"class": "DeviceNotFound" if missing else "GenericError", "desc": (desc or text).strip()}


#: Remarks on what is done all the same (migration/migration-hmp-cmds.c hmp_migrate(), util/error.c).
_DONE: Final = ("continuing detached", "warning: ")
