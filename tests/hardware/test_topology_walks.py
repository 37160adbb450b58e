"""Plugs, unplugs and resets in any order, against a plain model and against real QEMUs."""

import re
import shutil
import tempfile

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support.live import Live

from qemustate.errors import NoPlace
from qemustate.hardware.properties import Blockdev, Device
from qemustate.hardware.topology import Topology

COLD = [
    Device(driver="pcie-root-port", id="rp0", chassis=1),
    Device(driver="pcie-root-port", id="rp1", chassis=2),
    Device(driver="pcie-pci-bridge", id="b"),
    Device(driver="lsi53c895a", id="s"),
    Device(driver="qemu-xhci", id="x", p2=3, p3=3),
    Device(driver="virtio-serial-pci", id="v", max_ports=4),
]
#: Driver -> every place there is for it: bus, and what says the place.
PLACES = {
    "virtio-rng-pci": [("rp0", "0"), ("rp1", "0"), *(("b", f"{slot:x}") for slot in range(1, 32))],
    "scsi-hd": [("s.0", target) for target in range(7)],
    "usb-tablet": [("x.0", str(port)) for port in (1, 2, 3)],
    "virtserialport": [("v.0", port) for port in (1, 2, 3)],
}
SAID = {"virtio-rng-pci": "addr", "scsi-hd": "scsi-id", "usb-tablet": "port", "virtserialport": "nr"}


class Plugging(RuleBasedStateMachine):
    """A plain model beside a topology: who is where, and who is on the way out."""

    ids = Bundle("ids")

    @initialize()
    def start(self):
        self.topology = Topology.of(COLD, machine="q35", acpi_off=True)
        self.where, self.leaving, self.count = {}, set(), 0

    @rule(target=ids, driver=st.sampled_from([*PLACES, "virtio-rng-pci"]))
    def plug(self, driver):
        """A device gets a place that is free, or there is none."""
        free = [place for place in PLACES[driver] if place not in self.where.values()]
        name, self.count = f"d{self.count}", self.count + 1
        try:
            device = self.topology.place(Device(driver=driver, id=name))
        except NoPlace:
            assert free == []
            return name
        place = device["bus"], device[SAID[driver]]
        assert place in free
        self.topology.occupy(device)
        self.where[name] = place
        return name

    @rule(name=ids)
    def ask(self, name):
        """An answered device_del frees the place of a SCSI, USB or serial device at once, and of a PCI device not."""
        if name in self.where:
            self.topology.asked(name)
            if self.where[name][0] in ("rp0", "rp1", "b"):
                self.leaving.add(name)
            else:
                del self.where[name]

    @rule(name=consumes(ids))
    def gone(self, name):
        """DEVICE_DELETED, asked for or not, frees the place, and comes twice without harm."""
        self.topology.release(name)
        self.topology.release(name)
        self.where.pop(name, None)
        self.leaving.discard(name)

    @rule()
    def reset(self):
        """A reset frees nothing, and makes QEMU forget what it was asked for."""
        self.topology.reset()
        self.leaving = set()

    @precondition(lambda self: self.where)
    @rule(data=st.data())
    def clash(self, data):
        """A place that is taken is not handed out for being asked for, nor an id twice."""
        name = data.draw(st.sampled_from(sorted(self.where)))
        known = self.topology.occupants[name].device
        for device in (Device(known, id="other"), Device(driver=known.kind, id=name)):
            assert self.topology.check(device)
            with pytest.raises(NoPlace):
                self.topology.place(device)

    @invariant()
    def agrees(self):
        """The topology has the devices of the model, each in its place, and the same on their way out."""
        mine = {key: it for key, it in self.topology.occupants.items() if key.startswith("d")}

        assert {key: (it.bus, it.device[SAID[it.device.kind]]) for key, it in mine.items()} == self.where
        assert len(set(self.where.values())) == len(self.where)
        assert {key for key, it in mine.items() if it.leaving} == self.leaving


Plugging.TestCase.settings = settings(max_examples=40, stateful_step_count=60, deadline=None)
TestPlugging = Plugging.TestCase


#: What is objected to though QEMU takes it: no guest finds a device there.
TOLERATED = re.compile(r"there is no slot .* of rp\d|there is no target 0:7:0 of s\.0|.*no guest sees it")


