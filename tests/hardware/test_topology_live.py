"""What topology says of places is what QEMU has: every place handed out is taken, every objection is a refusal."""

import copy
import time

import pytest
from support.placed import agrees, where

from qemustate.errors import CommandRefused, NoPlace
from qemustate.hardware.config import Config
from qemustate.hardware.hotplug import plug_steps
from qemustate.hardware.properties import Device, Object
from qemustate.hardware.topology import Topology

ACPI_OFF = {
    "global": [{"driver": "ICH9-LPC", "property": "acpi-pci-hotplug-with-bridge-support", "value": "off"}]
}


def port(number, **more):
    return Device(driver="pcie-root-port", id=f"rp{number}", chassis=number + 1, **more)


#: Everything that a PCI machine can have, mostly without saying where.
CROWD = [
    port(0),
    port(1, hotplug=False),
    Device(driver="qemu-xhci", id="x"),
    Device(driver="virtio-scsi-pci", id="s", addr="10"),
    Device(driver="virtio-serial-pci", id="vs", max_ports=4),
    port(9),
    Device(driver="x3130-upstream", id="up", bus="rp9"),
    Device(driver="xio3130-downstream", id="dn0", bus="up", chassis=20),
    Device(driver="xio3130-downstream", id="dn1", bus="up", chassis=21),
    Device(driver="pcie-pci-bridge", id="ppb"),
    Device(driver="pci-bridge", id="b", bus="ppb", addr="1", chassis_nr=1, shpc=True),
    Device(driver="pci-bridge", id="plain", bus="ppb", addr="2", chassis_nr=2),
    Device(driver="lsi53c895a", id="lsi"),
    Device(driver="usb-hub", id="hub", bus="x.0", port="1"),
    Device(driver="usb-tablet", id="tablet", bus="x.0"),
    Device(driver="virtio-rng-pci", id="f1", addr="1c.1"),
    Device(driver="virtio-rng-pci", id="f0", addr="1c.0", multifunction=True),
    Device(driver="virtio-rng-pci", id="below", bus="b", addr="3"),
    Device(driver="virtio-rng-pci", id="below2", bus="plain", addr="1"),
    Device(driver="virtserialport", id="p"),
    Device(driver="virtconsole", id="console"),
    Device(driver="pxb-pcie", id="pxb", bus_nr=32, bus="pcie.0"),
    Device(driver="pcie-root-port", id="rpx", bus="pxb", chassis=40),
]


def started(live, *parts, machine="q35", **options):
    kind = {"type": machine} if isinstance(machine, str) else machine
    config = Config(options={"machine": kind, "nodefaults": True, **options}).add(*parts)
    return live(*config.argv()[1:]), Topology.of_config(config)


@pytest.mark.parametrize("more", [{}, ACPI_OFF], ids=["acpi", "native"])
def test_what_was_plugged_cold_is_where_topology_says(live, more):
    """Devices that did not say where they go are, bus and place, where QEMU put them."""
    agrees(*started(live, *CROWD, **more))


def test_devices_in_json_come_after_the_others(live):
    """Of devices that leave their slot open, those written as key=value are first in line."""
    argv = [
        "-M",
        "q35",
        "-nodefaults",
        "-device",
        '{"driver":"virtio-rng-pci","id":"json"}',
    ]
    argv += [
        "-device",
        "virtio-rng-pci,id=words,multifunction=on",
        "-device",
        '{"driver":"virtio-rng-pci","id":"number","addr":9}',
    ]
    topology = Topology.of_config(Config.from_argv(["qemu", *argv]))

    agrees(live(*argv), topology)
    assert [topology.occupants[key].place for key in ("words", "json", "number")] == [(1, 0), (2, 0), (1, 1)]


def test_default_devices_take_slots(live):
    """With the machine's own display and network, what comes after is in the next slot."""
    for machine in ("q35", "pc"):
        agrees(*started(live, rng(0), machine=machine, nodefaults=False, vga="std", nic={"type": "user"}))


