"""What the fuzzer runs, on its seeds, on their cuts, and on their mutations."""

import importlib.util
import random
from pathlib import Path

import pytest

FUZZ = Path(__file__).parents[2] / "fuzz"


def _load():
    spec = importlib.util.spec_from_file_location("fuzz_importers", FUZZ / "importers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


importers = _load()
SEEDS = sorted((FUZZ / "seeds").iterdir())


@pytest.mark.parametrize("seed", SEEDS, ids=lambda path: path.name)
def test_a_seed_is_a_trace(seed):
    """Each seed is a whole trace of its format."""
    assert importers.one(seed.read_bytes()) > 0


@pytest.mark.parametrize("seed", SEEDS, ids=lambda path: path.name)
def test_cut_and_changed_seeds(seed):
    """A seed cut at any byte, and one with bytes changed, inserted or doubled, gives entries or BadInput."""
    whole = seed.read_bytes()
    for end in range(len(whole)):
        importers.one(whole[:end])
    chance = random.Random(seed.name)
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(1, len(data))
            match chance.randrange(3):
                case 0:
                    data[at] = chance.randrange(256)
                case 1:
                    data[at:at] = chance.choice([b"{", b'"', b"\n", b"}", b"\\", b"\xff", b" ", b"["])
                case _:
                    data[at:at] = data[at : at + chance.randrange(40)]
        importers.one(bytes(data))


@pytest.mark.parametrize("number", range(16))
def test_no_line_is_read_slowly(number):
    """Long runs of what patterns look for hold no messages, and the suite's own limit holds their time."""
    for part in (
        b"{",
        b"[",
        b'"',
        b"\\",
        b" ",
        b"a=",
        b'msg="',
        b"map[a:",
        b"-->",
        b"mon=0x",
        b"0",
        b"(QEMU) ",
        b": ",
    ):
        assert importers.one(bytes([number]) + part * 20_000) == 0
        assert importers.one(bytes([number]) + (part * 20 + b"\n") * 500) == 0
