"""What a person asks about."""

from itertools import pairwise

import pytest

from qemustate.errors import BadInput
from qemustate.replay.check import check
from qemustate.replay.source import Source
from qemustate.replay.subject import COLLECTIONS, OF_THE_VM, Subject
from qemustate.statemachine.observer import Watchers
from qemustate.statemachine.state import BACKENDS, VM

from .conftest import STORIES

EVERYTHING = [
    ("runstate", ""),
    ("process", ""),
    ("device", "a"),
    ("device", "b"),
    ("node", "a"),
    ("job", "a"),
]


@pytest.mark.parametrize(
    ("text", "covered"),
    [
        ("", EVERYTHING),
        ("vm", EVERYTHING[:2]),
        ("runstate", EVERYTHING[:1]),
        ("device=a", [("device", "a")]),
        ("device=/machine/peripheral/a", [("device", "a")]),
        ("node=a", [("node", "a")]),
        ("a", [("device", "a"), ("node", "a"), ("job", "a")]),
        ("/machine/peripheral/b", [("device", "b")]),
        ("job=b", []),
        ("#block123", []),
    ],
)
def test_what_a_text_names(text, covered):
    """A kind and an id, an id alone, a machine, or the VM."""
    subject = Subject.read(text)
    assert [it for it in EVERYTHING if subject.covers(*it)] == covered


@pytest.mark.parametrize("text", ["disk=a", "device=", "job="])
def test_what_names_nothing_is_refused(text):
    """A kind that is none, and a kind without an id."""
    with pytest.raises(BadInput, match="expected vm, an id or device"):
        Subject.read(text)


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ({"id": "vd1"}, True),
        ({"path": "/machine/peripheral/vd1/virtio-backend"}, True),
        ({"path": "/machine/peripheral/vd1"}, True),
        ({"actions": [{"data": {"device": "vd1"}}]}, True),
        ({"id": "vd10"}, False),
        ({"path": "/machine/peripheral/vd10/x"}, False),
        (None, False),
    ],
)
def test_a_name_in_a_message(message, named):
    """A name counts at any depth, and as the device a path leads below."""
    assert Subject.read("vd1").named_in(message) is named
    assert not Subject.read("vm").named_in(message)


def test_a_contract_can_be_narrowed():
    """Filtering a VM's entry keeps its machines, and of its devices and backends those that are meant."""
    path = next(it for it in STORIES if it.name == "hotplug_pcie_ack.jsonl.xz")
    report = check(Source(path).vms[0])
    whole = report.to_json()
    kept = Subject.read("device=vd1").filtered(whole)
    assert list(kept) == list(whole)
    assert list(kept["devices"]) == ["vd1"]
    assert kept["nodes"] == kept["chardevs"] == {}
    assert kept["runstate"] == whole["runstate"]
    assert set(Subject.read("vd1").cells(report.vm)) == {("device", "vd1")}
    assert set(Subject.read("vm").cells(report.vm)) == {(machine, "") for machine in OF_THE_VM}


@pytest.mark.parametrize(
    ("text", "about", "yes"),
    [
        ("vd1", "vd1", True),
        ("vd1", "vd2", False),
        ("vm", "", True),
        ("vm", "runstate", True),
        ("vm", "vd1", False),
    ],
)
def test_findings_of_a_subject(text, about, yes):
    """A finding about a device is not about the VM, and the other way round."""
    assert Subject.read(text).concerns(about) is yes


def test_nothing_is_left_out():
    """Every machine can be asked about, and has its place in the state."""
    assert {*OF_THE_VM, *COLLECTIONS, "backend"} == {*Watchers._fields, *BACKENDS}
    vm = VM()
    assert set(Subject.read("").cells(vm)) == {(machine, "") for machine in OF_THE_VM}
    assert all(getattr(vm, collection) == {} for collection in COLLECTIONS.values())


def test_a_record_that_moves_a_machine_twice_is_one_change():
    """From what it was before the record to what it is after it."""
    path = next(
        it for it in STORIES if it.name == "migration_paused.src.jsonl.xz" and it.parent.name == "10.0"
    )
    lines, twice = [], 0

    def see(vm, *_):
        nonlocal twice
        moved = [(machine, name) for machine, name, _, _ in vm.changed]
        twice += len(set(moved)) < len(moved)
        lines.extend(Subject.read("runstate").changes(vm))

    check(Source(path).vms[0], after=see)
    assert twice > 0
    states = [line.split(": ")[1].split(" (")[0].split(" -> ") for line in lines]
    assert all(one[-1] == other[0] for one, other in pairwise(states) if len(other) == 2)
