"""The fold: records to state. Pure: no clock, no input or output, no randomness.

``apply(vm, seq, time, kind, body)`` moves a :class:`~qemustate.statemachine.state.VM` by one record, and
``fold`` by many; live use and replay share both. After each record ``vm.changed`` holds what it changed, and
``vm.violations`` what no row allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from qemustate.events.records import Record
from qemustate.statemachine.kinds import KINDS
from qemustate.statemachine.state import VM


def apply(vm: VM, seq: int, time: int, kind: str, body: dict[str, Any]) -> None:
    """Move ``vm`` by one record. Kinds that change no state are counted and passed over."""
    if vm.changed:
        vm.changed = []
    if vm.violations:
        vm.violations = []
    vm.seq = seq
    if time:
        vm.time = time
    handler = KINDS.get(kind)
    if handler is not None:
        try:
            handler(vm, body)
        except _UNREADABLE as error:
            _unreadable(vm, kind, error)


#: What comes of a message of the wrong shape: QEMU and its clients may send any JSON at all.
_UNREADABLE: Final = (TypeError, LookupError, AttributeError, ValueError, ArithmeticError)


def _unreadable(vm: VM, kind: str, error: Exception) -> None:
    """Note a record that means nothing; the state is what it was, as far as it could be read."""
    vm.violations.append(("unreadable", "", f"{kind}: {type(error).__name__}: {error}"))


def fold(records: Iterable[Record], vm: VM | None = None) -> VM:
    """Return the state after ``records``, from ``vm`` (a snapshot) or from nothing."""
    state = vm or VM()
    for record in records:
        apply(state, record.seq, record.time, record.kind, record.body)
    return state


def fold_batches(batches: Iterable[Iterable[Sequence[Any]]], vm: VM | None = None) -> VM:
    """Return the state after the raw items ``[seq, time, kind, body, crc]`` of a log's reader.

    The same steps as :func:`apply`, for replay at full speed: what each record changed is not kept apart.
    """
    state = vm or VM()
    handler_of = KINDS.get
    for batch in batches:
        for seq, time, kind, body, _ in batch:
            state.seq = seq
            if time:
                state.time = time
            handler = handler_of(kind)
            if handler is not None:
                try:
                    handler(state, body)
                except _UNREADABLE as error:
                    _unreadable(state, kind, error)
        state.changed = []
        state.violations = []
    return state
