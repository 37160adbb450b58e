"""The same fold as most would write it: a ``transitions`` machine for each kind of thing, driven by triggers.

It knows one state where ours keeps a belief, and only what the mix needs: the run state, devices, nodes, jobs.
The machines have no model of their own and no automatic transitions, and triggers are fired as
``machine.events[name].trigger(model)``, which is as fast as transitions is.
"""

from transitions import Machine

#: Machine -> its states, and its rows: trigger, source, destination.
TABLES = {
    "runstate": (
        ["prelaunch", "running", "paused"],
        [["STOP", "running", "paused"], ["RESUME", ["prelaunch", "paused"], "running"]],
    ),
    "device": (
        ["gone", "adding", "present", "leaving", "unplugging"],
        [
            ["execute device_add", "gone", "adding"],
            ["return device_add", "adding", "present"],
            ["execute device_del", "present", "leaving"],
            ["return device_del", "leaving", "unplugging"],
            ["DEVICE_DELETED", "unplugging", "gone"],
        ],
    ),
    "node": (
        ["gone", "adding", "present", "leaving"],
        [
            ["execute blockdev-add", "gone", "adding"],
            ["return blockdev-add", "adding", "present"],
            ["execute blockdev-del", "present", "leaving"],
            ["return blockdev-del", "leaving", "gone"],
        ],
    ),
    "job": (
        ["null", "created", "running", "ready", "waiting", "pending", "concluded"],
        [
            ["created", "null", "created"],
            ["running", "created", "running"],
            ["ready", "running", "ready"],
            ["waiting", "ready", "waiting"],
            ["pending", "waiting", "pending"],
            ["concluded", "pending", "concluded"],
            ["null", "concluded", "null"],
        ],
    ),
}
MACHINES = {
    name: Machine(model=None, states=states, initial=states[0], transitions=rows, auto_transitions=False)
    for name, (states, rows) in TABLES.items()
}
#: Command -> its machine, and the argument that names which one.
COMMANDS = {
    "device_add": ("device", "id"),
    "device_del": ("device", "id"),
    "blockdev-add": ("node", "node-name"),
    "blockdev-del": ("node", "node-name"),
}


class Thing:
    """Something that is in a state."""

    def __init__(self, machine):
        self.state = MACHINES[machine].initial


class Driven:
    """The things of one VM."""

    def __init__(self):
        self.runstate = Thing("runstate")
        self.things = {"device": {}, "node": {}, "job": {}}
        self.pending = {}
        self.fired = 0

    def fold(self, batches):
        """Fold a log's items; return how many triggers were fired."""
        for items in batches:
            for _, _, kind, body, _ in items:
                if kind == "event":
                    self._event(body["qmp"])
                elif kind == "command":
                    self._command(body["qmp"])
                elif kind == "reply":
                    self._reply(body["qmp"])
        return self.fired

    def _event(self, qmp):
        name = qmp["event"]
        if name in {"STOP", "RESUME"}:
            self.fired += 1
            MACHINES["runstate"].events[name].trigger(self.runstate)
        elif name == "DEVICE_DELETED":
            if "device" in qmp["data"]:
                self._fire("device", qmp["data"]["device"], name)
        elif name == "JOB_STATUS_CHANGE":
            self._fire("job", qmp["data"]["id"], qmp["data"]["status"])

    def _command(self, qmp):
        name = qmp["execute"]
        self.pending[qmp["id"]] = qmp
        if name in COMMANDS:
            machine, subject = COMMANDS[name]
            self._fire(machine, qmp["arguments"][subject], f"execute {name}")

    def _reply(self, qmp):
        command = self.pending.pop(qmp["id"])
        name = command["execute"]
        if name in COMMANDS:
            machine, subject = COMMANDS[name]
            self._fire(machine, command["arguments"][subject], f"return {name}")

    def _fire(self, machine, name, trigger):
        things = self.things[machine]
        thing = things.get(name)
        if thing is None:
            thing = things[name] = Thing(machine)
        self.fired += 1
        MACHINES[machine].events[trigger].trigger(thing)
