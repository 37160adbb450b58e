"""A short way to write a trace: commands, answers and events as one would tell them."""

from __future__ import annotations

from typing import Any

from qemustate.events.records import Record
from qemustate.statemachine.checker import Checker

Q35 = ["qemu-system-x86_64", "-M", "q35,accel=tcg", "-S", "-nodefaults", "-qmp", "unix:/run/qmp,server=on"]
PORTS = [
    "-device",
    "pcie-root-port,id=rp0,bus=pcie.0,chassis=1",
    "-device",
    "pcie-root-port,id=rp1,bus=pcie.0,chassis=2",
]
NATIVE = ["-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"]


class Wire:
    """Writes records as a QEMU and its client would make them, and folds each at once."""

    def __init__(self, version=(10, 0, 2), argv=None, lacks=()):
        self.checker = Checker(lacks=lacks)
        self.records: list[Record] = []
        self._id = 0
        self.clock = 1_700_000_000_000_000
        if argv is not None:
            self.put("spawned", {"argv": argv})
            self.put("opened", {"first": True})
            major, minor, micro = version
            self.put(
                "greeting",
                {
                    "qmp": {
                        "QMP": {
                            "version": {"qemu": {"major": major, "minor": minor, "micro": micro}},
                            "capabilities": ["oob"],
                        }
                    }
                },
            )
            self.ok("qmp_capabilities")

    @property
    def vm(self):
        return self.checker.vm

    def put(self, kind: str, body: dict[str, Any]) -> None:
        self.clock += 1000
        record = Record(len(self.records) + 1, self.clock, kind, body)
        self.records.append(record)
        self.checker.see(record.seq, record.time, kind, body)

    def send(self, name: str, **arguments: Any) -> str:
        self._id += 1
        qmp = {"execute": name, "id": str(self._id)}
        if arguments:
            qmp["arguments"] = {
                key.replace("_", "-") if name != "device_add" else key: val for key, val in arguments.items()
            }
        self.put("command", {"qmp": qmp})
        return str(self._id)

    def answer(self, identifier: str, value: Any = None) -> None:
        self.put("reply", {"qmp": {"return": {} if value is None else value, "id": identifier}})

    def ok(self, name: str, value: Any = None, **arguments: Any) -> None:
        self.answer(self.send(name, **arguments), value)

    def refuse(self, identifier: str, desc: str, error_class: str = "GenericError") -> None:
        self.put("failure", {"qmp": {"id": identifier, "error": {"class": error_class, "desc": desc}}})

    def refused(self, name: str, desc: str, error_class: str = "GenericError", **arguments: Any) -> None:
        self.refuse(self.send(name, **arguments), desc, error_class)

    def event(self, name: str, at: int | None = None, **data: Any) -> None:
        when = self.clock if at is None else at
        qmp: dict[str, Any] = {
            "timestamp": {"seconds": when // 1_000_000, "microseconds": when % 1_000_000},
            "event": name,
        }
        if data:
            qmp["data"] = {
                key.replace("_", "-") if name != "DEVICE_DELETED" else key: val for key, val in data.items()
            }
        self.put("event", {"qmp": qmp})

    def plug(self, name: str, driver: str = "virtio-blk-pci", bus: str = "rp0", **more: Any) -> None:
        self.ok("device_add", id=name, driver=driver, bus=bus, **more)

    # --- what is believed

    @property
    def runstate(self):
        return self.vm.names("runstate", self.vm.runstate)

    @property
    def migration(self):
        return self.vm.names("migration", self.vm.migration)

    def device(self, name: str):
        return self.vm.names("device", self.vm.devices[name])

    def job(self, name: str):
        return self.vm.names("job", self.vm.jobs[name])

    @property
    def rules(self):
        return [f.rule for f in self.checker.findings]
