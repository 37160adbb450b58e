"""Who occupies what, where a device can go, and why it can't."""

import pytest

from qemustate.errors import NoPlace
from qemustate.hardware.config import Config
from qemustate.hardware.properties import Blockdev, Device, Object
from qemustate.hardware.topology import Topology


def port(number, **more):
    return Device(driver="pcie-root-port", id=f"rp{number}", chassis=number + 1, **more)


def rng(name, **more):
    return Device(driver="virtio-rng-pci", id=name, **more)


def disk(name, **more):
    return Device(driver="scsi-hd", id=name, drive=name, **more)


def cpu(core, path=None):
    """Return an entry of query-hotpluggable-cpus."""
    props = {"core-id": core, "thread-id": 0, "socket-id": 0}
    return {"props": props, "vcpus-count": 1, "type": "max-x86_64-cpu"} | ({"qom-path": path} if path else {})


@pytest.fixture
def q35():
    """Return a q35 with two root ports, a bridge, SCSI, USB and serial controllers."""
    return Topology.of(
        [
            port(0),
            port(1),
            Device(driver="pcie-pci-bridge", id="ppb"),
            Device(driver="virtio-scsi-pci", id="s"),
            Device(driver="qemu-xhci", id="x"),
            Device(driver="virtio-serial-pci", id="v", max_ports=3),
        ],
        machine="q35",
    )


def test_a_hotplugged_device_goes_into_a_port_then_behind_a_bridge(q35):
    """Ports come first, in their order; a bridge's slots are next."""
    found = []
    for number in range(4):
        device = q35.place(rng(f"r{number}"))
        q35.occupy(device)
        found.append((device["bus"], device["addr"]))

    assert found == [("rp0", "0"), ("rp1", "0"), ("ppb", "1"), ("ppb", "2")]


def test_slots_are_said_in_hexadecimal():
    """The sixteenth slot of a bridge is "10"."""
    bridge = Topology.of([Device(driver="pci-bridge", id="b", chassis_nr=1)], machine="pc")
    seen = []
    for number in range(31):
        device = bridge.place(rng(f"r{number}", bus="b"))
        bridge.occupy(device)
        seen.append(device["addr"])

    assert (seen[0], seen[8:11], seen[15], seen[-1]) == ("1", ["9", "a", "b"], "10", "1f")
    with pytest.raises(NoPlace, match="bus b has no free slot: 31 taken"):
        bridge.place(rng("more", bus="b"))


def test_a_place_is_free_when_the_rule_of_its_bus_says_so(q35):
    """A SCSI target is free with device_del's answer, a port only when the device is gone."""
    q35.occupy(q35.place(rng("r", bus="rp0")))
    q35.occupy(q35.place(disk("d")))
    q35.asked("r")
    q35.asked("d")

    assert q35.place(disk("e"))["scsi-id"] == 0
    with pytest.raises(NoPlace, match=r"port rp0: occupied by r \(whose unplug was asked for\)"):
        q35.place(rng("new", bus="rp0"))
    q35.release("r")
    assert q35.place(rng("new", bus="rp0"))["addr"] == "0"


def test_a_port_that_was_just_left_is_the_last_to_be_used_again(q35):
    """Of the free ports it is the one that has been empty for longest; the bridge's slots still come after."""
    for name in ("a", "b"):
        q35.occupy(q35.place(rng(name)))
    q35.release("a")
    q35.release("b")
    q35.occupy(q35.place(rng("c")))
    q35.release("c")

    assert q35.place(rng("d"))["bus"] == "rp1"
    q35.occupy(q35.place(rng("d")))
    assert q35.place(rng("e"))["bus"] == "rp0"
    q35.occupy(q35.place(rng("e")))
    assert q35.place(rng("f"))["bus"] == "ppb"