def rng(number, **more):
    return Device(driver="virtio-rng-pci", id=f"r{number}", **more)


def fill(vm, topology, make, count):
    """Plug devices until there is no place left, and return the reason that there is none."""
    for number in range(count):
        device = topology.place(make(number))
        assert topology.check(device) == []
        vm.ok("device_add", **device)
        topology.occupy(device)
    agrees(vm, topology)
    with pytest.raises(NoPlace) as none:
        topology.place(make(count))
    return none.value.why


@pytest.mark.parametrize("more", [{}, ACPI_OFF], ids=["acpi", "native"])
def test_every_root_port_is_filled(live, more):
    """Each port takes one device, and then the reason names the ports, their devices, and the bus that takes none."""
    ports = [port(number, multifunction=True, addr=f"3.{number}") for number in range(4)]
    why = fill(*started(live, *ports, **more), rng, 4)

    assert why == (
        "bus pcie.0 does not support hotplugging; ports rp0, rp1, rp2, rp3: occupied by r0, r1, r2, r3"
    )


@pytest.mark.parametrize("more", [{}, ACPI_OFF], ids=["acpi", "native"])
def test_the_ports_of_a_switch_are_filled(live, more):
    """Downstream ports of a switch take devices as root ports do, and the port that the switch is in takes none."""
    switch = [
        port(0),
        Device(driver="x3130-upstream", id="up", bus="rp0"),
        Device(driver="xio3130-downstream", id="dn0", bus="up", chassis=20),
        Device(driver="xio3130-downstream", id="dn1", bus="up", chassis=21),
    ]
    why = fill(*started(live, *switch, **more), rng, 2)

    assert why.endswith("ports rp0, dn0, dn1: occupied by up, r0, r1")


@pytest.mark.parametrize("more", [{}, ACPI_OFF], ids=["acpi", "native"])
@pytest.mark.parametrize("driver", ["pcie-pci-bridge", "pci-bridge", "pcie-root-port", "x3130-upstream"])
def test_what_is_plugged_hot_takes_devices_if_topology_says_so(live, more, driver):
    """A bridge or port that came hot is hotpluggable itself, or not, as QEMU has it."""
    vm, topology = started(live, port(0), Device(driver="pcie-pci-bridge", id="b"), **more)
    named = (
        Device(driver=driver, id="new", bus="b", addr="5")
        if driver == "pci-bridge"
        else Device(driver=driver, id="new", bus="rp0")
    )
    new = topology.place(named)
    vm.run(*plug_steps([new]))
    topology.occupy(new)
    device = rng(0, bus="new", addr="3") if "bridge" in driver else rng(0, bus="new", addr="0")
    objected, refusal = topology.check(device), vm.answer("device_add", **device)

    assert bool(objected) == bool(refusal), (objected, refusal)


@pytest.mark.parametrize("more", [{}, ACPI_OFF], ids=["acpi", "native"])
def test_the_slots_of_a_bridge_are_filled(live, more):
    """A bridge takes 31 devices, the sixteenth in slot "10", and not one more, as QEMU says too."""
    vm, topology = started(live, Device(driver="pcie-pci-bridge", id="b"), **more)
    why = fill(vm, topology, rng, 31)

    assert why.endswith("bus b has no free slot: 31 taken")
    assert "in use by" in vm.refused("device_add", **rng(31, bus="b", addr="10"))


def test_the_root_of_a_pc_is_filled(live):
    """The slots of pci.0 that the machine leaves are handed out, and then those of its bridges."""
    vm, topology = started(live, Device(driver="pci-bridge", id="b", chassis_nr=1), machine="pc")
    why = fill(vm, topology, rng, 29 + 31)

    assert why == "bus pci.0 has no free slot: 32 taken; bus b has no free slot: 31 taken"
    with pytest.raises(CommandRefused, match="no slot/function available"):
        vm.ok("device_add", driver="virtio-rng-pci", id="more", bus="pci.0")


