"""Holding the observer's belief against what QEMU itself said: the trace log and the unseen second monitor.

Truth is an interval. For an event it is what held from the event's own time stamp until we had received it; for an
answer, from when its command was sent. QEMU announces some states a moment before it enters them (RESUME, RESET),
so a millisecond is added at the end. A belief is *sound* if a state that held is in it, *sharp* if it is one state.

Run state: QEMU's ``-trace runstate_set``. Devices: ``qom-list /machine/peripheral`` on a monitor that the observer does
not see, asked all the time; between two different answers either is the truth. A device whose removal QEMU has not
announced yet counts as ``unplugging``, and each such moment is counted.
"""

from __future__ import annotations

import json
import lzma
from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qemustate.statemachine import guards
from qemustate.statemachine.fold import apply
from qemustate.statemachine.state import VM

#: The second monitor asks this often at least, in seconds: what comes and goes faster it may not see.
POLL = 0.12
#: How long before a state is entered its event may be sent, in seconds.
SLACK = 0.001

EVENTS = {"STOP", "RESUME", "RESET", "SUSPEND", "WAKEUP", "SHUTDOWN", "MIGRATION"}
COMMANDS = {
    "qmp_capabilities", "stop", "cont", "system_reset", "system_wakeup", "query-status", "migrate", "migrate_cancel",
    "quit", "snapshot-save", "snapshot-load", "dump-guest-memory", "human-monitor-command",
}  # fmt: skip


@dataclass
class Verdict:
    """What was judged: counts by machine, and a line for every belief that was wrong or blurred."""

    checked: Counter[str] = field(default_factory=Counter)
    unsound: Counter[str] = field(default_factory=Counter)
    sharp: Counter[str] = field(default_factory=Counter)
    unannounced: int = 0
    unseen: int = 0
    assumptions: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    blurred: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    records: int = 0

    def note(
        self, machine: str, where: str, truth: set[str], possible: tuple[str, ...], *, concerned: bool
    ) -> None:
        """Judge one belief; sharpness counts only where the record concerns the machine."""
        if not truth & set(possible):
            self.unsound[machine] += 1
            self.wrong.append(f"{where}: {machine} is {sorted(truth)}, believed {list(possible)}")
        if concerned:
            self.checked[machine] += 1
            self.sharp[machine] += len(possible) == 1
            if len(possible) > 1:
                self.blurred.append(f"{where}: {machine} is {sorted(truth)}, believed {list(possible)}")

    def add(self, other: Verdict) -> None:
        """Add another story's verdict to this one."""
        for name in ("checked", "unsound", "sharp", "assumptions"):
            getattr(self, name).update(getattr(other, name))
        for name in ("wrong", "blurred", "violations"):
            getattr(self, name).extend(getattr(other, name))
        self.unannounced += other.unannounced
        self.unseen += other.unseen
        self.records += other.records

    def lines(self) -> list[str]:
        """Return the figures, a line per machine."""
        return [
            f"{machine}: {self.checked[machine]} records that concern it, {self.unsound[machine]} unsound, "
            f"{self.sharp[machine] / self.checked[machine]:.1%} sharp"
            for machine in sorted(self.checked)
        ] + [
            f"removed and not yet announced: {self.unannounced} moments; too quick for the second monitor: {self.unseen}",
            "assumptions used: "
            + (", ".join(f"{name} {count}" for name, count in sorted(self.assumptions.items())) or "none"),
        ]


def stories(folder: Path) -> list[Path]:
    """Return the recordings in a folder, by their ``NAME.jsonl.xz``."""
    return sorted(folder.glob("*.jsonl.xz"))


class _Course:
    """What something was, and when it changed."""

    def __init__(self, initial: str, moves: list[tuple[float, str]]) -> None:
        self._times = [t for t, _ in moves]
        self._states = [initial, *(state for _, state in moves)]

    def held(self, since: float, until: float) -> set[str]:
        return set(self._states[bisect_right(self._times, since) : bisect_right(self._times, until) + 1])


def _job_courses(trace: list[list[Any]]) -> list[_Course]:
    """Return the course of each job, in the order they were created; a job's address may be used again."""
    alive: dict[str, list[tuple[float, str]]] = {}
    found: list[list[tuple[float, str]]] = []
    for t, name, said in trace:
        if name != "job_state_transition" or " allowed transition" not in said:
            continue
        before, _, after = said[said.index("(", said.index("transition")) + 1 : -1].partition("-->")
        job = said.split()[1]
        if before == "undefined":
            alive[job] = []
            found.append(alive[job])
        alive[job].append((t, after))
    return [_Course("undefined", moves) for moves in found]