def test_who_is_in_the_way_on_a_bus_that_is_named(q35):
    """Of a port its one device, of a bus with more places whoever has the one asked for; nobody where a place is left."""
    q35.occupy(q35.place(rng("r", bus="rp0")))
    q35.occupy(q35.place(disk("d")))

    assert [it.key for it in q35.in_the_way(rng("new", bus="rp0"))] == ["r"]
    assert [it.key for it in q35.in_the_way(disk("e", **{"bus": "s.0", "scsi-id": 0, "lun": 0}))] == ["d"]
    assert not q35.in_the_way(disk("e", bus="s.0"))
    assert not q35.in_the_way(rng("new"))
    assert not q35.in_the_way(rng("new", bus="s.0"))


def test_a_reset_makes_native_pcie_forget_and_acpi_complete():
    """After a reset a native port's device stays, and is no longer on its way out; with ACPI it still is."""
    texts = []
    for acpi_off in (True, False):
        topology = Topology.of([port(0)], machine="q35", acpi_off=acpi_off)
        topology.occupy(rng("r", bus="rp0"))
        topology.asked("r")
        topology.reset()
        texts.append(topology.occupants["r"].name)

    assert texts == ["r", "r (whose unplug was asked for)"]


def test_what_is_on_a_device_goes_with_it(q35):
    """With a controller that is gone, its bus and the devices on it are gone; what is not known is nothing."""
    q35.occupy(disk("d"))
    q35.release("s")
    q35.release("nobody")

    assert "d" not in q35.occupants
    assert q35.check(disk("e", bus="s.0")) == ["there is no bus s.0; of that kind there are: none"]


@pytest.mark.parametrize(
    ("device", "text"),
    [
        (rng("rp0", bus="ppb", addr="3"), "the id rp0 is in use by a pcie-root-port"),
        (rng("r", bus="nope"), "there is no bus nope; of that kind there are: pcie.0, rp0, rp1, ppb"),
        (rng("r", bus="s.0"), "bus s.0 is scsi, a virtio-rng-pci goes on pci"),
        (rng("r", bus="pcie.0", addr="5"), "bus pcie.0 does not support hotplugging"),
        (rng("r", bus="rp0", addr="1"), "there is no slot 1 of rp0"),
        (rng("r", bus="ppb", addr="20"), "expected a slot up to 1f"),
        (rng("r", bus="ppb", addr=16), "as text"),
        (rng("r", bus="ppb", addr="7"), "slot 7 of ppb is taken by there"),
        (rng("r", bus="ppb", addr="7.1"), r"slot 7.1 of ppb comes after its function 0 \(there\)"),
        (
            rng("r", bus="ppb", addr="8.0"),
            "slot 8 of ppb has other functions: function 0 needs multifunction=on",
        ),
        (disk("d", bus="s.0", **{"scsi-id": 300}), "there is no target 0:300:0 of s.0"),
        (disk("d", bus="s.0", **{"scsi-id": 0, "lun": 1 << 14}), "there is no target"),
        (disk("d", **{"scsi-id": 5, "lun": 0}), "target 0:5:0 of s.0 is taken by d5"),
        (Device(driver="usb-tablet", id="t", port="9"), "there is no port 9 of x.0"),
        (Device(driver="usb-tablet", id="t", port="1.1"), "no hub is in port 1"),
        (Device(driver="virtserialport", id="p", nr=0), "port 0 of v.0 is kept for a virtconsole"),
        (Device(driver="virtserialport", id="p", nr=3), "there is no port 3 of v.0"),
        (Device(driver="pc-dimm", id="m"), "there are no DIMM slots"),
        (Device(driver="max-x86_64-cpu", id="c"), "query-hotpluggable-cpus"),
    ],
)
def test_what_would_be_refused_is_said_before(q35, device, text):
    """Each thing against a device is a sentence, in the advice and in the error."""
    q35.occupy(rng("there", bus="ppb", addr="7"))
    q35.occupy(rng("hidden", bus="ppb", addr="8.1"))
    q35.occupy(disk("d5", **{"scsi-id": 5}))
    with pytest.raises(NoPlace, match=text) as refused:
        q35.place(device)

    assert "; ".join(q35.check(device)) == refused.value.why


