"""The life of one device, job or backend, and what is still missing."""

import pytest

from qemustate.errors import BadInput
from qemustate.replay.check import Until, check
from qemustate.replay.life import COMING, GOALS, NEVER, WAITS, explain, lives
from qemustate.replay.source import Source
from qemustate.statemachine import guards
from qemustate.statemachine.observer import observer
from qemustate.statemachine.state import BACKENDS

from .conftest import STORIES, story_of

VERSIONS = ("7.2", "10.0")


def life(name, what, seq=None, version="7.2"):
    (trace,) = Source(story_of(name, version)).vms
    return explain(trace, what, Until(seq=seq))


def told(steps):
    """Return the lines of a life without number and time."""
    return [step.line.split(maxsplit=2)[2] for step in steps]


@pytest.mark.parametrize("version", VERSIONS)
def test_an_unplug_that_was_acknowledged(version):
    """From device_add to DEVICE_DELETED, twice under one id: nothing is missing in the end."""
    found = life("hotplug_pcie_ack", "vd1", version=version)
    one = [
        "-> device_add driver=virtio-blk-pci id=vd1 drive=n1 bus={}   [device vd1: gone -> adding (device_add)]",
        "<- device_add: {{}}   [device vd1: adding -> present (device_add)]",
        "-> device_del id=vd1",
        "<- device_del: {{}}   [device vd1: present -> unplugging (device_del)]",
        "! DEVICE_DELETED path=/machine/peripheral/vd1/virtio-backend   [device vd1: unplugging -> gone (DEVICE_DELETED)]",
        "! DEVICE_DELETED device=vd1 path=/machine/peripheral/vd1   [device vd1: gone (DEVICE_DELETED)]",
    ]
    assert told(found.steps) == [line.format(bus) for bus in ("rp0", "rp1") for line in one]
    assert found.missing == []
    assert [line.split(" since")[0] for line in found.state] == ["  device     vd1: gone"]
    assert list(found.lines())[-1] == found.state[0]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("name", "reset"),
    [
        ("unplug_ignored", "on this bus (ACPI PCI hotplug) a reset would complete it"),
        ("unplug_ignored_pcie", "on this bus (native PCIe hotplug) a reset would make it gone or present"),
    ],
)
def test_an_unplug_that_is_ignored(name, reset, version):
    """A guest that does not answer: since when, and what a reset would do on that bus, as its table's rows say."""
    asked = next(
        step.seq
        for step in life(name, "vd1", version=version).steps
        if step.changes and "unplugging" in step.changes[0]
    )
    (missing,) = life(name, "vd1", asked, version).missing
    assert missing == f"unplug requested 00:00 ago (record {asked}); the guest has not answered; {reset}"


def test_how_long_it_is_missing():
    """The time since the request is that of the records, up to where the life is told."""
    (missing,) = life("unplug_ignored", "vd1", 17).missing
    assert missing.startswith("unplug requested 00:02 ago (record 11); ")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_vcpu_that_is_never_named(version):
    """DEVICE_DELETED names only the local APIC of a vCPU; the vCPU is gone, a later qom-list agrees, and nothing is missing."""
    (trace,) = Source(story_of("cpu", version)).vms
    found = explain(trace, "cpu2")
    deleted = [line for line in told(found.steps) if line.startswith("! DEVICE_DELETED")]
    assert [line.split()[2] for line in deleted] == ["path=/machine/peripheral/cpu2/lapic"]
    assert [line.split(" since")[0] for line in found.state] == ["  device     cpu2: gone"]
    assert found.missing == []
    report = check(trace)
    assert {it.rule for it in report.findings} & {
        "contradicted-by-query",
        "unplug-lost",
        "unplug-pending",
    } == set()
    listed = [
        {child["name"] for child in body["qmp"]["return"]}
        for items in trace.batches()
        for seq, _, kind, body, _ in items
        if kind == "reply" and seq > found.steps[-1].seq and isinstance(body["qmp"]["return"], list)
    ]
    assert listed
    assert all("cpu2" not in names for names in listed)


def test_an_answer_that_is_missing():
    """A command that nobody has answered yet is told."""
    found = life("hotplug_pcie_ack", "vd1", 12)
    assert found.missing == [
        "device_add sent 00:00 ago (record 12); it has not been answered",
        "the answer to device_add (record 12)",
    ]


def test_after_the_end_nothing_will_come():
    """What was still missing when QEMU exited stays missing."""
    (missing,) = life("unplug_before_boot", "vd1").missing
    assert missing == (
        "unplug requested (record 8); the guest has not answered; QEMU has exited, and nothing more will come"
    )


def test_what_is_not_known_is_told_with_what_would_tell(tmp_path):
    """Of a device in a log that started late, several states are possible; a query would settle it."""
    path = tmp_path / "t.qmp"
    path.write_bytes(
        b'{"execute": "device_del", "arguments": {"id": "d"}, "id": 1}\n{"return": {}, "id": 1}\n'
    )
    found = explain(Source(path).vms[0], "device=d")
    (missing,) = found.missing
    assert missing.startswith("which it is: gone|")
    assert missing.endswith("; qom-list /machine/peripheral would tell")


def test_a_name_that_nobody_bears():
    """A name that the trace does not know is refused, with those it knows."""
    with pytest.raises(BadInput, match="expected something of the name nobody, saw rp0, rp1, vd1"):
        life("hotplug_pcie_ack", "nobody")


@pytest.mark.parametrize("path", [it for it in STORIES if it.parent.name == "10.0"], ids=lambda it: it.name)
def test_every_life_can_be_told(path):
    """In every story, everything that has a name has a life, which begins with the record that first changed it."""
    (trace,) = Source(path).vms
    vm = check(trace).vm
    for machine, cells in (("device", vm.devices), ("job", vm.jobs), ("node", vm.nodes)):
        for name, cell in cells.items():
            found = explain(trace, f"{machine}={name}")
            assert cell.since in [step.seq for step in found.steps] or not cell.since
            assert [step.seq for step in found.steps] == sorted({step.seq for step in found.steps})
            assert len(found.state) == 1


def test_the_phrases_are_about_what_there_is():
    """Every phrase names a state, trigger or guard of the tables."""
    for machine, state in (*WAITS, *NEVER):
        table = observer("backend" if machine in BACKENDS else machine, None).table
        assert state in table.states
    assert set(COMING) <= set(observer("device", None).triggers)
    assert set(NEVER.values()) <= set(guards.DEVICE_KINDS)
    shown = {observer("device", None).table.shown(state) for state in observer("device", None).table.states}
    assert {name for pair in GOALS.items() for names in pair for name in names} <= shown


def test_of_many_vms_those_that_know_the_name():
    """A name that one VM knows is told of that VM; one that none knows is refused."""
    traces = [Source(story_of(name)).vms[0] for name in ("quit", "unplug_ignored", "cpu")]
    assert [trace.name for trace, _ in lives(traces, "vd1")] == ["unplug_ignored"]
    assert [trace.name for trace, _ in lives(traces, "vm")] == ["quit", "unplug_ignored", "cpu"]
    with pytest.raises(BadInput, match="expected something of the name nobody, saw qmp, judge"):
        lives(traces, "nobody")
