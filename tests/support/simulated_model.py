"""What a QEMU keeps, in miniature: nodes, character devices, objects, devices, jobs and the run state, moved by commands.

Run state, devices and jobs are walkers over the project's own tables, in exactly one state each; a move that a table does
not have is an error here. What QEMU or its guest may do sooner, later or not at all hangs on dice.
"""

from __future__ import annotations

from support.simulated_places import Taken, seat
from support.walks import rows_from, walker

from qemustate.statemachine import guards
from qemustate.statemachine.tables.device import IN_QOM
from qemustate.statemachine.tables.job import VERBS

#: Drivers of devices -> how they are taken away; others (controllers, ports) stay.
KINDS = {
    "scsi-hd": "sync", "usb-tablet": "sync", "virtserialport": "sync",
    "virtio-rng-pci": "pcie", "virtio-net-pci": "pcie", "pc-dimm": "dimm",
}  # fmt: skip
#: A property of a device -> the collection of what it names.
BACKS = {
    "drive": "nodes",
    "chardev": "chardevs",
    "rng": "objects",
    "memdev": "objects",
    "netdev": "netdevs",
}
_MOVING = {"running": "paused", "ready": "standby"}


class Refused(Exception):
    """A command is answered with an error: ``desc``, and its class where that is no GenericError."""

    def __init__(self, desc, error_class="GenericError"):
        super().__init__(desc)
        self.desc, self.error_class = desc, error_class


class Device:
    """A device: its walker, its bus and what says its place there, and what it keeps busy until it is gone for good."""

    def __init__(self, name, driver, arguments, version, others):
        self.name, self.driver, self.kind = name, driver, KINDS.get(driver, "sync")
        self.bus, self.said = seat(driver, arguments, others, version)
        self.backs = {(BACKS[key], value) for key, value in arguments.items() if key in BACKS}
        self.walker = walker("device", version)


class Job:
    """A block job: its walker, the nodes it works on, and what it was told."""

    def __init__(self, name, kind, nodes, arguments, version):
        self.name, self.kind, self.nodes = name, kind, nodes
        self.speed = arguments.get("speed", 0)
        self.finalizes = arguments.get("auto-finalize", True)
        self.dismisses = arguments.get("auto-dismiss", True)
        self.paused = self.completes = self.cancelled = False
        self.walker = walker("job", version)

    @property
    def status(self):
        return self.walker.state


