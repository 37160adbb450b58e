"""The state of one VM: values that the fold moves, and their plain form.

``VM`` is the fold's accumulator: mutable, private to whoever folds. People read it through
:meth:`VM.to_json` (the contract of ``--json``) and the snapshot through :meth:`VM.to_plain`.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from qemustate.statemachine import guards
from qemustate.statemachine.launch import Launch
from qemustate.statemachine.observer import Observer, watchers
from qemustate.statemachine.references import Reference
from qemustate.statemachine.tables import HASH
from qemustate.statemachine.tables.device import RESTLESS

#: The kinds of backend: collection of :class:`VM` -> kind.
BACKENDS: Final = {"node": "nodes", "netdev": "netdevs", "chardev": "chardevs", "object": "objects"}


class Cell:
    """One machine's belief: the possible states as bits, since which record, and why."""

    __slots__ = ("belief", "cause", "since")

    def __init__(self, belief: int) -> None:
        self.belief = belief
        self.since = 0
        self.cause = ""


_ANY_KIND: Final = guards.open_(*guards.DEVICE_KINDS) | guards.denied("failover")


class DeviceCell(Cell):
    """A device: besides its belief, which bearer of the id it is.

    ``generation`` counts the bearers of this id; ``outstanding`` the DEVICE_DELETED still due for earlier ones,
    ``doubtful`` those that may be due or may have come unseen
    (an id is free before the event comes); ``kind`` the guards of its bus; ``refused`` the last refusal.
    """

    __slots__ = (
        "asked",
        "bus",
        "doubtful",
        "driver",
        "failover",
        "generation",
        "kind",
        "outstanding",
        "properties",
        "refused",
        "standby",
        "uses",
    )

    def __init__(self, belief: int) -> None:
        super().__init__(belief)
        self.driver = ""
        self.bus = ""
        #: All that it was added with, in QEMU's names.
        self.properties: dict[str, Any] = {}
        self.kind = guards.open_(*guards.DEVICE_KINDS) | guards.denied("failover", "raced")
        self.generation = 0
        self.outstanding = 0
        self.doubtful = 0
        self.refused = ""
        #: The standby it is the primary of (``failover_pair_id``); and whether it is one itself, which hides its primary
        #: until the guest has negotiated: ``hides``, then ``negotiated``.
        self.failover = ""
        self.standby = ""
        #: When its removal was asked for, microseconds since 1970; 0 where it was not.
        self.asked = 0
        #: The backends it uses: (kind, id).
        self.uses: tuple[tuple[str, str], ...] = ()


class JobCell(Cell):
    """A job: its type (QAPI ``JobType``, empty where unknown) and its error, if it has failed.

    ``completing``: it was told to complete. It then puts the disks on the node ``pivots_from`` on ``pivots_to``; empty where unknown.
    """

    __slots__ = ("completing", "error", "pivots_from", "pivots_to", "type")

    def __init__(self, belief: int) -> None:
        super().__init__(belief)
        self.type = ""
        self.error = ""
        self.completing = False
        self.pivots_from = self.pivots_to = ""


class DisplayCell(Cell):
    """A session on a display: the server's address, and how many clients share the session's own, 1 as a rule."""

    __slots__ = ("clients", "server")

    def __init__(self, belief: int) -> None:
        super().__init__(belief)
        self.server = ""
        self.clients = 0


#: A command without its answer yet: (seq, name, arguments, id).
Pending = tuple[int, str, dict[str, Any], Any]
#: What one record changed: (machine, id or "", names before, cell).
Change = tuple[str, str, tuple[str, ...], Cell]


