"""Recorded sockets: lines into messages, and what the file beside tells."""

import json

import pytest

from qemustate.errors import BadInput
from qemustate.events.observe import parsed

GREETING = '{"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 10}, "package": ""}, "capabilities": ["oob"]}}\r\n'
OK = '{"return": {}, "id": "1"}\r\n'
META = {"argv": ["qemu-system-x86_64", "-S"], "t_start": 99.9, "exit": 0, "t_exit": 200.0}


def jsonl(*lines, start=100.0):
    """Return a trace of (dir, raw), one second apart."""
    return b"".join(
        json.dumps({"t": start + number, "dir": way, "raw": raw}).encode() + b"\n"
        for number, (way, raw) in enumerate(lines)
    )


SESSION = jsonl(("rx", GREETING), ("tx", '{"execute": "qmp_capabilities", "id": "1"}\n'), ("rx", OK))


def test_a_whole_life(imported):
    """The start, the connection, the messages, the end of the stream and the exit come in that order, with times."""
    it = imported("qmp-jsonl", SESSION, meta=META)
    assert it.said == ["spawned", "opened", "greeting", "qmp_capabilities", "reply", "lost", "exited"]
    assert it.times == [
        99_900_000,
        100_000_000,
        100_000_000,
        101_000_000,
        102_000_000,
        102_000_000,
        200_000_000,
    ]
    assert it.bodies[0]["argv"] == META["argv"]
    assert it.bodies[0]["late"] is False
    assert it.bodies[1]["first"] is True
    assert it.bodies[-1]["status"] == 0
    assert it.lacks == ()


def test_every_entry_names_its_line(imported):
    """The origin of an entry is the file and the line it was completed by."""
    it = imported("qmp-jsonl", b"\n" + SESSION, meta=META)
    assert it.origins[1:6] == [
        ("t0.jsonl", 2),
        ("t0.jsonl", 2),
        ("t0.jsonl", 3),
        ("t0.jsonl", 4),
        ("t0.jsonl", 4),
    ]
    assert {it.origins[0], it.origins[-1]} == {("t0.meta.json", 1)}


@pytest.mark.parametrize(
    ("change", "late"),
    [
        ({}, False),
        ({"t_start": 99.5}, False),
        ({"t_start": 99.4}, True),
        ({"t_start": None}, True),
        ({"t_start": "x"}, True),
    ],
)
def test_a_trace_is_late_when_its_first_line_is(imported, change, late):
    """More than half a second after the start, or with no start, the beginning was not seen."""
    it = imported("qmp-jsonl", SESSION, meta=META | change)
    assert it.bodies[0]["late"] is late
    assert it.bodies[1]["first"] is not late


@pytest.mark.parametrize(
    ("name", "change", "late"),
    [("vm.c1.jsonl", {}, False), ("vm.c2.jsonl", {}, True), ("vm.c10.jsonl", {}, True), ("vm.jsonl", {"late": True}, True)],
)  # fmt: skip
def test_a_later_client_has_not_seen_the_beginning(imported, name, change, late):
    """However soon it comes, a client that is not the first knows nothing of what the one before it did."""
    it = imported("qmp-jsonl", SESSION, meta=META | change, names=[name])
    assert it.bodies[0]["late"] is late


@pytest.mark.parametrize(("status", "how"), [(3, {"status": 3}), (-9, {"signal": 9})])
def test_how_the_process_ended(imported, status, how):
    """A negative exit is the signal."""
    body = imported("qmp-jsonl", SESSION, meta=META | {"exit": status}).bodies[-1]
    assert {key: value for key, value in body.items() if key != "origin"} == how


def test_no_end_is_made_up(imported):
    """Without an exit in the file beside, or without that file, nothing is said about start and end."""
    it = imported("qmp-jsonl", SESSION, meta={"argv": ["qemu"], "t_start": 99.9})
    assert it.kinds[-1] == "reply"
    assert it.lacks == ("process",)


def test_nothing_beside(imported):
    """Without the file beside, the trace begins with a connection that may not be the first."""
    it = imported("qmp-jsonl", SESSION)
    assert it.said == ["opened", "greeting", "qmp_capabilities", "reply"]
    assert it.bodies[0]["first"] is False
    assert it.lacks == ("beginning", "process")


def test_messages_are_not_lines(imported):
    """Several messages in a line, and one over several lines, are found, each direction on its own."""
    it = imported(
        "qmp-jsonl",
        jsonl(
            ("tx", '{"execute":"stop","id":"1"}{"execute":"cont","id":"2"}{"exec'),
            ("rx", GREETING),
            ("tx", 'ute":"quit","id":"3"}'),
            ("rx", OK + OK.replace("1", "2") + '{"timestamp": {"seconds": 1, "microseconds": 2}'),
            ("rx", ', "event": "STOP"}\r\n'),
        ),
    )
    assert it.said == ["opened", "stop", "cont", "greeting", "quit", "reply", "reply", "STOP"]
    assert [line for _, line in it.origins] == [1, 1, 1, 2, 3, 4, 4, 5]


def test_what_is_no_message_is_a_record(imported):
    """Bytes that QEMU cannot take, or a message cut off by the end of the stream, are kept as malformed."""
    it = imported("qmp-jsonl", jsonl(("tx", "garbage\n"), ("tx", "[]\n"), ("rx", '{"return": ')))
    assert it.kinds == ["opened", "malformed", "malformed", "malformed"]
    assert [(body["from"], body["data"]) for body in it.bodies[1:]] == [
        ("client", b"garbage"),
        ("client", b"[]"),
        ("qemu", b'{"return": '),
    ]


