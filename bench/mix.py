"""The traffic the benchmarks run on: one long-lived VM, made up by a random generator with a fixed seed.

55 % of the messages are events (five kinds, and STOP and RESUME in legal order), the rest pairs of command
and reply; of the draws (an event or a pair) 0.5 % are ``query-block`` with a reply of 5 kB. Disks are plugged
and unplugged again and again, mirror jobs run from created to null, the VM is stopped and continued.
Shapes from QEMU's qapi/*.json; order of events and replies as QEMU 7.2 sends them.
"""

import json
import random
from collections import deque
from itertools import cycle

from qemustate.events.observe import observed
from qemustate.events.writer import LogWriter
from qemustate.qmp.connection import Connection
from qemustate.qmp.jsontext import print_compact, print_qemu

EVENTS = 0.55
BLOCK_QUERIES = 0.005
#: Root ports, and so the most disks there are at once.
PORTS = 8
BEGIN = 1_790_000_000_000_000

ARGV = [
    "qemu-system-x86_64", "-machine", "q35,accel=tcg", "-S", "-display", "none", "-nodefaults",
    *(word for n in range(PORTS) for word in ("-device", f"pcie-root-port,id=rp{n},chassis={n + 1}")),
]  # fmt: skip
#: The least there are once there are that many: those that ``query-block`` tells of.
LEAST = 3
#: A mirror job: command, what the job says before the reply, and after it.
MIRROR = (
    ("blockdev-mirror", ("created", "running"), ("ready",)),
    ("job-complete", (), ("waiting", "pending", "concluded")),
    ("job-dismiss", ("null",), ()),
)


