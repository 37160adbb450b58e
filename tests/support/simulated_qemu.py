"""A program that poses as a QEMU: its monitors are real sockets, and behind them is :class:`support.simulated_model.Model`.

Its command line is QEMU's. It looks at ``-S``, ``-device``, ``-blockdev``, ``-chardev``, ``-readconfig``, and at ``-name``, which
is a number, the seed of its dice, and with ``rough`` behind it QEMU cuts connections, until SIGUSR1. The seed's last bit
says which QEMU it is.
"""

import contextlib
import heapq
import itertools
import json
import os
import random
import re
import selectors
import signal
import socket
import stat
import sys
import time
from pathlib import Path

from support.simulated_model import Device, Model, Refused
from support.simulated_places import qtree

from qemustate.qmp.connection import Connection
from qemustate.qmp.messages import Command

VERSIONS = ((10, 0, 2), (7, 2, 22))
#: Seconds within which happens what happens later.
SOON = (0.0, 0.0, 0.001, 0.005, 0.02)
JOBS = {"blockdev-mirror": "mirror", "blockdev-backup": "backup", "block-commit": "commit"}


class Line:
    """A monitor: a listening socket, and the one client that it serves at a time, at once if it is ``prompt``."""

    def __init__(self, listener, *, prompt, cuts):
        self.listener, self.prompt, self.cuts = listener, prompt, cuts
        self.client = self.wire = None
        self.waiting = []
        self.blocked = False

    @property
    def ready(self):
        return self.client is not None and self.wire.phase.value == "ready"

    def send(self, data):
        if self.client is not None:
            with contextlib.suppress(OSError):  # who has gone is noticed when it is read from
                self.client.sendall(data)


