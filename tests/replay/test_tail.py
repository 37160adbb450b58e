"""Following a trace as it grows."""

import lzma
import threading

import pytest

from qemustate.errors import BadInput
from qemustate.events.writer import LogWriter
from qemustate.replay import source
from qemustate.replay.tail import follow

from .conftest import story_of


def as_jsonl(lines):
    return lines


def as_text(lines):
    """Return the messages alone, a line each."""
    import json

    return [json.loads(line)["raw"].strip().encode() + b"\n" for line in lines]


def as_trace(lines):
    """Return the lines that QEMU's trace has of these messages."""
    import json

    out = []
    for line in lines:
        it = json.loads(line)
        seconds = f"{it['t']:.6f}"
        point = "handle_qmp_command mon 0x1 req" if it["dir"] == "tx" else "monitor_qmp_respond mon 0x1 resp"
        out.append(f"12@{seconds}:{point}: {it['raw'].strip()}\n".encode())
    return out


@pytest.mark.parametrize("form", [as_jsonl, as_text, as_trace])
@pytest.mark.parametrize("sizes", [(3, 4, 100), (1, 1, 1, 1, 100)], ids=str)
def test_a_growing_file_is_the_file_that_has_grown(tmp_path, form, sizes):
    """Whatever the format and however it grows, the records are those that reading the whole file gives."""
    lines = form(lzma.decompress(story_of("hotplug_pcie_ack").read_bytes()).splitlines(keepends=True))
    path = tmp_path / "growing"
    pieces, at = [], 0
    for size in sizes:
        pieces.append(b"".join(lines[at : at + size]))
        at += size
    half = len(pieces[1]) // 2
    pieces[1:2] = [pieces[1][:half], pieces[1][half:]]  # a line may be written in two
    path.write_bytes(pieces[0])
    stop = threading.Event()
    trace, records = follow(str(path), None, stop)
    seen = [next(records)]
    for piece in pieces[1:]:
        with path.open("ab") as file:
            file.write(piece)
        seen.append(next(records))
    (whole,) = source.Source(str(path)).vms
    expected = list(source.records(whole))
    seen += [next(records) for _ in expected[len(seen) :]]
    stop.set()
    seen += records
    assert seen == expected
    assert trace.name == whole.name


def test_a_log_is_followed_until_it_is_closed(tmp_path):
    """Records come as the writer appends them; closing the log ends it."""
    path = tmp_path / "a.log"
    with LogWriter(path, vm="a", durability="os") as writer:
        trace, records = follow(str(path), None, threading.Event())
        assert next(records).kind == "segment"
        for number in range(3):
            writer.append("note", {"text": str(number)}, 1)
            assert next(records).body == {"text": str(number)}
    assert [record.kind for record in records] == ["closed"]
    assert trace.name == "a"


def test_what_cannot_grow_is_refused(tmp_path, quit_story):
    """A compressed file does not grow, a directory is no file, and of several VMs one is to be named."""
    with pytest.raises(BadInput, match="expected a file that grows"):
        follow(str(quit_story), None, threading.Event())
    for name in ("one", "two"):
        (tmp_path / f"{name}.qmp").write_bytes(b'{"execute": "stop"}\n{"return": {}}\n')
    with pytest.raises(BadInput, match=r"expected one VM to follow \(--vm\), saw one, two"):
        follow(str(tmp_path), None, threading.Event())
    with pytest.raises(BadInput, match="expected a file that grows"):
        follow(str(tmp_path), "one", threading.Event())
