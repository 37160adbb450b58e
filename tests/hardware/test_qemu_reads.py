"""QEMU's own parsers read what we write as what we meant."""

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from qemustate.errors import CommandRefused
from qemustate.hardware import characters, devices, keyval, network, platform, storage
from qemustate.hardware.cmdline import argument, read
from qemustate.hardware.properties import Chardev, Device, Netdev, Object

#: Any text that a C string can hold; what matters to the parsers comes often.
TEXTS = st.text(st.sampled_from("ab,=.'\"\\{}[]:; \t\n%é\U0001f600"), max_size=12) | st.text(
    st.characters(exclude_categories=["Cs", "Cc"]), max_size=12
)


def raw_hmp(client, command, text):
    """Execute a command of the human monitor that takes the rest of the line as it is."""
    said = client.execute("human-monitor-command", {"command-line": f"{command} {text}"})
    assert said == "", said


def hmp(client, command, text):
    """Execute a command of the human monitor, whose own quoting is undone by it (QEMU monitor/hmp.c get_str())."""
    for character, escaped in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r")):
        text = text.replace(character, escaped)
    raw_hmp(client, command, f'"{text}"')


def test_a_device_of_key_value_is_the_one_of_qmp(base, start):
    """Any text as a property, written as key=value for QEMU's parser of -device and as JSON for QMP, ends up as itself."""
    with start(base.add(characters.virtio_serial("vs0"), Chardev(backend="null", id="c0"))) as client:

        @settings(max_examples=150, deadline=None)
        @given(TEXTS)
        def same(name):
            part = Device(driver="virtserialport", id="p0", bus="vs0.0", name=name)
            seen = []
            for plug in (
                lambda: hmp(client, "device_add", argument("device", part, (2, 8))),
                lambda: client.execute("device_add", dict(part)),
            ):
                plug()
                seen.append(client.execute("qom-get", {"path": "/machine/peripheral/p0", "property": "name"}))
                client.execute("device_del", {"id": "p0"})
            assert seen == [name, name]

        same()


def test_whatever_qemu_takes_is_read_alike(base, start):
    """Text that nobody wrote on purpose, where QEMU takes it for a device, says to us what it says to QEMU."""
    pieces = st.sampled_from(["name=", "name", "nr=", "nr=3", ",", ",,", "=", "a", "b", "on", "id=p0"])
    head = "virtserialport,id=p0,bus=vs0.0,name="
    with start(base.add(characters.virtio_serial("vs0"))) as client:
        taken = []

        @settings(max_examples=300, deadline=None)
        @given(st.lists(pieces, max_size=8).map("".join))
        def same(tail):
            text = head + tail
            said = client.execute("human-monitor-command", {"command-line": f'device_add "{text}"'})
            if said:
                return
            taken.append(text)
            asked = read("device", text)
            path = f"/machine/peripheral/{asked['id']}"
            assert client.execute("qom-get", {"path": path, "property": "name"}) == asked["name"]
            if "nr" in asked:
                assert client.execute("qom-get", {"path": path, "property": "nr"}) == int(asked["nr"], 0)
            client.execute("device_del", {"id": str(asked["id"])})

        same()
        assert len(set(taken)) > 20


def test_an_object_of_key_value_is_the_one_of_qmp(base, start):
    """The same for objects, which the human monitor gives to the parser of -blockdev."""
    with start(base) as client:

        @settings(max_examples=150, deadline=None)
        @given(TEXTS)
        def same(data):
            part = Object({"qom-type": "secret", "id": "s0", "data": data, "format": "raw"})
            seen = []
            for plug in (
                lambda: raw_hmp(client, "object_add", argument("object", part, (2, 8))),
                lambda: client.execute("object-add", dict(part)),
            ):
                plug()
                seen.append(client.execute("qom-get", {"path": "/objects/s0", "property": "data"}))
                client.execute("object-del", {"id": "s0"})
            assert seen == [data, data]

        same()


