"""Times as logs write them."""

import pytest

from qemustate.events.importers.times import read_milliseconds, read_time

NOON = 1_709_294_400_000_000  # 2024-03-01 12:00:00 UTC


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        (b"2024-03-01 12:00:00.123+0000: 1: info", NOON + 123_000),
        (b"2024-03-01T12:00:00Z", NOON),
        (b"2024-03-01 12:00:00,5 DEBUG", NOON + 500_000),
        (b"2024-03-01T20:00:00.123456789+08:00", NOON + 123_456),
        (b"2024-03-01T08:30:00-0330", NOON),
        (b"2024-03-01 20:00:00 +0800", NOON),
        (b"2024-03-01 12:00:00: {", NOON),
        (b"2024-13-01 12:00:00", 0),
        (b"2024-03-01 12:00:61", 0),
        (b"1024-03-01 12:00:00", 0),
        (b"2024-03-01 12:00:00+9999", 0),
        (b"Mar 01 12:00:00", 0),
        (b"", 0),
    ],
)
def test_times(text, micros):
    """A time at the beginning of a line is read whatever its zone and fraction; what is none is 0."""
    assert read_time(text) == micros
    assert read_milliseconds(text) == micros
    assert read_milliseconds(text[:28]) == read_time(text[:28])
