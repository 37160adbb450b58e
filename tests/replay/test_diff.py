"""Two traces side by side."""

import json

import pytest

import qemustate
from qemustate.errors import BadInput
from qemustate.replay.diff import diff

from .conftest import story_of

GREETING = '{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}}, "capabilities": []}}'


@pytest.fixture
def text(tmp_path):
    """Return a function that writes a plain text trace of these messages, an id given to each command."""

    def write(name, *messages):
        path = tmp_path / name
        path.write_text("\n".join([GREETING, *map(json.dumps, messages)]) + "\n")
        return path

    return write


def ask(name, identifier, **arguments):
    return {"execute": name, "arguments": arguments, "id": identifier}


def done(identifier):
    return {"return": {}, "id": identifier}


def event(name, seconds=1, **data):
    return {"timestamp": {"seconds": seconds, "microseconds": 0}, "event": name, "data": data}


def test_a_trace_is_like_itself(story):
    """No trace differs from itself."""
    assert diff(story, story) == []


def test_a_trace_is_like_its_log(quit_story, logged):
    """The format makes no difference."""
    assert qemustate.diff(quit_story, logged(quit_story)) == []


@pytest.mark.parametrize("name", ["hotplug_acpi_ack", "hotplug_pcie_ack", "mirror", "cpu", "scsi", "quit"])
def test_two_versions_that_do_the_same(name):
    """The same story on two versions of QEMU, other ids and times and all: alike."""
    assert diff(story_of(name, "7.2"), story_of(name, "10.0")) == []


def test_the_first_difference_and_the_states_there():
    """Two stories part where their clients ask for different things; both states are there."""
    (found,) = diff(story_of("hotplug_acpi_ack"), story_of("unplug_ignored"))
    assert found.lane == "commands"
    assert " -> blockdev-add " in found.a.line
    assert found.b.line.endswith(" -> device_del id=vd1")
    for side in (found.a, found.b):
        assert side.state["at"]["seq"] == side.seq
        assert side.told[0].startswith(f"vm {side.state['name']}, after record {side.seq}")
    assert "device vd1: gone in the first, present in the second" in found.states


def test_ids_times_and_questions_are_no_difference(text):
    """Other ids, other times, more questions, and events that QEMU holds back."""
    one = text("one", ask("stop", "a"), event("STOP"), done("a"))
    other = text(
        "other",
        ask("query-status", 1),
        {"return": {"status": "running", "running": True}, "id": 1},
        ask("stop", 2),
        event("RTC_CHANGE", 7, offset=1),
        event("STOP", 8),
        done(2),
    )
    assert diff(one, other) == []


def test_events_of_different_devices_may_come_in_any_order(text):
    """QEMU promises no order between them; of one device the order counts."""
    first, second = event("DEVICE_DELETED", device="d1"), event("DEVICE_DELETED", device="d2")
    refused = event("DEVICE_UNPLUG_GUEST_ERROR", device="d1")
    assert diff(text("a", first, second), text("b", second, first)) == []
    (found,) = diff(text("c", refused, first), text("d", first, refused))
    assert (found.lane, found.alike) == ("d1", 0)
    assert "DEVICE_UNPLUG_GUEST_ERROR" in found.a.line
    assert "DEVICE_DELETED" in found.b.line


def test_commands_in_another_order_are_a_difference(text):
    """What the client asked for is compared in its order."""
    a, b = ask("stop", 1), ask("system_reset", 2)
    (found,) = diff(text("a", a, b), text("b", b, a))
    assert (found.lane, found.alike) == ("commands", 0)


def test_a_trace_that_ends_earlier(text):
    """Where one goes on and the other does not, the state at the other's end is shown."""
    (found,) = diff(
        text("a", ask("stop", 1), event("STOP"), done(1)),
        text("b", ask("stop", 1), event("STOP"), done(1), event("RESUME", 3)),
    )
    assert (found.a.seq, found.a.line, found.alike) == (None, "", 3)
    assert "paused" in found.a.state["runstate"]["possible"]
    assert found.b.line.endswith("! RESUME")
    assert [line.split(":")[0] for line in found.states] == ["runstate"]


def test_another_outcome_is_a_difference(text):
    """A command done here and refused there."""
    no = {"error": {"class": "DeviceNotFound", "desc": "no"}, "id": 1}
    a, b = text("a", ask("device_del", 1, id="d"), done(1)), text("b", ask("device_del", 1, id="d"), no)
    (found,) = diff(a, b)
    assert (found.lane, found.alike) == ("answers", 1)
    assert "refused" in found.b.line


def test_states_that_exclude_each_other(text):
    """The same was said, and a question had another answer: the states at the end are told."""
    asked = ask("query-status", 1)
    a = text("a", asked, {"return": {"status": "running", "running": True}, "id": 1})
    b = text("b", asked, {"return": {"status": "prelaunch", "running": False}, "id": 1})
    (found,) = diff(a, b)
    assert found.lane == "states"
    (state,) = found.states
    assert state.startswith("runstate: running in the first, ")
    assert "prelaunch" in state.partition(", ")[2]


def test_it_is_the_same_difference_the_other_way_round():
    """Swapping the traces swaps the sides."""
    a, b = story_of("hotplug_acpi_ack"), story_of("unplug_ignored")
    (one,), (other,) = diff(a, b), diff(b, a)
    assert (one.a, one.b, one.lane, one.alike) == (other.b, other.a, other.lane, other.alike)


def test_the_first_of_several_differences(text):
    """The earliest record without a match is told, though another is noticed before it."""
    lost = event("DEVICE_DELETED", device="d1")
    rest = [event("DEVICE_DELETED", device=f"x{number}") for number in range(5)]
    (found,) = diff(text("a", lost, *rest, event("STOP")), text("b", *rest, event("RESUME")))
    assert (found.lane, found.alike, found.b.seq) == ("d1", 0, None)


def test_vms_are_paired_by_name(tmp_path):
    """Directories of many VMs: those of one name are compared; a VM that only one has is refused."""
    for side in ("a", "b"):
        (tmp_path / side).mkdir()
        for name in ("quit", "cpu"):
            path = story_of(name)
            (tmp_path / side / path.name).symlink_to(path)
    assert diff(tmp_path / "a", tmp_path / "b") == []
    (tmp_path / "b" / "cpu.jsonl.xz").unlink()
    with pytest.raises(BadInput, match="cpu"):
        diff(tmp_path / "a", tmp_path / "b")
