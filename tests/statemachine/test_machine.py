"""The table read as a machine that does, held against the table read as what may be."""

from __future__ import annotations

import pytest
import transitions
from hypothesis import given, settings
from hypothesis import strategies as st

from qemustate.statemachine import guards
from qemustate.statemachine.machine import Callbacks, Walker
from qemustate.statemachine.observer import observer
from qemustate.statemachine.tables import TABLES

VERSIONS = [(7, 2, 22), (10, 0, 2), None]


def profiles():
    """Pairs of (the truth, what an observer knows of it): the second allows the first."""
    names = list(guards.GUARDS)

    def build(values):
        truth = known = 0
        for name, (holds, told) in zip(names, values, strict=True):
            bit = guards.held(name) if holds else guards.denied(name)
            truth |= bit
            known |= bit if told else guards.open_(name)
        return truth, known

    return st.lists(st.tuples(st.booleans(), st.booleans()), min_size=len(names), max_size=len(names)).map(
        build
    )


@pytest.mark.parametrize("version", VERSIONS, ids=str)
@pytest.mark.parametrize("name", TABLES)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_every_walk_stays_inside_the_belief(name, version, data):
    """Whatever rows QEMU takes, silent ones included, its state is among those the observer believes."""
    watcher = observer(name, version)
    truth, known = data.draw(profiles())
    walker = Walker(TABLES[name], truth, version)
    belief = watcher.closure(watcher.initial, known)
    for _ in range(data.draw(st.integers(1, 25))):
        if data.draw(st.integers(0, 5)) == 0:  # the facts change: guards move, beliefs close
            truth, known = data.draw(profiles())
            walker.profile = truth
            belief = watcher.closure(belief, known)
        moves = walker.moves()
        if not moves:
            continue
        row = data.draw(st.sampled_from(moves))
        walker.take(row)
        if not row.silent:
            step = watcher.image(row.trigger, belief, known)
            assert not step.impossible, row
            belief = step.belief
        assert watcher.bit[walker.state] & belief, (row, watcher.inner_names(belief))


@pytest.mark.parametrize("name", TABLES)
def test_the_machine_has_every_row(name):
    """The bound machine holds exactly the rows of its table, each with its guard, assumption and source."""
    table = TABLES[name]
    walker = Walker(table)
    held = {
        t.row
        for event in walker._machine.events.values()
        for found in event.transitions.values()
        for t in found
    }

    assert set(table.rows) == held


def test_a_row_that_does_not_start_here_is_refused():
    """A trigger that leads nowhere from this state is an error, never a silent no."""
    walker = Walker(TABLES["job"], 0)
    row = next(r for r in TABLES["job"].rows if r.source == "ready")

    with pytest.raises(transitions.MachineError):
        walker.take(row)


def test_among_rivals_the_wanted_destination_is_taken():
    """Two rows with the same trigger and source: the walker gets the one it wants, not the first."""
    stops = [r for r in TABLES["runstate"].rows if r.trigger == "STOP" and r.source == "running"]
    ended = set()
    for row in stops:
        walker = Walker(TABLES["runstate"], guards.mask(row.when))
        walker.state = "running"
        walker.take(row)
        ended.add(walker.state)

    assert {"paused", "io-error", "watchdog", "guest-panicked", "shutdown", "finish-migrate"} <= ended


def test_callbacks_fire_when_a_belief_becomes_one_state_and_when_it_stops_being_one():
    """on_enter_STATE, on_exit_STATE and on_uncertain, the transitions way."""

    class Listener:
        def __init__(self):
            self.heard = []

        def on_enter_io_error(self, *args):
            self.heard.append(("enter io-error", args))

        def on_exit_running(self, *args):
            self.heard.append(("exit running", args))

        def on_uncertain(self, *args):
            self.heard.append(("uncertain", args))

    listener = Listener()
    callbacks = Callbacks(listener)
    callbacks.react(("running",), ("io-error",), 7)
    callbacks.react(("io-error",), ("io-error", "paused"), 8)
    callbacks.react(("io-error", "paused"), ("io-error",), 9)
    callbacks.react(("io-error",), ("io-error",), 10)

    assert listener.heard == [
        ("exit running", (7,)), ("enter io-error", (7,)), ("uncertain", (8,)), ("enter io-error", (9,)),
    ]  # fmt: skip