class Asking(RuleBasedStateMachine):
    """Devices with any place, right or wrong, are plugged into a real QEMU, stopped and with native hotplug: it empties slots at once."""

    qemu = None
    ids = Bundle("ids")

    @initialize()
    def start(self):
        self.folder = tempfile.mkdtemp()
        self.topology = Topology.of(COLD, machine="q35", acpi_off=True)
        cold = [
            word
            for it in COLD
            for word in ("-device", ",".join(f"{key}={value}" for key, value in it.items()))
        ]
        off = ["-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"]
        self.vm = Live(self.qemu, ["-M", "q35", *off, *cold], cwd=self.folder)
        self.count = 0

    def teardown(self):
        self.vm.end()
        shutil.rmtree(self.folder)

    def plug(self, driver, members):
        """Plug a device if QEMU takes it, and compare with what topology says of it before."""
        name, self.count = f"d{self.count}", self.count + 1
        device = Device(driver=driver, id=name, **members)
        if driver == "scsi-hd":
            device["drive"] = name
            self.vm.run_part(Blockdev({"driver": "null-co", "node-name": name, "read-zeroes": True}))
        against = self.topology.check(device)
        refusal = self.vm.answer("device_add", **device)
        if refusal is not None:
            assert against, f"{device}: {refusal}"
            return name
        told = [text for text in against if not TOLERATED.match(text)]
        # 7.2 looks for a slot by itself beyond the one that a port has.
        assert not told or (self.vm.version == "7.2" and "addr" not in device), (
            f"{device}: accepted, though {told}"
        )
        self.topology.occupy(device)
        return name

    @rule(
        target=ids,
        bus=st.sampled_from([None, "pcie.0", "rp0", "rp1", "b", "b", "nope"]),
        addr=st.sampled_from([None, "0", "1", "1.1", "5", "5.0", "5.1", "5.2", "1f", "20", "5.8", "10"]),
        multifunction=st.booleans(),
    )
    def pci(self, bus, addr, multifunction):
        """Any PCI address."""
        members = {"bus": bus, "addr": addr, "multifunction": multifunction or None}
        return self.plug(
            "virtio-rng-pci", {key: value for key, value in members.items() if value is not None}
        )

    @rule(target=ids, target_=st.sampled_from([None, 0, 1, 6, 7, 8]), lun=st.sampled_from([None, 0, 1]))
    def scsi(self, target_, lun):
        """Any SCSI target and unit."""
        members = {"scsi-id": target_, "lun": lun if target_ is not None else None, "bus": "s.0"}
        return self.plug("scsi-hd", {key: value for key, value in members.items() if value is not None})

    @rule(
        target=ids,
        port=st.sampled_from(["1", "2", "3", "4", "1.1", "2.8", "2.9", "1.1.1"]),
        hub=st.booleans(),
    )
    def usb(self, port, hub):
        """Any USB port, also behind hubs."""
        return self.plug("usb-hub" if hub else "usb-tablet", {"bus": "x.0", "port": port})

    @rule(target=ids, nr=st.sampled_from([None, 0, 1, 2, 3, 4]), console=st.booleans())
    def serial(self, nr, console):
        """Any port of a virtio-serial controller."""
        return self.plug("virtconsole" if console else "virtserialport", {} if nr is None else {"nr": nr})

    @rule(name=consumes(ids))
    def unplug(self, name):
        """A device that is unplugged gives its place back, and takes what is on it along."""
        if name in self.topology.occupants:
            self.vm.ok("device_del", id=name)
            self.vm.event("DEVICE_DELETED", device=name)
            # Functions of its slot and devices behind a hub go along.
            present = self.vm.devices()
            for key in [it.key for it in self.topology.occupants.values() if it.device.id]:
                if key not in present:
                    self.topology.release(key)
            assert name not in present

    @invariant()
    def agrees(self):
        """The devices are the same on both sides, and in the same places."""
        assert self.vm.devices() == sorted(
            it.device.id for it in self.topology.occupants.values() if it.device.id
        )


def test_what_topology_says_of_a_place_is_what_qemu_does(qemu, full):
    """In any order, what is not objected to is accepted, and what is objected to is refused, but for named exceptions."""
    machine = type("AskingThis", (Asking,), {"qemu": qemu})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=100 if full else 6, stateful_step_count=25, deadline=None)
    )
