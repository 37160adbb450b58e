"""Replay: read, verify, decode and fold every record of a log, against those who do less, or the same otherwise."""

from collections import Counter
from time import perf_counter

import msgpack
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

from bench import mix
from bench.driven import Driven
from bench.measure import AT_LEAST, Line, Result, in_turns
from qemustate.events.reader import LogReader
from qemustate.replay.check import check
from qemustate.replay.source import Source
from qemustate.statemachine.fold import fold_batches
from qemustate.statemachine.state import VM

OURS = "qemustate"
RULES = "qemustate, rules on"
BARE = "msgpack.Unpacker"
DRIVEN = "transitions"
SOURCED = "eventsourcing"


class Remembered(Aggregate):
    """A VM as an ``eventsourcing`` aggregate that keeps each record as an event, and does next to nothing with it."""

    def __init__(self):
        self.kind = ""

    @event("Recorded")
    def record(self, kind, body):  # noqa: ARG002 - the event keeps it
        self.kind = kind


def replay(size, folder):
    """Measure replay of one log."""
    path = folder / "replay.log"
    mix.write_log(path, size.records)
    records, stream = 0, Counter()
    for items in LogReader(path).batches():
        records += len(items)
        stream.update(kind for _, _, kind, _, _ in items)
    application, identity = _remembered(path)

    def ours():
        start = perf_counter()
        fold_batches(LogReader(path).batches())
        return perf_counter() - start

    def rules():
        start = perf_counter()
        check(Source(path).vms[0])
        return perf_counter() - start

    def bare():
        start = perf_counter()
        with path.open("rb") as file:
            for _ in msgpack.Unpacker(file):
                pass
        return perf_counter() - start

    def driven():
        start = perf_counter()
        Driven().fold(LogReader(path).batches())
        return perf_counter() - start

    def sourced():
        start = perf_counter()
        application.repository.get(identity)
        return perf_counter() - start

    took = in_turns(size, {OURS: ours, RULES: rules, BARE: bare, DRIVEN: driven, SOURCED: sourced})
    fastest = took[OURS]
    return Result(
        f"Replay of a log of {records:,} records",
        {name: (records / seconds, "records/s") for name, seconds in took.items()},
        [
            Line(
                "of the rate of a bare msgpack.Unpacker over the same bytes",
                took[BARE] / fastest,
                (AT_LEAST, 0.40),
            ),
            Line("of that rate with all rules on", took[BARE] / took[RULES]),
            Line("x a fold that fires transitions triggers", took[DRIVEN] / fastest, (AT_LEAST, 5)),
            Line(
                "x eventsourcing's repository.get on as many events", took[SOURCED] / fastest, (AT_LEAST, 10)
            ),
        ],
        [
            f"{path.stat().st_size / records:.0f} bytes a record; "
            + ", ".join(f"{kind} {n / records:.1%}" for kind, n in stream.most_common(4)),
            f"{Driven().fold(LogReader(path).batches()) / records:.2f} transitions triggers a record",
        ],
    )


def fold_alone(size, folder):
    """Measure the fold without the reading: each block's records, still warm, by either."""
    path = folder / "fold.log"
    mix.write_log(path, size.records)

    def ours():
        vm = VM()
        return _timed(path, lambda items: fold_batches([items], vm))

    def driven():
        things = Driven()
        return _timed(path, lambda items: things.fold([items]))

    took = in_turns(size, {OURS: ours, DRIVEN: driven})
    return Result(
        f"The fold alone, over the same decoded records, {size.records:,} of them",
        {name: (size.records / seconds, "records/s") for name, seconds in took.items()},
        [Line("x a fold that fires transitions triggers", took[DRIVEN] / took[OURS])],
    )


def _timed(path, fold):
    """Return the seconds that ``fold`` takes for all blocks of a log; reading them is not counted."""
    took = 0.0
    for items in LogReader(path).batches():
        start = perf_counter()
        fold(items)
        took += perf_counter() - start
    return took


def _remembered(path):
    """Return an application that keeps the log's records in memory, and the id of their aggregate."""
    application, aggregate = Application(), Remembered()
    for items in LogReader(path).batches():
        for _, _, kind, body, _ in items:
            aggregate.record(kind, body)
        application.save(aggregate)
    return application, aggregate.id
