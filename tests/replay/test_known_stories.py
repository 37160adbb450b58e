"""Stories that people have lived through, and what is said of them to whoever looks."""

import re

import pytest

from qemustate.replay.check import check
from qemustate.replay.life import explain
from qemustate.replay.source import Source


def told(path):
    """Return the one trace in a file, and what `check` says of it: a line for each finding."""
    (trace,) = Source(path).vms
    return trace, [group.line() for group in check(trace).groups]


def life(trace, name):
    """Return the lines of a life without number and time, and the lines about its end."""
    lines = [it.rstrip() for it in explain(trace, name).lines()]
    end = lines.index("")
    return [re.sub(r"^ *\d+ +\S+ ", "", it) for it in lines[:end]], lines[end + 1 :]


def test_an_unplug_that_was_lost(shared):
    """Launchpad 1894804: the only DEVICE_DELETED names a child, libvirt waits in vain, and the disk has long been gone."""
    trace, findings = told(shared / "realworld" / "lp1894804-libvirtd-device-deleted-missing.log")
    assert trace.name == "instance-0000003a"
    assert findings == ["warning at 4: unplug-lost virtio-disk1: only a child's DEVICE_DELETED was seen"]
    steps, end = life(trace, "virtio-disk1")
    event = "! DEVICE_DELETED path=/machine/peripheral/virtio-disk1/virtio-backend"
    assert steps[2:] == [
        f"{event}   [device virtio-disk1: gone|unplugging -> gone (DEVICE_DELETED)]",
        "-> device_del id=virtio-disk1",
        "<- device_del refused: DeviceNotFound: Device 'virtio-disk1' not found",
    ]
    assert end == [
        "  device     virtio-disk1: gone since 4 (DEVICE_DELETED)",
        "  still missing: it left the machine 00:04 ago (record 4); DEVICE_DELETED has not named it",
    ]


def test_a_mirror_that_stood_at_its_end(shared):
    """Launchpad 1914282: the job was reported running at 100 %, and it took minutes until it was ready."""
    trace, findings = told(shared / "realworld" / "lp1914282-blockcopy-stuck.log")
    name = "copy-vdb-libvirt-5-format"
    at_the_end = "mirror job reported running at 100 % (1073741824 of 1073741824) at record 3"
    assert findings == [f"warning at 4: job-at-its-end {name}: {at_the_end}, ready 02:35 later"]
    steps, end = life(trace, name)
    assert steps[:3] == [
        f"<- query-block-jobs: {name} running 0 % (0 of 1073741824)   [job {name}: any of 11 -> running (query)]",
        f"<- query-block-jobs: {name} running 100 % (1073741824 of 1073741824)",
        f"<- query-block-jobs: {name} ready 100 % (1073741824 of 1073741824)   [job {name}: running -> ready (query)]",
    ]
    assert end == [f"  job        {name}: null since 8, mirror"]


@pytest.mark.parametrize("version", ["7.2", "10.0"])
def test_an_unplug_that_the_guest_acknowledged(shared, version):
    """A disk on a PCIe port: asked for, refused a second time while it lasts, and gone some seconds later."""
    trace, findings = told(shared / "qmp-jsonl" / version / "hp_pcie_blk.jsonl")
    assert not [it for it in findings if "unplug" in it]
    steps, end = life(trace, "vd1")
    at = steps.index("-> device_del id=vd1")
    assert steps[at : at + 6] == [
        "-> device_del id=vd1",
        "<- device_del: {}   [device vd1: present -> unplugging (device_del)]",
        "-> device_del id=vd1",
        "<- device_del refused: GenericError: Device vd1 is already in the process of unplug",
        "! DEVICE_DELETED path=/machine/peripheral/vd1/virtio-backend   [device vd1: unplugging -> gone (DEVICE_DELETED)]",
        "! DEVICE_DELETED device=vd1 path=/machine/peripheral/vd1   [device vd1: gone (DEVICE_DELETED)]",
    ]
    assert len(end) == 1
    assert re.sub(r"since \d+", "since N", end[0]) == (
        "  device     vd1: gone since N (DEVICE_DELETED), virtio-blk-pci, on rp0, generation 2"
    )


