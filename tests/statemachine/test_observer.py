"""The belief: a set of states that only facts narrow."""

from __future__ import annotations

import pytest

from qemustate.statemachine import guards
from qemustate.statemachine.observer import Observer, observer
from qemustate.statemachine.rows import SILENT, Table, rows

TOY = Table(
    name="toy",
    states=("off", "on", "on+warm", "broken"),
    initial="off",
    rows=(
        *rows("switch", "off", "on", cause="hand"),
        *rows("switch", "off", "broken", when="kvm", cause="spark"),
        *rows("switch", "on on+warm", "off"),
        *rows(SILENT, "on", "on+warm", when="!debugger", assume="announced"),
        *rows("repair", "broken", "off", since="9.0"),
    ),
    shows={"on+warm": "on"},
)


def belief(watcher, *states):
    return watcher.of(states)


def test_an_image_is_closed_under_the_silent_rows_whose_guards_are_possible():
    """What QEMU may do unannounced is in the belief, unless a guard rules it out."""
    watcher = Observer(TOY, None)

    open_ = watcher.image("switch", watcher.initial, guards.denied("kvm") | guards.open_("debugger"))
    shut = watcher.image("switch", watcher.initial, guards.denied("kvm") | guards.held("debugger"))

    assert watcher.inner_names(open_.belief) == ("on", "on+warm")
    assert watcher.inner_names(shut.belief) == ("on",)
    assert open_.assumptions == ("announced",)
    assert shut.assumptions == ()


def test_a_guard_that_is_open_lets_both_rows_pass():
    """Not knowing is not excluding: an open guard permits a row and its opposite."""
    watcher = Observer(TOY, None)

    step = watcher.image("switch", watcher.initial, guards.open_("kvm", "debugger"))

    assert watcher.names(step.belief) == ("broken", "on")
    assert step.cause == ""


def test_one_cause_is_named_and_two_are_not():
    """The cause of a change is told only where every possible row gives the same."""
    watcher = Observer(TOY, None)

    assert watcher.image("switch", watcher.initial, guards.denied("kvm", "debugger")).cause == "hand"


def test_an_impossible_trigger_is_taken_from_all_states_and_said():
    """A trace that cannot be is believed all the same, from anywhere, and the step says so."""
    watcher = Observer(TOY, (10, 0, 0))

    step = watcher.image("repair", watcher.initial, 0)

    assert step.impossible
    assert watcher.inner_names(step.belief) == ("off",)


def test_rows_of_another_version_do_not_exist():
    """A row counts from its version on; without a version the union of all rows is taken."""
    assert Observer(TOY, (7, 2, 0)).image("repair", 8, 0).impossible
    assert not Observer(TOY, (9, 0, 0)).image("repair", 8, 0).impossible
    assert not Observer(TOY, None).image("repair", 8, 0).impossible


def test_a_trigger_no_table_knows_is_an_error():
    """A misspelt trigger is a mistake of ours, not of QEMU's."""
    with pytest.raises(KeyError):
        Observer(TOY, None).image("swich", 1, 0)


def test_reach_is_all_that_any_rows_lead_to():
    """After a gap anything that the rows can reach may be, guards or no guards."""
    watcher = Observer(TOY, None)

    assert watcher.reach(watcher.bit["broken"]) == watcher.all
    assert Observer(TOY, (7, 2, 0)).inner_names(Observer(TOY, (7, 2, 0)).reach(8)) == ("broken",)


def test_a_belief_shows_each_name_once_and_sorted():
    """Hidden bits do not show: two internal states of one name are one possibility."""
    watcher = Observer(TOY, None)

    assert watcher.names(belief(watcher, "on", "on+warm")) == ("on",)
    assert watcher.showing("on") == belief(watcher, "on", "on+warm")
    assert watcher.showing("nowhere") == 0


def test_observers_are_shared():
    """One compiled table serves every VM of a version."""
    assert observer("runstate", (10, 0, 2)) is observer("runstate", (10, 0, 2))
