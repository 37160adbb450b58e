"""Evidence compiled: what is seen -> the steps it means, in the order of the rows."""

from __future__ import annotations

from operator import attrgetter
from typing import Any, Final, NamedTuple

from qemustate.statemachine import console
from qemustate.statemachine.effects import EFFECTS, Effect
from qemustate.statemachine.evidence import EVIDENCE, FACTS, Evidence
from qemustate.statemachine.state import BACKENDS, VM
from qemustate.statemachine.stepping import (
    backend,
    device,
    device_name,
    guard_masks,
    set_profile,
    step,
    step_device,
    step_named,
)


class Reading(NamedTuple):
    """What a command means when it is sent, done and refused; None where nothing follows."""

    execute: Effect | None
    done: Effect | None
    refused: Effect | None


def _compile(row: Evidence) -> list[Effect]:
    parts: list[Effect] = []
    if row.holds or row.denies:
        kept, added = guard_masks(row.holds, row.denies)
        parts.append(lambda vm, _data, _answer: set_profile(vm, kept, added))
    if row.effect:
        parts.append(EFFECTS[row.effect])
    if row.machine:
        parts.append(_stepper(row.machine, row.trigger, row.subject))
    return [_conditional(row.where, _sequence(parts))] if row.where else parts


def _stepper(machine: str, trigger: str, subject: str) -> Effect:
    if machine in BACKENDS:
        return _backend_stepper(machine, trigger, subject)
    if machine == "device":
        return _device_stepper(trigger, subject)
    if machine == "devices":
        return _restless_stepper(trigger)
    if machine in ("export", "fd"):
        return _named_stepper(machine, trigger, subject)
    return _vm_stepper(machine, trigger)


def _vm_stepper(machine: str, trigger: str) -> Effect:
    cell_of, watcher_of = attrgetter(machine), attrgetter(machine)
    return lambda vm, _data, _answer: step(vm, machine, watcher_of(vm.watch), cell_of(vm), trigger)


def _backend_stepper(kind: str, trigger: str, subject: str) -> Effect:
    collection_of = attrgetter(BACKENDS[kind])

    def run(vm: VM, data: dict[str, Any], _answer: Any) -> None:
        name = data.get(subject)
        if name.__class__ is str and name:
            cell = collection_of(vm).get(name) or backend(vm, kind, name)
            step(vm, kind, vm.watch.backend, cell, trigger, name)

    return run


def _device_stepper(trigger: str, subject: str) -> Effect:
    def run(vm: VM, data: dict[str, Any], _answer: Any) -> None:
        name = data.get(subject)
        if name.__class__ is str and name:
            step_device(vm, device_name(name), device(vm, name), trigger)

    return run


def _named_stepper(machine: str, trigger: str, subject: str) -> Effect:
    def run(vm: VM, data: dict[str, Any], _answer: Any) -> None:
        name = data.get(subject)
        if name.__class__ is str and name:
            step_named(vm, machine, name, trigger)

    return run


def _remembering(event: str) -> Effect:
    fact, who, what = FACTS[event]

    def run(vm: VM, data: dict[str, Any], _answer: Any) -> None:
        told = vm.facts.get(fact)
        if told is None:
            told = vm.facts[fact] = {}
        told[str(data.get(who, "")) if who else ""] = data.get(what) if what else None

    return run


def _restless_stepper(trigger: str) -> Effect:
    def run(vm: VM, _data: dict[str, Any], _answer: Any) -> None:
        if vm.restless:
            for name, cell in list(vm.restless.items()):
                step_device(vm, name, cell, trigger)

    return run


def _sequence(parts: list[Effect]) -> Effect:
    if len(parts) == 1:
        return parts[0]

    if len(parts) == 2:
        first, second = parts

        def both(vm: VM, data: dict[str, Any], answer: Any) -> None:
            first(vm, data, answer)
            second(vm, data, answer)

        return both

    def run(vm: VM, data: dict[str, Any], answer: Any) -> None:
        for part in parts:
            part(vm, data, answer)

    return run


def _conditional(where: tuple[str, Any], then: Effect) -> Effect:
    path, wanted = where

    def run(vm: VM, data: dict[str, Any], answer: Any) -> None:
        met = wanted in str(answer.get("desc", "")) if path == "desc" else data.get(path) == wanted
        if met:
            then(vm, data, answer)

    return run


def _gathered(prefix: str) -> dict[str, Effect]:
    found: dict[str, list[Effect]] = {}
    for row in EVIDENCE:
        word, _, name = row.seen.rpartition(" ")
        if word == prefix:
            found.setdefault(name, []).extend(_compile(row))
    if not prefix:
        for event in FACTS:
            found.setdefault(event, []).append(_remembering(event))
    return {name: _sequence(parts) for name, parts in found.items()}


def _commands() -> dict[str, Reading]:
    execute, done, refused = _gathered("execute"), _gathered("return"), _gathered("error")
    found = {
        name: Reading(execute.get(name), done.get(name), refused.get(name))
        for name in sorted({*execute, *done, *refused})
    }
    found[console.PASSTHROUGH] = _passed_through(found[console.PASSTHROUGH], found)
    return found


def _passed_through(own: Reading, found: dict[str, Reading]) -> Reading:
    """Return what a passed-through line means: what any does, and what the same command of QMP does."""

    def execute(vm: VM, data: dict[str, Any], answer: Any) -> None:
        run(own.execute, vm, data, answer)
        same = console.meant(console.PASSTHROUGH, data)
        if same.name != console.PASSTHROUGH:
            run(found[same.name].execute, vm, same.arguments, None)

    def done(vm: VM, data: dict[str, Any], answer: Any) -> None:
        run(own.done, vm, data, answer)
        same = console.meant(console.PASSTHROUGH, data)
        if same.name == console.PASSTHROUGH:
            return
        error = console.refused(answer)
        if error is None:
            run(found[same.name].done, vm, same.arguments, {})
        else:
            run(found[same.name].refused, vm, same.arguments, error)

    def run(effect: Effect | None, vm: VM, data: dict[str, Any], answer: Any) -> None:
        if effect is not None:
            effect(vm, data, answer)

    return Reading(execute, done, own.refused)


#: Event -> what it means.
EVENTS: Final = _gathered("")
#: Command -> what it means, sent, done and refused.
COMMANDS: Final = _commands()
