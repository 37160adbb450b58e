"""Which format a file is, and what becomes of files that are none."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qemustate.errors import BadInput
from qemustate.events.importers.conversation import Skipped
from qemustate.events.importers.files import TraceFile
from qemustate.events.importers.formats import FORMATS, NAMES, read, recognise
from qemustate.events.records import KINDS, LACKS

KNOWN = [
    ("qmp-jsonl", b'{"t": 1.5, "dir": "rx", "raw": "{\\"return\\": {}}"}\n'),
    ("qmp-jsonl", b'\n\n{"raw":"","dir":"tx","t":1}'),
    ("qemu-trace", b'1@2.000003:handle_qmp_command mon 0x1 req: {"execute": "quit"}\n'),
    ("qemu-trace", b'noise\nmonitor_qmp_respond mon 0x1 resp: {"return": {}}\n'),
    ("qmp-text", b'{"QMP": {}}\n'),
    ("qmp-text", b"hello\n-> { 'execute': 'quit' }\n"),
    ("qmp-text", b'{\n  "return": {}\n}'),
]

UNKNOWN = [
    b"\0",
    b"hello world\n",
    b'{"level": "info", "msg": "QEMU started"}\n',
    b"\x7fELF\x02\x01\x01",
    b'2022-01-01 info : nothing of ours [{"return": {}}]\n',
    b"[]",
]


def write(tmp_path, content):
    path = tmp_path / "trace"
    path.write_bytes(content)
    return TraceFile.at(path)


@pytest.mark.parametrize(("name", "content"), KNOWN)
def test_a_format_is_told_by_its_content(tmp_path, name, content):
    """Each format is known by its first bytes."""
    assert recognise(write(tmp_path, content)).name == name


@pytest.mark.parametrize("content", UNKNOWN)
def test_what_is_none_of_them_is_refused(tmp_path, content):
    """Other content is a BadInput that names the formats there are, and shows what was seen."""
    with pytest.raises(BadInput) as raised:
        recognise(write(tmp_path, content))
    assert all(name in raised.value.expected for name in NAMES)
    assert repr(content[:5])[2:-1] in raised.value.seen


def test_a_name_goes_before_looking(tmp_path):
    """A format that is named is taken, whatever the content looks like."""
    assert recognise(write(tmp_path, b"hello"), "qemu-trace").name == "qemu-trace"


@pytest.mark.parametrize(
    "content", [b'{"return": ', b'{"event": 5}\n', b"handle_qmp_command mon 0x1 req: {\n"]
)
def test_a_trace_without_a_message_is_refused(tmp_path, content):
    """A file that looks like a trace and holds no QMP message is a BadInput, told when it has been read."""
    file = write(tmp_path, content)
    form = recognise(file)
    (found,) = form.find([file])
    with pytest.raises(BadInput, match="QMP messages"):
        list(read(form, found, file.shown, Skipped()))


PARTS = (
    [content for _, content in KNOWN]
    + UNKNOWN
    + [b"\xff", b"{", b'"}', b"\r\n", b"\x1f\x8b", b"\xfd7zXZ\0", b"-> "]
)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.lists(st.sampled_from(PARTS) | st.binary(max_size=12), max_size=8).map(b"".join),
    form=st.sampled_from(FORMATS),
)
def test_any_bytes_give_entries_or_bad_input(tmp_path, content, form):
    """Whatever the bytes, each format yields whole entries and then perhaps BadInput, and nothing else."""
    file = write(tmp_path, content)
    try:
        head = file.head()
        assert form.sniff(head) in (True, False)
        for found in form.find([file]):
            assert set(found.lacks) <= set(LACKS)
            for kind, time, body in read(form, found, file.shown, Skipped()):
                assert kind in KINDS
                assert time >= 0
                assert body["origin"][1] >= 1
    except BadInput as error:
        named = str(error)
    else:
        named = file.shown
    assert file.shown in named
