"""Importing recorded sockets (qmp-jsonl) to a log."""

import io
import subprocess
from contextlib import redirect_stdout
from itertools import count
from time import perf_counter

import msgspec

from bench import mix
from bench.measure import Line, Result, in_turns
from qemustate.cli.main import main

OURS = "qemustate import"
JSON = "JSON decode alone"
LINES = "wc -l"


def importing(size, folder):
    """Measure megabytes of a trace a second."""
    path = folder / "trace.jsonl"
    mix.write_jsonl(path, size.records)
    outputs = (str(folder / f"imported{n}.log") for n in count())

    def ours():
        start = perf_counter()
        with redirect_stdout(io.StringIO()):
            status = main(["import", str(path), "-o", next(outputs)])
        assert status == 0
        return perf_counter() - start

    def decoding():
        decode = msgspec.json.Decoder().decode
        start = perf_counter()
        with path.open("rb") as file:
            for line in file:
                decode(line)
        return perf_counter() - start

    def counting():
        start = perf_counter()
        subprocess.run(["wc", "-l", path], stdout=subprocess.DEVNULL, check=True)
        return perf_counter() - start

    took = in_turns(size, {OURS: ours, JSON: decoding, LINES: counting})
    megabytes = path.stat().st_size / 1e6
    return Result(
        f"Import of a qmp-jsonl trace of {megabytes:.1f} MB",
        {name: (megabytes / seconds, "MB/s") for name, seconds in took.items()},
        [
            Line("x the time of decoding each line's JSON, and no more", took[OURS] / took[JSON]),
            Line("x the time of wc -l", took[OURS] / took[LINES]),
        ],
        [f"{path.stat().st_size / size.records:.0f} bytes a line"],
    )
