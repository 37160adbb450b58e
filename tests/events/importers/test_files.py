"""Foreign files: pieces, lines, compression and its dangers."""

import gzip
import lzma
import sys

import pytest
import zstandard

from qemustate.errors import BadInput
from qemustate.events.importers import files
from qemustate.events.importers.files import TraceFile, lines, read_beside

TEXT = b"one\n\nthree\r\nno end"
NUMBERED = [(1, b"one\n"), (2, b"\n"), (3, b"three\r\n"), (4, b"no end")]

COMPRESSIONS = {"plain": bytes, "gz": gzip.compress, "xz": lzma.compress, "zst": zstandard.compress}
PACKED = pytest.mark.parametrize("compress", list(COMPRESSIONS.values())[1:], ids=list(COMPRESSIONS)[1:])


def write(folder, data, name="trace"):
    path = folder / name
    path.write_bytes(data)
    return TraceFile.at(path)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64 << 10])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_lines_do_not_depend_on_the_pieces(tmp_path, monkeypatch, compression, size):
    """Lines and their numbers are the same whatever the size of the pieces and the compression."""
    monkeypatch.setattr(files, "_PIECE", size)
    file = write(tmp_path, COMPRESSIONS[compression](TEXT))
    assert list(lines(file)) == NUMBERED
    assert file.head() == TEXT


@PACKED
def test_a_compressed_file_cut_anywhere_is_named(tmp_path, compress):
    """A compressed file that is cut at any byte behind its magic is refused by name, never taken as whole."""
    whole = compress(TEXT)
    for cut in range(6, len(whole)):
        with pytest.raises(BadInput, match="trace") as raised:
            list(lines(write(tmp_path, whole[:cut])))
        assert raised.value.expected == "a whole compressed file"


@PACKED
def test_several_compressed_members_are_one_file(tmp_path, compress):
    """Compressed files that were concatenated read as the concatenated content."""
    assert list(lines(write(tmp_path, compress(b"a\nb") + compress(b"c\n")))) == [(1, b"a\n"), (2, b"bc\n")]


def test_damage_in_a_compressed_file_is_named(tmp_path):
    """A flipped byte in the compressed data is a BadInput."""
    data = bytearray(gzip.compress(TEXT * 10))
    data[20] ^= 0xFF
    with pytest.raises(BadInput, match="damage"):
        list(lines(write(tmp_path, bytes(data))))


@PACKED
def test_a_bomb_is_refused(tmp_path, monkeypatch, compress):
    """What expands beyond the limit is refused before all of it is there; a plain file of that size is not."""
    monkeypatch.setattr(files, "EXPANSION_FREE", 1 << 20)
    content = b"\n" * (8 << 20)
    with pytest.raises(BadInput, match="at most 200 times its size"):
        list(lines(write(tmp_path, compress(content))))
    assert sum(1 for _ in lines(write(tmp_path, content))) == len(content)


def test_an_overlong_line_is_cut_and_the_next_is_whole(tmp_path, monkeypatch):
    """Of a line beyond the limit one byte more than the limit comes, and reading goes on behind it."""
    monkeypatch.setattr(files, "LINE_LIMIT", 10)
    monkeypatch.setattr(files, "_PIECE", 4)
    found = list(lines(write(tmp_path, b"x" * 1000 + b"\nnext\n" + b"y" * 1000)))
    assert found == [(1, b"x" * 11), (2, b"next\n"), (3, b"y" * 11)]


@pytest.mark.parametrize(
    ("make", "seen"),
    [
        (lambda path: path.mkdir(), "Is a directory"),
        (lambda path: path.write_bytes(b""), "an empty file"),
        (lambda path: path.write_bytes(gzip.compress(b"")), "an empty file"),
        (lambda path: None, "No such file"),
        (lambda path: path.symlink_to(path), "symbolic links"),
    ],
    ids=["directory", "empty", "empty gz", "absent", "symlink loop"],
)
def test_what_is_no_file_with_content_is_refused(tmp_path, make, seen):
    """A directory, an empty file and a file that is not there are each a BadInput that says so."""
    make(tmp_path / "trace")
    with pytest.raises(BadInput, match=seen):
        TraceFile.at(tmp_path / "trace").head()


