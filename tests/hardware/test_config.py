"""A command line as data: built, read from argv, read from TOML, and the same each way."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qemustate.errors import BadInput
from qemustate.hardware.config import Config
from qemustate.hardware.options import FLAGS, KEYED, NAMES, PLAIN
from qemustate.hardware.properties import Blockdev, Chardev, Device, Fd, Netdev, Object

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=10)
KEYS = st.text("abz-", min_size=1, max_size=6)
MAPS = st.dictionaries(KEYS, TEXTS, min_size=1, max_size=4)


def values(option):
    """Return a strategy for what an option may be given: texts only, which come back as they are."""
    if option in FLAGS:
        return st.just(True)
    if option in PLAIN:
        return TEXTS
    if option == "cpu":
        feature = TEXTS.filter(lambda text: "," not in text)
        return st.builds(
            lambda model, more: {"model": model, **more}, feature, st.dictionaries(KEYS, feature)
        )
    return MAPS


OPTIONS = st.lists(st.sampled_from(sorted(NAMES - {"h", "help"})), unique=True, max_size=8).flatmap(
    lambda names: st.fixed_dictionaries({name: values(name) for name in names})
)


@given(OPTIONS)
def test_a_command_line_comes_back(options):
    """Every option, with any text in it, is read from the command line that it makes."""
    config = Config("qemu", options)

    assert Config.from_argv(config.argv()) == config


@given(st.lists(TEXTS, max_size=8))
def test_any_command_line_is_read_and_kept(words):
    """A foreign command line is read, or is BadInput, and what was read is stable: it reads as itself."""
    try:
        config = Config.from_argv(["qemu", *words])
        argv = config.argv()
    except BadInput:
        return
    assert Config.from_argv(argv) == config


def test_parts_are_added():
    """A part goes to its option, a map of options is merged, and nothing is changed in place."""
    empty = Config("qemu", {"machine": "q35", "kernel": "a"})
    config = empty.add(
        Device(driver="d", id="d0"),
        Object({"qom-type": "iothread", "id": "io0"}),
        {"machine": {"accel": "tcg"}, "kernel": "b", "fw_cfg": {"name": "opt/a", "string": "x"}},
        {"fw_cfg": [{"name": "opt/b", "string": "y"}]},
        Device(driver="d", id="d1"),
    )

    assert empty.argv() == ["qemu", "-machine", "q35", "-kernel", "a"]
    assert config.options["machine"] == {"type": "q35", "accel": "tcg"}
    assert [part.id for part in config.parts()] == ["d0", "d1", "io0"]
    assert config.all("fw_cfg") == [{"name": "opt/a", "string": "x"}, {"name": "opt/b", "string": "y"}]
    assert config.all("kernel") == ["b"]
    assert config.without("device", "object", "fw_cfg").argv() == [
        "qemu", "-machine", "q35,accel=tcg", "-kernel", "b",
    ]  # fmt: skip


def test_a_config_does_not_change():
    """Neither what it was made of nor what is made of it changes it."""
    device = Device(driver="d", id="d0")
    config = Config("qemu", {"machine": {"type": "q35"}}).add(device)
    before = config.argv()
    device["id"] = "other"
    config.add({"machine": {"accel": "tcg"}})

    assert config.argv() == before
    with pytest.raises(TypeError):
        config.options["S"] = True


def test_null_is_a_value_of_json():
    """A block node that has no backing one says so with null, which key=value cannot say."""
    argv = ["qemu", "-blockdev", '{"driver":"qcow2","node-name":"n","file":"f","backing":null}']

    assert Config.from_argv(argv).argv() == argv
    with pytest.raises(BadInput, match="backing"):
        Config.from_argv(argv).argv((2, 8))


def test_an_option_of_a_newer_qemu_is_kept():
    """What is not in the table is kept as it came."""
    argv = ["qemu", "-brand-new", "-newer", "a,b", "-S"]

    assert Config.from_argv(argv).argv() == argv


def test_two_fw_cfg_entries_are_two_options():
    """Two fw_cfg entries make two options, each with its own name and nothing of the other's."""
    config = Config("qemu", {"fw_cfg": [{"name": "opt/a", "file": "/a"}, {"name": "opt/b", "string": "b"}]})

    assert config.argv()[1:] == ["-fw_cfg", "opt/a,file=/a", "-fw_cfg", "opt/b,string=b"]


