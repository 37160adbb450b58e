"""No secret enters the log, and nothing else is changed."""

import copy

import msgspec
import pytest

from qemustate.events.observe import message, observed
from qemustate.events.records import Record
from qemustate.events.redact import redact_argv, redact_bytes, redact_hmp, redact_message, redact_text
from qemustate.qmp.jsontext import decode
from qemustate.qmp.messages import Command, Event, Failure, Reply

SECRET = "hunter2"

#: Commands with a secret in them: name, arguments, and the arguments as they are kept.
COMMANDS = [
    ("object-add", {"qom-type": "secret", "id": "s", "data": SECRET}, {"data": "***"}),
    ("object-add", {"qom-type": "secret", "id": "s", "props": {"data": SECRET, "format": "raw"}}, {"props": {"data": "***", "format": "raw"}}),
    ("set_password", {"protocol": "vnc", "password": SECRET}, {"password": "***"}),
    ("change-vnc-password", {"password": SECRET}, {"password": "***"}),
    ("change", {"device": "vnc", "target": "password", "arg": SECRET}, {"arg": "***"}),
    ("block_passwd", {"device": "a", "password": SECRET}, {"password": "***"}),
    ("sev-inject-launch-secret", {"packet-header": "x", "secret": SECRET}, {"secret": "***"}),
    ("qom-set", {"path": "/objects/s", "property": "data", "value": SECRET}, {"value": "***"}),
    ("human-monitor-command", {"command-line": f"set_password vnc {SECRET} keep"}, {"command-line": "set_password vnc ***"}),
    ("human-monitor-command", {"command-line": f"change vnc password {SECRET}"}, {"command-line": "change vnc password ***"}),
    ("human-monitor-command", {"command-line": f"object_add secret,id=s,data={SECRET},format=raw"}, {"command-line": "object_add secret,id=s,data=***,format=raw"}),
    ("human-monitor-command", {"command-line": f'object_add {{"qom-type": "secret", "data": "{SECRET}"}}'}, {"command-line": 'object_add {"qom-type": "secret", "data": "***"}'}),
    ("human-monitor-command", {"command-line": f"migrate -d https://me:{SECRET}@h/x"}, {"command-line": "migrate -d https://me:***@h/x"}),
    ("migrate", {"uri": f"tcp://me:{SECRET}@host:4444"}, {"uri": "tcp://me:***@host:4444"}),
    ("blockdev-add", {"driver": "https", "url": f"https://me:{SECRET}@h/x.iso", "cookie": SECRET}, {"url": "https://me:***@h/x.iso", "cookie": "***"}),
    ("blockdev-add", {"driver": "raw", "file": {"driver": "iscsi", "password": SECRET, "user": "u"}}, {"file": {"driver": "iscsi", "password": "***", "user": "u"}}),
    ("drive-mirror", {"device": "a", "target": f"rbd:pool/image:id=admin:key={SECRET}:mon_host=h"}, {"target": "rbd:pool/image:id=admin:key=***:mon_host=h"}),
    ("change-backing-file", {"backing-file": f'json:{{"driver":"https","cookie": "{SECRET}"}}'}, {"backing-file": 'json:{"driver":"https","cookie": "***"}'}),
    ("x-unknown", {"list": [{"password": SECRET}, f"iscsi://u%{SECRET}@h/iqn"]}, {"list": [{"password": "***"}, "iscsi://u%***@h/iqn"]}),
]  # fmt: skip

#: Commands without one, however much they look like it.
INNOCENT = [
    ("object-add", {"qom-type": "memory-backend-ram", "id": "m", "size": 1}),
    ("object-add", {"qom-type": "secret", "id": "s", "file": "/etc/secret"}),
    ("expire_password", {"protocol": "vnc", "time": "never"}),
    ("blockdev-add", {"driver": "luks", "key-secret": "s0", "file": "f", "password-secret": "s1"}),
    ("qom-set", {"path": "/machine", "property": "guest-stats-polling-interval", "value": 2}),
    ("qom-set", {"path": "/objects/s"}),
    ("object-add", {"props": "text"}),
    ("human-monitor-command", {"command-line": "info status"}),
    ("human-monitor-command", {"command-line": "commit all@now = x"}),
    ("human-monitor-command", {"command-line": 7}),
    ("display-update", {"type": "vnc", "vnc": {"password": "on"}}),
    ("change", {"device": "ide1-cd0", "target": "/x.iso", "arg": "raw"}),
    ("send-key", {"keys": [{"type": "qcode", "data": "a"}]}),
    ("migrate", {"uri": "tcp:10.0.0.1:4444"}),
]