class VM:
    """Everything the facts so far say about one VM."""

    __slots__ = (
        "assumptions",
        "balloon",
        "begun",
        "changed",
        "chardevs",
        "devices", "displays", "dump",
        "exit", "exports", "facts", "fds",
        "helpers", "inner", "intents",
        "jobs",
        "late",
        "launch",
        "memory",
        "migration",
        "monitor",
        "name",
        "netdevs",
        "nodes",
        "numbered",
        "objects",
        "pending",
        "pid",
        "plugged",
        "process",
        "profile",
        "refers",
        "restless",
        "resumed",
        "runstate",
        "seq",
        "spawned",
        "stalled",
        "throttled",
        "time",
        "unanswered",
        "version",
        "violations",
        "watch",
    )  # fmt: skip

    def __init__(self, name: str = "vm") -> None:
        self.name = name
        self.seq = 0
        self.time = 0
        self.process = Cell(watchers(None).process.initial)
        self.monitor = Cell(watchers(None).monitor.initial)
        self.assumptions: Counter[str] = Counter()
        #: What the current record changed, and what no row allowed: (rule, subject, sentence).
        self.changed: list[Change] = []
        self.violations: list[tuple[str, str, str]] = []
        #: Helper processes that were started and have not ended, by name: they come before QEMU, and may outlive it.
        self.helpers: dict[str, dict[str, Any]] = {}
        self.forget()

    def forget(self) -> None:
        """Know nothing of any QEMU process: what the facts said of an earlier one is not true of the next."""
        self.version: tuple[int, ...] | None = None
        self.launch: Launch | None = None
        #: The process was heard of: spawned, or it spoke.
        self.begun = False
        #: Devices whose next RESUME or RESET may matter: neither quietly present nor gone.
        self.restless: dict[str, DeviceCell] = {}
        #: Nobody saw the beginning: what was never heard of may exist.
        self.late = False
        self.observe(None)
        self.profile = _nothing_known()
        self.runstate = Cell(self.watch.runstate.initial)
        self.migration = Cell(self.watch.migration.initial)
        self.dump = Cell(self.watch.dump.initial)
        self.devices: dict[str, DeviceCell] = {}
        #: How many devices without an id QEMU has numbered, at least and at most (None: nobody knows).
        self.numbered: tuple[int, int | None] = (0, None)
        self.displays: dict[str, DisplayCell] = {}
        self.exports: dict[str, Cell] = {}
        self.fds: dict[str, Cell] = {}
        #: The last value of what has values and no states: fact -> subject -> value.
        self.facts: dict[str, dict[str, Any]] = {}
        self.jobs: dict[str, JobCell] = {}
        #: What backends and exports refer to, as they were told: (kind, name) -> its references.
        self.refers: dict[Reference, tuple[Reference, ...]] = {}
        self.nodes: dict[str, Cell] = {}
        #: The nodes that nobody added by a command, and that may go without one.
        self.inner: dict[str, Cell] = {}
        self.netdevs: dict[str, Cell] = {}
        self.chardevs: dict[str, Cell] = {}
        self.objects: dict[str, Cell] = {}
        self.balloon: int | None = None
        self.memory: dict[str, dict[str, int]] = {}
        #: Commands without their answer, by id; and those whose monitor was lost before the answer came.
        self.pending: dict[Any, Pending] = {}
        self.unanswered: dict[Any, Pending] = {}
        self.pid: int | None = None
        self.exit: dict[str, int] | None = None
        #: The body of the ``spawned`` record.
        self.spawned: dict[str, Any] = {}
        #: Intents that have begun and not ended, by correlation: their body, and ``seq``.
        self.intents: dict[str, dict[str, Any]] = {}
        #: Device -> the steps of the intent that plugged it, which name the backends it brought.
        self.plugged: dict[str, list[Any]] = {}
        self.stalled: dict[str, Any] | None = None
        #: The last RESUME, and QEMU's clock (microseconds) at the last event of each rate-limited cause; by ``MIGRATION``, when
        #: the last one was seen to be ``completed``, until a query has told what came of it.
        self.resumed: dict[str, Any] = {}
        self.throttled: dict[str, int] = {}

    def observe(self, version: tuple[int, ...] | None) -> None:
        """Use the tables as that QEMU version has them."""
        self.version = version
        self.watch = watchers(version)

    def watcher(self, machine: str) -> Observer:
        """Return the observer of a machine, by its name (``device``) or its kind of backend (``node``)."""
        found: Observer = getattr(self.watch, "backend" if machine in BACKENDS else machine)
        return found

    def names(self, machine: str, cell: Cell) -> tuple[str, ...]:
        """Return what a cell's belief shows as."""
        return self.watcher(machine).names(cell.belief)

    def shows(self, kind: str, name: str) -> tuple[str, ...]:
        """Return what a device, node, job, ... of that name shows as; ``gone`` if it was never heard of."""
        cell = getattr(self, f"{kind}s").get(name)
        return ("gone",) if cell is None else self.names(kind, cell)

    def may_be(self, kind: str, name: str) -> bool:
        """Say whether something of that name may be there."""
        return self.shows(kind, name) != ("gone",)

    def used_by(self) -> dict[Reference, list[str]]:
        """Return, for everything that is referred to, what refers to it: ``device vd1``, ``node n2``."""
        found: dict[Reference, list[str]] = {}
        refers = [(("device", name), cell.uses) for name, cell in self.devices.items()]
        for (kind, name), uses in (*refers, *self.refers.items()):
            for use in uses if self.may_be(kind, name) else ():
                found.setdefault(use, []).append(f"{kind} {name}")
        return found

    # --- plain forms

    def _cell_json(self, machine: str, it: Cell, **more: Any) -> dict[str, Any]:
        possible = list(self.names(machine, it))
        return {"possible": possible, "is": possible[0] if len(possible) == 1 else None, **more}

    def device_json(self, d: DeviceCell) -> dict[str, Any]:
        """Return a device's entry of the ``--json`` contract."""
        return self._cell_json(
            "device", d, generation=d.generation, driver=d.driver or None, bus=d.bus or None, since=d.since,
            **({"refused": d.refused} if d.refused else {}),
            **({"outstanding": d.outstanding} if d.outstanding else {}),
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Return this VM's entry of the ``--json`` contract, findings left out."""
        cell = self._cell_json
        users = self.used_by()
        return {
            "name": self.name,
            "records": self.seq,
            "at": {"seq": self.seq, "time": iso(self.time)},
            "process": cell("process", self.process, pid=self.pid, exit=self.exit),
            "monitor": cell("monitor", self.monitor, qemu=self._version_text(), **({"stalled": self.stalled} if self.stalled else {})),
            "runstate": cell("runstate", self.runstate, since=self.runstate.since, cause=self.runstate.cause or None),
            "devices": {name: self.device_json(d) for name, d in self.devices.items()},
            **{
                collection: {
                    name: cell(kind, it, since=it.since, **({"used_by": users[kind, name]} if (kind, name) in users else {}))
                    for name, it in getattr(self, collection).items()
                }
                for kind, collection in BACKENDS.items()
            },
            "jobs": {name: cell("job", j, type=j.type or None, error=j.error or None, since=j.since) for name, j in self.jobs.items()},
            "migration": cell("migration", self.migration, since=self.migration.since),
            "memory": {"balloon": self.balloon, "devices": self.memory},
            "displays": {
                name: cell("display", it, since=it.since, server=it.server, clients=it.clients) for name, it in self.displays.items()
            },
            "exports": {name: cell("export", it, since=it.since) for name, it in self.exports.items()},
            "fds": {name: cell("fd", it, since=it.since) for name, it in self.fds.items()},
            "dump": cell("dump", self.dump, since=self.dump.since),
            "facts": self.facts,
            "pending": [
                {"seq": seq, "command": name, "id": identifier}
                for seq, name, _, identifier in sorted([*self.pending.values(), *self.unanswered.values()], key=lambda p: p[0])
            ],
            **({"intents": _intents(self.intents)} if self.intents else {}),
        }  # fmt: skip

    def _version_text(self) -> str | None:
        return ".".join(map(str, self.version)) if self.version else None

    def to_plain(self) -> dict[str, Any]:
        """Return the whole state as plain values, for a snapshot; :meth:`from_plain` gives it back."""

        def cell(it: Cell, *more: str) -> list[Any]:
            return [it.belief, it.since, it.cause, *(getattr(it, name) for name in more)]

        launch = self.launch
        return {
            "tables": HASH, "name": self.name, "seq": self.seq, "time": self.time, "late": self.late, "begun": self.begun, "profile": hex(self.profile),
            "version": list(self.version) if self.version else None,
            "launch": None if launch is None else _launch_plain(launch),
            **{m: cell(getattr(self, m)) for m in ("process", "monitor", "runstate", "migration", "dump")},
            "devices": {n: [*cell(d, *_DEVICE), hex(d.kind), [list(u) for u in d.uses]] for n, d in self.devices.items()},
            "numbered": list(self.numbered),
            "refers": [[*who, [list(what) for what in uses]] for who, uses in self.refers.items()],
            "displays": {n: cell(d, "server", "clients") for n, d in self.displays.items()},
            "jobs": {n: cell(j, *_JOB) for n, j in self.jobs.items()},
            **{c: {n: cell(b) for n, b in getattr(self, c).items()} for c in (*BACKENDS.values(), "exports", "fds")},
            "facts": {fact: dict(values) for fact, values in self.facts.items()},
            "balloon": self.balloon, "memory": {k: dict(v) for k, v in self.memory.items()},
            "pending": [list(p) for p in self.pending.values()], "unanswered": [list(p) for p in self.unanswered.values()],
            "spawned": self.spawned, "helpers": {**self.helpers}, "intents": {n: dict(i) for n, i in self.intents.items()}, "plugged": {**self.plugged},
            "pid": self.pid, "exit": self.exit, "stalled": self.stalled, "resumed": self.resumed,
            "throttled": dict(self.throttled), "assumptions": dict(self.assumptions),
        }  # fmt: skip

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> VM:
        """Return the state that :meth:`to_plain` described.

        A state kept with other tables cannot be read with these: what is returned then knows where it is in the
        log, and believes anything from the next record on, as after a beginning that was not seen.
        """
        vm = cls(plain["name"])
        vm.observe(tuple(plain["version"]) if plain["version"] else None)
        if plain["tables"] != HASH:
            vm.seq, vm.time = plain["seq"], plain["time"]
            return vm
        for name in ("seq", "time", "late", "begun", "balloon", "pid", "exit", "stalled", "resumed"):
            setattr(vm, name, plain[name])
        vm.profile = int(plain["profile"], 16)
        vm.numbered = (plain["numbered"][0], plain["numbered"][1])
        vm.launch = None if plain["launch"] is None else _launch_back(plain["launch"])
        for machine in ("process", "monitor", "runstate", "migration", "dump"):
            _fill(getattr(vm, machine), plain[machine])
        vm.devices = {n: _fill(DeviceCell(0), c[:-2], *_DEVICE) for n, c in plain["devices"].items()}
        for name, kept in plain["devices"].items():
            vm.devices[name].kind = int(kept[-2], 16)
            vm.devices[name].uses = tuple((kind, identifier) for kind, identifier in kept[-1])
        restless = vm.watch.device.of(RESTLESS)
        vm.restless = {n: d for n, d in vm.devices.items() if d.belief & restless}
        vm.jobs = {n: _fill(JobCell(0), c, *_JOB) for n, c in plain["jobs"].items()}
        vm.facts = {fact: dict(values) for fact, values in plain["facts"].items()}
        vm.refers = {(kind, name): tuple((k, n) for k, n in uses) for kind, name, uses in plain["refers"]}
        vm.displays = {n: _fill(DisplayCell(0), c, "server", "clients") for n, c in plain["displays"].items()}
        for collection in (*BACKENDS.values(), "exports", "fds"):
            setattr(vm, collection, {n: _fill(Cell(0), c) for n, c in plain[collection].items()})
        inner = vm.watch.backend.bit["inner"]
        vm.inner = {n: c for n, c in vm.nodes.items() if c.belief & inner}
        vm.memory = {k: dict(v) for k, v in plain["memory"].items()}
        vm.pending = {key_of(p[3], p[0]): (p[0], p[1], p[2], p[3]) for p in plain["pending"]}
        vm.unanswered = {key_of(p[3], p[0]): (p[0], p[1], p[2], p[3]) for p in plain["unanswered"]}
        vm.spawned = plain["spawned"]
        vm.helpers, vm.plugged = {**plain["helpers"]}, {**plain["plugged"]}
        vm.intents = {name: dict(intent) for name, intent in plain["intents"].items()}
        vm.throttled = dict(plain["throttled"])
        vm.assumptions = Counter(plain["assumptions"])
        return vm


def _intents(intents: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "seq": it["seq"],
            "intent": it["intent"],
            "subject": it.get("subject", ""),
            "correlation": correlation,
            "overdue": it.get("overdue", False),
        }
        for correlation, it in intents.items()
    ]


