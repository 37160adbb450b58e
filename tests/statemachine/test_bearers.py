"""One id, borne by one device after another, on a connection that is cut at any moment."""

from __future__ import annotations

from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support.wire import NATIVE, PORTS, Q35, Wire

from qemustate.statemachine.tables.device import IN_QOM

VERSION = (7, 2, 22)


class Bearers(RuleBasedStateMachine):
    """A QEMU that knows one id, as hw/core/qdev.c has it for buses whose devices go with the command, and its client."""

    argv: ClassVar = [*Q35, *PORTS, "-device", "qemu-xhci,id=usb"]
    device: ClassVar = {"driver": "usb-tablet", "bus": "usb.0", "port": "1"}
    #: The devices of the command line.
    cold: ClassVar = ("rp0", "rp1", "usb")
    #: The events of a device that has left, each by the end of its path.
    events: ClassVar = ("",)
    #: It leaves with the command; or else a reset completes what was asked for.
    at_once: ClassVar = True
    completes: ClassVar = False

    def __init__(self):
        super().__init__()
        self.w = Wire(VERSION, self.argv)
        i = self.w.send("cont")
        self.w.event("RESUME")
        self.w.answer(i)
        self.there = False
        self.asked = False  # to leave
        self.due = []  # events that have not been sent
        self.queue = []  # commands that QEMU has read and not begun
        self.connected = self.alone = True
        self.known = True  # nobody but us has plugged anything
        self.late = None  # the answer that goes to the next client: a command, its id, and why it was refused

    # --- what QEMU does

    def _begin(self, name, *, empty):
        """Do what a command asks for; return why not, and what it answers. ``empty``: what is asked to leave does so at once."""
        if name == "qom-list":
            names = [*self.cold, *(["tab"] if self.there else [])]
            return None, [{"name": it, "type": "child<x>"} for it in names]
        if name == "system_reset":
            if self.asked and self.completes:
                self._leave()
            self.asked = False
            if self.connected:
                self.w.event("RESET", guest=False, reason="host-qmp-system-reset")
        elif name == "device_add":
            if self.there:
                return ("Duplicate device ID 'tab'", "GenericError"), None
            self.there = True
        else:
            return self._del(empty=empty), None
        return None, None

    def _del(self, *, empty):
        if not self.there:
            return "Device 'tab' not found", "DeviceNotFound"
        self._leave()
        return None

    def _leave(self):
        self.there = self.asked = False
        self.due += self.events

    def _answer(self, i, refusal, value):
        if refusal:
            self.w.refuse(i, *refusal)
        else:
            self.w.answer(i, value)

    # --- what the client does

    def _send(self, name, **arguments):
        self.queue.append((name, self.w.send(name, **arguments)))

    @precondition(lambda self: self.connected)
    @rule()
    def add(self):
        self._send("device_add", id="tab", **self.device)

    @precondition(lambda self: self.connected)
    @rule()
    def delete(self):
        self._send("device_del", id="tab")

    @precondition(lambda self: self.connected)
    @rule()
    def reset(self):
        self._send("system_reset")

    @precondition(lambda self: self.connected)
    @rule()
    def ask(self):
        self._send("qom-list", path="/machine/peripheral")

    @rule(done=st.booleans())
    def plan(self, done):
        """An intent to plug it begins, or ends."""
        if "plan" not in self.w.vm.intents:
            self.w.put("begun", {"intent": "plug", "correlation": "plan", "subject": "tab"})
        else:
            outcome = "done" if done else "unknown"
            self.w.put(
                "ended", {"intent": "plug", "correlation": "plan", "subject": "tab", "outcome": outcome}
            )

    # --- what happens

    @precondition(lambda self: self.connected and self.queue)
    @rule(raced=st.booleans(), empty=st.booleans())
    def serve(self, raced, empty):
        """Do the next command; ``raced``: another thread tells before the answer is sent."""
        name, i = self.queue.pop(0)
        answer = self._begin(name, empty=empty)
        if raced:
            self.announce()
        self._answer(i, *answer)
        waiting = {it for it, _ in self.queue}
        if (
            name == "device_del"
            and not answer[0]
            and "device_add" not in waiting
            and self.at_once
            and self.known
        ):
            assert self.w.device("tab") == ("gone",)
        if name == "qom-list" and not waiting and not self.asked and "tab" in self.w.vm.devices:
            assert ("present" in self.w.device("tab")) == self.there

    @rule()
    def announce(self):
        if self.due:
            child = self.due.pop(0)
            if self.connected:
                named = {} if child else {"device": "tab"}
                self.w.event("DEVICE_DELETED", **named, path=f"/machine/peripheral/tab{child}")

    @precondition(lambda self: self.connected)
    @rule(done=st.integers(0, 3), late=st.booleans(), empty=st.booleans(), us=st.booleans())
    def cut(self, done, late, empty, us):
        """Lose the connection; QEMU does that many of the commands, and drops the others; the last answer may come ``late``."""
        self.late = None
        self.connected = False
        self.w.put("lost", {"by": "us", "alone": True} if us else {"why": "end of stream"})
        for name, i in self.queue[:done]:
            self.late = i, *self._begin(name, empty=empty)
        if not late:
            self.late = None
        self.queue = []

    @precondition(lambda self: not self.connected)
    @rule(name=st.sampled_from(("device_add", "device_del", "system_reset")))
    def other(self, name):
        """Somebody else has our monitor for longer than an event takes, and sends a command."""
        self.alone, self.known, self.late = False, False, None
        self.due.clear()
        self._begin(name, empty=True)

    @precondition(lambda self: not self.connected)
    @rule(unheard=st.integers(0, 2), held=st.booleans())
    def reopen(self, unheard, held):
        """Connect, ``held`` up by whoever had our monitor; what QEMU announces before the negotiation is over is not sent to anybody."""
        self.w.put("opened", {"alone": self.alone})
        self.alone = True
        if held:
            self.w.put("held", {})
            self.known = False
        version = dict(zip(("major", "minor", "micro"), VERSION, strict=True))
        self.w.put("greeting", {"qmp": {"QMP": {"version": {"qemu": version}, "capabilities": []}}})
        if self.late:
            self._answer(*self.late)
        del self.due[:unheard]
        self.w.ok("qmp_capabilities")
        self.connected = True
        self.ask()

    @invariant()
    def the_truth_is_believed(self):
        cell = self.w.vm.devices.get("tab")
        inside = self.w.vm.watch.device.of(IN_QOM)
        if cell is not None and self.alone:  # that somebody else was there is told when we are back
            assert cell.belief & inside if self.there else cell.belief & ~inside, self.w.device("tab")
        found = [it for it in self.w.checker.findings if it.severity == "violation"]
        assert not found, found