#: Words of a command line, and as they are kept.
ARGV = [
    (["-object", f"secret,id=s,data={SECRET},,x,format=raw"], ["-object", "secret,id=s,data=***,format=raw"]),
    (["--object", f'{{"qom-type":"secret","id":"s","data":"{SECRET}"}}'], ["--object", '{"qom-type":"secret","id":"s","data":"***"}']),
    (["-spice", f"port=5900,password={SECRET},seamless-migration=on"], ["-spice", "port=5900,password=***,seamless-migration=on"]),
    (["-vnc", ":0,password=on", "-vnc", ":1,password"], ["-vnc", ":0,password=on", "-vnc", ":1,password"]),
    (["-iscsi", f"user=me,password={SECRET}"], ["-iscsi", "user=me,password=***"]),
    (["-drive", f"file=https://me:{SECRET}@h/x,if=none"], ["-drive", "file=https://me:***@h/x,if=none"]),
    (["-drive", f"file.driver=https,file.cookie={SECRET}"], ["-drive", "file.driver=https,file.cookie=***"]),
    (["-blockdev", f'{{"driver":"https","cookie":"{SECRET}"}}'], ["-blockdev", '{"driver":"https","cookie":"***"}']),
    (["-smbios", f"type=11,value=io.systemd.credential:vmm.x={SECRET}"], ["-smbios", "type=11,value=io.systemd.credential:vmm.x=***"]),
    (["-fw_cfg", f"name=opt/io.systemd.credentials/x,string={SECRET}"], ["-fw_cfg", "name=opt/io.systemd.credentials/x,string=***"]),
    (["-object", "memory-backend-ram,id=data,size=1"], ["-object", "memory-backend-ram,id=data,size=1"]),
    (["-name", "secret,data=x", "-drive", "password-secret=s,key-secret=t"], ["-name", "secret,data=x", "-drive", "password-secret=s,key-secret=t"]),
    ([], []),
]  # fmt: skip


def command(name, arguments, **more):
    """Return the command as a client would send it."""
    body = {"execute": name, "arguments": arguments, "id": "1", **more}
    return Command(body, msgspec.json.encode(body))


@pytest.mark.parametrize(("name", "arguments", "kept"), COMMANDS)
def test_secrets_in_commands(name, arguments, kept):
    """Each secret is replaced, everything else stays, and what was given is not touched."""
    sent = command(name, arguments)
    before = copy.deepcopy(sent.body)

    kind, body = observed(sent)

    expected = {**before, "arguments": {**arguments, **kept}}
    assert (kind, body) == ("command", {"qmp": expected})
    assert sent.body == before
    assert redact_message("command", sent.body) == expected
    assert redact_message("command", expected) == expected
    back = message(Record(1, 0, kind, body))
    assert SECRET.encode() not in back.text
    assert back.text == msgspec.json.encode(expected)


@pytest.mark.parametrize(("name", "arguments"), INNOCENT)
def test_what_is_no_secret_stays(name, arguments):
    """Names of secrets, switches, and data of other kinds come back as the very same object."""
    sent = command(name, arguments)

    assert redact_message("command", sent.body) is sent.body
    assert redact_message("command", sent.body, sent.text) is sent.body
    assert observed(sent)[1] == {"qmp": sent.body}


def test_text_that_is_kept_has_no_secret():
    """A message whose exact text is kept for its form loses the secret in the text too."""
    text = b'{ "execute" : "set_password", "arguments": {"protocol": "vnc", "password": "hunter2", "n": 99999999999999999999} }'

    _, body = observed(Command(decode(text), text))

    assert body == {
        "text": '{"execute":"set_password","arguments":{"protocol":"vnc","password":"***","n":99999999999999999999}}'
    }


