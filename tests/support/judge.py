"""The judge: what QEMU itself says is true, beside the monitor that is recorded.

Two sources. A second monitor, whose traffic is in no recording, asks for the run state and the devices the whole time. And
QEMU's trace log names each transition at the moment it is made.
"""

import re
import threading
import time

from support.monitor import Closed, Monitor

#: Trace events with the truth in them (QEMU: */trace-events; the same names in 7.2 and 10.0).
EVENTS = (
    "runstate_set",
    "vm_state_notify",
    "system_wakeup_request",
    "job_state_transition",
    "job_apply_verb",
    "migrate_set_state",
    "acpi_pci_unplug_request",
    "acpi_pci_unplug",
    "acpi_pci_eject_slot",
    "cpuhp_acpi_ejecting_cpu",
    "cpuhp_acpi_clear_inserting_evt",
    "cpuhp_acpi_clear_remove_evt",
    "cpuhp_acpi_write_ost_ev",
    "cpuhp_acpi_write_ost_status",
    "mhp_acpi_clear_insert_evt",
    "mhp_acpi_clear_remove_evt",
    "mhp_acpi_write_ost_ev",
    "mhp_acpi_write_ost_status",
    "mhp_acpi_pc_dimm_deleted",
    "mhp_acpi_pc_dimm_delete_failed",
    "vnc_client_connect",
    "vnc_client_disconnect_finish",
)

# With -msg timestamp=on a line is pid@seconds.micros:name text (QEMU scripts/tracetool/backend/log.py).
LINE = re.compile(r"\d+@(\d+\.\d+):(\w+) (.*)")
RUNSTATE = re.compile(r"current_run_state \d+ \(([\w-]+)\) new_state \d+ \(([\w-]+)\)")


def trace_arguments(log):
    """Return the arguments that make QEMU write its trace log to the file `log`."""
    return ["-msg", "timestamp=on", *(word for name in EVENTS for word in ("-trace", name)), "-D", log]


def read_trace(text):
    """Return the truth in a trace log.

    {"runstate": [[t, from, to]], "trace": [[t, name, text]]}; `t` is Unix seconds. Pointers are replaced by #1, #2, ...,
    so that a job keeps its name and two recordings can be compared.
    """
    names = {}
    truth = {"runstate": [], "trace": []}
    for line in text.splitlines():
        found = LINE.fullmatch(line)
        if not found:
            continue
        t, name, said = float(found[1]), found[2], found[3]
        runstate = RUNSTATE.fullmatch(said)
        if name == "runstate_set" and runstate:
            truth["runstate"].append([t, runstate[1], runstate[2]])
        else:
            said = re.sub(r"0x[0-9a-f]{6,}", lambda m: names.setdefault(m[0], f"#{len(names) + 1}"), said)
            truth["trace"].append([t, name, said])
    return truth


class Judge:
    """Asks the second monitor every `interval` seconds, in a thread of its own, until the monitor closes.

    `status`, `peripheral` and `anonymous` are lists of [sent, received, sent_last, received_last, count, answer]: `count` equal
    answers in a row, the first asked for at `sent` and there at `received`, the last at `sent_last` and `received_last`. The
    answers are the status of query-status, and the sorted names below /machine/peripheral and /machine/peripheral-anon.
    """

    def __init__(self, path, alive, interval=0.05):
        self.status = []
        self.peripheral = []
        self.anonymous = []
        self._monitor = Monitor(path, alive=alive)
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def close(self):
        """Stop asking and hang up."""
        self._stop.set()
        self._monitor.close()
        self._thread.join()

    def _ask(self):
        try:
            while not self._stop.wait(self._interval):
                self._poll(self.status, "query-status", None, lambda answer: answer["status"])
                self._poll(self.peripheral, "qom-list", {"path": "/machine/peripheral"}, children)
                self._poll(self.anonymous, "qom-list", {"path": "/machine/peripheral-anon"}, children)
        except Closed:
            return

    def _poll(self, seen, execute, arguments, read):
        self._monitor.forget()
        sent = time.time()
        answer = read(self._monitor.ok(execute, arguments, timeout=600))
        received = time.time()
        if seen and seen[-1][5] == answer:
            seen[-1][2:5] = [sent, received, seen[-1][4] + 1]
        else:
            seen.append([sent, received, sent, received, 1, answer])


def children(listed):
    """Return the names of the children in a reply of qom-list."""
    return sorted(item["name"] for item in listed if item["type"].startswith("child<"))
