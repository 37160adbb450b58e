"""Variants measured in turns, so that what else the machine does falls on all of them alike."""

import gc
import operator
import os
import platform
import statistics
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

#: What must hold of a ratio: the word for it, and the comparison.
AT_LEAST = ("at least", operator.ge)
AT_MOST = ("at most", operator.le)


@dataclass(frozen=True)
class Size:
    """How much is measured. ``turns`` of all variants in a row make a round; the least of them counts."""

    records: int = 100_000
    rounds: int = 7
    turns: int = 2
    commands: int = 500
    appends: int = 100
    vms: int = 10_000


@dataclass(frozen=True)
class Line:
    """A ratio, with its target where there is one: ``(AT_LEAST or AT_MOST, bound)``."""

    what: str
    ratio: float
    target: tuple[tuple, float] | None = None

    def __str__(self):
        if self.target is None:
            return f"       {self.ratio:8.2f}  {self.what}"
        (word, holds), bound = self.target
        verdict = "ok" if holds(self.ratio, bound) else "MISS"
        return f"  {verdict:4} {self.ratio:8.2f}  {self.what} (target: {word} {bound:g})"


@dataclass(frozen=True)
class Result:
    """What one benchmark found: absolute figures by variant, as ``(value, unit)``, and the ratios."""

    title: str
    figures: dict[str, tuple[float, str]]
    lines: list[Line] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self):
        width = max(map(len, self.figures), default=0)
        return "\n".join(
            [
                self.title,
                *(f"  {note}" for note in self.notes),
                *(
                    f"    {name:{width}}  {value:>14,.1f} {unit}"
                    for name, (value, unit) in self.figures.items()
                ),
                *map(str, self.lines),
            ]
        )


def in_turns(size, variants):
    """Return for each variant, a function that runs it once and returns seconds, the median of its rounds."""
    best = {name: [] for name in variants}
    for number in range(size.rounds):
        took = {name: [] for name in variants}
        for _ in range(size.turns):
            # Backwards every other round: who comes first finds other caches than who comes last.
            for name in list(variants)[:: -1 if number % 2 else 1]:
                # What the benchmark itself holds, however much, is not for the collector to walk meanwhile.
                gc.collect()
                gc.freeze()
                took[name].append(variants[name]())
        for name, seconds in took.items():
            best[name].append(min(seconds))
    gc.unfreeze()
    return {name: statistics.median(seconds) for name, seconds in best.items()}


def machine():
    """Return lines that tell what this ran on."""
    info = Path("/proc/cpuinfo").read_text()
    model = next(
        (line.partition(": ")[2] for line in info.splitlines() if line.startswith("model name")), "?"
    )
    peers = ("msgpack", "msgspec", "transitions", "eventsourcing", "qemu.qmp")
    return [
        f"{len(os.sched_getaffinity(0))} x {model}, Linux {platform.release()}, {platform.python_implementation()} {platform.python_version()}, load {os.getloadavg()[0]:.2f}",
        ", ".join(f"{name} {metadata.version(name)}" for name in peers),
    ]
