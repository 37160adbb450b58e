"""Following a trace as it grows."""

import json
import lzma
import re
import threading
from itertools import islice, pairwise
from pathlib import Path

import pytest

from qemustate.errors import BadInput
from qemustate.events.importers import libvirt_follow
from qemustate.events.importers.conversation import Skipped
from qemustate.events.importers.files import TraceFile
from qemustate.events.writer import LogWriter
from qemustate.replay import source
from qemustate.replay.tail import follow

from .conftest import story_of


def as_jsonl(lines):
    return lines


def as_text(lines):
    """Return the messages alone, a line each."""
    return [json.loads(line)["raw"].strip().encode() + b"\n" for line in lines]


def as_trace(lines):
    """Return the lines that QEMU's trace has of these messages."""
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
    records = follow(str(path), None, stop).records
    seen = [next(records)]
    for piece in pieces[1:]:
        with path.open("ab") as file:
            file.write(piece)
        seen.append(next(records))
    (whole,) = source.Source(str(path)).vms
    expected = [(whole.name, it) for it in source.records(whole)]
    seen += [next(records) for _ in expected[len(seen) :]]
    stop.set()
    seen += records
    assert seen == expected


def test_a_log_is_followed_until_it_is_closed(tmp_path):
    """Records come as the writer appends them; closing the log ends it."""
    path = tmp_path / "a.log"
    with LogWriter(path, vm="a", durability="os") as writer:
        _, records = follow(str(path), None, threading.Event())
        assert next(records)[1].kind == "segment"
        for number in range(3):
            writer.append("note", {"text": str(number)}, 1)
            assert next(records)[1].body == {"text": str(number)}
    assert [(name, record.kind) for name, record in records] == [("a", "closed")]


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


LIBVIRT = (
    Path(__file__).parent.parent / "events" / "importers" / "testdata" / "libvirt-9.0" / "libvirtd.log.xz"
)


def as_kubevirt(text):
    """Return the lines as virt-launcher prints them."""
    out = []
    for line in text.decode().split("\n")[:-1]:
        head = re.match(r"(\S+) (\S+)\+0000: (\d+): (\w+) : (\w+:\d+) : (.*)", line, re.DOTALL)
        told = {"component": "virt-launcher", "level": "info", "msg": line.strip(), "subcomponent": "libvirt"}
        if head:
            day, clock, thread, level, place, message = head.groups()
            stamp = f"{day}T{clock}000Z"
            told |= {"level": level, "msg": message, "pos": place, "thread": thread, "timestamp": stamp}
        out.append(json.dumps(told, separators=(",", ":")).encode())
    return b"\n".join([*out, b""])


@pytest.mark.parametrize("pieces", [1, 2, 7, 40])
@pytest.mark.parametrize("form", [bytes, as_kubevirt])
def test_a_growing_log_of_libvirt_is_the_log_that_has_grown(tmp_path, pieces, form):
    """Two domains, each started twice, and a daemon's restart: all VMs' records are those of the whole log."""
    text = form(lzma.decompress(LIBVIRT.read_bytes()))
    path = tmp_path / "libvirtd.log"
    size = len(text) // pieces + 1
    path.write_bytes(text[:size])
    stop = threading.Event()
    records = follow(str(path), None, stop).records
    seen = {"ho1": [], "ho2": []}
    whole = tmp_path / "whole.log"
    whole.write_bytes(text)
    expected = {vm.name: list(source.records(vm))[1:] for vm in source.Source(str(whole)).vms}
    assert expected.keys() == seen.keys()
    # The last line may go on, as far as one knows; it is of no monitor here.
    number = sum(map(len, expected.values())) + 2
    thread = threading.Thread(target=lambda: [seen[name].append(it) for name, it in islice(records, number)])
    thread.start()
    for at in range(size, len(text), size):
        with path.open("ab") as file:
            file.write(text[at : at + size])
    thread.join(120)
    stop.set()
    assert {name: [_unplaced(it) for it in got[1:]] for name, got in seen.items()} == {
        name: [_unplaced(it) for it in all_] for name, all_ in expected.items()
    }