@pytest.mark.parametrize("version", ["7.2", "10.0"])
def test_a_vcpu_that_is_never_named(shared, version):
    """DEVICE_DELETED names a part of the vCPU only; that it is gone is said all the same, and nothing is missing."""
    trace, findings = told(shared / "qmp-jsonl" / version / "hp_cpu.jsonl")
    assert not [it for it in findings if "unplug" in it or "violation" in it]
    steps, end = life(trace, "cpu2")
    assert (
        "! DEVICE_DELETED path=/machine/peripheral/cpu2/lapic   [device cpu2: unplugging -> gone (DEVICE_DELETED)]"
        in steps
    )
    assert end == ["  device     cpu2: gone since 33 (DEVICE_DELETED), max-x86_64-cpu"]


LINE = "2024-03-01 12:00:{:02d}.000+0000: 7: {}\n"


class Libvirt:
    """Writes libvirt's log of one domain."""

    def __init__(self):
        self.text, self.second, self.ids = "", 0, 0

    def put(self, text):
        self.text += LINE.format(self.second, text)
        self.second += 1

    def daemon(self, monitor):
        self.monitor = monitor
        self.put("info : libvirt version: 9.0.0, package: 9.0.0-4")
        self.put(f"info : qemuMonitorOpenInternal:647 : QEMU_MONITOR_NEW: mon={monitor} fd=22")
        line = "qemuMonitorJSONIOProcessLine:189 : Line "
        self.put("debug : " + line + '[{"QMP": {"version": {}, "capabilities": ["oob"]}}]')
        self.ask('"qmp_capabilities"')
        self.put(
            f"debug : qemuDomainObjEnterMonitorInternal:6107 : Entering monitor (mon={monitor} vm=0xff name=vm)"
        )

    def ask(self, command, answer="{}"):
        self.ids += 1
        ident = f'"id":"libvirt-{self.ids}"'
        send = f'QEMU_MONITOR_SEND_MSG: mon={self.monitor} msg={{"execute":{command},{ident}}}\r\n fd=-1'
        self.put("info : qemuMonitorSend:861 : " + send)
        reply = f'QEMU_MONITOR_RECV_REPLY: mon={self.monitor} reply={{"return": {answer}, {ident.replace(":", ": ")}}}'
        self.put("info : qemuMonitorJSONIOProcessLine:208 : " + reply)


def plug(name):
    """Return a command that plugs a disk."""
    return f'"device_add","arguments":{{"driver":"virtio-blk-pci","id":"{name}","bus":"pci.5"}}'


def devices(*names):
    """Return the answer that names devices."""
    return "[" + ", ".join(f'{{"name": "{it}", "type": "child<virtio-blk-pci>"}}' for it in names) + "]"


LIST = '"qom-list","arguments":{"path":"/machine/peripheral"}'


@pytest.mark.parametrize("left", [("disk1",), ()], ids=["it stayed", "it went meanwhile"])
def test_libvirtd_is_started_again_between_two_hotplugs(tmp_path, left):
    """The VM goes on; of the first disk nothing is sure until the new daemon asks, and no rule is broken either way."""
    log = Libvirt()
    log.daemon("0xa")
    log.ask(plug("disk1"))
    log.daemon("0xb")
    log.ask(LIST, devices(*left))
    log.ask(plug("disk2"))
    path = tmp_path / "libvirtd.log"
    path.write_text(log.text, newline="")
    trace, findings = told(path)
    assert trace.name == "vm"
    assert [it for it in findings if not it.startswith("note")] == []
    steps, _ = life(trace, "disk1")
    # Whether its unplug was asked for meanwhile, no query tells.
    became = ("present", "unplugging") if left else ("gone",)
    assert steps[-2:] == [
        '* lost by=us why="libvirt was started again"   [device disk1: present -> gone|present|unplugging (gap)]',
        f"<- qom-list: {short(devices(*left))}   [device disk1: gone|present|unplugging -> {'|'.join(became)} (query)]",
    ]
    vm = check(trace).vm
    assert vm.names("process", vm.process) == ("running",)
    assert {name: vm.names("device", it) for name, it in vm.devices.items()} == {
        "disk1": became,
        "disk2": ("present",),
    }


def short(answer):
    """Return an answer as a line shows it."""
    return answer.replace(": ", ":").replace(", ", ",")