def test_scsi_usb_and_serial_buses_are_filled(live):
    """Targets, ports behind a hub and serial ports are handed out to the last, and QEMU takes each."""
    cold = (
        Device(driver="lsi53c895a", id="s"),
        Device(driver="qemu-xhci", id="x", p2=2, p3=2),
        Device(driver="virtio-serial-pci", id="v", max_ports=4),
        Device(driver="usb-hub", id="hub", bus="x.0", port="1"),
    )
    vm, topology = started(live, *cold)
    for number in range(7):
        vm.ok("blockdev-add", driver="null-co", node_name=f"n{number}", read_zeroes=True)

    def disk(number):
        return Device(driver="scsi-hd", id=f"d{number}", drive=f"n{number}")

    assert "no free target: 7 taken" in fill(vm, topology, disk, 7)
    assert "no free port" in fill(vm, topology, lambda n: Device(driver="usb-tablet", id=f"t{n}"), 9)
    assert "no free port" in fill(vm, topology, lambda n: Device(driver="virtserialport", id=f"p{n}"), 3)


def test_units_of_a_target_are_those_that_qemu_takes(live):
    """Disks that name a target only are at the units where QEMU puts them, and beside them others are placed."""
    vm, topology = started(live, Device(driver="virtio-scsi-pci", id="s"))
    for number in range(4):
        vm.ok("blockdev-add", driver="null-co", node_name=f"n{number}", read_zeroes=True)
        more = {"scsi-id": 2} if number < 3 else {}
        device = Device(driver="scsi-hd", id=f"d{number}", drive=f"n{number}", bus="s.0", **more)
        vm.ok("device_add", **device)
        topology.occupy(device)

    agrees(vm, topology)
    assert topology.occupants["d2"].place == (0, 2, 2)


def test_dimm_slots_are_filled_and_memory_ends(live):
    """DIMMs get the slots that are free, and are refused here when QEMU would refuse them: no slot, no space."""
    vm, topology = started(live, m={"size": "64", "slots": 3, "maxmem": "192M"})
    for name, size in (
        ("m0", 64 << 20),
        ("m1", 32 << 20),
        ("m2", 64 << 20),
        ("m3", 16 << 20),
        ("m4", 16 << 20),
    ):
        backend = Object({"qom-type": "memory-backend-ram", "id": name, "size": size})
        vm.run(*plug_steps([backend]))
        topology.occupy(backend)

    def dimm(number):
        return Device(driver="pc-dimm", id=f"d{number}", memdev=f"m{number}")

    for number, slot in ((0, 2), (1, None)):
        device = topology.place(Device(dimm(number), **({} if slot is None else {"slot": slot})))
        vm.ok("device_add", **device)
        topology.occupy(device)
    assert "maxmem leaves 128 MiB" in topology.check(dimm(2))[0]
    assert "not enough space" in vm.refused("device_add", **dimm(2))
    device = topology.place(dimm(3))
    vm.ok("device_add", **device)
    topology.occupy(device)
    assert topology.check(dimm(4)) == ["bus DIMM slots has no free slot: 3 taken"]
    assert "no free slots available" in vm.refused("device_add", **dimm(4))
    agrees(vm, topology)


