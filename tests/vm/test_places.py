"""Where the next device can go, as a trace tells it: a place is free when the one who had it has left for certain."""

from __future__ import annotations

import pytest
from support.wire import NATIVE, PORTS, Q35, Wire

from qemustate.errors import NoPlace
from qemustate.hardware.properties import Device
from qemustate.vm.places import topology


def rng(name):
    return Device(driver="virtio-rng-pci", id=name)


@pytest.fixture
def full():
    """Return a trace of a VM whose two ports are taken, by r0 and r1, and whose guest runs."""
    w = Wire(argv=[*Q35, *PORTS])
    w.ok("cont")
    w.event("RESUME")
    w.plug("r0", "virtio-rng-pci", "rp0")
    w.plug("r1", "virtio-rng-pci", "rp1")
    return w


def test_a_place_is_free_with_its_device_deleted(full):
    """Neither a request nor a reset that completes it makes the place free: only the event does."""
    full.ok("device_del", id="r0")
    with pytest.raises(NoPlace):
        topology(full.vm).place(rng("r2"))
    full.event("RESET", guest=False, reason="host-qmp-system-reset")
    assert full.device("r0") == ("gone",)
    with pytest.raises(NoPlace):
        topology(full.vm).place(rng("r2"))
    full.event("DEVICE_DELETED", device="r0", path="/machine/peripheral/r0")

    assert topology(full.vm).place(rng("r2"))["bus"] == "rp0"


def test_a_place_is_free_where_the_event_may_have_been_lost(full):
    """A device that has left while nobody listened left its place, though its event will never be heard."""
    full.ok("device_del", id="r0")
    full.event("RESET", guest=False, reason="host-qmp-system-reset")
    full.put("lost", {})
    full.put("opened", {"alone": True})

    assert full.device("r0") == ("gone",)
    assert topology(full.vm).place(rng("r2"))["bus"] == "rp0"


def test_a_plug_that_has_begun_has_its_place():
    """Who is about to be plugged holds the port that was picked, before QEMU has heard of it."""
    w = Wire(argv=[*Q35, *PORTS, *NATIVE])
    step = ["device_add", {"driver": "virtio-rng-pci", "id": "r0", "bus": "rp0", "addr": "0"}, None]
    w.put("begun", {"intent": "plug", "correlation": "1", "subject": "r0", "steps": [step]})

    assert topology(w.vm).place(rng("r1"))["bus"] == "rp1"
