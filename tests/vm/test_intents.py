"""What ends an intent, looked at in traces as they come."""

from __future__ import annotations

import pytest
from support.wire import NATIVE, PORTS, Q35, Wire

from qemustate.vm.intents import made_again


def begin(w, name, subject, *steps):
    """Write that an intent begins; return it."""
    body = {"intent": name, "correlation": name, "subject": subject, "steps": [[*it, None] for it in steps]}
    w.put("begun", body)
    return made_again(w.vm.intents[name])


def test_a_resume_is_done_though_the_guest_may_be_asleep():
    """`cont` is answered and a `stop` follows at once: whether the guest ran or slept for that moment, it was let go."""
    w = Wire(argv=Q35)
    w.ok("cont")
    w.event("RESUME")
    w.ok("stop")
    w.event("STOP")
    w.put("lost", {})
    w.put("opened", {"alone": True})
    w.ok("query-status", {"status": "paused", "running": False})
    w.ok("query-migrate", {})
    intent = begin(w, "resume", "", ("cont", {}))
    cont, stop = w.send("cont"), w.send("stop")
    w.event("RESUME")
    w.answer(cont)
    assert w.runstate == ("running", "suspended")
    assert intent.done(w.vm)
    w.event("STOP")
    w.answer(stop)
    assert not intent.done(w.vm)


def test_an_unplug_is_in_doubt_when_its_event_may_have_been_anothers():
    """A bearer of the id had gone when the answer to the next one's plug was lost: one DEVICE_DELETED does not tell whose it is."""
    w = Wire(argv=[*Q35, *PORTS])
    w.plug("rng0", "virtio-rng-pci")
    w.ok("device_del", id="rng0")
    w.ok("qom-list", [{"name": "rp0", "type": "child<x>"}], path="/machine/peripheral")
    w.send("device_add", id="rng0", driver="virtio-rng-pci", bus="rp0")
    w.put("lost", {})
    w.put("opened", {"alone": True})
    w.ok("qom-list", [{"name": "rng0", "type": "child<x>"}], path="/machine/peripheral")
    assert w.device("rng0") == ("present",)
    intent = begin(w, "unplug", "rng0", ("device_del", {"id": "rng0"}))
    w.ok("device_del", id="rng0")
    assert not intent.doubt(w.vm)
    w.event("DEVICE_DELETED", device="rng0", path="/machine/peripheral/rng0")
    assert intent.doubt(w.vm)
    assert not intent.done(w.vm)
    w.ok("qom-list", [{"name": "rp0", "type": "child<x>"}], path="/machine/peripheral")
    assert intent.done(w.vm)
    assert not intent.doubt(w.vm)


@pytest.mark.parametrize("stays", [True, False])
def test_after_a_reset_qemu_is_asked_whether_the_device_had_left(stays):
    """Native PCIe: a reset puts an unplug in doubt; listed, it is refused by the reset, else it is done."""
    w = Wire(argv=[*Q35, *NATIVE, *PORTS])
    cont = w.send("cont")
    w.event("RESUME")
    w.answer(cont)
    w.plug("rng0", "virtio-rng-pci")
    intent = begin(w, "unplug", "rng0", ("device_del", {"id": "rng0"}))
    w.ok("device_del", id="rng0")
    assert not intent.doubt(w.vm)
    w.event("RESET", guest=True, reason="guest-reset")
    assert intent.doubt(w.vm)
    assert not intent.done(w.vm)
    assert intent.refused(w.vm) is None
    names = ("rp0", "rng0") if stays else ("rp0",)
    w.ok("qom-list", [{"name": it, "type": "child<x>"} for it in names], path="/machine/peripheral")

    assert not intent.doubt(w.vm)
    assert intent.done(w.vm) is not stays
    assert (intent.refused(w.vm) == ("qemu", "a reset made QEMU forget the request")) is stays


def dumping(w):
    """Begin an intent to dump; return it."""
    step = ("dump-guest-memory", {"paging": False, "protocol": "file:/core", "detach": True})
    return begin(w, "dump", "", step)


def ended(w, status, **more):
    """Write that a dump has ended."""
    w.event("DUMP_COMPLETED", result={"total": 1, "status": status, "completed": 1}, **more)


def test_a_dump_is_not_done_by_an_earlier_one():
    """What a dump before it has come to, done or failed, is nothing that a new one has."""
    for status in ("completed", "failed"):
        w = Wire(argv=Q35)
        w.ok("dump-guest-memory", paging=False, protocol="file:/core", detach=True)
        ended(w, status)
        intent = dumping(w)
        assert not intent.done(w.vm)
        assert intent.refused(w.vm) is None
        w.ok("dump-guest-memory", paging=False, protocol="file:/core", detach=True)
        assert not intent.done(w.vm)
        ended(w, "completed")
        assert intent.done(w.vm)


def test_a_dump_that_is_quicker_than_its_answer_is_asked_about():
    """DUMP_COMPLETED before the answer may be an earlier dump's for all that is known: query-dump tells."""
    w = Wire(argv=Q35)
    intent = dumping(w)
    sent = w.send("dump-guest-memory", paging=False, protocol="file:/core", detach=True)
    ended(w, "completed")
    w.answer(sent)
    assert not intent.done(w.vm)
    assert intent.poll
    command, arguments = intent.ask
    w.ok(command, {"total": 1, "status": "completed", "completed": 1}, **arguments)
    assert intent.done(w.vm)


def test_a_dump_is_refused_with_qemus_own_words():
    """The event's text is the reason; where only the query was heard there is none, and never that of an earlier dump."""
    w = Wire(argv=Q35)
    intent = dumping(w)
    w.ok("dump-guest-memory", paging=False, protocol="file:/core", detach=True)
    ended(w, "failed", error="dump: no space")
    assert intent.refused(w.vm) == ("qemu", "dump: no space")
    intent = dumping(w)
    w.ok("dump-guest-memory", paging=False, protocol="file:/core", detach=True)
    w.ok("query-dump", {"total": 1, "status": "failed", "completed": 0})
    assert intent.refused(w.vm) == ("qemu", "the dump failed")
