"""Print every benchmark, or those named: ``python -m bench [replay fold_alone inbound ...]``.

Logs and sockets are made under .cache, on the disk the project is on.
"""

import sys
import tempfile
from pathlib import Path

from bench.appending import append
from bench.footprint import imports, memory
from bench.hotplugging import hotplug
from bench.importing import importing, importing_libvirt
from bench.inbound import inbound
from bench.launching import launch
from bench.measure import Size, machine
from bench.replaying import fold_alone, replay
from bench.roundtrip import round_trip

BENCHMARKS = (
    replay,
    fold_alone,
    inbound,
    round_trip,
    launch,
    hotplug,
    append,
    imports,
    memory,
    importing,
    importing_libvirt,
)
CACHE = Path(__file__).resolve().parent.parent / ".cache"


def main(names):
    """Run the benchmarks of these names, all without any; return the exit status, which no figure changes."""
    known = {benchmark.__name__: benchmark for benchmark in BENCHMARKS}
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"bench: no benchmark {unknown[0]}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    CACHE.mkdir(exist_ok=True)
    print(*machine(), sep="\n")
    for name in names or known:
        with tempfile.TemporaryDirectory(prefix="bench-", dir=CACHE) as folder:
            print(f"\n{known[name](Size(), Path(folder))}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