def test_commas_in_paths_inject_nothing():
    """A comma in a path stays in the path, in every form."""
    path = "/a,b,server=on"
    config = Config(
        "qemu",
        {
            "kernel": path,
            "name": path,
            "fw_cfg": {"name": "opt/a", "file": path},
            "chardev": {"backend": "socket", "id": "c", "path": path},
            "blockdev": Blockdev({"driver": "file", "node-name": "n", "filename": path}),
        },
    )
    escaped = path.replace(",", ",,")

    assert config.argv()[1:] == [
        "-kernel", path,
        "-name", f"guest={escaped}",
        "-fw_cfg", f"opt/a,file={escaped}",
        "-chardev", f"socket,id=c,path={escaped}",
        "-blockdev", f'{{"driver":"file","node-name":"n","filename":"{path}"}}',
    ]  # fmt: skip


def test_descriptors_are_told():
    """Every descriptor in a value must be inherited, each once, in order."""
    config = Config("qemu", {"incoming": Fd(9)}).add(
        Netdev(type="tap", id="n", fds=[Fd(3), Fd(4)], vhostfds=[Fd(5)]),
        Device(driver="vhost-vsock-pci", vhostfd=Fd(4)),
    )

    assert config.fds == (9, 3, 4, 5)


def test_a_descriptor_may_stand_for_a_path():
    """Where QEMU wants a path, a descriptor goes in a set, and the set's path stands in its place."""
    file = {"driver": "file", "filename": Fd(7)}
    config = Config("qemu").add(
        Blockdev({"driver": "raw", "node-name": "a", "file": file}),
        Blockdev({"driver": "raw", "node-name": "b", "file": file}),
        Chardev(backend="file", id="c", path=Fd(8)),
    )

    assert config.argv()[1:] == [
        "-add-fd", "fd=7,set=1073741831", "-add-fd", "fd=8,set=1073741832",
        "-blockdev", '{"driver":"raw","node-name":"a","file":{"driver":"file","filename":"/dev/fdset/1073741831"}}',
        "-blockdev", '{"driver":"raw","node-name":"b","file":{"driver":"file","filename":"/dev/fdset/1073741831"}}',
        "-chardev", "file,id=c,path=/dev/fdset/1073741832",
    ]  # fmt: skip
    assert config.fds == (7, 8)


def test_a_command_line_of_somebody_else():
    """What ps shows becomes the same maps, whichever way it is written."""
    config = Config.from_argv(
        ["/usr/bin/qemu", "-name", "guest=vm,debug-threads=on", "-M", "q35,accel=kvm", "-m", "size=2097152k", "-S", "-device",
         '{"driver":"virtio-net-pci","netdev":"n0","id":"net0","bus":"pci.1","addr":"0x0"}', "-netdev", "tap,fds=3:4,id=n0", "disk.img"]
    )  # fmt: skip

    assert config.qemu == "/usr/bin/qemu"
    assert config.options["name"] == {"guest": "vm", "debug-threads": "on"}
    assert config.options["m"] == {"size": "2097152k"}
    assert config.all("S") == [True]
    assert config.parts() == [
        Device(driver="virtio-net-pci", netdev="n0", id="net0", bus="pci.1", addr="0x0"),
        Netdev(type="tap", fds="3:4", id="n0"),
    ]
    assert config.options["hda"] == "disk.img"


def in_toml(value):
    """Return a value as TOML writes it within a line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{in_toml(key)} = {in_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(in_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


@given(
    OPTIONS,
    st.lists(
        st.dictionaries(KEYS, TEXTS | st.booleans() | st.integers(-(2**63), 2**63 - 1), min_size=1),
        min_size=1,
    ),
)
def test_toml_says_what_python_says(options, devices):
    """Whatever maps there are, the same in TOML is the same Config, the parts as parts."""
    options = {**options, "device": [Device(it) for it in devices]}
    text = "".join(f"{in_toml(name)} = {in_toml(value)}\n" for name, value in options.items())

    assert Config.from_toml(text) == Config(options=options)


@pytest.mark.parametrize("version", ["7.2", "10.0"])
def test_command_lines_of_stories_are_read(version):
    """Each command line that was recorded reads as itself once more, and tells the devices that a name was asked for."""
    stories = sorted((Path(__file__).parent.parent / "stories" / version).glob("*.meta.json"))
    for story in stories:
        for process in argvs(json.loads(story.read_text())):
            config = Config.from_argv(process)
            assert Config.from_argv(config.argv()) == config
            assert sum(word in ("-device", "--device") for word in process) == len(config.all("device"))
            assert all(part.kind for part in config.parts())
    assert stories


def argvs(value):
    """Yield every argv in a story's account of itself."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from [item] if name == "argv" else argvs(item)
    elif isinstance(value, list):
        for item in value:
            yield from argvs(item)


