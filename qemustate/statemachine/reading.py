"""Evidence compiled: what is seen -> the steps it means, in the order of the rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from qemustate.statemachine.effects import EFFECTS, Effect
from qemustate.statemachine.evidence import EVIDENCE, Evidence
from qemustate.statemachine.state import BACKENDS, VM
from qemustate.statemachine.stepping import backend, device, device_name, set_guards, step

Step = Callable[[VM, dict[str, Any], Any, int], None]


def _compile(row: Evidence) -> Step:
    parts: list[Step] = []
    if row.holds or row.denies:
        holds, denies = row.holds, row.denies
        parts.append(lambda vm, _data, _answer, _at: set_guards(vm, holds=holds, denies=denies))
    if row.effect:
        effect: Effect = EFFECTS[row.effect]
        parts.append(effect)
    if row.machine:
        parts.append(_stepper(row.machine, row.trigger, row.subject))
    run = parts[0] if len(parts) == 1 else _sequence(tuple(parts))
    return _conditional(row.where, run) if row.where else run


def _stepper(machine: str, trigger: str, subject: str) -> Step:
    def vm_wide(vm: VM, _data: dict[str, Any], _answer: Any, _at: int) -> None:
        step(vm, machine, getattr(vm, machine), trigger)

    def every_device(vm: VM, _data: dict[str, Any], _answer: Any, _at: int) -> None:
        for name, cell in vm.devices.items():
            step(vm, "device", cell, trigger, name)

    def one_device(vm: VM, data: dict[str, Any], _answer: Any, _at: int) -> None:
        if name := data.get(subject):
            step(vm, "device", device(vm, str(name)), trigger, device_name(str(name)))

    def one_backend(vm: VM, data: dict[str, Any], _answer: Any, _at: int) -> None:
        if name := data.get(subject):
            step(vm, machine, backend(vm, machine, str(name)), trigger, str(name))

    if machine in BACKENDS:
        return one_backend
    return {"devices": every_device, "device": one_device}.get(machine, vm_wide)


def _sequence(parts: tuple[Step, ...]) -> Step:
    def run(vm: VM, data: dict[str, Any], answer: Any, at: int) -> None:
        for part in parts:
            part(vm, data, answer, at)

    return run


def _conditional(where: tuple[str, Any], then: Step) -> Step:
    path, wanted = where

    def run(vm: VM, data: dict[str, Any], answer: Any, at: int) -> None:
        met = wanted in str(answer.get("desc", "")) if path == "desc" else data.get(path) == wanted
        if met:
            then(vm, data, answer, at)

    return run


def _gathered(prefix: str) -> dict[str, Step]:
    found: dict[str, list[Step]] = {}
    for row in EVIDENCE:
        word, _, name = row.seen.rpartition(" ")
        if word == prefix:
            found.setdefault(name, []).append(_compile(row))
    return {name: steps[0] if len(steps) == 1 else _sequence(tuple(steps)) for name, steps in found.items()}


#: What is seen -> its steps.
EVENTS: Final = _gathered("")
EXECUTE: Final = _gathered("execute")
RETURN: Final = _gathered("return")
ERROR: Final = _gathered("error")