def test_exact_text_is_kept_where_it_cannot_be_printed_again(imported):
    """Bytes that are no UTF-8, 65-bit integers and infinities come through as they were."""
    texts = ['{"return": 36893488147419103232, "id": "1"}', '{"return": inf}', '{"return": "\udc80"}']
    it = imported("qmp-jsonl", jsonl(*(("rx", text + "\r\n") for text in texts)))
    values = [parsed(body)["return"] for body in it.bodies[1:]]
    assert values == [2**65, float("inf"), "\udc80"]


@pytest.mark.parametrize(
    "line",
    [
        b"no json",
        b"[]",
        b'{"t": 1, "dir": "up", "raw": ""}',
        b'{"t": 1, "dir": "rx"}',
        b'{"t": 1, "dir": "rx", "raw": "\\ud83d"}',
        b"\xff\xfe",
    ],
)
def test_a_line_that_cannot_be_read_is_counted_and_left_out(imported, line):
    """Such a line is counted with its number, and those around it are read."""
    it = imported("qmp-jsonl", SESSION + line + b"\n" + SESSION)
    assert it.skipped.count == 1
    assert it.skipped.first[0][:2] == ("t0.jsonl", 4)
    assert it.kinds.count("greeting") == 2


def test_only_the_first_ten_are_named(imported):
    """Of many unreadable lines ten are named, and all are counted."""
    it = imported("qmp-jsonl", SESSION + b"x\n" * 25)
    assert it.skipped.count == 25
    told = list(it.skipped.lines())
    assert len(told) == 11
    assert told[0].startswith("t0.jsonl, line 4: not read: ")
    assert told[-1] == "... and 15 more lines"


@pytest.mark.parametrize("t", ["1e400", "-1", "null", '"x"', "1e15", "[]"])
def test_a_time_that_is_none_is_unknown(imported, t):
    """A line with an impossible time is read, and its time is 0."""
    line = b'{"t": %s, "dir": "rx", "raw": "{\\"return\\": 1}\\n"}\n' % t.encode()
    it = imported("qmp-jsonl", line)
    assert (it.kinds, it.times, it.skipped.count) == (["opened", "reply"], [0, 0], 0)


def test_successive_clients_are_one_vm(imported):
    """Files of one process are its connections: one start, one end, a lost connection between."""
    it = imported("qmp-jsonl", SESSION, SESSION, meta=META)
    one = ["greeting", "qmp_capabilities", "reply"]
    assert it.said == ["spawned", "opened", *one, "lost", "opened", *one, "lost", "exited"]
    assert it.bodies[5]["by"] == "us"
    assert it.bodies[6]["first"] is False


def test_a_second_process_is_a_second_start(imported, tmp_path):
    """Files of two processes are two lives, one after the other."""
    files = ["a.jsonl", "b.jsonl"]
    (tmp_path / "a.meta.json").write_text(json.dumps(META))
    (tmp_path / "b.meta.json").write_text(json.dumps(META | {"t_start": 299.9}))
    it = imported("qmp-jsonl", SESSION, SESSION, names=files)
    assert [kind for kind in it.kinds if kind in ("spawned", "exited")] == ["spawned", "exited"] * 2


def test_a_greeting_in_the_middle_is_another_connection(imported):
    """One file may hold several connections; each new one may have missed facts."""
    it = imported("qmp-jsonl", SESSION + SESSION)
    assert it.kinds.count("lost") == 1
    assert it.kinds[4:7] == ["lost", "opened", "greeting"]


@pytest.mark.parametrize("meta", [[], 1, "x"])
def test_a_file_beside_that_is_no_object_is_refused(imported, meta):
    """The file beside must hold an object."""
    with pytest.raises(BadInput, match="a JSON object"):
        imported("qmp-jsonl", SESSION, meta=meta)


def test_secrets_do_not_come_through(imported):
    """A password in a command and a secret on the command line are replaced."""
    meta = META | {"argv": ["qemu", "-object", "secret,id=s,data=hunter2"]}
    raw = '{"execute": "set_password", "arguments": {"protocol": "vnc", "password": "hunter2"}}\n'
    it = imported("qmp-jsonl", jsonl(("tx", raw)), meta=meta)
    assert b"hunter2" not in repr(it.entries).encode()
    assert it.said[2] == "set_password"


def test_a_secret_that_was_asked_for_does_not_come_through(imported):
    """A reply that is the secret itself is replaced, as what was asked for tells."""
    asked = '{"execute": "qom-get", "arguments": {"path": "/objects/s", "property": "data"}, "id": 7}\n'
    it = imported(
        "qmp-jsonl",
        jsonl(("tx", asked), ("rx", '{"return": "hunter2", "id": 7}\r\n'), ("tx", '{"password": "hunter2"')),
    )
    assert it.kinds == ["opened", "command", "reply", "malformed"]
    assert "hunter2" not in repr(it.entries)


def test_every_recording_beside_the_project(shared, imported):
    """Each real recording is read with no line left out, and with the messages that are in it."""
    for path in sorted(shared.glob("qmp-jsonl/*/*.jsonl")):
        it = imported("qmp-jsonl", path.read_bytes())
        assert it.skipped.count == 0, path
        asked = sum(json.loads(line)["raw"].count('"execute"') for line in path.read_text().splitlines())
        if "proto_errors" not in path.name:
            assert it.kinds.count("malformed") == 0, path
            told = json.dumps([parsed(body) for body in it.bodies[1:]]).count('"execute"')
            assert told == asked, path
