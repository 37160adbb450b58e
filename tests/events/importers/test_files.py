"""Foreign files: pieces, lines, compression and its dangers."""

import gzip
import lzma

import pytest

from qemustate.errors import BadInput
from qemustate.events.importers import files
from qemustate.events.importers.files import TraceFile, lines, read_beside

TEXT = b"one\n\nthree\r\nno end"
NUMBERED = [(1, b"one\n"), (2, b"\n"), (3, b"three\r\n"), (4, b"no end")]

COMPRESSIONS = {"plain": bytes, "gz": gzip.compress, "xz": lzma.compress}


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


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress], ids=["gz", "xz"])
def test_a_compressed_file_cut_anywhere_is_named(tmp_path, compress):
    """A compressed file that is cut at any byte behind its magic is refused by name, never taken as whole."""
    whole = compress(TEXT)
    for cut in range(6, len(whole)):
        with pytest.raises(BadInput, match="trace") as raised:
            list(lines(write(tmp_path, whole[:cut])))
        assert raised.value.expected == "a whole compressed file"


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress], ids=["gz", "xz"])
def test_several_compressed_members_are_one_file(tmp_path, compress):
    """Compressed files that were concatenated read as the concatenated content."""
    assert list(lines(write(tmp_path, compress(b"a\nb") + compress(b"c\n")))) == [(1, b"a\n"), (2, b"bc\n")]


def test_damage_in_a_compressed_file_is_named(tmp_path):
    """A flipped byte in the compressed data is a BadInput."""
    data = bytearray(gzip.compress(TEXT * 10))
    data[20] ^= 0xFF
    with pytest.raises(BadInput, match="damage"):
        list(lines(write(tmp_path, bytes(data))))


def test_a_bomb_is_refused(tmp_path, monkeypatch):
    """What expands beyond the limit is refused before all of it is there; a plain file of that size is not."""
    monkeypatch.setattr(files, "EXPANSION_FREE", 1 << 20)
    content = b"\n" * (8 << 20)
    with pytest.raises(BadInput, match="at most 200 times its size"):
        list(lines(write(tmp_path, gzip.compress(content))))
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
