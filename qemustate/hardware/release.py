"""What frees a device's id, place and backends, and what asking for its unplug twice does: a row per kind of hotplug.

``device_del`` answered means that the request was accepted. When id, place and backends are free differs:

==========  ===============  ================  ===============  ==========================  =================
kind        frees the id     frees the place   frees backends   asked again meanwhile       a reset
==========  ===============  ================  ===============  ==========================  =================
pcie        DEVICE_DELETED   DEVICE_DELETED    DEVICE_DELETED   repeat after 5 s of guest   forgets
acpi        DEVICE_DELETED   DEVICE_DELETED    DEVICE_DELETED   repeat                      completes
sync        device_del       device_del        DEVICE_DELETED   refused: it is gone         nothing pending
cpu         DEVICE_DELETED   DEVICE_DELETED    DEVICE_DELETED   repeat                      forgets
dimm        DEVICE_DELETED   DEVICE_DELETED    DEVICE_DELETED   join                        forgets
shpc        DEVICE_DELETED   DEVICE_DELETED    DEVICE_DELETED   join                        forgets
ccw         device_del       device_del        DEVICE_DELETED   refused: it is gone         nothing pending
spapr       DEVICE_DELETED   DEVICE_DELETED    DEVICE_DELETED   join                        open
other       DEVICE_DELETED   DEVICE_DELETED    DEVICE_DELETED   join                        open
==========  ===============  ================  ===============  ==========================  =================

:func:`kind` tells a device's kind as far as a belief about devices goes (``pcie``, ``acpi``, ``shpc``, ``sync``, ``cpu``,
``dimm``, ``other``, or empty where it is unknown); :func:`narrow` tells ccw and spapr from other. Descriptors
handed to a device (``vhostfd``) or its backends are closed with their owner: a device's with its DEVICE_DELETED, a backend's
with its removal.

DEVICE_DELETED comes when QEMU finalizes the device, an RCU grace period after it left (``hw/core/qdev.c``). Under TCG a vCPU that
spins with its interrupts off ends none (``util/rcu.c`` wait_for_readers()): until it is stopped, QEMU holds what has left.

Source: QEMU ``hw/core/qdev-hotplug.c``, ``hw/pci/pcie.c``, ``hw/pci/shpc.c``, ``hw/acpi/{pcihp,cpu,memory_hotplug}.c``,
``hw/s390x/css-bridge.c``, ``hw/ppc/spapr.c``, and what QEMU 7.2 and 10.0 were seen to do.
"""

from __future__ import annotations

import re
from typing import Final, Literal

import msgspec

#: What frees something: the answer to the request, or the event.
Moment = Literal["device_del", "DEVICE_DELETED"]

_EVENT: Final[Moment] = "DEVICE_DELETED"
_PRESENCE: Final = "qom-list /machine/peripheral"


class Policy(msgspec.Struct, frozen=True):
    """The rule of one kind of hotplug.

    ``id``, ``place``, ``backends``: what frees them. ``settled_by`` is the query that tells when the event
    does not come, ``silent`` who does not send it. ``again`` is what a second request does while one is
    pending: ``join`` (do not send it, wait with the first), ``repeat`` (send it; after ``again_after``
    milliseconds of *virtual* clock, which stands still while the vCPUs do) or ``refused`` (by QEMU, as it is gone);
    ``why`` says why. ``reset`` says what becomes of a pending request. ``refusals`` are the events by which a guest says no.
    """

    kind: str
    id: Moment
    place: Moment
    backends: Moment
    again: Literal["join", "repeat", "refused"]
    why: str
    reset: Literal["completes", "forgets", "open", "nothing pending"]
    ref: str
    again_after: int = 0
    refusals: tuple[str, ...] = ()
    settled_by: str = _PRESENCE
    silent: str = ""


_OST: Final = ("ACPI_DEVICE_OST",)
_GONE: Final = "the device has left with the first answer: DeviceNotFound"

