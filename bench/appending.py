"""Appending with durability ``each``, against the same bytes written and synced by hand."""

import os
from time import perf_counter

from bench import mix
from bench.measure import AT_MOST, Line, Result, in_turns
from qemustate.events.codec import encode_all
from qemustate.events.writer import LogWriter

OURS = "qemustate, each"
BARE = "write + fdatasync"
LAZY = "qemustate, interval"


def append(size, folder):
    """Measure the time of an append that is on the disk when it returns."""
    entries = list(mix.entries(size.appends))
    numbered = range(len(entries))
    data = [encode_all([entry], seq, 0)[0] for seq, entry in enumerate(entries)]
    fd = os.open(folder / "bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def bare():
        start = perf_counter()
        for number in numbered:
            os.write(fd, data[number])
            os.fdatasync(fd)
        return perf_counter() - start

    def appending(writer):
        def run():
            start = perf_counter()
            for kind, body, time in entries:
                writer.append(kind, body, time)
            return perf_counter() - start

        return run

    with (
        LogWriter(folder / "each.log", durability="each") as each,
        LogWriter(folder / "interval.log", durability="interval") as interval,
    ):
        took = in_turns(size, {OURS: appending(each), BARE: bare, LAZY: appending(interval)})
    os.close(fd)
    return Result(
        "Append, one record at a time",
        {name: (seconds / len(entries) * 1e6, "us a record") for name, seconds in took.items()},
        [Line("of the time of a bare write + fdatasync of the same bytes", took[OURS] / took[BARE], (AT_MOST, 1.15))],
        [f"{sum(map(len, data)) / len(data):.0f} bytes a record, in {folder}"],
    )  # fmt: skip
