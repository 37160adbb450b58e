"""Devices without an id: counted along where QEMU can be, open where it cannot."""

from __future__ import annotations

import pytest
from support.told import STORIES, VERSIONS, read
from support.verdict import Truth, judge

NEW = (10, 0, 2)
HERE = "/machine/peripheral-anon"
OTHER = ["-chardev", "socket,id=two,path=two", "-mon", "chardev=two,mode=control"]


def path(number):
    return f"{HERE}/device[{number}]"


def started(w):
    i = w.send("cont")
    w.event("RESUME")
    w.answer(i)
    return w


def rng(w):
    w.ok("device_add", driver="virtio-rng-pci", bus="rp0")


def test_cold_plugged_ones_are_numbered_in_qemus_order(wire, q35):
    """Those written in JSON come after the others (system/vl.c qemu_create_cli_devices())."""
    w = wire(NEW, [*q35, "-device", '{"driver": "virtio-rng-pci"}', "-device", "qemu-xhci"])

    assert w.vm.devices[path(0)].driver == "qemu-xhci"
    assert w.vm.devices[path(1)].driver == "virtio-rng-pci"
    assert w.device(path(0)) == w.device(path(1)) == ("present",)


def test_a_plug_takes_the_next_number(wire, q35):
    """device_add without an id is told by nobody, and known all the same; it goes by its path."""
    w = started(wire(NEW, q35))
    rng(w)
    assert w.device(path(0)) == ("present",)
    w.ok("device_del", id=path(0))
    assert w.device(path(0)) == ("unplugging",)
    w.event("DEVICE_DELETED", path=f"{path(0)}/virtio-backend")
    assert w.device(path(0)) == ("gone",)
    w.event("DEVICE_DELETED", path=path(0))
    rng(w)

    assert w.device(path(1)) == ("present",)
    assert not w.rules


@pytest.mark.parametrize(
    ("desc", "first", "second"),
    [
        ("Bus 'nosuch' not found", ("present",), None),
        (
            "Property 'virtio-blk-device.drive' can't find value 'n9'",
            ("gone", "present"),
            ("gone", "present"),
        ),
    ],
)
def test_a_refusal_may_have_taken_a_number(wire, q35, desc, first, second):
    """A device that was made and then refused leaves a hole in the numbers; one refused before that leaves none."""
    w = started(wire(NEW, q35))
    w.refused("device_add", desc, driver="virtio-blk-pci", drive="n9")
    rng(w)
    assert w.device(path(0)) == first
    assert (w.device(path(1)) if path(1) in w.vm.devices else None) == second
    w.ok(
        "qom-list",
        [{"name": f"device[{0 if second is None else 1}]", "type": "child<virtio-rng-pci>"}],
        path=HERE,
    )
    rng(w)

    assert w.device(path(1 if second is None else 2)) == ("present",)
    assert not w.rules


def test_a_plug_without_an_answer_is_open(wire, q35):
    """The monitor is lost with device_add unanswered: it may have been made."""
    w = started(wire(NEW, q35))
    w.send("device_add", driver="virtio-rng-pci", bus="rp0")
    w.put("lost", {"by": "peer"})

    assert w.device(path(0)) == ("gone", "present")


@pytest.mark.parametrize("more", [OTHER, ["-readconfig", "x"], ["-drive", "if=virtio,file=x"]])
def test_what_cannot_be_counted_is_open_until_it_is_told(wire, q35, more):
    """Where another monitor or an option of the command line may make some too, QEMU's own word is waited for."""
    w = started(wire(NEW, [*q35, *more]))
    rng(w)
    assert path(0) not in w.vm.devices
    listed = [
        {"name": f"device[{n}]", "type": f"child<{d}>"} for n, d in ((3, "virtio-rng-pci"), (4, "usb-tablet"))
    ]
    w.ok("qom-list", [{"name": "type", "type": "string"}, *listed], path=HERE)
    assert w.device(path(3)) == ("present", "unplugging")
    assert w.device(path(4)) == ("present",)
    assert w.vm.devices[path(3)].driver == "virtio-rng-pci"
    w.event("DEVICE_DELETED", path=path(4))
    w.ok("qom-list", [], path=HERE)

    assert w.device(path(3)) == w.device(path(4)) == ("gone",)
    assert not w.rules


def test_a_device_that_cannot_be_is_a_contradiction(wire, q35):
    """Where all were counted, one more in the list is one that nobody made."""
    w = started(wire(NEW, q35))
    w.ok("qom-list", [{"name": "device[0]", "type": "child<virtio-rng-pci>"}], path=HERE)

    assert w.rules == ["contradicted-by-query"]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_numbers_are_qemus_own(version):
    """The story of devices without an id, told as if there were no second monitor: every number is right."""
    found = read(STORIES / version / "no_id.jsonl.xz")
    entries = [(r.kind, r.time, r.body) for r in found]
    at = next(number for number, entry in enumerate(entries) if entry[0] == "spawned")
    kind, time, body = entries[at]
    mon = body["argv"].index("chardev=judge,mode=control")
    entries[at] = (kind, time, {**body, "argv": body["argv"][: mon - 1] + body["argv"][mon + 1 :]})
    verdict = judge(entries, Truth(STORIES / version / "no_id.truth.json.xz"), version)

    assert verdict.wrong == verdict.violations == []
    # The refused plug took a number, which nobody could know.
    assert [line.split()[1] for line in verdict.blurred] == [f"{path(4)}:"]