def _viewers(trace: list[list[Any]]) -> _Course | None:
    """Return the course of the number of VNC's clients."""
    number, moves = 0, []
    for t, name, _ in trace:
        if name in ("vnc_client_connect", "vnc_client_disconnect_finish"):
            number += 1 if name == "vnc_client_connect" else -1
            moves.append((t, str(number)))
    return _Course("0", moves) if moves else None


class Truth:
    """What QEMU said of itself during one story."""

    def __init__(self, path: Path) -> None:
        told = json.loads(lzma.decompress(path.read_bytes()))
        moves = told["runstate"]
        self._times = [move[0] for move in moves]
        self._states = [moves[0][1] if moves else None, *(move[2] for move in moves)]
        self._runs = told["peripheral"]
        self._anonymous = told.get("anonymous", [])
        #: When the second monitor was last asked for the devices: what was done to one since, it has not seen.
        self.last = self._runs[-1][2] if self._runs else 0.0
        self._migration = _Course(
            "none", [(t, s.split()[-1]) for t, n, s in told["trace"] if n == "migrate_set_state"]
        )
        self.jobs = _job_courses(told["trace"])
        self._viewers = _viewers(told["trace"])

    def runstates(self, since: float, until: float) -> set[str]:
        """Return the run states held between two moments."""
        first = bisect_right(self._times, since)
        last = bisect_right(self._times, until)
        return {state for state in self._states[first : last + 1] if state}

    def viewers(self, since: float, until: float) -> set[str]:
        """Return how many clients VNC had between two moments; nothing where there never was one."""
        return self._viewers.held(since, until) if self._viewers else set()

    def migrations(self, since: float, until: float) -> set[str]:
        """Return the migration statuses held between two moments."""
        return self._migration.held(since, until)

    def devices(self, since: float, until: float) -> list[set[str]]:
        """Return the answers that may be true between two moments: sets of ids."""
        return _answers(self._runs, since, until)

    def anonymous(self, since: float, until: float) -> list[set[str]]:
        """Return the same for the devices without an id: sets of QOM paths."""
        told = _answers(self._anonymous, since, until)
        return [{f"/machine/peripheral-anon/{name}" for name in names} for names in told]


def _answers(runs: list[list[Any]], since: float, until: float) -> list[set[str]]:
    """Return the answers of the second monitor that may be true between two moments."""
    starts = [run[0] for run in runs]
    first = max(bisect_right(starts, since) - 1, 0)
    last = bisect_left(starts, until)
    found = []
    for number in range(first, min(last + 1, len(runs))):
        run = runs[number]
        if number < last and run[3] < since and number + 1 < len(runs) and runs[number + 1][0] <= since:
            continue
        found.append(set(run[5]))
        if run[0] <= since and until <= run[2]:
            return [set(run[5])]
    return found


def judge(entries: list[tuple[str, int, dict[str, Any]]], truth: Truth, where: str) -> Verdict:
    """Fold a story's records and judge the belief after each. ``entries``: (kind, time in microseconds, body)."""
    vm, verdict = VM(), Verdict()
    moves = _moves(entries)
    created: list[str] = []
    born: dict[str, int] = {}
    sent: dict[Any, tuple[float, str, dict[str, Any]]] = {}
    for seq, (kind, time, body) in enumerate(entries, 1):
        qmp = body.get("qmp", {})
        now = time / 1e6
        since, concerned, subject, name, arguments = now, False, "", "", {}
        if kind == "command":
            sent[json.dumps(qmp.get("id"))] = (now, qmp.get("execute", ""), qmp.get("arguments") or {})
        elif kind in ("reply", "failure"):
            since, name, arguments = sent.get(json.dumps(qmp.get("id")), (now, "", {}))
            concerned = name in COMMANDS
            if name in ("device_add", "device_del"):
                subject = _subject(str(arguments.get("id", "")))
        elif kind == "event":
            stamp = qmp["timestamp"]
            since = stamp["seconds"] + stamp["microseconds"] / 1e6
            concerned = qmp["event"] in EVENTS
            if qmp["event"] == "DEVICE_DELETED":
                subject = _subject(qmp["data"]["path"])
        apply(vm, seq, time, kind, body)
        at = f"{where}:{seq}"
        verdict.violations += [f"{at}: {rule} {about}: {said}" for rule, about, said in vm.violations]
        if kind not in ("reply", "failure", "event"):
            continue
        states = truth.runstates(since, now + SLACK)
        if states:
            verdict.note("runstate", at, states, vm.names("runstate", vm.runstate), concerned=concerned)
        told = kind == "event" and qmp["event"] == "MIGRATION"
        migrated = told or (kind == "reply" and name in ("migrate", "query-migrate", "migrate_cancel"))
        # An incoming `setup` is announced by 7.2, and not kept (migration/migration.c qmp_migrate_incoming()).
        if not (told and qmp["data"]["status"] == "setup"):
            possible = vm.names("migration", vm.migration)
            verdict.note("migration", at, truth.migrations(since, now + SLACK), possible, concerned=migrated)
        about = ""
        if kind == "event" and qmp["event"] == "JOB_STATUS_CHANGE":
            about = qmp["data"]["id"]
            if qmp["data"]["status"] == "created":
                born[about] = len(created)
                created.append(about)
        elif "job-" in name:
            about = str(arguments.get("id") or arguments.get("device", ""))
        for job, number in born.items():
            if number < len(truth.jobs):
                verdict.note(
                    "job",
                    f"{at} {job}",
                    truth.jobs[number].held(since, now + SLACK),
                    vm.names("job", vm.jobs[job]),
                    concerned=job == about or name == "query-jobs",
                )
        if viewers := truth.viewers(since, now + SLACK):
            least, most = _looking(vm)
            possible = tuple(str(number) for number in range(least, most + 1))
            told = kind == "event" and qmp["event"].startswith("VNC")
            verdict.note("display", at, viewers, possible, concerned=told or name.startswith("query-vnc"))
        answers = truth.devices(since, now + SLACK)
        if name == "device_add" and not subject:
            subject = next((it[1] for it in vm.changed if it[1].startswith(ANONYMOUS)), "")
        quick = {n for n, times in moves.items() if _quick(times, now) or truth.last < times[-1] <= now}
        for there in (answers, truth.anonymous(since, now + SLACK)):
            if there and vm.names("process", vm.process) != ("exited",):
                _devices(vm, verdict, at, there, subject, quick, anonymous=there is not answers)
    verdict.assumptions = vm.assumptions
    verdict.records = len(entries)
    return verdict


