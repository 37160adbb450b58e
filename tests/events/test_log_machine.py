"""The log against a list: whatever is done to it, in whatever order, both hold the same."""

import shutil
import tempfile
import threading
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from qemustate.events.codec import decode_item
from qemustate.events.format import segment_numbers, segment_path
from qemustate.events.reader import LogReader
from qemustate.events.recovery import verify
from qemustate.events.snapshots import truncate
from qemustate.events.writer import LogWriter

bodies = st.dictionaries(
    st.sampled_from("abc"),
    st.none() | st.integers(-5, 2**64 - 1) | st.text(max_size=40) | st.binary(max_size=300),
    max_size=3,
)
entries = st.tuples(st.sampled_from(["event", "command", "note/2"]), bodies, st.integers(0, 2**50))


def boundaries(data):
    """Return where items end, and 0."""
    ends = [0]
    while ends[-1] < len(data):
        ends.append(ends[-1] + decode_item(data[ends[-1] :])[1])
    return ends


class Log(RuleBasedStateMachine):
    """``model`` is what the log should hold: ``[seq, kind, body]`` of every item still there."""

    @initialize(segment_bytes=st.sampled_from([150, 1000, 1 << 20]))
    def begin(self, segment_bytes):
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "log"
        self.segment_bytes = segment_bytes
        self.writer = LogWriter(self.path, durability="os", segment_bytes=segment_bytes)
        self.model = []
        self._grow([("segment", None)])
        self.follower = LogReader(self.path).follow(threading.Event())
        self.followed = []

    def teardown(self):
        if hasattr(self, "folder"):
            self.writer.abandon()
            shutil.rmtree(self.folder)

    def _grow(self, items):
        for kind, body in items:
            self.model.append([self.model[-1][0] + 1 if self.model else 1, kind, body])

    def _rotated(self):
        """A full segment is left before anything is appended."""
        if self.writer.full:
            self._grow([("segment", None)])

    @rule(entry=entries)
    def append(self, entry):
        self._rotated()
        seq = self.writer.append(*entry)
        self._grow([entry[:2]])
        assert seq == self.model[-1][0]

    @rule(batch=st.lists(entries, max_size=6))
    def append_many(self, batch):
        self._rotated()
        numbers = self.writer.append_many(batch)
        self._grow(entry[:2] for entry in batch)
        assert numbers == range(self.model[-1][0] - len(batch) + 1, self.model[-1][0] + 1)

    @rule(snapshot=st.none() | bodies)
    def rotate(self, snapshot):
        assert self.writer.rotate(snapshot, "hash")
        self._grow([("segment", None)])
        if snapshot is not None:
            self._grow([("snapshot", {"state": snapshot, "tables": "hash"})])

    @rule()
    def truncate(self):
        self._catch_up()
        gone = truncate(self.path)
        first = segment_numbers(self.path)[0]
        starts = [at for at, item in enumerate(self.model) if item[1] == "segment"]
        self.model = self.model[starts[len(gone)] :]
        assert self.writer.segment - first + 1 == len(starts) - len(gone)

    @rule()
    def reopen(self):
        self._rotated()
        self.writer.close()
        self._grow([("closed", {})])
        self.writer = LogWriter(self.path, durability="os", segment_bytes=self.segment_bytes)

    @rule(data=st.data())
    def crash(self, data):
        """Lose some bytes of the last segment, as a host that goes down does, and go on."""
        self._catch_up()
        self.writer.abandon()
        last = segment_path(self.path, self.writer.segment)
        content = last.read_bytes()
        ends = boundaries(content)
        alone = len(segment_numbers(self.path)) == 1
        # What a truncated log begins with was on the disk before anything was deleted.
        least = ends[2 if last != self.path else 1] if alone else 0
        kept = data.draw(st.integers(least, len(content)))
        last.write_bytes(content[:kept])

        self.model = self.model[: len(self.model) - sum(end > kept for end in ends)]
        assert [record.seq for record in LogReader(self.path)] == [item[0] for item in self.model]
        torn = kept not in ends
        assert verify(self.path).torn == torn
        self.writer = LogWriter(self.path, durability="os", segment_bytes=self.segment_bytes)
        # Of a segment without a whole item nothing is left that could be told.
        if torn and kept > ends[1]:
            if max(end for end in ends if end <= kept) >= self.segment_bytes:
                self._grow([("segment", None)])
            self._grow([("gap", None)])
        self.follower = LogReader(self.path).follow(threading.Event(), self.model[-1][0] + 1)
        self.followed = [item[0] for item in self.model]

    def _catch_up(self):
        """Let the follower see all there is; it would wait for more at the end."""
        while len(self.followed) == 0 or self.followed[-1] < self.model[-1][0]:
            self.followed.append(next(self.follower).seq)

    @rule()
    def follow(self):
        self._catch_up()
        assert self.followed == list(range(self.followed[0], self.model[-1][0] + 1))

    @rule(data=st.data())
    def read_from(self, data):
        start = data.draw(st.integers(self.model[0][0], self.model[-1][0] + 1))
        found = [record.seq for record in LogReader(self.path).records(start)]
        assert found == [item[0] for item in self.model if item[0] >= start]

    @invariant()
    def both_hold_the_same(self):
        if not hasattr(self, "model"):
            return
        found = list(LogReader(self.path))
        assert [(record.seq, record.kind) for record in found] == [(seq, kind) for seq, kind, _ in self.model]
        for record, (_, _, body) in zip(found, self.model, strict=True):
            assert body is None or record.body == body


Log.TestCase.settings = settings(deadline=None, max_examples=100, stateful_step_count=25)
TestLog = Log.TestCase