def test_a_nested_object_of_key_value_is_the_one_of_qmp(base, start):
    """Maps and lists in an object, written as paths, are the maps and lists of QMP."""
    with start(base) as client:

        @settings(max_examples=60, deadline=None)
        @given(
            st.fixed_dictionaries(
                {},
                optional={
                    name: st.integers(0, 10**9)
                    for name in ("iops-total", "bps-read", "iops-size", "bps-write")
                },
            )
        )
        def same(limits):
            members = {"qom-type": "throttle-group", "id": "t0", **({"limits": limits} if limits else {})}
            seen = []
            for plug in (
                lambda: raw_hmp(client, "object_add", keyval.write(members, "qom-type", nested=True)),
                lambda: client.execute("object-add", members),
            ):
                try:
                    plug()
                except (CommandRefused, AssertionError) as refused:
                    seen.append(str(refused)[-30:])
                    continue
                seen.append(client.execute("qom-get", {"path": "/objects/t0", "property": "limits"}))
                client.execute("object-del", {"id": "t0"})
            assert seen[0] == seen[1]
            if isinstance(seen[0], dict):
                assert {name: seen[0][name] for name in limits} == limits

        same()


def test_a_chardev_of_key_value_is_the_one_of_qmp(base, start, tmp_path):
    """A path with anything in it but a slash is the file that QEMU opens."""
    with start(base) as client:
        names = TEXTS.filter(lambda text: text.strip() and "/" not in text and len(text.encode()) < 200)

        @settings(max_examples=60, deadline=None)
        @given(names)
        def same(name):
            part = Chardev(backend="file", id="c0", path=str(tmp_path / f"x{name}"))
            hmp(client, "chardev-add", argument("chardev", part))
            client.execute("chardev-remove", {"id": "c0"})
            assert (tmp_path / f"x{name}").exists()
            with contextlib.suppress(FileNotFoundError):
                (tmp_path / f"x{name}").unlink()

        same()


def test_a_netdev_of_key_value_is_the_one_of_qmp(base, start):
    """A key that is given again is a list, as in QMP."""
    qmp = Netdev({"type": "user", "id": "n0", "dnssearch": [{"str": "a.b"}, {"str": "c,d"}]})
    text = Netdev({"type": "user", "id": "n1", "dnssearch": ["a.b", "c,d"]})
    with start(base) as client:
        client.execute("netdev_add", dict(qmp))
        hmp(client, "netdev_add", argument("netdev", text, (7, 1)))
        lines = client.execute("human-monitor-command", {"command-line": "info network"}).splitlines()
        assert [line[4:] for line in lines if line.startswith("n0")] == [
            line[4:] for line in lines if line.startswith("n1")
        ]


def test_devices_of_a_machine_without_pci(base, start, tmp_path):
    """On microvm virtio devices are virtio-mmio's: the transport is the machine's, and a real one takes them."""
    (tmp_path / "d").write_bytes(bytes(1 << 20))
    config = base.without("machine").add(
        {"machine": {"type": "microvm", "accel": "tcg"}},
        *storage.disk("d0", storage.node("n0", str(tmp_path / "d")), machine="microvm"),
        *network.nic("net0", Netdev(type="user", id="u0"), machine="microvm", queues=1),
        *devices.rng("r0", machine="microvm"),
        characters.virtio_serial("vs0", machine="microvm"),
        devices.balloon("b0", machine="microvm"),
        storage.scsi_controller("s0", machine="microvm"),
        platform.virtio("virtio-gpu", "microvm", id="g0"),
    )
    with start(config) as client:
        kinds = [
            client.execute("qom-get", {"path": f"/machine/peripheral/{part.id}", "property": "type"})
            for part in config.parts()
            if isinstance(part, Device)
        ]
    assert kinds == [
        "virtio-blk-device", "virtio-net-device", "virtio-rng-device", "virtio-serial-device", "virtio-balloon-device",
        "virtio-scsi-device", "virtio-gpu-device",
    ]  # fmt: skip