def _looking(vm: VM) -> tuple[int, int]:
    """Return how many VNC clients are believed to be there, at least and at most."""
    gone = vm.watch.display.initial
    cells = [cell for name, cell in vm.displays.items() if name.startswith("vnc ")]
    least = sum(max(cell.clients, 1) for cell in cells if not cell.belief & gone)
    return least, least + sum(1 for cell in cells if cell.belief & gone and cell.belief != gone)


#: What a device's name in ``qom-list``, or its absence, allows.
LISTED = {"present", "unplugging"}
NOT_LISTED = {"gone", "adding", "planned"}


#: Where devices without an id are.
ANONYMOUS = "/machine/peripheral-anon"


def _subject(name: str) -> str:
    """Return the device that an id or a QOM path of it or of a child of it means: its id, or its path where it has none."""
    if name.startswith(ANONYMOUS):
        return "/".join(name.split("/")[:4])
    return name.removeprefix("/machine/peripheral/").split("/")[0]


def _moves(entries: list[tuple[str, int, dict[str, Any]]]) -> dict[str, list[float]]:
    """Return, for each device, when something was done to it: added, asked to go, deleted, reset."""
    found: dict[str, list[float]] = {}
    names: dict[Any, str] = {}
    for kind, time, body in entries:
        qmp = body.get("qmp", {})
        name = ""
        if kind == "command" and qmp.get("execute") in ("device_add", "device_del"):
            names[json.dumps(qmp.get("id"))] = _subject(str(qmp["arguments"].get("id", ANONYMOUS)))
        elif kind in ("reply", "failure"):
            name = names.get(json.dumps(qmp.get("id")), "")
        elif kind == "event" and qmp["event"] == "DEVICE_DELETED":
            name = _subject(qmp["data"]["path"])
        if name.startswith(ANONYMOUS):
            name = ANONYMOUS  # which of them a command makes is not told
        if name:
            found.setdefault(name, []).append(time / 1e6)
    return found


def _quick(times: list[float], now: float) -> bool:
    """Two things were done to a device within one interval of the second monitor's questions."""
    near = [time for time in times if abs(time - now) < POLL]
    return len(near) > 1


def _devices(
    vm: VM,
    verdict: Verdict,
    at: str,
    answers: list[set[str]],
    subject: str,
    quick: set[str],
    *,
    anonymous: bool,
) -> None:
    for name in {*vm.devices, *set.intersection(*answers)}:
        if name.startswith("/" if not anonymous else ANONYMOUS) is not anonymous:
            continue
        cell = vm.devices.get(name)
        # An id never heard of may be there all the same, where another monitor can add devices.
        unheard = ("gone", "present") if guards.names(vm.profile)["others"] is not False else ("gone",)
        possible = vm.names("device", cell) if cell else unheard
        truth: set[str] = set()
        if (ANONYMOUS if anonymous else name) in quick:
            verdict.unseen += 1
            truth = LISTED | NOT_LISTED
        for answer in answers:
            truth |= LISTED if name in answer else NOT_LISTED
        if possible == ("unplugging",) and not truth & LISTED:
            verdict.unannounced += 1
            truth = truth | {"unplugging"}
        verdict.note("device", f"{at} {name}", truth, possible, concerned=name == subject)
