"""Any bytes as a foreign trace: records or a clear error, in bounded memory and time.

Run by ``make fuzz``: ``python fuzz/importers.py [libFuzzer's options] CORPUS...``. The first byte chooses the format;
one beyond them all leaves it to the content.
"""

import os
import sys
from pathlib import Path

from qemustate.errors import BadInput
from qemustate.events.importers.conversation import Skipped
from qemustate.events.importers.files import TraceFile
from qemustate.events.importers.formats import FORMATS, Format, read, recognise
from qemustate.events.records import KINDS, LACKS

SEEDS = Path(__file__).parent / "seeds"


def one(data: bytes) -> int:
    """Read bytes as a trace; return how many entries they gave. Raises what no bytes may make it raise."""
    number, content = (data[0], data[1:]) if data else (0, b"")
    held = os.memfd_create("trace")
    try:
        os.write(held, content)
        file = TraceFile(Path(f"/proc/self/fd/{held}"), "trace.log")
        return _entries(FORMATS[number] if number < len(FORMATS) else None, file)
    except BadInput as error:
        if "trace.log" not in str(error):
            raise AssertionError(str(error)) from error
        return 0
    finally:
        os.close(held)


def _entries(form: Format | None, file: TraceFile) -> int:
    form = form or recognise(file)
    count = 0
    for found in form.find([file]):
        assert set(found.lacks) <= set(LACKS)
        for kind, time, body in read(form, found, file.shown, Skipped()):
            assert kind in KINDS
            assert time >= 0
            assert body["origin"][1] >= 1
            count += 1
    return count


def main() -> None:
    """Fuzz."""
    import atheris  # noqa: PLC0415  (only `make fuzz` installs it)

    atheris.instrument_all()
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