def test_arguments_of_odd_shapes():
    """What QEMU will refuse anyhow is kept as it is, without an error of ours."""
    for body in (
        {"execute": "set_password", "arguments": 7},
        {"execute": 7},
        {"exec-oob": "x"},
        {"execute": "change"},
    ):
        assert redact_message("command", body) is body
    body = {"exec-oob": "set_password", "arguments": {"password": SECRET}}
    assert redact_message("command", body)["arguments"] == {"password": "***"}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("qom-get", {"path": "/objects/s", "property": "data"}),
        ("human-monitor-command", {"command-line": "qom-get /objects/s data"}),
    ],
)
def test_a_secret_that_is_asked_for(name, arguments):
    """The answer to a question for a secret is not kept; other answers are."""
    asked = command(name, arguments)
    text = b'{"return": "hunter2", "id": "1"}'

    assert observed(Reply(decode(text), text, asked)) == ("reply", {"qmp": {"return": "***", "id": "1"}})
    other = command("qom-get", {"path": "/machine", "property": "type"})
    assert observed(Reply(decode(text), text, other))[1]["qmp"]["return"] == SECRET
    assert observed(Reply(decode(text), text))[1]["qmp"]["return"] == SECRET
    odd = Command({"execute": "qom-get"}, b"")
    assert observed(Reply(decode(text), text, odd))[1]["qmp"]["return"] == SECRET


def test_what_qemu_repeats():
    """Credentials that QEMU quotes in answers, errors and events are replaced there too."""
    texts = {
        Reply: b'{"return": [{"file": "https://me:hunter2@h/x", "n": [1, {"deep": null}]}], "id": "1"}',
        Failure: b'{"id": "1", "error": {"class": "GenericError", "desc": "no \'https://me:hunter2@h/x\'"}}',
        Event: b'{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "X", "data": {"m": "json:{\\"cookie\\": \\"hunter2\\"}"}}',
    }
    for cls, text in texts.items():
        _, body = observed(cls(decode(text), text))
        assert SECRET not in str(body)
        assert str(body).replace("***", SECRET) == str({"qmp": decode(text)})


@pytest.mark.parametrize(("argv", "kept"), ARGV)
def test_secrets_on_the_command_line(argv, kept):
    """Each secret on a command line is replaced, and no other word is changed."""
    before = list(argv)

    assert redact_argv(argv) == kept
    assert argv == before
    assert redact_argv(kept) == kept


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("  set_password spice x y", "  set_password spice ***"),
        ("change vnc passwd x", "change vnc passwd ***"),
        ("block_passwd a x", "block_passwd a ***"),
        ("qom-set /objects/s data x", "qom-set /objects/s data ***"),
        ("set_password vnc", "set_password vnc"),
        ("change ide1-cd0 password.iso", "change ide1-cd0 password.iso"),
        ("drive_add 0 file=ssh://u:p@h/x", "drive_add 0 file=ssh://u:***@h/x"),
        ("netdev_add user,id=data,net=1", "netdev_add user,id=data,net=1"),
    ],
)
def test_lines_of_the_human_monitor(line, kept):
    """Passwords typed at the human monitor are replaced."""
    assert redact_hmp(line) == kept


def test_passwords_with_odd_characters():
    """A password does not end at the first ``@`` or ``:`` in it, and a host is not taken for one."""
    assert redact_text("x://u:p@ss:w@h/p@th") == "x://u:***@h/p@th"
    assert redact_text("http://[::1]:80/a@b") == "http://[::1]:80/a@b"
    assert redact_text("nbd://host:10809/export@2") == "nbd://host:10809/export@2"
    assert redact_text("a@b key= c") == "a@b key= c"


@pytest.mark.parametrize(
    ("data", "kept"),
    [
        (
            b'{"execute": "set_password", "arguments": {"password": "hunter2"',
            b'{"execute": "set_password", "arguments": {"password": "***"',
        ),
        (b"{'arguments': {'password': 'hunt", b"{'arguments': {'password': '***"),
        (b'"command-line": "set_password vnc hun\\"ter2"}\xff', b'"command-line": "***"}\xff'),
        (b"\xff\x00 garbage", b"\xff\x00 garbage"),
    ],
)
def test_bytes_that_are_no_message(data, kept):
    """In broken input whatever may be a secret is replaced, also where the text ends in it."""
    assert redact_bytes(data) == kept