_POLICIES: Final = (
    Policy(
        "pcie",
        _EVENT,
        _EVENT,
        _EVENT,
        again="repeat",
        again_after=5000,
        why="refused within 5 s of virtual clock, taken as a new press of the button after; a guest that did not"
        " listen has lost the first",
        reset="forgets",
        ref="hw/pci/pcie.c pcie_cap_slot_unplug_request_cb(), system/qdev-monitor.c qmp_device_del()",
    ),
    Policy(
        "acpi",
        _EVENT,
        _EVENT,
        _EVENT,
        again="repeat",
        why="a request before the guest listens is lost; one asked for while the virtual clock stood at 0 refuses repeats"
        " until a reset",
        reset="completes",
        ref="hw/acpi/pcihp.c acpi_pcihp_device_unplug_request_cb(), acpi_pcihp_reset()",
    ),
    Policy(
        "sync",
        "device_del",
        "device_del",
        _EVENT,
        again="refused",
        why=_GONE,
        reset="nothing pending",
        ref="hw/core/qdev-hotplug.c, system/qdev-monitor.c qdev_unplug()",
    ),
    Policy(
        "cpu",
        _EVENT,
        _EVENT,
        _EVENT,
        again="repeat",
        why="QEMU notes the same request once more; the guest may have refused the first or not listened",
        reset="forgets",
        ref="hw/acpi/cpu.c acpi_cpu_unplug_request_cb()",
        refusals=_OST,
        settled_by="query-hotpluggable-cpus",
        silent="TCG: only the event of its child ID/lapic comes, never its own",
    ),
    Policy(
        "dimm",
        _EVENT,
        _EVENT,
        _EVENT,
        again="join",
        why="a request that comes after the guest took the first ejects the next DIMM put in that slot",
        reset="forgets",
        ref="hw/acpi/memory_hotplug.c acpi_memory_unplug_request_cb()",
        refusals=_OST,
        settled_by="query-memory-devices",
    ),
    Policy(
        "shpc",
        _EVENT,
        _EVENT,
        _EVENT,
        again="join",
        why="a second press of the button within the guest's 5 s takes the first back",
        reset="forgets",
        ref="hw/pci/shpc.c shpc_device_unplug_request_cb(), shpc_reset()",
    ),
    Policy(
        "ccw",
        "device_del",
        "device_del",
        _EVENT,
        again="refused",
        why=_GONE,
        reset="nothing pending",
        ref="hw/s390x/css-bridge.c ccw_device_unplug()",
    ),
    Policy(
        "spapr",
        _EVENT,
        _EVENT,
        _EVENT,
        again="join",
        why="QEMU refuses a second request for memory, and the first stays in force",
        reset="open",
        ref="hw/ppc/spapr.c spapr_machine_device_unplug_request(), hw/ppc/spapr_drc.c",
        refusals=("DEVICE_UNPLUG_GUEST_ERROR", "MEM_UNPLUG_ERROR"),
    ),
    Policy(
        "other",
        _EVENT,
        _EVENT,
        _EVENT,
        again="join",
        why="not known to be safe to repeat",
        reset="open",
        ref="qapi/qdev.json device_del",
        refusals=("DEVICE_UNPLUG_GUEST_ERROR", "MEM_UNPLUG_ERROR"),
    ),
)

#: Kind -> its rule.
POLICIES: Final = {policy.kind: policy for policy in _POLICIES}

#: Drivers whose devices go at once with ``device_del`` (hw/core/qdev.c qdev_unplug(): no unplug_request handler).
_SYNC: Final = re.compile(
    r"scsi-|usb-(?!ehci|uhci|ohci|xhci)|virtserialport$|virtconsole$|emulated$|u2f-|ccid-card-|passthru$"
)
#: Ports and bridges with native PCIe hotplug (hw/pci-bridge/).
PORTS: Final = ("pcie-root-port", "ioh3420", "xio3130-downstream")
#: Bridges to conventional PCI.
BRIDGES: Final = ("pci-bridge", "pcie-pci-bridge", "i82801b11-bridge")


def policy(kind: str) -> Policy:
    """Return the rule of a kind; of one nobody knows (or empty), the rule that assumes least."""
    return POLICIES.get(kind, POLICIES["other"])


def kind(driver: str, machine_type: str | None, parent_driver: str = "", *, acpi_off: bool = False) -> str:
    """Return the kind of hotplug of a device, or an empty text where it cannot be told.

    ``machine_type`` is that of ``-machine`` (empty: QEMU's default), None if the command line is unknown; ``parent_driver`` is the
    driver of the device that provides its bus, empty if unknown. ``acpi_off``: started without ACPI hotplug on bridges.
    """
    if not driver:
        return ""
    if driver.endswith(("-cpu", "-cpu-core")):
        return "cpu"
    if driver in ("pc-dimm", "nvdimm"):
        return "other" if machine_type is not None and machine_type.startswith("pseries") else "dimm"
    if _SYNC.match(driver):
        return "sync"
    if driver.endswith("-ccw") or (machine_type is not None and machine_type.startswith(("pseries", "s390"))):
        return "other"
    return "" if machine_type is None else _pci_kind(machine_type, parent_driver, acpi_off=acpi_off)


def narrow(
    driver: str, machine_type: str | None, parent_driver: str = "", *, acpi_off: bool = False
) -> Policy:
    """Return the narrowest rule for a device; arguments as of :func:`kind`."""
    name = kind(driver, machine_type, parent_driver, acpi_off=acpi_off)
    if name != "other":
        return policy(name)
    if driver.endswith("-ccw"):
        return POLICIES["ccw"]
    if machine_type is not None and machine_type.startswith("pseries"):
        return POLICIES["spapr"]
    return POLICIES["other"]


def is_pc(machine_type: str) -> bool:
    """Tell whether a machine is i440fx, which is QEMU's default on x86."""
    return machine_type in ("", "pc") or machine_type.startswith("pc-i440fx")


def _pci_kind(machine_type: str, parent: str, *, acpi_off: bool) -> str:
    if is_pc(machine_type):
        return "shpc" if acpi_off and parent in BRIDGES else "acpi"
    if "q35" in machine_type:
        old = re.fullmatch(r"pc-q35-(\d+)\.(\d+).*", machine_type)
        if not acpi_off and (old is None or (int(old[1]), int(old[2])) >= (6, 1)):
            return "acpi"
        if parent in BRIDGES:
            return "shpc"
        return "pcie" if parent in PORTS or not parent else "other"
    if parent in PORTS:
        return "pcie"
    return "shpc" if parent in BRIDGES else ""
