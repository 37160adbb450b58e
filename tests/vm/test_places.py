"""Where the next device can go, as a trace tells it: a place is free when the one who had it has left for certain."""

from __future__ import annotations

import pytest
from support.wire import NATIVE, PORTS, Q35, Wire

from qemustate.errors import NoPlace
from qemustate.hardware.properties import Device
from qemustate.vm.places import is_taken, topology


def rng(name, **more):
    return Device(driver="virtio-rng-pci", id=name, **more)


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


def test_a_port_that_is_named_is_taken_as_long_as_its_device_is_certain_to_be_there(full):
    """One that is there or asked to leave is in the way; one that may have left is for QEMU to know."""

    def taken(**where):
        return is_taken(full.vm, topology(full.vm), rng("r2", **where))

    assert taken(bus="rp0")
    assert taken(bus="rp0", addr="0")
    assert not taken(bus="rp0", addr="nonsense")
    assert not taken(bus="nowhere")
    assert not taken()
    full.ok("device_del", id="r0")
    assert taken(bus="rp0")
    full.event("RESET", guest=False, reason="host-qmp-system-reset")
    assert not taken(bus="rp0")


def test_who_asks_for_its_own_place_again_is_told_by_qemu(full):
    """The id of a device that is there is refused as such, not its place."""
    assert not is_taken(full.vm, topology(full.vm), rng("r0", bus="rp0"))


def test_the_port_that_has_been_empty_for_longest_is_next(full):
    """A guest may be about to eject once more what went a moment ago: the next device goes where nobody has been for longer."""
    for name in ("r1", "r0"):
        full.ok("device_del", id=name)
        full.event("DEVICE_DELETED", device=name, path=f"/machine/peripheral/{name}")

    assert topology(full.vm).place(rng("r2"))["bus"] == "rp1"
    full.plug("r2", "virtio-rng-pci", "rp1")
    assert topology(full.vm).place(rng("r3"))["bus"] == "rp0"
    full.ok("device_del", id="r2")
    full.event("DEVICE_DELETED", device="r2", path="/machine/peripheral/r2")
    assert topology(full.vm).place(rng("r3"))["bus"] == "rp0"