class Model:
    """Everything a QEMU keeps. ``send(event, data)`` tells of an event, ``later(call, *args)`` has something done soon, ``dice`` is a Random."""

    def __init__(self, version, send, later, dice, *, paused):
        self.version, self.send, self.later, self.dice = version, send, later, dice
        self.kept = {"nodes": set(), "chardevs": set(), "objects": set(), "netdevs": set()}
        self.devices = {}
        self.leaving = []  # out of /machine/peripheral, and not announced yet
        self.jobs = {}
        self.vm = walker("runstate", version)
        self.facts = {"autostart": not paused}
        self.move(self.vm, "spawned")
        self.move(self.vm, "first reply")

    # --- the tables

    def move(self, it, trigger, kind="", dest=None):
        """Take the row of this trigger (to `dest`, where there are several)."""
        true = {name for name, holds in {**self.facts, kind: True, "vcpus-run": self.runs}.items() if holds}
        it.profile = sum((guards.held if name in true else guards.denied)(name) for name in guards.GUARDS)
        found = [row for row in rows_from(it, trigger) if dest in (None, row.dest)]
        assert found, f"no row leads on from {it.state} with {trigger} {kind}"
        it.take(found[0])

    @property
    def runs(self):
        return self.vm.state == "running"

    @property
    def busy(self):
        """What a device or a job keeps busy."""
        found = {back for it in (*self.devices.values(), *self.leaving) for back in it.backs}
        return found | {("nodes", node) for job in self.jobs.values() for node in job.nodes}

    # --- life

    def stop(self):
        if not self.runs:
            return
        self.facts["stop-sent"] = True
        self.move(self.vm, "STOP")
        self.facts["stop-sent"] = False
        for job in self.jobs.values():
            if job.status in _MOVING and self.dice.random() < 0.5:
                before = job.status
                self.status(job, _MOVING[before])
                self.status(job, before)
        self.send("STOP")

    def cont(self):
        if self.runs:
            return
        self.move(self.vm, "RESUME")
        for it in self.devices.values():
            self.move(it.walker, "RESUME", it.kind)
        self.send("RESUME")

    def reset(self):
        self.move(self.vm, "RESET")
        for it in self.devices.values():
            self.move(it.walker, "RESET", it.kind)
        self.send("RESET", {"guest": False, "reason": "host-qmp-system-reset"})

    # --- backends

    def add(self, collection, name, taken):
        if name in self.kept[collection]:
            raise Refused(taken)
        self.kept[collection].add(name)

    def remove(self, collection, name, absent, busy, absent_class="GenericError"):
        if name not in self.kept[collection]:
            raise Refused(absent, absent_class)
        if busy and (collection, name) in self.busy:
            raise Refused(busy)
        self.kept[collection].remove(name)

    # --- devices

    def device_add(self, arguments):
        name, driver = arguments["id"], arguments["driver"]
        bus = arguments.get("bus", "").partition(".")[0]
        if bus and bus != "pcie" and bus not in self.devices:
            raise Refused(f"Bus '{arguments['bus']}' not found")
        if name in self.devices:
            raise Refused(f"Duplicate device ID '{name}'")
        try:
            it = Device(name, driver, arguments, self.version, self.devices.values())
        except Taken as taken:
            raise Refused(str(taken)) from None
        for collection, back in it.backs:
            if back not in self.kept[collection]:
                raise Refused(f"Property '{driver}' can't find value '{back}'")
        self.move(it.walker, "execute device_add")
        self.move(it.walker, "return device_add", it.kind)
        self.devices[name] = it

    def device_del(self, name):
        it = self.devices.get(name)
        if it is None:
            raise Refused(f"Device '{name}' not found", "DeviceNotFound")
        if it.kind == "pcie" and it.walker.state == "unplugging":
            raise Refused(f"Device {name} is already in the process of unplug")
        self.move(it.walker, "return device_del", it.kind)
        if it.walker.state == "leaving":
            self._left(it)
        elif it.kind == "pcie" and self.dice.random() < 0.3:
            self.move(it.walker, "")  # a slot that no guest has powered is emptied at once
            self._left(it)
        elif self.runs:
            self.later(self._guest, it, self.dice.choice(("ejects", "refuses", "does nothing")))

    def _guest(self, it, what):
        if self.devices.get(it.name) is not it or it.walker.state != "unplugging" or not self.runs:
            return
        if what == "ejects":
            self.move(it.walker, "")
            self._left(it)
        elif what == "refuses" and it.kind == "dimm":
            self.move(it.walker, "refused")
            path = {"path": f"/machine/peripheral/{it.name}", "device": it.name}
            self.send("DEVICE_UNPLUG_GUEST_ERROR", path)

    def _left(self, it):
        """A device has left /machine/peripheral; that is told at once, or a little later."""
        assert it.walker.state not in IN_QOM
        del self.devices[it.name]
        self.leaving.append(it)
        if self.dice.random() < 0.3:
            self._announce(it)
        else:
            self.later(self._announce, it)

    def _announce(self, it):
        path = f"/machine/peripheral/{it.name}"
        if it.kind == "pcie":
            self.move(it.walker, "DEVICE_DELETED child")
            self.send("DEVICE_DELETED", {"path": f"{path}/virtio-backend"})
        self.move(it.walker, "DEVICE_DELETED")
        self.leaving.remove(it)
        self.send("DEVICE_DELETED", {"device": it.name, "path": path})

    # --- jobs

    def status(self, job, status):
        self.move(job.walker, f"JOB_STATUS_CHANGE {status}")
        self.send("JOB_STATUS_CHANGE", {"status": status, "id": job.name})

    def start(self, kind, arguments):
        nodes = [arguments[key] for key in ("device", "target") if key in arguments]
        for node in nodes:
            if node not in self.kept["nodes"]:
                raise Refused(f"Cannot find device='' nor node-name='{node}'")
            if any(node in job.nodes for job in self.jobs.values()):
                raise Refused(f"Node '{node}' is busy: block device is in use by block job")
        job = Job(arguments["job-id"], kind, nodes, arguments, self.version)
        if job.name in self.jobs:
            raise Refused(f"Job ID '{job.name}' already in use")
        self.jobs[job.name] = job
        self.status(job, "created")
        self.status(job, "running")
        self.later(self._step, job)

    def verb(self, verb, arguments):
        """Do what a verb says: ``job-VERB`` names the job ``id``, ``block-job-VERB`` names it ``device``."""
        name = arguments.get("id", arguments.get("device"))
        job = self.jobs.get(name)
        if job is None:
            raise Refused("Job not found")
        if job.status not in VERBS[verb].split():
            raise Refused(f"Job '{name}' in state '{job.status}' cannot accept command verb '{verb}'")
        getattr(self, f"_{verb.replace('-', '_')}")(job, arguments)
        self.later(self._step, job)

    def _cancel(self, job, arguments):
        force = arguments.get("force", False)
        if job.paused and not force:
            raise Refused(f"The block job for device '{job.name}' is currently paused")
        if job.status == "ready" and not force:
            job.completes = True
        else:
            job.cancelled, job.paused = True, False

    def _pause(self, job, _arguments):
        if job.paused:
            raise Refused("Job is already paused")
        job.paused = True

    def _resume(self, job, _arguments):
        if not job.paused:
            raise Refused("Can't resume a job that was not paused")
        job.paused = False

    def _set_speed(self, job, arguments):
        job.speed = arguments["speed"]

    def _complete(self, job, _arguments):
        if job.cancelled:
            raise Refused(f"The active block job '{job.name}' cannot be completed")
        job.completes = True

    def _finalize(self, job, _arguments):
        self._conclude(job, "BLOCK_JOB_COMPLETED")

    def _dismiss(self, job, _arguments):
        self.status(job, "null")
        del self.jobs[job.name]

    def _step(self, job):
        """Let a job go on by one step, if it can."""
        if job.status in ("paused", "standby") and not job.paused:
            self.status(job, {"paused": "running", "standby": "ready"}[job.status])
        if job.cancelled and job.status in ("running", "ready", "waiting", "pending"):
            self.status(job, "aborting")
            self._conclude(job, "BLOCK_JOB_CANCELLED")
        elif job.paused and job.status in _MOVING:
            self.status(job, _MOVING[job.status])
        elif job.status == "running" and not job.speed:
            if job.kind == "backup":
                self._finish(job)
            else:
                self.status(job, "ready")
                self._tell(job, "BLOCK_JOB_READY")
                self.later(self._step, job)
        elif job.status == "ready" and job.completes:
            self._finish(job)

    def _finish(self, job):
        self.status(job, "waiting")
        self.status(job, "pending")
        if job.finalizes:
            self._conclude(job, "BLOCK_JOB_COMPLETED")
        else:
            self.send("BLOCK_JOB_PENDING", {"type": job.kind, "id": job.name})

    def _conclude(self, job, event):
        self._tell(job, event)
        job.nodes = []
        self.status(job, "concluded")
        if job.dismisses:
            self.later(self._dismiss, job, {})

    def _tell(self, job, event):
        told = {"type": job.kind, "device": job.name, "len": 4194304, "offset": 4194304, "speed": job.speed}
        self.send(event, told)
