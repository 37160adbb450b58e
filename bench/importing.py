"""Importing foreign traces to a log: recorded sockets (qmp-jsonl), and libvirt's debug log."""

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
    """Measure megabytes of a recorded socket a second."""
    path = folder / "trace.jsonl"
    mix.write_jsonl(path, size.records)

    def decode(lines):
        decoder = msgspec.json.Decoder().decode
        for line in lines:
            decoder(line)

    return _measured(size, folder, path, "qmp-jsonl", "decoding each line's JSON", decode)


def importing_libvirt(size, folder):
    """Measure megabytes of libvirt's debug log a second."""
    path = folder / "libvirtd.log"
    mix.write_libvirt(path, size.records)

    def decode(lines):
        decoder = msgspec.json.Decoder().decode
        for line in lines:
            if b"QEMU_MONITOR_SEND" in line or b"QEMU_MONITOR_RECV" in line:
                decoder(line[line.find(b"{") : line.rfind(b"}") + 1])

    return _measured(size, folder, path, "libvirt", "decoding each message's JSON", decode)


def _measured(size, folder, path, form, what, decode):
    outputs = (str(folder / f"imported{n}.log") for n in count())

    def ours():
        start = perf_counter()
        with redirect_stdout(io.StringIO()):
            status = main(["import", str(path), "-o", next(outputs)])
        assert status == 0
        return perf_counter() - start

    def decoding():
        start = perf_counter()
        with path.open("rb") as file:
            decode(file)
        return perf_counter() - start

    def counting():
        start = perf_counter()
        subprocess.run(["wc", "-l", path], stdout=subprocess.DEVNULL, check=True)
        return perf_counter() - start

    took = in_turns(size, {OURS: ours, JSON: decoding, LINES: counting})
    megabytes = path.stat().st_size / 1e6
    return Result(
        f"Import of a {form} trace of {megabytes:.1f} MB",
        {name: (megabytes / seconds, "MB/s") for name, seconds in took.items()},
        [
            Line(f"x the time of {what}, and no more", took[OURS] / took[JSON]),
            Line("x the time of wc -l", took[OURS] / took[LINES]),
        ],
        [f"{path.stat().st_size / size.records:.0f} bytes a message"],
    )