def test_a_standard_hotplug_controller_has_no_slot_0():
    """Without ACPI hotplug there is no slot 0 on a bridge; with it there is, though it is not handed out."""
    answers = []
    for acpi_off in (True, False):
        bridges = [Device(driver="pcie-pci-bridge", id="ppb")]
        topology = Topology.of(bridges, machine="q35", acpi_off=acpi_off)
        answers.append(topology.check(rng("r", bus="ppb", addr="0")))
        assert topology.place(rng("r", bus="ppb"))["addr"] == "1"

    assert answers == [["there is no slot 0 of ppb"], []]


def test_a_function_that_no_guest_sees_yet_is_only_advised_against(q35):
    """Functions come before their function 0, so one without it has a place, and a word of warning."""
    device = rng("r", bus="ppb", addr="9.1")

    assert q35.place(device) == device
    assert q35.check(device) == ["slot 9.1 of ppb: no guest sees it until function 0 is plugged"]


def test_a_second_device_in_a_port_is_where_qemu_puts_it():
    """QEMU 7.2 takes a second device on a port's bus, in slot 1; it is known there, and never put there by us."""
    topology = Topology.of([port(0)], machine="q35", acpi_off=True)
    for name in "ab":
        topology.occupy(Device(driver="virtio-rng-pci", id=name, bus="rp0"))
    assert [topology.occupants[name].place for name in "ab"] == [(0, 0), (1, 0)]
    with pytest.raises(NoPlace):
        topology.place(Device(driver="virtio-rng-pci", id="c", bus="rp0"))


def test_why_there_is_no_port_left_names_them_all():
    """The reason names the bus that takes nothing, the ports, and who is in them."""
    topology = Topology.of([port(0), port(1), port(2, hotplug=False)], machine="q35")
    topology.occupy(rng("a", bus="rp0"))
    topology.occupy(rng("b", bus="rp1"))
    with pytest.raises(NoPlace) as refused:
        topology.place(rng("c"))

    assert str(refused.value) == (
        "device c: expected a place for it, saw bus rp2 does not support hotplugging (hotplug=off);"
        " bus pcie.0 does not support hotplugging; ports rp0, rp1: occupied by a, b"
    )


def test_an_address_without_a_bus_is_looked_for_where_it_can_be(q35):
    """A slot that is asked for without a bus is taken on the first bus that has it free, or each bus says why not."""
    placed = q35.place(rng("r", addr="5"))
    q35.occupy(placed)

    assert (placed["bus"], placed["addr"]) == ("ppb", "5")
    with pytest.raises(NoPlace) as refused:
        q35.place(rng("other", addr="5"))
    assert refused.value.why == (
        "bus pcie.0 does not support hotplugging; there is no slot 5 of rp0; there is no slot 5 of rp1;"
        " slot 5 of ppb is taken by r"
    )


def test_a_hub_gives_ports_behind_its_own():
    """A USB hub in port 1 has ports 1.1 to 1.8, and a device in one of these is known there."""
    topology = Topology.of([Device(driver="qemu-xhci", id="x", p2=1, p3=1)], machine="q35")
    topology.occupy(topology.place(Device(driver="usb-hub", id="h")))
    ports = []
    for number in range(8):
        tablet = topology.place(Device(driver="usb-tablet", id=f"t{number}"))
        topology.occupy(tablet)
        ports.append(tablet["port"])

    assert ports == [f"1.{number}" for number in range(1, 9)]
    assert topology.check(Device(driver="usb-tablet", id="t")) == ["bus x.0 has no free port: 9 taken"]


def test_units_of_a_target_follow_each_other(q35):
    """A disk that names its target only gets the next unit there, as from QEMU."""
    units = []
    for number in range(3):
        placed = q35.place(disk(f"d{number}", bus="s.0", **{"scsi-id": 2}))
        q35.occupy(placed)
        units.append(placed["lun"])

    assert units == [0, 1, 2]


