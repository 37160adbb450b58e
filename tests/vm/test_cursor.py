"""Subscribers read back from the log, each at its own pace."""

import asyncio

from qemustate.vm.cursor import Cursor
from qemustate.vm.recorder import open_recorder


def test_a_subscriber_gets_every_record_once(tmp_path):
    """From the number asked for to the end, in order, whenever they were written; then the iteration ends."""

    async def scenario():
        recorder = open_recorder(tmp_path / "log")
        recorder.record("note", {"text": "0"})

        async def read(start):
            with Cursor(recorder, start) as cursor:
                return [record.seq async for record in cursor]

        readers = [asyncio.ensure_future(read(start)) for start in (1, None)]
        for number in range(1, 1500):
            recorder.record("note", {"text": str(number)})
            if number % 100 == 0:
                await asyncio.sleep(0)
        recorder.close()
        whole, rest = await asyncio.gather(*readers)
        assert recorder.on_growth == []
        return whole, rest, recorder.vm.seq

    whole, rest, last = asyncio.run(scenario())
    assert whole == list(range(1, last + 1))
    assert rest == list(range(rest[0], last + 1))
    assert rest[0] > 2


def test_reading_goes_on_after_the_log_was_closed(tmp_path):
    """A slow subscriber still reads all that was written before the end."""

    async def scenario():
        recorder = open_recorder(tmp_path / "log")
        with Cursor(recorder, 1) as cursor:
            first = await anext(cursor)
            for number in range(600):
                recorder.record("note", {"text": str(number)})
            recorder.close()
            return [first.kind] + [record.kind async for record in cursor]

    assert asyncio.run(scenario()) == ["segment", *["note"] * 600, "closed"]
