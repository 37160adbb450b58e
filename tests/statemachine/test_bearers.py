"""One id, borne by one USB device after another, on a connection that is cut at any moment."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support.wire import PORTS, Q35, Wire

from qemustate.statemachine.tables.device import IN_QOM

VERSION = (7, 2, 22)


class Bearers(RuleBasedStateMachine):
    """A QEMU that knows one id, as hw/core/qdev.c has it for buses whose devices go with the command, and its client."""

    def __init__(self):
        super().__init__()
        self.w = Wire(VERSION, [*Q35, *PORTS, "-device", "qemu-xhci,id=usb"])
        self.there = False
        self.due = 0  # DEVICE_DELETED that have not been sent
        self.queue = []  # commands that QEMU has read and not begun
        self.connected = True
        self.late = None  # the answer that goes to the next client: a command, its id, and why it was refused

    def _begin(self, name):
        """Do what a command asks for; return why not."""
        if name == "device_add":
            if self.there:
                return "Duplicate device ID 'tab'", "GenericError"
            self.there = True
        else:
            if not self.there:
                return "Device 'tab' not found", "DeviceNotFound"
            self.there = False
            self.due += 1
        return None

    @precondition(lambda self: self.connected)
    @rule()
    def add(self):
        i = self.w.send("device_add", id="tab", driver="usb-tablet", bus="usb.0", port="1")
        self.queue.append(("device_add", i))

    @precondition(lambda self: self.connected)
    @rule()
    def delete(self):
        self.queue.append(("device_del", self.w.send("device_del", id="tab")))

    @precondition(lambda self: self.connected and self.queue)
    @rule(raced=st.booleans())
    def serve(self, raced):
        """Do the next command; ``raced``: another thread tells before the answer is sent."""
        name, i = self.queue.pop(0)
        refusal = self._begin(name)
        if raced:
            self.announce()
        self._answer(i, refusal)
        waiting = {it for it, _ in self.queue}
        if name == "device_del" and not refusal and "device_add" not in waiting:
            assert self.w.device("tab") == ("gone",)

    def _answer(self, i, refusal):
        if refusal:
            self.w.refuse(i, *refusal)
        else:
            self.w.answer(i)

    @rule()
    def announce(self):
        if self.due:
            self.due -= 1
            if self.connected:
                self.w.event("DEVICE_DELETED", device="tab", path="/machine/peripheral/tab")

    @precondition(lambda self: self.connected)
    @rule(done=st.integers(0, 3), late=st.booleans())
    def cut(self, done, late):
        """Lose the connection; QEMU does that many of the commands, and drops the others; the last answer may come ``late``."""
        self.late = None
        for name, i in self.queue[:done]:
            self.late = i, self._begin(name)
        if not late:
            self.late = None
        self.queue = []
        self.connected = False
        self.w.put("lost", {"why": "end of stream"})

    @precondition(lambda self: not self.connected)
    @rule(unheard=st.integers(0, 2))
    def reopen(self, unheard):
        """Connect; what QEMU announces before the negotiation is over is not sent to anybody."""
        self.w.put("opened", {"alone": True})
        version = dict(zip(("major", "minor", "micro"), VERSION, strict=True))
        self.w.put("greeting", {"qmp": {"QMP": {"version": {"qemu": version}, "capabilities": []}}})
        if self.late:
            self._answer(*self.late)
        self.due -= min(unheard, self.due)
        self.w.ok("qmp_capabilities")
        self.connected = True
        self.ask()

    @precondition(lambda self: self.connected and not self.queue)
    @rule()
    def ask(self):
        names = ["rp0", "rp1", "usb", *(["tab"] if self.there else [])]
        listed = [{"name": name, "type": "child<x>"} for name in names]
        self.w.ok("qom-list", listed, path="/machine/peripheral")
        if "tab" in self.w.vm.devices:
            assert self.w.device("tab") == (("present",) if self.there else ("gone",))

    @invariant()
    def the_truth_is_believed(self):
        cell = self.w.vm.devices.get("tab")
        inside = self.w.vm.watch.device.of(IN_QOM)
        if cell is not None:
            assert cell.belief & inside if self.there else cell.belief & ~inside, self.w.device("tab")
        assert not [it for it in self.w.checker.findings if it.severity == "violation"]


def test_bearers_of_one_id_are_told_apart_whatever_is_lost(full):
    """Any life of one id on USB: the truth is believed, nothing is a violation, and an answered unplug is certain."""
    run_state_machine_as_test(
        Bearers,
        settings=settings(max_examples=2000 if full else 150, stateful_step_count=40, deadline=None),
    )
