"""A state that people read: the one that is kept, and the one for a moment, say the same."""

import pytest
from support.wire import PORTS, Q35

from qemustate.statemachine.view import Glimpse, State


@pytest.fixture
def vm(wire):
    """Return the state of a VM with a device that is there, one that goes, a node and a job."""
    told = wire(argv=[*Q35, *PORTS])
    told.ok("blockdev-add", driver="null-co", node_name="n")
    told.plug("d0")
    told.plug("d1", bus="rp1")
    told.ok("device_del", id="d1")
    told.event("JOB_STATUS_CHANGE", id="j", status="created")
    return told.vm


def test_a_glimpse_answers_as_a_state_does(vm):
    """Whatever is asked, the state for a moment gives the answer of the one that stays."""
    kept, glimpse = State(vm), Glimpse(vm)

    for name in ("seq", "runstate", "process", "migration"):
        assert getattr(glimpse, name) == getattr(kept, name)
    for question in ("device", "node", "job"):
        for name in ("d0", "d1", "rp0", "n", "j", "nonesuch"):
            assert getattr(glimpse, question)(name) == getattr(kept, question)(name)
    assert dict(glimpse) == dict(kept)
    assert (len(glimpse), repr(glimpse)) == (len(kept), repr(kept))


def test_a_glimpse_looks_no_further_than_it_is_asked(vm, monkeypatch):
    """A question about one thing does not make the plain form of everything."""
    monkeypatch.setattr(type(vm), "to_json", None)

    assert Glimpse(vm).device("d0") == "present"


def test_a_state_does_not_change(vm):
    """What is kept neither follows the VM nor can be written to."""
    kept = State(vm)
    vm.devices["d0"].belief = vm.watch.device.bit["gone"]

    assert (kept.device("d0"), Glimpse(vm).device("d0")) == ("present", "gone")
    with pytest.raises(TypeError):
        kept["devices"]["d0"]["is"] = "gone"