def test_memory_that_qemu_tells_of_is_known(live):
    """DIMMs and virtio-mem that nobody told topology of take slots and space once query-memory-devices has."""
    cold = (
        Object({"qom-type": "memory-backend-ram", "id": "m0", "size": 32 << 20}),
        Object({"qom-type": "memory-backend-ram", "id": "m1", "size": 64 << 20}),
        Device(driver="pc-dimm", id="d0", memdev="m0", slot=1),
        Device(driver="virtio-mem-pci", id="v0", memdev="m1"),
    )
    memory = {"size": "64", "slots": 2, "maxmem": "192M"}
    vm, topology = started(live, *cold, m=memory)
    asked = Topology.of([], machine="q35", memory=memory)
    asked.told_memory(vm.ok("query-memory-devices"))

    assert asked.sizes == topology.sizes
    assert asked.taken("DIMM slots").keys() == topology.taken("DIMM slots").keys() == {(1,)}
    for known in (asked, topology):
        known.occupy(Object({"qom-type": "memory-backend-ram", "id": "m2", "size": 64 << 20}))
        assert (
            "96 MiB are used, 64 MiB wanted" in known.check(Device(driver="pc-dimm", id="d", memdev="m2"))[0]
        )
    before = copy.deepcopy(vars(topology))
    topology.told_memory(vm.ok("query-memory-devices"))
    assert vars(topology) == before


def test_without_acpi_there_are_no_dimms_and_no_hotplug_on_the_root_of_a_pc(live):
    """With acpi=off only bridges with a controller of their own take devices."""
    backend = Object({"qom-type": "memory-backend-ram", "id": "m", "size": 1 << 20})
    bridge = Device(driver="pci-bridge", id="b", chassis_nr=1)
    options = {"machine": {"type": "pc", "acpi": False}, "m": {"size": "64", "slots": 2, "maxmem": "192M"}}
    vm, topology = started(live, backend, bridge, **options)
    dimm = Device(driver="pc-dimm", id="d", memdev="m")

    for device, text in (
        (rng(0, bus="pci.0", addr="7"), "does not support hotplugging"),
        (dimm, "acpi disabled"),
    ):
        assert "does not support hotplugging (acpi=off)" in topology.check(device)[0]
        assert text in vm.refused("device_add", **device)
    assert topology.policy("b").kind == "acpi"
    device = topology.place(rng(1))
    vm.ok("device_add", **device)
    topology.occupy(device)
    assert topology.policy("r1").kind == "shpc"
    vm.ok("device_del", id="r1")
    vm.event("DEVICE_DELETED", device="r1")


def test_a_microvm_has_a_bus_for_each_virtio_device(live):
    """Each virtio-mmio device has a bus of its own, the last first, cold only; one with PCIe has ports too."""
    cold = [Device(driver="virtio-rng-device", id=f"m{number}") for number in range(3)]
    placed = Device(driver="virtio-rng-device", id="there", bus="virtio-mmio-bus.22")
    options = {"machine": {"type": "microvm", "pcie": True}}
    vm, topology = started(live, placed, *cold, port(0), **options)
    for key in ("there", "m0", "m1", "m2"):
        bus = vm.ok("qom-get", path=f"/machine/peripheral/{key}", property="parent_bus")
        assert (key, bus.rpartition("/")[2]) == (key, topology.occupants[key].bus)
    another = Device(driver="virtio-rng-device", id="hot")

    assert "does not support hotplugging" in topology.check(another)[0]
    assert "does not support hotplugging" in vm.refused("device_add", **another)
    vm.ok("device_add", **topology.place(rng(0)))


def test_cpu_slots_are_filled(live):
    """Every CPU slot that QEMU tells of is handed out once, with the ids that QEMU wants."""
    vm, topology = started(live, smp={"cpus": 1, "maxcpus": 4, "sockets": 2, "cores": 2})
    topology.told_cpus(vm.ok("query-hotpluggable-cpus"))

    def cpu(number):
        return Device(driver="qemu64-x86_64-cpu", id=f"c{number}")

    assert fill(vm, topology, cpu, 3) == "bus CPU slots has no free CPU slot: 4 taken"
    again = Topology.of([], machine="q35")
    again.told_cpus(vm.ok("query-hotpluggable-cpus"))
    assert again.check(cpu(9)) == ["bus CPU slots has no free CPU slot: 4 taken"]


