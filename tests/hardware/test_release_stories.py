"""The release table against every recorded story: what QEMU 7.2 and 10.0 freed, refused and forgot."""

from collections import Counter
from pathlib import Path

from support.verdict import stories

from qemustate.hardware import release
from qemustate.replay.source import Source, records
from qemustate.statemachine import guards
from qemustate.statemachine.fold import apply
from qemustate.statemachine.state import VM

STORIES = Path(__file__).parents[1] / "stories"

#: Kind of hotplug, and what may be seen of it while its unplug is pending -> whether the table says so.
AGREES = {
    "again accepted": lambda policy: policy.again in ("repeat", "join"),
    "again in process": lambda policy: policy.again_after > 0 or policy.kind == "acpi",
    # It may have left the machine, of any kind, before the event has come.
    "again not found": lambda policy: policy.again in ("refused", "repeat"),
    "id free": lambda policy: policy.id == "device_del",
    "id taken": lambda policy: policy.id == "DEVICE_DELETED",
    "backend busy": lambda policy: policy.backends == "DEVICE_DELETED",
    "reset completed": lambda policy: policy.reset in ("completes", "nothing pending"),
    "reset forgot": lambda policy: policy.reset == "forgets",
    "guest refused": lambda policy: "ACPI_DEVICE_OST" in policy.refusals,
}


class Watcher:
    """Reads a story and notes what it shows of pending unplugs."""

    def __init__(self):
        self.seen = []
        self.vm = VM()
        # Kinds, pending unplugs and those among them that a reset came over, and commands without an answer.
        self.kinds, self.pending, self.reset, self.sent = {}, set(), set(), {}

    def note(self, name, what):
        self.seen.append((self.kinds.get(name, ""), what))

    def take(self, seq, record):
        apply(self.vm, seq, record.time, record.kind, record.body)
        message = record.body.get("qmp", {})
        if record.kind == "command":
            self.sent[message.get("id")] = message["execute"], message.get("arguments", {})
        elif record.kind in ("reply", "failure"):
            command, arguments = self.sent.pop(message.get("id"), ("", {}))
            self.answered(command, arguments, message.get("error", {}).get("desc"))
        elif record.kind == "event":
            self.event(message["event"], message.get("data", {}))
        for name, cell in self.vm.devices.items():
            told = guards.names(cell.kind, guards.DEVICE_KINDS)
            self.kinds[name] = next((kind for kind, held in told.items() if held is True), "")

    def answered(self, command, arguments, refusal):
        name = arguments.get("id", "")
        if command == "device_del" and name in self.pending:
            if refusal is None:
                self.note(name, "again accepted")
            elif "already in the process" in refusal:
                self.note(name, "again in process")
            elif "not found" in refusal:
                self.note(name, "again not found")
            if name in self.reset:
                self.reset.discard(name)
                self.note(name, "reset forgot")
        elif command == "device_del" and refusal is None:
            self.pending.add(name)
        elif command == "device_add" and name in self.pending:
            if refusal is None:
                self.note(name, "id free")
                self.pending.discard(name)
            elif "Duplicate" in refusal:
                self.note(name, "id taken")
        elif (
            command in ("blockdev-del", "chardev-remove")
            and refusal
            and ("in use" in refusal or "busy" in refusal)
        ):
            for bearer in self.pending:
                if arguments.get("node-name", name) in self.uses(bearer):
                    self.note(bearer, "backend busy")

    def uses(self, name):
        cell = self.vm.devices.get(name)
        return [backend for _, backend in cell.uses] if cell else []

    def event(self, name, data):
        device = data.get("device") or data.get("path", "").removeprefix("/machine/peripheral/")
        if name == "DEVICE_DELETED" and device in self.pending:
            self.pending.discard(device)
            if device in self.reset:
                self.reset.discard(device)
                self.note(device, "reset completed")
        elif name == "RESET":
            self.reset |= self.pending
        elif name == "ACPI_DEVICE_OST":
            info = data["info"]
            if info["source"] == 3 and info["status"] not in (0, 132) and info.get("device") in self.pending:
                self.note(info["device"], "guest refused")


def test_every_story_is_as_the_table_says(figures):
    """Nothing that was seen of a pending unplug contradicts the row of its kind, and most cells were seen."""
    seen = Counter()
    for version in ("7.2", "10.0"):
        for path in stories(STORIES / version):
            watcher = Watcher()
            for seq, record in enumerate(records(Source(path).vms[0]), 1):
                watcher.take(seq, record)
            seen.update(watcher.seen)
    figures.append(
        "release table, seen in stories: "
        + ", ".join(f"{kind} {what} {count}" for (kind, what), count in sorted(seen.items()))
    )

    assert {
        key: count for key, count in seen.items() if key[0] and not AGREES[key[1]](release.policy(key[0]))
    } == {}
    assert len(seen) > 10