def test_cpu_slots_are_those_that_qemu_tells():
    """The first free CPU slot is filled in with all its ids; taken ones and wrong types are objected to."""
    topology = Topology.of([], machine="q35")
    topology.told_cpus([cpu(2), cpu(1), cpu(0, "/machine/unattached/device[0]")])
    first = topology.place(Device(driver="max-x86_64-cpu", id="c1"))
    topology.occupy(first)

    assert first == {"driver": "max-x86_64-cpu", "id": "c1", "socket-id": 0, "core-id": 1, "thread-id": 0}
    assert topology.place(Device(driver="max-x86_64-cpu", id="c2"))["core-id"] == 2
    taken = Device(driver="max-x86_64-cpu", id="c", **{"core-id": 0, "socket-id": 0, "thread-id": 0})
    assert "is taken by" in topology.check(taken)[0]
    assert "not host-x86_64-cpu" in topology.check(Device(driver="host-x86_64-cpu", id="c"))[0]
    beyond = Device(driver="max-x86_64-cpu", id="c", **{"core-id": 9})
    assert topology.check(beyond) == ["there is no CPU slot core-id 9"]


def test_a_cpu_plugged_before_it_was_told_of_is_the_one_in_its_slot():
    """What QEMU says is in /machine/peripheral is the device of that id."""
    topology = Topology.of([Device(driver="max-x86_64-cpu", id="c1")], machine="q35")
    topology.told_cpus([cpu(1, "/machine/peripheral/c1"), cpu(0, "/machine/unattached/device[0]")])

    assert "no free CPU slot: 2 taken" in topology.check(Device(driver="max-x86_64-cpu", id="c2"))[0]


def test_memory_has_slots_and_an_end():
    """A DIMM gets the lowest free slot, and is refused when slots or maxmem are used up."""
    memory = {"size": 64, "slots": "2", "maxmem": "192M"}
    sizes = {"m0": 64 << 20, "m1": "64M", "m2": "32M", "m3": "1M"}
    backends = [
        Object({"qom-type": "memory-backend-ram", "id": name, "size": size}) for name, size in sizes.items()
    ]
    topology = Topology.of(backends, machine="q35", memory=memory)
    first = topology.place(Device(driver="pc-dimm", id="d0", memdev="m0"))
    topology.occupy(first)
    topology.occupy(topology.place(Device(driver="virtio-mem-pci", id="v", memdev="m2"), cold=True))

    assert first["slot"] == 0
    with pytest.raises(NoPlace, match="128 MiB for memory devices: 96 MiB are used, 64 MiB wanted"):
        topology.place(Device(driver="pc-dimm", id="d1", memdev="m1"))
    topology.occupy(topology.place(Device(driver="pc-dimm", id="d3", memdev="m3")))
    topology.release("v")
    with pytest.raises(NoPlace, match="bus DIMM slots has no free slot: 2 taken"):
        topology.place(Device(driver="pc-dimm", id="d2", memdev="m2"))


def test_a_second_port_gets_a_chassis_of_its_own():
    """Ports and bridges get the next number where they have none, without which QEMU refuses the second one."""
    topology = Topology.of([port(0)], machine="q35")
    numbers = []
    for driver in ("pcie-root-port", "pci-bridge"):
        device = topology.place(Device(driver=driver, id=driver), cold=True)
        topology.occupy(device, cold=True)
        numbers.append((device["bus"], device.get("chassis"), device.get("chassis_nr")))

    assert numbers == [("pcie.0", 2, None), ("pcie.0", None, 1)]


def test_what_is_not_modelled_is_left_alone(q35):
    """A device with no place to pick is returned as it is, backends too have none, and nothing is objected to."""
    serial = Device(driver="isa-serial", id="i", chardev="c")

    assert q35.place(serial) == serial
    assert q35.check(serial) == []
    assert q35.occupy(Blockdev({"node-name": "n", "driver": "null-co"})) == "n"
    assert q35.occupy(serial) == "i"
    assert q35.check(serial) == ["the id i is in use by a isa-serial"]


