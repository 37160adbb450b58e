"""What is true of a VM, as QEMU itself says on a monitor that nobody else sees, held against what is believed of it.

The truth is a map: ``status`` (a QAPI ``RunState``), ``jobs`` (id -> QAPI ``JobStatus``) and a set of names for each of
``devices``, ``nodes``, ``netdevs``, ``chardevs``, ``objects`` and ``fds`` (sets of descriptors); ``seats`` and ``dimms`` tell where devices are (:mod:`support.seated`).
"""

import re

from support.seated import Seated, seats

from qemustate.qmp.blocking import Client
from qemustate.statemachine.state import BACKENDS
from qemustate.statemachine.tables.device import IN_QOM
from qemustate.statemachine.tables.fd import LISTED, NOT_LISTED

#: Collection of the VM -> the machine of its entries, for everything that a truth has a set of names for.
SETS = {"devices": "device", **{collection: kind for kind, collection in BACKENDS.items()}}
#: The machines that `Believed` keeps an account of.
KEPT = {*SETS.values(), "job", "runstate", "fd"}
#: Job statuses with which a job is in no list.
_NO_JOB = ("undefined", "null")


def judge_file(path, socket):
    """Write a ``-readconfig`` file for a monitor at `socket`: of one that no command line names nobody believes that it can act."""
    path.write_text(
        f'[chardev "judge"]\n  backend = "socket"\n  path = "{socket}"\n  server = "on"\n  wait = "off"\n'
        '[mon "judge"]\n  mode = "control"\n  chardev = "judge"\n'
    )
    return ["-readconfig", str(path)]


class Judge:
    """Asks on the hidden monitor at `socket`."""

    def __init__(self, socket):
        self.qmp = Client.connect(socket, timeout=60)

    def close(self):
        self.qmp.close()

    def ask(self, name, arguments=None):
        """Return the answer to a command."""
        return self.qmp.execute(name, arguments, timeout=60)

    def truth(self):
        """Return what is true now; what is asked first is a little older than what is asked last."""
        nets = self._info("network")
        return {
            "status": self.ask("query-status")["status"],
            "jobs": {it["id"]: it["status"] for it in self.ask("query-jobs")},
            "seats": seats(self._info("qtree")),
            "dimms": {it["data"]["id"]: it["data"]["slot"] for it in self.ask("query-memory-devices")},
            "fds": {f"/dev/fdset/{it['fdset-id']}" for it in self.ask("query-fdsets")},
            "devices": self._children("/machine/peripheral"),
            "objects": self._children("/objects"),
            "nodes": {it["node-name"] for it in self.ask("query-named-block-nodes", {"flat": True})},
            "chardevs": {it["label"] for it in self.ask("query-chardev")},
            # Behind its NIC, in a hub, or alone.
            "netdevs": {
                one or other
                for one, other in re.findall(r"(?m)\\ ([\w-]+)|^([\w-]+): index=\d+,type=(?!nic)", nets)
            },
        }

    def _info(self, what):
        return self.ask("human-monitor-command", {"command-line": f"info {what}"})

    def _children(self, path):
        listed = self.ask("qom-list", {"path": path})
        return {it["name"] for it in listed if it["type"].startswith("child<")}


class Believed:
    """Every state that a VM was believed to be possibly in during a stretch of records: the truth of that stretch is among them."""

    def __init__(self, vm):
        self._seen = {}
        self._seated = Seated(vm)
        self.restart(vm)

    def restart(self, vm):
        """Begin a stretch with what is believed now."""
        self._seen.clear()
        self._seated.restart(vm)
        self._add("runstate", "", vm.runstate)
        for name, cell in vm.jobs.items():
            self._add("job", name, cell)
        for name, cell in vm.fds.items():
            self._add("fd", name, cell)
        for collection, kind in SETS.items():
            for name, cell in getattr(vm, collection).items():
                self._add(kind, name, cell)

    def look(self, vm):
        """Add what a record leads to; to be called after each."""
        self._seated.look(vm)
        self._add("runstate", "", vm.runstate)  # what is shown may stay while what is meant changes
        for kind, name, _, cell in vm.changed:
            if kind in KEPT:
                if (kind, name) not in self._seen:  # heard of for the first time: until now there was none
                    self._seen[kind, name] = vm.watcher(kind).initial
                self._add(kind, name, cell)

    def _add(self, kind, name, cell):
        key = (kind, name)
        self._seen[key] = self._seen.get(key, 0) | cell.belief

    def complaints(self, vm, truth, names):
        """Return a line for each thing of `truth` that was at no time believed possible; of sets, look at these names and what is believed."""
        found = []
        if truth["status"] not in vm.names("runstate", _Belief(self._seen["runstate", ""])):
            found.append(f"runstate is {truth['status']}")
        jobs = {name for kind, name in self._seen if kind == "job"} | truth["jobs"].keys()
        for name in sorted(jobs):
            seen = self._seen.get(("job", name))
            possible = ("undefined",) if seen is None else vm.names("job", _Belief(seen))
            status = truth["jobs"].get(name)
            if not (status in possible if status else set(_NO_JOB) & set(possible)):
                found.append(f"job {name} is {status}, believed {possible}")
        for collection, kind in SETS.items():
            known = {name for it, name in self._seen if it == kind}
            for name in sorted(known | (names & truth[collection])):
                belief = self._seen.get((kind, name), vm.watcher(kind).bit["gone"])
                if not self._may(vm, kind, belief, there=name in truth[collection]):
                    is_ = "there" if name in truth[collection] else "not there"
                    found.append(f"{kind} {name} is {is_}, believed {vm.names(kind, _Belief(belief))}")
        sets = {name for kind, name in self._seen if kind == "fd" and name.startswith("/")}
        for name in sorted(sets | truth["fds"]):
            belief = self._seen.get(("fd", name), vm.watch.fd.initial)
            if not belief & vm.watch.fd.of(LISTED if name in truth["fds"] else NOT_LISTED):
                is_ = "there" if name in truth["fds"] else "not there"
                found.append(f"{name} is {is_}, believed {vm.names('fd', _Belief(belief))}")
        gone = vm.watch.device.bit["gone"]
        return found + self._seated.complaints(
            truth, lambda name: self._seen.get(("device", name), gone) == gone
        )

    def _may(self, vm, kind, belief, *, there):
        watcher = vm.watcher(kind)
        if kind == "device":
            inside = watcher.of(IN_QOM)
            # A device that is being taken away leaves the list some time before or after that is told.
            return bool(
                belief & inside if there else belief & ~inside or belief & watcher.of(("unplugging",))
            )
        return bool(belief & (~watcher.of(("gone",)) if there else ~watcher.of(("present",))))


class _Belief:
    """A belief, where a cell is asked for."""

    def __init__(self, belief):
        self.belief = belief