@pytest.mark.parametrize("lines", [1, 2, 3, 100])
def test_a_log_of_libvirt_is_the_same_wherever_it_is_cut(tmp_path, lines):
    """However few lines there are at once, such as a command without the greeting behind it, the records are the same."""
    path = tmp_path / "libvirtd.log"
    path.write_bytes(lzma.decompress(LIBVIRT.read_bytes()))
    whole = source.Source(str(path)).vms

    def cut(file):
        text = file.path.read_bytes().splitlines(keepends=True)
        # What begins with a space goes on from the line before.
        starts = [at for at, line in enumerate(text) if line[:1] != b" "][::lines]
        for start, end in pairwise([*starts, len(text)]):
            yield start + 1, b"".join(text[start:end])

    seen = {vm.name: [] for vm in whole}
    for name, entry in libvirt_follow.read(TraceFile.at(path), Skipped(), cut):
        seen[name].append(entry)
    assert seen == {vm.name: list(vm.entries()) for vm in whole}


def _unplaced(record):
    """Return a record without the name of its file."""
    body = record.body
    return record.seq, record.time, record.kind, {**body, "origin": body["origin"][1]}


def test_a_vm_that_comes_later_is_followed_too(tmp_path):
    """A monitor opened after the following began belongs to the domain that the log then names."""
    line = "2024-03-01 12:00:00.000+0000: 7: info : f:1 : {}\n"
    path = tmp_path / "libvirtd.log"
    event = 'QEMU_MONITOR_RECV_EVENT: mon={} event={{"event": "{}"}}'
    path.write_text(line.format(event.format("0xa", "STOP")) + line.format("on"))
    stop = threading.Event()
    _, records = follow(str(path), None, stop)
    assert [next(records)[1].kind for _ in range(2)] == ["segment", "event"]
    later = [
        "QEMU_MONITOR_NEW: mon=0xb fd=3",
        'QEMU_MONITOR_SEND_MSG: mon=0xb msg={"execute":"cont"}\r\n fd=-1',
        "Entering monitor (mon=0xb vm=0xff name=late)",
        event.format("0xb", "RESUME"),
        "off",
    ]
    with path.open("a", newline="") as file:
        file.write("".join(map(line.format, later)))
    got = [next(records) for _ in range(3)]
    assert [name for name, _ in got] == ["late"] * 3
    assert [(it.seq, it.kind) for _, it in got] == [(1, "segment"), (2, "command"), (3, "event")]
    stop.set()
    assert list(records) == []


def test_the_last_event_is_not_waited_with(tmp_path):
    """What libvirt received is told when it is written, not only when the log goes on."""
    path = tmp_path / "libvirtd.log"
    line = '2024-03-01 12:00:00.000+0000: 7: info : f:1 : QEMU_MONITOR_RECV_EVENT: mon=0xa event={{"event": "{}"}}\n'
    path.write_text(line.format("STOP"))
    stop = threading.Event()
    records = follow(str(path), None, stop).records
    assert [next(records)[1].kind for _ in range(2)] == ["segment", "event"]
    with path.open("a") as file:
        file.write(line.format("RESUME"))
    assert next(records)[1].body["qmp"] == {"event": "RESUME"}
    stop.set()


def test_a_renamed_file_is_read_on_in_the_one_that_takes_its_name(tmp_path):
    """What is written to the old file after it was renamed comes first, then what stands in the new one; none twice."""
    lines = as_text(lzma.decompress(story_of("hotplug_pcie_ack").read_bytes()).splitlines(keepends=True))
    path = tmp_path / "vm.qmp"
    path.write_bytes(b"".join(lines[:4]))
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "vm.qmp").write_bytes(b"".join(lines))
    (whole,) = source.Source(str(tmp_path / "whole" / "vm.qmp")).vms
    expected = [(whole.name, it) for it in source.records(whole)]
    stop = threading.Event()
    records = follow(str(path), None, stop).records
    seen = [next(records) for _ in range(4)]
    old = path.rename(tmp_path / "vm.qmp.1")
    with old.open("ab") as file:
        file.write(b"".join(lines[4:6]))
    path.touch()
    seen += [next(records) for _ in range(2)]
    path.write_bytes(b"".join(lines[6:]))
    seen += [next(records) for _ in expected[len(seen) :]]
    stop.set()
    seen += records
    assert seen == expected


def test_a_file_that_was_cut_is_told(tmp_path):
    """Lines may have been cut away unread, so that following ends with a clear error, not in silence."""
    path = tmp_path / "vm.qmp"
    path.write_bytes(b'{"execute": "stop"}\n{"return": {}}\n{"execute": "cont"}\n')
    records = follow(str(path), None, threading.Event()).records
    assert [next(records)[1].kind for _ in range(2)] == ["segment", "command"]
    path.write_bytes(b'{"return": {}}\n')
    with pytest.raises(BadInput, match=r"vm.qmp.* expected a file that grows, saw it was cut to 15 bytes"):
        list(records)