class SimulatedQemu:
    """The process: one loop over its sockets and over what is due."""

    def __init__(self, argv):
        seed, _, rough = next(_values(argv, "-name")).partition(" ")
        self.dice = random.Random(int(seed))
        self.version = VERSIONS[int(seed) % 2]
        self.due, self.numbers = [], itertools.count()
        self.over = False
        self.fds, self.fdsets = {}, {}
        self.model = Model(self.version, self.event, self.later, self.dice, paused="-S" in argv)
        self.selector = selectors.DefaultSelector()
        self.lines = []
        self._take(argv, cuts=bool(rough))
        signal.signal(signal.SIGUSR1, self._calm)

    def _calm(self, *_):
        for line in self.lines:
            line.cuts = False

    def _take(self, argv, *, cuts):
        kept = self.model.kept
        for text in _values(argv, "-chardev"):
            found = dict(word.split("=") for word in text.split(",")[1:])
            kept["chardevs"].add(found["id"])
            self._listen(socket.socket(fileno=int(found["fd"])), prompt=False, cuts=cuts)
        for path in _values(argv, "-readconfig"):
            place = re.search(r'path = "(.+)"', Path(path).read_text())[1]
            kept["chardevs"].add("judge")
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(place)
            listener.listen()
            self._listen(listener, prompt=True, cuts=False)
        for text in _values(argv, "-blockdev"):
            kept["nodes"].update(re.findall(r'"node-name":"([^"]+)"', text))
        for text in _values(argv, "-device"):
            driver, _, rest = text.partition(",")
            found = dict(word.split("=") for word in rest.split(","))
            it = Device(found["id"], driver, {}, self.version, self.model.devices.values())
            self.model.devices[it.name] = it
            self.model.move(it.walker, "launched", it.kind)

    def _listen(self, listener, *, prompt, cuts):
        line = Line(listener, prompt=prompt, cuts=cuts)
        self.lines.append(line)
        self.selector.register(listener, selectors.EVENT_READ, line)

    # --- time

    def later(self, call, *args):
        """Have this done soon, after what was to be done before it at that time."""
        at = time.monotonic() + self.dice.choice(SOON)
        heapq.heappush(self.due, (at, next(self.numbers), call, args))

    def run(self):
        """Serve until ``quit``."""
        while not self.over:
            timeout = max(0.0, self.due[0][0] - time.monotonic()) if self.due else None
            for key, _ in self.selector.select(timeout):
                line = key.data
                self._accept(line) if key.fileobj is line.listener else self._read(line)
            while self.due and self.due[0][0] <= time.monotonic():
                _, _, call, args = heapq.heappop(self.due)
                call(*args)

    # --- the wire

    def event(self, name, data=None):
        """Tell every client that has negotiated."""
        for line in self.lines:
            if line.ready:
                line.send(line.wire.event(name, data, time=time.time_ns() // 1000)[1])

    def _accept(self, line):
        line.client, _ = line.listener.accept()
        line.wire, line.waiting, line.blocked = Connection("server"), [], False
        self.selector.unregister(line.listener)
        self.selector.register(line.client, selectors.EVENT_READ, line)
        line.send(line.wire.greet(self.version)[1])

    def _hang_up(self, line):
        self.selector.unregister(line.client)
        line.client.close()
        line.client = line.wire = None
        self.selector.register(line.listener, selectors.EVENT_READ, line)

    def _read(self, line):
        try:
            data, fds, _, _ = socket.recv_fds(line.client, 65536, 16)
        except OSError:
            data, fds = b"", []
        if not data:
            self._hang_up(line)
            return
        self.sent = fds
        line.waiting += line.wire.receive_data(data, len(fds))
        self._serve(line, line.wire)

    def _serve(self, line, wire):
        """Answer in order what is waiting, on the connection that it came from."""
        while line.wire is wire and wire is not None and line.waiting and not line.blocked:
            message = line.waiting.pop(0)
            if objection := wire.objection(message):
                line.send(wire.fail(message, *objection)[1])
                continue
            assert isinstance(message, Command)
            lost = line.cuts and line.ready and self.dice.random() < 0.03
            if lost and self.dice.random() < 0.5:
                self._hang_up(line)
                return
            if message.name == "qmp_capabilities":
                line.send(wire.reply(message)[1])
                continue
            slow = not line.prompt and self.dice.random() < 0.1
            if slow and not lost and _is_query(message.name):
                line.blocked = True  # what it tells is what is so when it is told
                self.later(self._ask, line, wire, message)
                return
            answer = self._executed(wire, message)
            if lost:
                self._hang_up(line)
                return
            if slow and not self.over:
                line.blocked = True
                self.later(self._answer, line, wire, answer)
            else:
                line.send(answer)

    def _executed(self, wire, message):
        """Do a command, and return its answer."""
        try:
            return wire.reply(message, self.execute(message.name, message.arguments))[1]
        except Refused as refusal:
            return wire.fail(message, refusal.error_class, refusal.desc)[1]

    def _ask(self, line, wire, message):
        """Answer a query that was held back, if who asked is still there."""
        if line.wire is wire:
            self._answer(line, wire, self._executed(wire, message))

    def _answer(self, line, wire, answer):
        """Send an answer that was held back, if who asked is still there."""
        if line.wire is wire:
            line.blocked = False
            line.send(answer)
            self._serve(line, wire)

    # --- commands

    def execute(self, name, given):
        """Do a command and return its value. Raises Refused."""
        model = self.model
        match name:
            case "stop" | "cont":
                getattr(model, name)()
            case "system_reset":
                model.reset()
            case "quit":
                self.over = True
                self.event("SHUTDOWN", {"guest": False, "reason": "host-qmp-quit"})
            case "device_add":
                model.device_add(given)
            case "device_del":
                model.device_del(given["id"])
            case "blockdev-mirror" | "blockdev-backup" | "block-commit":
                model.start(JOBS[name], given)
            case _ if name.startswith(("job-", "block-job-")):
                model.verb(name.rpartition("job-")[2], given)
            case _:
                return self._backends(name, given)
        return {}

    def _backends(self, name, given):
        add, remove = self.model.add, self.model.remove
        what = given.get("node-name", given.get("id"))
        match name:
            case "blockdev-add":
                add("nodes", what, f"Duplicate nodes with node-name='{what}'")
            case "blockdev-del":
                absent = f"Failed to find node with node-name='{what}'"
                remove("nodes", what, absent, f"Node {what} is in use")
            case "chardev-add":
                add("chardevs", what, f"Chardev with id '{what}' already exists")
            case "chardev-remove":
                remove("chardevs", what, f"Chardev '{what}' not found", f"Chardev '{what}' is busy")
            case "object-add":
                add(
                    "objects",
                    what,
                    f"attempt to add duplicate property '{what}' to object (type 'container')",
                )
            case "object-del":
                busy = f"object '{what}' is in use, can not be deleted"
                remove("objects", what, f"object '{what}' not found", busy)
            case "netdev_add":
                add("netdevs", what, f"Duplicate ID '{what}' for netdev")
            case "netdev_del":
                remove("netdevs", what, f"Device '{what}' not found", "", "DeviceNotFound")
            case _:
                return self._descriptors(name, given)
        return {}

    def _descriptors(self, name, given):
        match name:
            case "getfd":
                if not self.sent:
                    raise Refused("No file descriptor supplied via SCM_RIGHTS")
                self._close(self.fds.pop(given["fdname"], None))
                self.fds[given["fdname"]] = self.sent.pop(0)
                return {}
            case "closefd":
                if given["fdname"] not in self.fds:
                    raise Refused(f"File descriptor named '{given['fdname']}' not found")
                self._close(self.fds.pop(given["fdname"]))
                return {}
            case "add-fd":
                if not self.sent:
                    raise Refused("No file descriptor supplied via SCM_RIGHTS")
                number, fd = given["fdset-id"], self.sent.pop(0)
                self.fdsets.setdefault(number, []).append(fd)
                return {"fdset-id": number, "fd": fd}
            case "remove-fd":
                if given["fdset-id"] not in self.fdsets:
                    raise Refused(f"File descriptor named 'fdset-id:{given['fdset-id']}' not found")
                for fd in self.fdsets.pop(given["fdset-id"]):
                    self._close(fd)
                return {}
        return self._query(name, given)

    def _close(self, fd):
        if fd is not None:
            os.close(fd)

    def _query(self, name, given):
        model, kept = self.model, self.model.kept
        match name:
            case "query-status":
                return {"status": model.vm.state, "running": model.runs, "singlestep": False}
            case "query-version":
                major, minor, micro = self.version
                return {"qemu": {"major": major, "minor": minor, "micro": micro}, "package": ""}
            case "qom-list":
                devices = {it.name: it.driver for it in model.devices.values()}
                listed = (
                    devices
                    if given["path"] == "/machine/peripheral"
                    else dict.fromkeys(kept["objects"], "rng-random")
                )
                return [{"name": it, "type": f"child<{kind}>"} for it, kind in listed.items()]
            case "query-named-block-nodes":
                return [{"node-name": it, "drv": "null-co", "ro": False} for it in sorted(kept["nodes"])]
            case "query-chardev":
                return [
                    {"label": it, "filename": it, "frontend-open": True} for it in sorted(kept["chardevs"])
                ]
            case "query-fdsets":
                return [
                    {"fdset-id": it, "fds": [{"fd": fd} for fd in fds]} for it, fds in self.fdsets.items()
                ]
            case "query-jobs":
                return [self._job(job) for job in model.jobs.values()]
            case "query-dump":
                return {"status": "none", "completed": 0, "total": 0}
            case "query-migrate":
                return {}
            case "query-block-exports":
                return []
            case "query-memory-devices":
                dimms = [it for it in model.devices.values() if it.kind == "dimm"]
                return [
                    {"type": "dimm", "data": {"id": it.name, "size": 134217728, **it.said}} for it in dimms
                ]
            case "query-balloon":
                raise Refused("No balloon device has been activated", "DeviceNotActive")
            case "human-monitor-command" if given["command-line"] == "info qtree":
                return qtree([*model.devices.values()])
            case "human-monitor-command" if given["command-line"] == "info network":
                return "".join(f"{it}: index=0,type=hubport\r\n" for it in sorted(kept["netdevs"]))
        raise Refused(f"The command {name} has not been found", "CommandNotFound")

    def _job(self, job):
        told = {
            "id": job.name,
            "type": job.kind,
            "status": job.status,
            "current-progress": 0,
            "total-progress": 0,
        }
        if job.cancelled and job.status in ("aborting", "concluded"):
            told["error"] = "Operation canceled"
        return told


def _is_query(name):
    return name.startswith(("query-", "qom-list"))


def _values(argv, option):
    return (value for name, value in itertools.pairwise(argv) if name == option)


def write_program(path):
    """Write an executable file that is this program."""
    tests = str(Path(__file__).parents[1])
    path.write_text(
        f"#!{sys.executable} -P\nimport sys\nsys.path.append({json.dumps(tests)})\n"
        "from support.simulated_qemu import SimulatedQemu\nSimulatedQemu(sys.argv).run()\n"
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path