def test_nothing_is_said_of_a_machine_that_nobody_knows():
    """Of a machine without a model there is no advice, and no place either."""
    unknown = Topology.of([], machine="magnum")

    assert unknown.check(rng("r", bus="b", addr="1")) == []
    with pytest.raises(NoPlace, match="no PCI bus"):
        unknown.place(rng("r"))


def test_devices_of_a_ccw_machine_have_device_numbers():
    """On s390x the next device number is handed out, in hexadecimal."""
    topology = Topology.of([], machine="s390-ccw-virtio")
    for number in range(11):
        topology.occupy(topology.place(Device(driver="virtio-blk-ccw", id=f"d{number}")))
    topology.asked("d3")

    assert topology.occupants["d10"].device["devno"] == "fe.0.000a"
    assert topology.place(Device(driver="virtio-net-ccw", id="n"))["devno"] == "fe.0.0003"


def test_a_command_line_is_read_with_its_defaults():
    """Machine, memory, -usb, -global, and the slots that default devices take are those of the command line."""
    argv = [
        "qemu",
        "-machine",
        "q35,usb=on",
        "-m",
        "64,slots=2,maxmem=128M",
        "-global",
        "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off",
        "-device",
        "pcie-root-port,id=rp",
        "-netdev",
        "user,id=n",
    ]
    topology = Topology.of_config(Config.from_argv(argv))

    assert topology.occupants["rp"].place == (2, 0)
    assert topology.occupants["pcie.0/1"].name == "a default device"
    assert "usb-bus.0" in topology.buses
    assert topology.policy("rp").kind == "pcie"
    assert topology.place(Device(driver="pc-dimm", id="d"))["slot"] == 0
    for more, addr in (("-nodefaults", "2"), ("", "4"), ("-nodefaults -vga std", "3"), ("-device VGA", "4")):
        other = Topology.of_config(Config.from_argv(["qemu", *more.split()]))
        assert (more, other.place(rng("r"))["addr"]) == (more, addr)


def test_a_place_that_cannot_be_read_is_none(q35):
    """What QEMU was told and took is there, wherever that is; a number on a command line is slot times 8 plus function."""
    q35.occupy(rng("r", bus="ppb", addr=24))
    q35.occupy(rng("s", bus="pcie.0", addr=24), cold=True)

    assert q35.occupants["r"].place is None
    assert q35.occupants["s"].place == (3, 0)


def test_a_console_has_a_port_of_its_own(q35):
    """The port kept for a console is there when all others are taken, once, and for nothing else."""
    for name in ("a", "b"):
        q35.occupy(q35.place(Device(driver="virtserialport", id=name)))
    console = q35.place(Device(driver="virtconsole", id="c"))
    assert console["nr"] == 0
    assert q35.check(Device(driver="virtserialport", id="p")) == ["bus v.0 has no free port: 2 taken"]
    q35.occupy(console)

    assert q35.check(Device(driver="virtconsole", id="d")) == ["bus v.0 has no free port: 3 taken"]


def test_what_query_pci_tells_is_taken(q35):
    """A device that nobody knew of occupies its slot, and one that is elsewhere is moved."""
    nobody = {"slot": 2, "function": 0, "qdev_id": "", "class_info": {"desc": "Ethernet controller"}}
    moved = {"slot": 9, "function": 0, "qdev_id": "s", "class_info": {}}
    below = {"slot": 3, "function": 0, "qdev_id": "", "class_info": {}}
    bridge = {
        "slot": 3,
        "function": 0,
        "qdev_id": "ppb",
        "class_info": {},
        "pci_bridge": {"devices": [below]},
    }
    q35.told_pci([{"bus": 0, "devices": [nobody, moved, bridge]}, {"bus": 64, "devices": [nobody]}])

    assert q35.occupants["s"].place == (9, 0)
    assert "taken by a PCI device" in q35.check(rng("r", bus="ppb", addr="3"))[0]
