"""Scripts of what is done to a log, and what is then seen in its bytes and by its reader.

A script in ``testdata/*.txt`` is a run of blocks: a command, ``----``, what it says, an empty line. Lines
that begin with ``#`` are remarks. The commands are the functions below, one each; FILE is the log's name
(``log``) or a segment's (``log.000002``). ``--rewrite`` puts in what was seen: read the diff.
"""

import json
from pathlib import Path
from zlib import crc32

import pytest

from qemustate.errors import QemustateError
from qemustate.events.codec import NotAnItemError, decode_item
from qemustate.events.reader import LogReader
from qemustate.events.recovery import Mode, repair, verify
from qemustate.events.snapshots import truncate
from qemustate.events.writer import LogWriter

SCRIPTS = sorted((Path(__file__).parent / "testdata").glob("*.txt"))


class Log:
    """What the commands of one script work on."""

    def __init__(self, folder):
        self.folder, self.path = folder, folder / "log"

    def open(self, *options):
        """``open [segment_bytes=N]``: begin the log, or go on with it."""
        given = dict(option.split("=") for option in options)
        self.writer = LogWriter(
            self.path, durability="os", **{name: int(value) for name, value in given.items()}
        )
        return f"at record {self.writer.seq} in segment {self.writer.segment}"

    def write(self, kind, time, *body):
        """``write KIND TIME JSON``: append a record."""
        return f"record {self.writer.append(kind, json.loads(' '.join(body)), int(time))}"

    def rotate(self, *state):
        """``rotate [JSON]``: begin a segment, with a snapshot if there is a state."""
        self.writer.rotate(json.loads(" ".join(state)) if state else None, "t1")
        return f"at record {self.writer.seq} in segment {self.writer.segment}"

    def close(self):
        """``close``: end on purpose."""
        self.writer.close()

    def die(self):
        """``die``: end without a word."""
        self.writer.abandon()

    def corrupt(self, file, how, *where):
        """``corrupt FILE cut N | flip BYTE BIT | zeros N | delete``: harm a file; cut takes N off its end."""
        path = self.folder / file
        numbers = [int(word) for word in where]
        if how == "delete":
            path.unlink()
            return
        data = bytearray(path.read_bytes())
        if how == "cut":
            del data[-numbers[0] :]
        elif how == "zeros":
            data += bytes(numbers[0])
        elif how == "flip":
            data[numbers[0]] ^= 1 << numbers[1]
        path.write_bytes(data)

    def describe(self, file):
        """``describe FILE``: the bytes as items, each with its offset, length, and what its checksum is worth."""
        data = (self.folder / file).read_bytes()
        offset = running = 0
        while offset < len(data):
            try:
                found = decode_item(data[offset:])
            except NotAnItemError as error:
                yield f"{offset:>4} +{len(data) - offset:<3} {error}"
                return
            if found is None:
                yield f"{offset:>4} +{len(data) - offset:<3} the beginning of an item"
                return
            (seq, time, kind, body, crc), length = found
            end = offset + length
            sound = "ok" if crc == crc32(data[offset : end - 5], running) else "BAD"
            yield f"{offset:>4} +{length:<3} {seq} {time} {kind} {json.dumps(body)} {sound}"
            running = crc32(data[end - 5 : end], crc)
            offset = end

    def read(self):
        """``read``: what the reader delivers, and how it says that the log ends."""
        reader = LogReader(self.path)
        for record in reader:
            yield f"{record.seq} {record.kind}" + (
                f" {json.dumps(record.body)}" if record.kind == "gap" else ""
            )
        yield f"closed: {'yes' if reader.closed else 'no'}, tail: {reader.tail or 'none'}"

    def verify(self):
        """``verify``: the report."""
        report = verify(self.path)
        yield f"{report.records} records, {report.segments} segments, {report.bytes} bytes, {report.lost} lost, closed: {'yes' if report.closed else 'no'}"
        yield from map(str, report.faults)

    def repair(self, mode):
        """``repair MODE``: repair the log; skip-damage writes a new one, with which the script goes on."""
        repair(self.path, Mode(mode), self.folder / "new")
        if mode == "skip-damage":
            self.path = self.folder / "new"

    def truncate(self):
        """``truncate``: delete what a snapshot stands for."""
        yield from (f"deleted {path.name}" for path in truncate(self.path))

    def run(self, line):
        """Return what a command says, an error's message included."""
        name, *words = line.split()
        said = []
        try:
            answer = getattr(self, name)(*words)
            said.extend([answer] if isinstance(answer, str) else answer or [])
        except QemustateError as error:
            said.append(f"{type(error).__name__}: {error}")
        return "\n".join(said) + "\n" * bool(said)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_scripts(script, tmp_path, monkeypatch, rewrite):
    """Each command of the script says what the script says."""
    monkeypatch.chdir(tmp_path)
    log, seen = Log(Path()), []  # how long its path is, which a repaired log names, depends on nothing
    for block in script.read_text().rstrip("\n").split("\n\n"):
        remarks = "".join(f"{line}\n" for line in block.splitlines() if line.startswith("#"))
        command = next((line for line in block.splitlines() if not line.startswith("#")), None)
        seen.append(remarks + (f"{command}\n----\n{log.run(command)}" if command else ""))
    text = "\n".join(seen)

    if rewrite:
        script.write_text(text)
    assert script.read_text() == text
