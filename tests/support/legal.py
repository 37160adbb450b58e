"""A QEMU in miniature and its one client: legal traffic, made by walking the tables' own machines.

Each machine of the VM is a :class:`~qemustate.statemachine.machine.Walker` in exactly one state. A *deed* is one thing
that may happen next: an event, a command sent, the oldest command answered, a silent move. It names the rows that the
machines take together; it is possible if each of them has one, under guards that are worked out here from what
really is, not from what an observer knows. What a client would see of a deed becomes records.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from support.walks import rows_from, walker

from qemustate.events.records import Record
from qemustate.statemachine import guards
from qemustate.statemachine.machine import Walker
from qemustate.statemachine.rows import Row
from qemustate.statemachine.tables import TABLES
from qemustate.statemachine.tables.device import IN_QOM

RESTING = ("none", "completed", "failed", "cancelled")
_POSTCOPY = ("postcopy-active", "postcopy-paused", "postcopy-recover")
_PAST = ("device", "pre-switchover", "cancelling", *_POSTCOPY)
_CAUSES = {"io-error", "watchdog", "panic", "shutdown-pauses"}
_DRIVERS = {"rng": ("virtio-rng-pci", "rp0"), "tab": ("usb-tablet", "usb.0"), "dim": ("pc-dimm", "")}
_OVER = ("undefined", "null", "concluded")


@dataclass
class Deed:
    """Something that may happen: which machines it moves, what is seen of it, what it changes besides."""

    moves: list[tuple[str, str]] = field(default_factory=list)
    seen: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    then: list[Any] = field(default_factory=list)
    rows: list[tuple[Walker, list[Row]]] = field(default_factory=list)


class Legal:
    """One VM. ``step(draw)`` lets something happen; ``records`` is what its client saw, ``machines`` the truth."""

    def __init__(
        self,
        version: tuple[int, ...],
        *,
        paused: bool,
        incoming: bool,
        events: bool,
        native: bool,
        others: bool,
    ) -> None:
        self.version, self.native, self.others = version, native, others
        self.records: list[Record] = []
        self.clock = 1_700_000_000_000_000
        self.watched = True
        self.pending: list[tuple[str, str, dict[str, Any]]] = []
        self.announced: set[str] = set()
        self.raced: set[str] = set()
        self.owed: dict[str, int] = {}
        self.types: dict[str, str] = {}
        self.facts = {
            "autostart": not paused, "incoming": incoming, "others": others, "sleeps": True, "starting": True, "new": True,
            "migration-events": False, "migrate-sent": False, "reset-meanwhile": False, "woken": "", "begun": False,
        }  # fmt: skip
        self.machines = {name: walker(name, version) for name in ("runstate", "migration")}
        for name in _DRIVERS:
            self.machines[f"device {name}"] = walker("device", version)
        for name in ("j1", "j2"):
            self.machines[f"job {name}"] = walker("job", version)
        self.machines["node n1"] = walker("backend", version)
        self._ids = 0
        self._begin(events=events, paused=paused, incoming=incoming)

    # --- what is true

    def profile(self) -> int:
        """Return every guard's truth."""
        migration, incoming = self.machines["migration"].state, self.facts["incoming"]
        outgoing = migration not in RESTING and not incoming and self.facts["migrate-sent"]
        told, old = self.facts["migration-events"], self.version < (9, 0)
        finishing = self.machines["runstate"].state.startswith("finish")
        past = (
            migration in _PAST or (migration == "active" and old)
            if told
            else migration not in RESTING or finishing
        )
        names = {name for _, name, _ in self.pending}
        types = {self.types.get(j) for j in ("j1", "j2") if self.machines[f"job {j}"].state not in _OVER}
        truth = {
            **self.facts,
            **{cause: cause in self.announced for cause in _CAUSES},
            "begun": self.facts["begun"] and migration not in RESTING,
            "stop-sent": "stop" in names,
            "wakeup-sent": "system_wakeup" in names,
            "saving": "snapshot-save" in names | types,
            "loading": "snapshot-load" in names | types,
            "outgoing": outgoing,
            "colo": migration == "colo",
            "switchover": past and not incoming and self.facts["migrate-sent"],
            "postcopy": old and outgoing and migration in _POSTCOPY,
            "vcpus-run": self.machines["runstate"].state == "running",
        }
        special = {*guards.DEVICE_KINDS, "failover", "raced"}
        return sum(
            (guards.held if truth.get(g) else guards.denied)(g) for g in guards.GUARDS if g not in special
        )

    def kind(self, name: str) -> int:
        """Return the guards of one device."""
        kind = {"rng": "pcie" if self.native else "acpi", "tab": "sync", "dim": "dimm"}[name]
        bits = guards.denied("failover") | (guards.held if name in self.raced else guards.denied)("raced")
        return bits | sum((guards.held if g == kind else guards.denied)(g) for g in guards.DEVICE_KINDS)

    def _profiles(self) -> None:
        profile = self.profile()
        for name, it in self.machines.items():
            it.profile = profile | self.kind(name[7:]) if name.startswith("device ") else profile

    # --- what may happen

    def step(self, draw: Any) -> None:
        """Let one of the possible things happen; ``draw(list)`` chooses: first what kind of thing, then which."""
        self._profiles()
        groups = [
            self._events(),
            self._migrations(),
            self._jobs(),
            self._devices(),
            self._silent(),
            self._sends(),
            self._answers(),
        ]
        possible = [found for group in groups if (found := [deed for deed in group if self._can(deed)])]
        self._do(draw(draw(possible)), draw)

    def _can(self, deed: Deed) -> bool:
        deed.rows = [(self.machines[m], self._rows(m, t)) for m, t in deed.moves]
        return all(found for _, found in deed.rows)

    def _rows(self, machine: str, trigger: str) -> list[Row]:
        found = rows_from(self.machines[machine], trigger)
        if trigger == "return device_add":  # a bearer that is there keeps its id
            return [r for r in found if r.source != "unplugging"]
        if trigger == "STOP":  # another monitor's migration is not walked here
            return [r for r in found if not ("others" in r.when and r.dest.startswith("finish"))]
        if machine == "migration" and not trigger and self.facts["incoming"]:
            # The VM gets its run state before the migration is completed; one that fails ends QEMU.
            waits = self.machines["runstate"].state.startswith("inmigrate")
            return [
                r
                for r in found
                if r.dest not in ("failed", "cancelling") and not (waits and r.dest == "completed")
            ]
        return found

    def _do(self, deed: Deed, draw: Any) -> None:
        for it, found in deed.rows:
            it.take(found[0] if len(found) == 1 else draw(found))
        self._loaded()
        for act in deed.then:
            act()
        if self.watched:
            for kind, qmp in deed.seen:
                self._see(kind, {"qmp": qmp})

    def _loaded(self) -> None:
        """Without events: a VM that has left `inmigrate` has its migration behind it, within the same step."""
        waits = self.machines["runstate"].state.startswith("inmigrate")
        if self.facts["incoming"] and not self.facts["migration-events"] and not waits:
            self.machines["migration"].state = "completed"
            self.facts["incoming"] = False

    def _see(self, kind: str, body: dict[str, Any]) -> None:
        self.clock += 1000
        if kind == "event":
            seconds, rest = divmod(self.clock, 1_000_000)
            body = {"qmp": {**body["qmp"], "timestamp": {"seconds": seconds, "microseconds": rest}}}
        self.records.append(Record(len(self.records) + 1, self.clock, kind, body))

    def _silent(self) -> list[Deed]:
        return [Deed([(name, "")]) for name in self.machines]

    def _event(self, name: str, *moves: tuple[str, str], then: list[Any] | None = None, **data: Any) -> Deed:
        return Deed(list(moves), [("event", {"event": name, **({"data": data} if data else {})})], then or [])

    def _events(self) -> list[Deed]:
        devices = [f"device {name}" for name in _DRIVERS]
        over = [self.announced.clear]
        reset = [*over, self._reset_meanwhile]
        found = [
            self._event("STOP", ("runstate", "STOP")),
            self._event("RESUME", ("runstate", "RESUME"), *((d, "RESUME") for d in devices), then=over),
            self._event("RESET", ("runstate", "RESET"), *((d, "RESET") for d in devices), then=reset, guest=False, reason="host-qmp-system-reset"),
            *([] if self.announced else [self._event("SUSPEND", ("runstate", "SUSPEND"))]),
            self._event("WAKEUP", ("runstate", "WAKEUP"), then=[lambda: self.facts.update(woken="")]),
        ]  # fmt: skip
        if self.machines["runstate"].state == "running":
            found += [
                self._event(
                    "BLOCK_IO_ERROR", then=[lambda: self.announced.add("io-error")], device="", action="stop"
                ),
                self._event("WATCHDOG", then=[lambda: self.announced.add("watchdog")], action="pause"),
                self._event("GUEST_PANICKED", then=[lambda: self.announced.add("panic")], action="pause"),
            ]
        return found

    def _devices(self) -> list[Deed]:
        return [deed for name in _DRIVERS for deed in self._device_events(name)]

    def _reset_meanwhile(self) -> None:
        if self.machines["migration"].state not in RESTING and not self.facts["incoming"]:
            self.facts["reset-meanwhile"] = True

    def _migrations(self) -> list[Deed]:
        if not self.facts["migration-events"] or self._snapshot():
            return []
        migration, incoming = self.machines["migration"].state, self.facts["incoming"]
        found = []
        for status in TABLES["migration"].states:
            begins = migration in RESTING
            asked = incoming or (status == "setup" and any(n == "migrate" for _, n, _ in self.pending))
            if (begins and not asked) or (incoming and status == "setup"):
                continue
            moves = [("migration", f"MIGRATION {status}")]
            if incoming:
                moves += [("runstate", "incoming completed")] if status == "completed" else []
            elif status in ("device", "pre-switchover", "postcopy-active"):
                what = "postcopy" if status == "postcopy-active" else "switchover"
                moves.append(("runstate", f"MIGRATION {what}"))
            elif status == "completed":
                moves.append(("runstate", "MIGRATION completed"))
            elif status in ("failed", "cancelled"):
                moves.append(("runstate", "MIGRATION ended"))
            over = [self._incoming_over] if incoming and status in ("completed", "failed") else []
            found.append(self._event("MIGRATION", *moves, then=over, status=status))
        return found

    def _incoming_over(self) -> None:
        self.facts["incoming"] = False

    def _snapshot(self) -> bool:
        return any(self.types.get(j, "").startswith("snapshot") and self.machines[f"job {j}"].state not in _OVER for j in ("j1", "j2"))  # fmt: skip

    def _jobs(self) -> list[Deed]:
        found = []
        for name in ("j1", "j2"):
            state = self.machines[f"job {name}"].state
            asked = next((n for _, n, a in self.pending if a.get("job-id") == name), None)
            for status in TABLES["job"].states[1:]:
                if status == "created" and not (asked and state in ("undefined", "null")):
                    continue
                kind = asked if status == "created" else self.types.get(name)
                moves = [(f"job {name}", f"JOB_STATUS_CHANGE {status}")]
                if kind == "snapshot-save" and status in ("running", "pending"):
                    moves.append(("migration", "saving" if status == "running" else "saved"))
                then = [lambda n=name, k=kind: self.types.update({n: k})] if status == "created" else []
                found.append(self._event("JOB_STATUS_CHANGE", *moves, then=then, id=name, status=status))
        return found

    def _device_events(self, name: str) -> list[Deed]:
        path = f"/machine/peripheral/{name}"
        if self.owed.get(name):
            return [self._event("DEVICE_DELETED", then=[lambda: self._owe(name, -1)], device=name, path=path)]
        race = [lambda: self._race(name)]
        if self.machines[f"device {name}"].state == "gone":
            return []
        return [
            self._event("DEVICE_DELETED", (f"device {name}", "DEVICE_DELETED"), then=race, device=name, path=path),
            self._event("DEVICE_DELETED", (f"device {name}", "DEVICE_DELETED child"), then=race, path=f"{path}/virtio-backend"),
            self._event("DEVICE_UNPLUG_GUEST_ERROR", (f"device {name}", "refused"), device=name, path=path),
        ]  # fmt: skip

    def _owe(self, name: str, more: int) -> None:
        self.owed[name] = self.owed.get(name, 0) + more

    def _race(self, name: str) -> None:
        asked = any(n == "device_del" and a["id"] == name for _, n, a in self.pending)
        (self.raced.add if asked else self.raced.discard)(name)

    # --- the client

    def _sends(self) -> list[Deed]:
        if len(self.pending) >= 3 or not self.watched:
            return []
        plain = (
            "stop",
            "cont",
            "system_reset",
            "system_wakeup",
            "query-status",
            "query-migrate",
            "query-jobs",
            "migrate_cancel",
        )
        found = [self._send(name, {}) for name in plain]
        found.append(self._send("qom-list", {"path": "/machine/peripheral"}))
        resting = self.machines["migration"].state in RESTING and not self.facts["incoming"]
        asked = {n for _, n, _ in self.pending}
        if resting and not self._snapshot() and not asked & {"snapshot-save", "snapshot-load", "migrate"}:
            found.append(self._send("migrate", {"uri": "unix:m"}))
            for job in ("j1", "j2"):
                if self.machines[f"job {job}"].state in ("undefined", "null") and not any(
                    "job-id" in a for *_, a in self.pending
                ):
                    found += [
                        self._send(n, {"job-id": job})
                        for n in ("blockdev-mirror", "snapshot-save", "snapshot-load")
                    ]
        for name, (driver, bus) in _DRIVERS.items():
            if not any(a.get("id") == name for *_, a in self.pending):
                add = {"driver": driver, "id": name, **({"bus": bus} if bus else {})}
                found.append(self._send("device_add", add, (f"device {name}", "execute device_add")))
            found.append(self._send("device_del", {"id": name}, (f"device {name}", "execute device_del")))
        if not any("node-name" in a for *_, a in self.pending):
            found.append(
                self._send(
                    "blockdev-add", {"driver": "null-co", "node-name": "n1"}, ("node n1", "execute add")
                )
            )
            found.append(self._send("blockdev-del", {"node-name": "n1"}, ("node n1", "execute del")))
        return found

    def _send(self, name: str, arguments: dict[str, Any], *moves: tuple[str, str]) -> Deed:
        identifier = str(self._ids + 1)
        qmp = {"execute": name, "id": identifier, **({"arguments": arguments} if arguments else {})}
        return Deed(list(moves), [("command", qmp)], [lambda: self._sent(identifier, name, arguments)])

    def _sent(self, identifier: str, name: str, arguments: dict[str, Any]) -> None:
        self._ids += 1
        self.pending.append((identifier, name, arguments))
        if name == "system_wakeup":
            self.facts["woken"] = self.facts["woken"] or "asked"
        if name == "migrate":
            self.facts.update({"migrate-sent": True, "reset-meanwhile": False, "begun": False})

    def _answers(self) -> list[Deed]:
        # A STOP follows its cause at once: nothing is answered in between.
        if not self.pending or (self.announced and self.machines["runstate"].state == "running"):
            return []
        identifier, name, arguments = self.pending[0]
        found = [*self._done(name, arguments), *self._refused(name, arguments)]
        for deed in found:
            deed.seen = [(kind, {**qmp, "id": identifier}) for kind, qmp in deed.seen]
            done = deed.seen[0][0] == "reply"
            answered = partial(self._answered, done=done)
            deed.then = [answered, lambda: self.facts.update(new=False), *deed.then]
        return found

    def _answered(self, *, done: bool) -> None:
        _, name, arguments = self.pending.pop(0)
        if name == "system_wakeup" and self.facts["woken"] == "asked":
            if done:
                self.facts["woken"] = "done"
            elif not any(n == name for _, n, _ in self.pending):
                self.facts["woken"] = ""
        if name == "device_del" and not any(n == name and a == arguments for _, n, a in self.pending):
            self.raced.discard(arguments["id"])

    def _ok(self, *moves: tuple[str, str], value: Any = None, then: list[Any] | None = None) -> Deed:
        return Deed(list(moves), [("reply", {"return": {} if value is None else value})], then or [])

    def _done(self, name: str, arguments: dict[str, Any]) -> list[Deed]:
        subject = f"device {arguments.get('id')}"
        match name:
            case "stop":
                return [
                    self._ok(("runstate", "return stop"), then=[lambda: self.facts.update(autostart=False)])
                ]
            case "cont":
                return [
                    self._ok(("runstate", "return cont"), then=[lambda: self.facts.update(autostart=True)])
                ]
            case "system_wakeup":
                return [self._ok(("runstate", "return system_wakeup"))]
            case "query-status":
                it = self.machines["runstate"].state
                return [self._ok(value={"status": TABLES["runstate"].shown(it), "running": it == "running"})]
            case "query-migrate":
                return [self._ok(value={"status": self.machines["migration"].state})]
            case "query-jobs":
                jobs = [(j, self.machines[f"job {j}"].state) for j in ("j1", "j2")]
                return [
                    self._ok(
                        value=[
                            {"id": j, "status": s, "type": self._type(j)}
                            for j, s in jobs
                            if s not in ("undefined", "null")
                        ]
                    )
                ]
            case "qom-list":
                there = [d for d in _DRIVERS if self.machines[f"device {d}"].state in IN_QOM]
                return [
                    self._ok(value=[{"name": d, "type": "child<x>"} for d in (*there, "rp0", "rp1", "usb")])
                ]
            case "migrate":
                begun = [lambda: self.facts.update(begun=True)]
                return [self._ok(("migration", "return migrate"), then=begun)]
            case "migrate_cancel":
                return [self._ok(("migration", "return migrate_cancel"))]
            case "device_add":
                state = self.machines[subject].state
                then = [
                    lambda: self._owe(arguments["id"], state in ("leaving", "ejected")),
                    lambda: self.raced.discard(arguments["id"]),
                ]
                return [self._ok((subject, "return device_add"), then=then)]
            case "device_del":
                return [self._ok((subject, "return device_del"))]
            case "blockdev-add" | "blockdev-del":
                return [self._ok(("node n1", f"return {name[9:]}"))]
            case "blockdev-mirror" | "snapshot-save" | "snapshot-load":
                begun = self.machines[f"job {arguments['job-id']}"].state not in ("undefined", "null")
                return [self._ok()] if begun else []
        return [self._ok()]

    def _type(self, job: str) -> str:
        kind = self.types.get(job, "")
        return "mirror" if kind == "blockdev-mirror" else kind

    def _refused(self, name: str, arguments: dict[str, Any]) -> list[Deed]:
        subject = f"device {arguments.get('id')}"
        options = {
            "cont": [("error cont:finalizing", "Migration is not finalized yet", ""), ("error cont:reset-required", "Resetting the Virtual Machine is required", "")],
            "system_wakeup": [("error system_wakeup:awake", "Unable to wake up: guest is not in suspended state", "")],
            "device_add": [("error device_add", "Bus 'x' not found", ""), *self._duplicate(subject)],
            "device_del": [
                ("error device_del:not-found", "Device 'x' not found", "DeviceNotFound"),
                ("error device_del:pending", "Device x is already in the process of unplug", ""),
                ("error device_del:busy", "Hot-unplug failed: guest is busy (power indicator blinking)", ""),
            ],
            "blockdev-add": [("error add", "Could not open 'x': No such file or directory", "")],
            "blockdev-del": [("error del", "Node n1 is in use", "")],
        }  # fmt: skip
        machine = {
            "cont": "runstate",
            "system_wakeup": "runstate",
            "blockdev-add": "node n1",
            "blockdev-del": "node n1",
        }
        return [
            Deed([(machine.get(name, subject), trigger)], [("failure", {"error": {"class": kind or "GenericError", "desc": desc}})])
            for trigger, desc, kind in options.get(name, ())
        ]  # fmt: skip

    def _duplicate(self, subject: str) -> list[tuple[str, str, str]]:
        there = subject in self.machines and self.machines[subject].state in IN_QOM
        return [("error device_add:duplicate", f"Duplicate device ID '{subject[7:]}'", "")] if there else []

    # --- how it begins, and what is missed

    def _begin(self, *, events: bool, paused: bool, incoming: bool) -> None:
        argv = ["qemu-system-x86_64", "-M", "q35,accel=tcg", "-nodefaults", "-qmp", "unix:q,server=on"]
        argv += ["-S"] if paused else []
        argv += ["-incoming", "unix:m"] if incoming else []
        argv += ["-qmp", "unix:p,server=on"] if self.others else []
        argv += ["-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"] if self.native else []
        for port in ("rp0", "rp1"):
            argv += ["-device", f"pcie-root-port,id={port},bus=pcie.0"]
        self._see("spawned", {"argv": [*argv, "-device", "qemu-xhci,id=usb"]})
        self._take(("runstate", "spawned"))
        self._connect(first=True)
        self._take(("runstate", "first reply"), ("migration", "first reply"))
        self.facts["starting"] = False
        if events:
            told = {"capabilities": [{"capability": "events", "state": True}]}
            self._see(
                "command", {"qmp": {"execute": "migrate-set-capabilities", "id": "e", "arguments": told}}
            )
            self._see("reply", {"qmp": {"return": {}, "id": "e"}})
            self.facts["migration-events"] = True
            self._take(("runstate", "events on"), ("migration", "events on"))

    def _take(self, *moves: tuple[str, str]) -> None:
        self._profiles()
        for name, trigger in moves:
            self.machines[name].take(rows_from(self.machines[name], trigger)[0])

    def _connect(self, *, first: bool) -> None:
        self._see("opened", {"first": True} if first else {})
        version = dict(zip(("major", "minor", "micro"), self.version, strict=True))
        self._see("greeting", {"qmp": {"QMP": {"version": {"qemu": version}, "capabilities": ["oob"]}}})
        self._ids += 1
        self._see("command", {"qmp": {"execute": "qmp_capabilities", "id": f"c{self._ids}"}})
        self._see("reply", {"qmp": {"return": {}, "id": f"c{self._ids}"}})

    def leave(self) -> None:
        """The client leaves: from now on nothing is seen, until :meth:`come_back`. What it asked for still happens."""
        self._see("lost", {"by": "us"})
        self.watched = False

    def come_back(self, draw: Any) -> None:
        """A client comes again, when all that was asked for has been answered to nobody."""
        while self.pending:
            self.step(draw)
        self.watched = True
        self._connect(first=False)
