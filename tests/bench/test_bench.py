"""Every benchmark, at a tiny size: it runs, and its figures are figures. Nothing here says how fast."""

import pytest

from bench.__main__ import BENCHMARKS, main
from bench.measure import AT_LEAST, AT_MOST, Line, Size

TINY = Size(records=300, rounds=1, turns=1, commands=3, appends=3, vms=200)


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda it: it.__name__)
def test_every_benchmark_yields_figures(benchmark, tmp_path):
    """A figure for each variant and each ratio, all above zero, all shown."""
    result = benchmark(TINY, tmp_path)

    if not result.figures:
        pytest.skip(result.notes[0])
    assert all(value > 0 for value, _ in result.figures.values())
    assert result.lines
    assert all(line.ratio > 0 for line in result.lines)
    assert all(name in str(result) for name in result.figures)


@pytest.mark.parametrize(
    ("ratio", "target", "shown"),
    [
        (0.4, (AT_LEAST, 0.4), "ok"),
        (0.39, (AT_LEAST, 0.4), "MISS"),
        (1.1, (AT_MOST, 1.1), "ok"),
        (1.11, (AT_MOST, 1.1), "MISS"),
    ],
)
def test_a_target_is_met_or_missed(ratio, target, shown):
    """A ratio at its bound meets it, on either side."""
    assert str(Line("x", ratio, target)).split()[0] == shown


def test_an_unknown_benchmark_is_named(capsys):
    """A wrong name is an error that says which there are."""
    assert main(["nothing"]) == 2
    assert "no benchmark nothing; there are replay, " in capsys.readouterr().err
