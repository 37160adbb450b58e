"""A chardev says the same on a command line and in QMP."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qemustate.errors import BadInput
from qemustate.hardware.chardev import flat, nested
from qemustate.hardware.properties import Chardev
from qemustate.qmp.schema import Schema

#: What is on the command line, and what chardev-add is given for it.
BOTH = [
    ({"backend": "null"}, {"type": "null", "data": {}}),
    (
        {"backend": "socket", "path": "p", "server": True, "wait": False},
        {
            "type": "socket",
            "data": {"addr": {"type": "unix", "data": {"path": "p"}}, "server": True, "wait": False},
        },
    ),
    (
        {"backend": "socket", "path": "p", "abstract": True, "server": False, "reconnect": 3},
        {
            "type": "socket",
            "data": {
                "addr": {"type": "unix", "data": {"path": "p", "abstract": True}},
                "server": False,
                "reconnect": 3,
            },
        },
    ),
    (
        {"backend": "socket", "host": "::1", "port": "0", "to": 9, "ipv4": False, "server": False},
        {
            "type": "socket",
            "data": {
                "addr": {"type": "inet", "data": {"host": "::1", "port": "0", "to": 9, "ipv4": False}},
                "server": False,
            },
        },
    ),
    (
        {"backend": "socket", "fd": "vu", "server": False},
        {"type": "socket", "data": {"addr": {"type": "fd", "data": {"str": "vu"}}, "server": False}},
    ),
    (
        {"backend": "udp", "host": "h", "port": "7", "localaddr": "", "localport": "0"},
        {
            "type": "udp",
            "data": {
                "remote": {"type": "inet", "data": {"host": "h", "port": "7"}},
                "local": {"type": "inet", "data": {"host": "", "port": "0"}},
            },
        },
    ),
    (
        {"backend": "file", "path": "o", "input-path": "i", "append": True, "logfile": "l"},
        {"type": "file", "data": {"out": "o", "in": "i", "append": True, "logfile": "l"}},
    ),
    ({"backend": "serial", "path": "/dev/ttyS0"}, {"type": "serial", "data": {"device": "/dev/ttyS0"}}),
    ({"backend": "pipe", "path": "f"}, {"type": "pipe", "data": {"device": "f"}}),
    ({"backend": "pty", "path": "link"}, {"type": "pty", "data": {"path": "link"}}),
    ({"backend": "mux", "chardev": "c"}, {"type": "mux", "data": {"chardev": "c"}}),
    ({"backend": "ringbuf", "size": 4096}, {"type": "ringbuf", "data": {"size": 4096}}),
    ({"backend": "spicevmc", "name": "vdagent"}, {"type": "spicevmc", "data": {"type": "vdagent"}}),
    ({"backend": "spiceport", "name": "org.x"}, {"type": "spiceport", "data": {"fqdn": "org.x"}}),
    ({"backend": "stdio", "signal": False}, {"type": "stdio", "data": {"signal": False}}),
]
IDS = [given["backend"] for given, _ in BOTH]


@pytest.mark.parametrize(("members", "backend"), BOTH, ids=IDS)
def test_a_chardev_nests_and_comes_back(members, backend):
    """Nested as chardev-add wants it, and flat again, each chardev is what it was."""
    arguments = {"id": "c", "backend": backend}

    assert nested(Chardev(id="c", **members)) == arguments
    assert flat(arguments) == Chardev(id="c", **members)


def test_what_is_a_default_on_one_side_only_is_said():
    """A socket that does not say `server` is a client on the command line and a server in QMP."""
    client = nested(Chardev(id="c", backend="socket", path="p"))
    server = flat(
        {"id": "c", "backend": {"type": "socket", "data": {"addr": {"type": "unix", "data": {"path": "p"}}}}}
    )

    assert client["backend"]["data"]["server"] is False
    assert server == {"id": "c", "backend": "socket", "path": "p", "server": True, "wait": False}


def test_older_spellings_of_the_command_line_are_read():
    """`tty`, `delay` and numbers as ports are what QMP has other words for."""
    socket = Chardev(id="c", backend="socket", host="h", port=7, delay=False)

    assert nested(Chardev(id="c", backend="tty", path="t"))["backend"]["type"] == "serial"
    assert nested(socket)["backend"]["data"] == {
        "addr": {"type": "inet", "data": {"host": "h", "port": "7"}},
        "server": False,
        "nodelay": True,
    }
    assert nested(Chardev(id="c", backend="udp", port=7))["backend"]["data"] == {
        "remote": {"type": "inet", "data": {"host": "localhost", "port": "7"}}
    }


@pytest.mark.parametrize(
    ("members", "seen"),
    [
        ({"backend": "socket"}, "none of them"),
        ({"backend": "socket", "path": "p", "fd": "f"}, "unix and fd"),
        ({"backend": "stdio", "mux": True}, "mux"),
    ],
)
def test_what_qmp_has_no_place_for_is_bad_input(members, seen):
    """A socket with no or two addresses, and a mux without a chardev of its own, are refused with what was seen."""
    with pytest.raises(BadInput, match=f"chardev c: .*{seen}"):
        nested(Chardev(id="c", **members))


@given(
    st.sampled_from(["null", "ringbuf", "vc", "something-new"]),
    st.dictionaries(
        st.text(min_size=1).filter(lambda name: name not in ("id", "backend", "mux")), st.integers()
    ),
)
def test_members_nobody_knows_pass_through(kind, members):
    """A member that is not in the tables goes to QEMU and comes back as it is."""
    part = Chardev(id="c", backend=kind, **members)

    assert flat(nested(part)) == part


@pytest.mark.parametrize("arguments", [{}, {"backend": "null"}, {"backend": {"type": "null", "data": 1}}])
def test_arguments_that_are_not_chardev_adds_are_bad_input(arguments):
    """What has no backend is refused, not guessed at."""
    with pytest.raises(BadInput, match="backend"):
        flat(arguments)


#: Backends whose members are called the same in QMP, with some of these.
ALIKE = {
    "parallel": {"path": "/dev/parport0"},
    "msmouse": {},
    "wctablet": {},
    "braille": {},
    "testdev": {},
    "dbus": {"name": "org.x"},
    "qemu-vdagent": {"mouse": True, "clipboard": False},
    "vc": {"cols": 80, "rows": 25},
    "memory": {"size": 4096},
    "hub": {"chardevs": ["a", "b"]},
    "console": {},
}
#: Version -> what it does not have.
LACKS = {"7.2": {"hub"}, "10.0": {"console"}}


def test_what_is_nested_is_what_qemu_describes(live):
    """By QEMU's own schema every backend that it has takes what is nested for it, and there is none that was not tried."""
    vm = live("-M", "none")
    reply = vm.ok("query-qmp-schema")
    schema = Schema(reply)
    parts = [
        Chardev(id="c", **members) for members, _ in BOTH if members != {"backend": "pty", "path": "link"}
    ]
    parts += [Chardev(id="c", backend=name, **members) for name, members in ALIKE.items()]
    parts.append(Chardev(id="c", backend="pty"))
    tried = [part for part in parts if part.kind not in LACKS[vm.version]]
    kinds = next(it["values"] for it in reply if set(it.get("values", ())) > {"wctablet", "ringbuf"})

    assert [problem for part in tried for problem in schema.check_command("chardev-add", nested(part))] == []
    assert {part.kind for part in tried} == set(kinds)