class Life:
    """Iterates over ``(direction, object)``: what was sent ("tx") and received ("rx"), without an end."""

    def __init__(self, seed=1):
        self._random = random.Random(seed)
        self._ids = 0
        self._all = self._events = self._queries = 0
        self._time = BEGIN
        self._free = deque(range(PORTS))
        self._plugged = deque()
        self._unasked = cycle([self._clock, self._filter, self._balloon])

    def __iter__(self):
        yield "rx", self._counted({"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}, "capabilities": ["oob"]}})  # fmt: skip
        yield from self._pair("qmp_capabilities")
        yield from self._pair("cont", before=[("RESUME",)])
        episodes = (self._plug, self._unplug, self._pause, self._ask, self._mirror)
        while True:
            if self._events < EVENTS * self._all:
                yield "rx", next(self._unasked)()
            elif len(self._plugged) >= LEAST and self._queries < BLOCK_QUERIES * (self._all - self._ids):
                self._queries += 1
                yield from self._pair("query-block", answer=self._blocks())
            else:
                yield from self._random.choice(episodes)()

    def _counted(self, message):
        self._all += 1
        return message

    def _event(self, name, data=None):
        self._events += 1
        self._time += self._random.randrange(100, 900_000)
        seconds, micro = divmod(self._time, 1_000_000)
        data = {} if data is None else {"data": data}
        stamp = {"timestamp": {"seconds": seconds, "microseconds": micro}}
        return self._counted({**stamp, "event": name, **data})

    def _pair(self, command, arguments=None, answer=None, before=()):
        """Yield a command and its reply, and between them events, each ``(name, data)`` or ``(name,)``."""
        self._ids += 1
        identity = {"id": str(self._ids)}
        arguments = {} if arguments is None else {"arguments": arguments}
        yield "tx", self._counted({"execute": command, **arguments, **identity})
        for event in before:
            yield "rx", self._event(*event)
        yield "rx", self._counted({"return": {} if answer is None else answer, **identity})

    # --- events of their own

    def _clock(self):
        offset = self._random.randrange(-500, 500)
        return self._event("RTC_CHANGE", {"offset": offset, "qom-path": "/machine/unattached/device[17]/rtc"})

    def _filter(self):
        path = "/machine/peripheral/net0/virtio-backend"
        return self._event("NIC_RX_FILTER_CHANGED", {"name": "net0", "path": path})

    def _balloon(self):
        return self._event("BALLOON_CHANGE", {"actual": self._random.randrange(1 << 10, 1 << 20) << 12})

    # --- episodes

    def _plug(self):
        if not self._free:
            yield from self._unplug()
            return
        n = self._free.popleft()
        self._plugged.append(n)
        file = {"driver": "file", "filename": f"/var/lib/vm/images/disk{n}.qcow2"}
        yield from self._pair("blockdev-add", {"driver": "qcow2", "node-name": f"disk{n}", "file": file})
        disk = {"driver": "virtio-blk-pci", "id": f"vd{n}", "drive": f"disk{n}", "bus": f"rp{n}"}
        yield from self._pair("device_add", disk)

    def _unplug(self):
        if len(self._plugged) <= LEAST:
            yield from self._plug()
            return
        n = self._plugged.popleft()
        self._free.append(n)
        path = f"/machine/peripheral/vd{n}"
        yield from self._pair("device_del", {"id": f"vd{n}"})
        yield "rx", self._event("DEVICE_DELETED", {"path": f"{path}/virtio-backend"})
        yield "rx", self._event("DEVICE_DELETED", {"device": f"vd{n}", "path": path})
        yield from self._pair("blockdev-del", {"node-name": f"disk{n}"})

    def _pause(self):
        yield from self._pair("stop", before=[("STOP",)])
        yield from self._pair("cont", before=[("RESUME",)])

    def _ask(self):
        status = {"status": "running", "singlestep": False, "running": True}
        yield from self._pair("query-status", answer=status)

    def _mirror(self):
        if not self._plugged:
            yield from self._plug()
        disk = f"disk{self._plugged[0]}"
        job = f"mirror-{disk}"
        begun = {"job-id": job, "device": disk, "target": "backup", "sync": "full"}
        for command, before, after in MIRROR:
            arguments = begun if command == "blockdev-mirror" else {"id": job}
            yield from self._pair(command, arguments, before=[_status(job, it) for it in before])
            for it in after:
                yield "rx", self._event(*_status(job, it))

    def _blocks(self):
        """Return what ``query-block`` says of the disks that were plugged first."""
        return [_block(n) for n in list(self._plugged)[:LEAST]]


def _status(job, status):
    return "JOB_STATUS_CHANGE", {"status": status, "id": job}


def _block(n):
    """Return a BlockInfo of qapi/block-core.json."""
    image = {
        "virtual-size": 68719476736, "filename": f"/var/lib/vm/images/disk{n}.qcow2", "cluster-size": 65536,
        "format": "qcow2", "actual-size": 2100305920, "dirty-flag": False,
        "format-specific": {"type": "qcow2", "data": {"compat": "1.1", "compression-type": "zlib", "lazy-refcounts": False, "refcount-bits": 16, "corrupt": False, "extended-l2": False}},
    }  # fmt: skip
    limits = [
        f"{what}{way}{most}"
        for most in ("", "_max")
        for what in ("bps", "iops")
        for way in ("", "_rd", "_wr")
    ]
    return {
        "io-status": "ok", "device": "", "locked": False, "removable": False, "type": "unknown",
        "qdev": f"/machine/peripheral/vd{n}/virtio-backend",
        "inserted": {
            **dict.fromkeys(limits, 0), "iops_size": 0, "detect_zeroes": "off", "write_threshold": 0, "ro": False,
            "image": {**image, "backing-image": {**image, "filename": "/var/lib/vm/images/base.qcow2"}, "backing-filename": "/var/lib/vm/images/base.qcow2", "full-backing-filename": "/var/lib/vm/images/base.qcow2"},
            "node-name": f"disk{n}", "backing_file_depth": 1, "drv": "qcow2", "encrypted": False,
            "file": f"/var/lib/vm/images/disk{n}.qcow2", "cache": {"no-flush": False, "direct": True, "writeback": True},
            "dirty-bitmaps": [{"name": f"backup-{n}", "granularity": 65536, "count": 1048576, "recording": True, "persistent": True, "busy": False}],
        },
    }  # fmt: skip


def messages(count):
    """Return ``count`` of ``(direction, text)``, each text as its sender prints it."""
    printers = {"tx": print_compact, "rx": print_qemu}
    return [(way, printers[way](body)) for (way, body), _ in zip(Life(), range(count), strict=False)]


def event_lines(count):
    """Return ``count`` of the events alone, as QEMU sends them."""
    found = (body for _, body in Life() if "event" in body)
    return b"".join(print_qemu(body) + b"\r\n" for body, _ in zip(found, range(count), strict=False))


def entries(count):
    """Yield the records of a log that holds about ``count`` of them: ``(kind, body, time)``."""
    time = BEGIN
    yield "spawned", {"argv": ARGV, "pid": 4711, "start": 1}, time
    yield "opened", {"address": "/run/vm/monitor", "first": True}, time
    session = Connection("client")
    for way, text in messages(count):
        time += 250_000
        found = session.relay(text) if way == "tx" else session.receive_data(text + b"\r\n")
        for message in found:
            kind, body = observed(message)
            yield kind, body, time


def write_log(path, count):
    """Write a log of about ``count`` records."""
    with LogWriter(path, "bench", durability="os", segment_bytes=1 << 40) as writer:
        for kind, body, time in entries(count):
            writer.append(kind, body, time)


def write_jsonl(path, count):
    """Write recorded sockets, a line for each message; see qemustate.events.importers.qmp_jsonl."""
    with path.open("w") as file:
        for n, (way, text) in enumerate(messages(count)):
            raw = text.decode() + ("\r\n" if way == "rx" else "\n")
            file.write(json.dumps({"t": BEGIN / 1e6 + n / 4, "dir": way, "raw": raw}) + "\n")


def write_libvirt(path, count):
    """Write libvirtd's debug log of as many messages, each told as often as libvirt tells it; see importers.libvirt."""
    with path.open("w") as file:
        for n, (way, text) in enumerate(messages(count)):
            head = f"2026-11-23 14:{n // 60_000 % 60:02}:{n // 1000 % 60:02}.{n % 1000:03}+0000: 7"
            said = text.decode()
            if way == "tx":
                sent = f"{head}: info : qemuMonitorSend:861 : QEMU_MONITOR_SEND_MSG: mon=0x7f39d4005740 msg={said}\r\n fd=-1\n"
                written = f"{head}: info : qemuMonitorIOWrite:366 : QEMU_MONITOR_IO_WRITE: mon=0x7f39d4005740 buf={said}\r\n"
                file.write(f"{sent}{written} len={len(text)} ret={len(text)} errno=0\n")
            else:
                kind, name = ("EVENT", "event") if '"event"' in said else ("REPLY", "reply")
                line = "qemuMonitorJSONIOProcessLine"
                file.write(f"{head}: debug : {line}:189 : Line [{said}]\n")
                file.write(
                    f"{head}: info : {line}:208 : QEMU_MONITOR_RECV_{kind}: mon=0x7f39d4005740 {name}={said}\n"
                )