class Asked(Bearers):
    """The same for buses that ask the guest; ``empty``: it answers before the command is answered, or is not asked at all."""

    at_once: ClassVar = False
    #: A second request is refused while the first is open.
    once: ClassVar = False

    def _del(self, *, empty):
        if not self.there:
            return "Device 'tab' not found", "DeviceNotFound"
        if self.asked and self.once:
            return "Device tab is already in the process of unplug", "GenericError"
        self.asked = True
        if empty:
            self._leave()
        return None

    @rule()
    def eject(self):
        """The guest lets go of it."""
        if self.asked:
            self._leave()


class Pcie(Asked):
    """Native PCIe: a slot that no guest has powered is emptied at once."""

    argv: ClassVar = [*Q35, *NATIVE, *PORTS]
    device: ClassVar = {"driver": "virtio-rng-pci", "bus": "rp0"}
    cold: ClassVar = ("rp0", "rp1")
    events: ClassVar = ("/virtio-backend", "")
    once: ClassVar = True


class Acpi(Asked):
    """ACPI: a reset takes away what was asked back."""

    argv: ClassVar = [*Q35, *PORTS]
    device: ClassVar = {"driver": "virtio-rng-pci", "bus": "rp0"}
    cold: ClassVar = ("rp0", "rp1")
    events: ClassVar = ("/virtio-backend", "")
    completes: ClassVar = True


class Dimm(Asked):
    """A DIMM, whose guest may refuse."""

    device: ClassVar = {"driver": "pc-dimm", "memdev": "m"}

    @rule()
    def refuse(self):
        """The guest says no (_OST status 0x82, busy)."""
        if self.asked and self.connected:
            self.asked = False
            info = {"device": "tab", "slot": "0", "slot-type": "DIMM", "source": 3, "status": 130}
            self.w.event("ACPI_DEVICE_OST", info=info)


@pytest.mark.parametrize("machine", [Bearers, Pcie, Acpi, Dimm], ids=["usb", "pcie", "acpi", "dimm"])
def test_bearers_of_one_id_are_told_apart_whatever_is_lost(machine, full):
    """Any life of one id: the truth is believed, nothing is a violation, and an answered unplug of a USB device is certain."""
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=2000 if full else 150, stateful_step_count=40, deadline=None),
    )
