"""The past: opening a trace, moving through it, checking it.

The package can be called: ``qemustate.replay(path)`` is :func:`qemustate.replay.view.replay`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    from qemustate.replay.view import View


class _Callable(ModuleType):
    """A package and the function of its name in one: both are called ``qemustate.replay``."""

    def __call__(self, path: str | os.PathLike[str]) -> list[View]:
        from qemustate.replay.view import replay  # noqa: PLC0415  (import qemustate stays light)

        return replay(path)


sys.modules[__name__].__class__ = _Callable