TOML = """
qemu = "qemu-kvm"
nodefaults = true
S = false
kernel = "/boot/vmlinuz"
m = "256M"
smp = 2
fw_cfg = [{name = "opt/a", string = "x"}, {name = "opt/b", file = "/b"}]

[machine]
type = "q35"
accel = "tcg"

[[device]]
driver = "pcie-root-port"
id = "rp0"
chassis = 1

[[device]]
driver = "virtio-rng-pci"
bus = "rp0"

[blockdev]
driver = "qcow2"
node-name = "disk"
[blockdev.file]
driver = "file"
filename = "a,b"
"""


def test_toml_is_the_same_maps():
    """VM.toml has QEMU's option names at the top, and tables for maps."""
    config = Config.from_toml(TOML)

    assert config.argv() == [
        "qemu-kvm", "-nodefaults", "-kernel", "/boot/vmlinuz", "-m", "256M", "-smp", "2",
        "-fw_cfg", "opt/a,string=x", "-fw_cfg", "opt/b,file=/b", "-machine", "q35,accel=tcg",
        "-device", '{"driver":"pcie-root-port","id":"rp0","chassis":1}',
        "-device", '{"driver":"virtio-rng-pci","bus":"rp0"}',
        "-blockdev", '{"driver":"qcow2","node-name":"disk","file":{"driver":"file","filename":"a,b"}}',
    ]  # fmt: skip
    assert [type(part) for part in config.parts()] == [Device, Device, Blockdev]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a = ", "VM.toml: expected TOML, saw Invalid value (at end of document)"),
        ("a = 1\nb 2", "line 2"),
        (f"a = {'[' * 3000}", "VM.toml: expected TOML, saw lists or tables too deep in each other"),
        ("machin = 'q35'", "VM.toml, key machin: expected an option of QEMU, machine"),
        ("qemu = 3", "VM.toml, key qemu: expected the name of a program, saw 3"),
        ("nodefaults = 'on'", "VM.toml, key nodefaults: expected true or false: it takes no argument, saw 'on'"),
        ("kernel = {a = 1}", "VM.toml, key kernel: expected a string or a number, saw {'a': 1}"),
        ("kernel = true", "VM.toml, key kernel: expected a string or a number, saw True"),
        ("device = ['virtio-rng-pci']", "VM.toml, key device[0]: expected a map of keys to values, saw 'virtio-rng-pci'"),
        ("fw_cfg = [{name = 'a'}, {name = 2020-01-01}]", "VM.toml, key fw_cfg[1].name: expected a string, number"),
    ],
)  # fmt: skip
def test_toml_that_will_not_do_is_named(tmp_path, text, complaint):
    """The error names the file, the line or the key, what was expected and what was seen."""
    path = tmp_path / "VM.toml"
    path.write_text(text)
    with pytest.raises(BadInput) as caught:
        Config.from_toml(path)

    assert complaint in str(caught.value).replace(str(tmp_path) + "/", "")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    """A missing file and one that is no UTF-8 are bad input."""
    with pytest.raises(BadInput, match="No such file"):
        Config.from_toml(tmp_path / "none")
    (tmp_path / "bytes").write_bytes(b"a\xff")
    with pytest.raises(BadInput, match="byte 1: expected UTF-8"):
        Config.from_toml(tmp_path / "bytes")


def test_no_words_are_no_command_line():
    """A command line has a program at least."""
    with pytest.raises(BadInput):
        Config.from_argv([])


def test_every_keyed_option_has_one_value_or_many():
    """A lone value is that of the first key, where the option has one."""
    for option, first in KEYED.items():
        if first and option not in ("device", "blockdev", "netdev", "chardev", "object", "fsdev"):
            [value] = Config("qemu", {option: "x,y" if option != "cpu" else "x"}).all(option)
            assert list(value) == [first]