def test_a_port_that_is_occupied_is_only_refused_by_newer_qemus(live):
    """Without an addr QEMU 7.2 takes a second device into a port, where no guest sees it; 10.0 refuses, as topology does."""
    vm, topology = started(live, port(0))
    vm.ok("device_add", **rng(0, bus="rp0"))
    topology.occupy(rng(0, bus="rp0"))

    assert topology.check(rng(1, bus="rp0")) == ["port rp0: occupied by r0"]
    assert (vm.answer("device_add", **rng(1, bus="rp0")) is None) == (vm.version == "7.2")


def test_a_number_as_addr_means_another_slot_to_each_version(live):
    """An addr of 16 is slot 16 in 7.2, read as hexadecimal text is not: which is why a number is not taken."""
    vm, topology = started(live, Device(driver="pci-bridge", id="b", chassis_nr=1), machine="pc")
    vm.ok("device_add", **rng(0, bus="b", addr=16))

    assert where(vm, "r0") == ("b", (0x16, 0) if vm.version == "7.2" else (2, 0))
    assert "as text" in topology.check(rng(1, bus="b", addr=16))[0]


def test_query_pci_tells_what_topology_knows(live):
    """Once firmware has numbered the buses, query-pci has no device more than topology, nor in another place."""
    vm, topology = started(
        live, port(0), Device(driver="pcie-pci-bridge", id="b"), Device(driver="e1000", id="n")
    )
    for device in (rng(0, bus="rp0", addr="0"), rng(1, bus="b", addr="1f")):
        vm.ok("device_add", **device)
        topology.occupy(device)
    before = copy.deepcopy(vars(topology))
    vm.ok("cont")
    deadline = time.monotonic() + 60
    while "r1" not in str(vm.ok("query-pci")) and time.monotonic() < deadline:
        time.sleep(0.1)
    topology.told_pci(vm.ok("query-pci"))

    assert "r1" in str(vm.ok("query-pci"))
    assert vars(topology) == before


#: Every two functions of one slot: number and whether it says multifunction, of the first and the second.
FUNCTIONS = [(function, multi) for function in (0, 1, 2) for multi in (False, True)]
PAIRS = list(enumerate((first, second) for first in FUNCTIONS for second in FUNCTIONS))
BRIDGES = [Device(driver="pci-bridge", id=f"b{number}", chassis_nr=number + 1) for number in range(2)]


def function(number, which, pair):
    """Return a device that is one of a pair, in a slot of the pair's own."""
    address = f"{number % 31 + 1:x}.{pair[which][0]}"
    return rng(f"{number}-{which}", bus=f"b{number // 31}", addr=address, multifunction=pair[which][1])


def against(topology, device, *, cold=False):
    return [text for text in topology.check(device, cold=cold) if "no guest sees it" not in text]


def test_a_function_beside_another_is_objected_to_as_qemu_does(live):
    """Of every two functions of one slot, the second is objected to exactly if QEMU refuses it."""
    vm, topology = started(live, *BRIDGES, machine="pc")
    differ = {}
    for number, pair in PAIRS:
        first, second = (function(number, which, pair) for which in (0, 1))
        vm.ok("device_add", **first)
        topology.occupy(first)
        objected, refusal = against(topology, second), vm.answer("device_add", **second)
        if bool(objected) != bool(refusal):
            differ[pair] = objected, refusal

    assert differ == {}


def test_functions_that_are_not_objected_to_can_be_plugged_cold(live):
    """QEMU starts with every function that nothing speaks against, more than can be plugged hot."""
    topology = Topology.of(BRIDGES, machine="pc")
    hot, kept = 0, []
    for number, pair in PAIRS:
        for which in (0, 1):
            device = function(number, which, pair)
            if not against(topology, device, cold=True):
                hot += not against(topology, device)
                kept.append(device)
                topology.occupy(device, cold=True)

    agrees(*started(live, *BRIDGES, *kept, machine="pc"))
    assert len(kept) > hot