@pytest.mark.parametrize(
    ("shown", "stem"),
    [
        ("libvirtd.log.2.gz", "libvirtd"),
        ("libvirtd.log-20231023.zst", "libvirtd"),
        ("vm.7.2", "vm.7.2"),
        ("a/b/life.src.jsonl.xz", "life.src"),
        ("vm.log", "vm"),
        ("vm", "vm"),
        ("-", "vm"),
        (".log", ".log"),
        ("x.10.0.qmp.gz", "x.10.0"),
    ],
)
def test_the_name_of_the_vm_is_that_of_the_file(shown, stem):
    """The VM is named as the file, without the endings of formats and compression."""
    assert TraceFile.at(shown).stem == stem


def test_what_lies_beside_is_found_and_read(tmp_path):
    """NAME.meta.json is found beside NAME.jsonl.xz; a damaged one is a BadInput that names it."""
    file = write(tmp_path, b"", "a.jsonl.xz")
    assert read_beside(file, ".meta.json") is None
    beside = tmp_path / "a.meta.json"
    beside.write_text('{"exit": 0}')
    assert read_beside(file, ".meta.json") == ("a.meta.json", {"exit": 0})
    beside.write_text("{")
    with pytest.raises(BadInput, match=r"a\.meta\.json"):
        read_beside(file, ".meta.json")


def test_zstandard_without_its_package_is_told(tmp_path, monkeypatch):
    """Where the package for Zstandard is missing, one clear message says which it is."""
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(BadInput, match=r"the package zstandard is needed \(pip install 'qemustate\[zst\]'\)"):
        list(lines(write(tmp_path, zstandard.compress(TEXT))))


@PACKED
def test_a_bomb_within_one_block_is_refused(tmp_path, monkeypatch, compress):
    """Zeros by the gigabyte are refused after the free amount, long before they are all expanded."""
    monkeypatch.setattr(files, "EXPANSION_FREE", 1 << 20)
    taken = 0
    with pytest.raises(BadInput, match="at most 200 times its size"):  # noqa: PT012
        for piece in files.pieces(write(tmp_path, compress(bytes(64 << 20)))):
            taken += len(piece)
    assert taken <= 64 << 20


BLOCKS = b"a\nb\n more of b\n\tand more\nc\n\nd\n  e\nlast"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64 << 10])
def test_blocks_keep_a_line_and_its_continuation_together(tmp_path, monkeypatch, size):
    """Blocks are whole lines in order; none begins with the continuation of a line before it."""
    monkeypatch.setattr(files, "_PIECE", size)
    found = list(files.blocks(write(tmp_path, BLOCKS)))
    assert b"".join(block for _, block in found) == BLOCKS
    numbers = [number for number, _ in found]
    assert numbers == [1 + b"".join(block for _, block in found[:n]).count(b"\n") for n in range(len(found))]
    assert not any(block.startswith((b" ", b"\t")) for _, block in found)


def test_an_overlong_line_does_not_fill_the_memory(tmp_path, monkeypatch):
    """Of an overlong line a block holds the beginning, and the lines behind it come with their numbers."""
    monkeypatch.setattr(files, "LINE_LIMIT", 10)
    monkeypatch.setattr(files, "_PIECE", 4)
    found = list(files.blocks(write(tmp_path, b"x" * 1000 + b"\nnext\nand\n")))
    assert b"".join(block for _, block in found).splitlines()[1:] == [b"next", b"and"]
    assert sum(len(block) for _, block in found) < 40


def test_the_parts_of_a_rotated_log_sort_by_age():
    """Rotated parts of one log sort from the oldest to the newest, and other files are other logs."""
    names = ["d.log", "d.log.1", "d.log.10.gz", "d.log.2.xz", "e.log-20240102.gz", "e.log-20231231", "e.log"]
    ordered = sorted(names, key=lambda name: TraceFile.at(name).part)
    assert ordered == [
        "d.log.10.gz", "d.log.2.xz", "d.log.1", "d.log", "e.log-20231231", "e.log-20240102.gz", "e.log",
    ]  # fmt: skip
    assert TraceFile.at("d.log.3").part[0] == TraceFile.at("d.log").part[0]
