"""The life of a QEMU virtual machine as a log of facts, and its state as a fold over that log.

The names below are loaded when they are first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from qemustate.events.reader import LogReader as LogReader
    from qemustate.events.writer import LogWriter as LogWriter
    from qemustate.replay.diff import diff as diff
    from qemustate.replay.timeline import Timeline as Timeline
    from qemustate.replay.view import View as View
    from qemustate.replay.view import replay as replay
    from qemustate.vm.virtual_machine import VirtualMachine as VirtualMachine

#: Public name -> the module that has it. ``replay`` is a package that can be called.
_HOMES = {
    "LogReader": "qemustate.events.reader",
    "LogWriter": "qemustate.events.writer",
    "diff": "qemustate.replay.diff",
    "Timeline": "qemustate.replay.timeline",
    "View": "qemustate.replay.view",
    "VirtualMachine": "qemustate.vm.virtual_machine",
}

__all__ = ["LogReader", "LogWriter", "Timeline", "View", "VirtualMachine", "diff", "replay"]


def __getattr__(name: str) -> Any:
    if name == "replay":
        return import_module("qemustate.replay")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