C = TypeVar("C", bound=Cell)

_DEVICE: Final = (
    "driver",
    "bus",
    "generation",
    "outstanding",
    "doubtful",
    "refused",
    "failover",
    "standby",
    "asked",
    "properties",
)
_JOB: Final = ("type", "error", "completing", "pivots_from", "pivots_to")


def _fill(cell: C, plain: list[Any], *more: str) -> C:
    cell.belief, cell.since, cell.cause = plain[:3]
    for name, value in zip(more, plain[3:], strict=True):
        setattr(cell, name, value)
    return cell


def _launch_plain(launch: Launch) -> dict[str, Any]:
    import msgspec  # noqa: PLC0415  (only snapshots need it)

    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(launch))
    return plain


def _launch_back(plain: dict[str, Any]) -> Launch:
    import msgspec  # noqa: PLC0415

    return msgspec.convert(plain, Launch)


def key_of(identifier: Any, seq: int) -> Any:
    """Return a dictionary key for a command's id, any JSON value; commands without an id are told apart by ``seq``."""
    if identifier.__class__ is str or identifier.__class__ is int:
        return identifier
    return ("#", seq) if identifier is None else ("json", repr(identifier))


def _nothing_known() -> int:
    """Return the profile before the first record: every guard denied but those only a launch decides."""
    launch = ("autostart", "incoming", "deferred", "debugger", "kvm", "sleeps", "others")
    denied = [
        name
        for name in guards.GUARDS
        if name not in (*launch, *guards.DEVICE_KINDS, "failover", "raced", "starting")
    ]
    return guards.denied(*denied) | guards.open_(*launch) | guards.denied("starting", "new")


def iso(time: int) -> str | None:
    """Return microseconds since 1970 as ISO 8601 in UTC with milliseconds; None for 0 (unknown) and no real time."""
    if not 0 < time < _YEAR_10000:
        return None
    stamp = datetime.fromtimestamp(time / 1_000_000, tz=UTC)
    return stamp.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time // 1000 % 1000:03d}Z"


_YEAR_10000: Final = 253_402_300_800_000_000
