"""The guards of the tables: what must be possible for a row to be taken.

The facts so far say of every guard that it holds, that it does not, or leave it open. Two bits keep that:
``may`` (it may hold) and ``maynot`` (it may not). All guards together make one integer, the *profile*, so
that a row's whole condition is one mask and setting a guard is one *and* and one *or*.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

#: Every guard and its sentence. Order gives the bits.
GUARDS: Final = {
    # Commands in flight (sent by whoever this log records, not answered yet)
    "stop-sent": "a `stop` is unanswered",
    "asked": "a `query-status` is unanswered, and may meet a state that is entered and not announced yet",
    "wakeup-sent": "a `system_wakeup` is unanswered",
    "woken": "a `system_wakeup` was done, or is on its way, and its WAKEUP has not come",
    "anything-sent": "a command that may do anything to the VM is unanswered (HMP passthrough, unknown command)",
    # Causes that QEMU announces before the STOP they lead to
    "io-error": "BLOCK_IO_ERROR with action `stop`, or one held back by QEMU's rate limit",
    "watchdog": "WATCHDOG with action `pause`, or one held back by QEMU's rate limit",
    "panic": "GUEST_PANICKED with action `pause`",
    "shutdown-pauses": "SHUTDOWN was sent and shutting down pauses the VM (-no-shutdown, -action shutdown=pause)",
    "ending": "SHUTDOWN was sent and the process is about to exit",
    # Jobs and migration
    "saving": "the VM's state is being saved (snapshot-save, savevm, dump-guest-memory)",
    "loading": "the VM's state is being loaded (snapshot-load, loadvm)",
    "migrate-sent": "a `migrate` was answered, or MIGRATION told of one: a status is not only a snapshot's",
    "begun": "a `migrate` was answered, and that migration has not ended",
    "outgoing": "an outgoing migration is under way",
    "switchover": "an outgoing migration may already have stopped the VM",
    "postcopy": "the migration is in postcopy: 7.2 forgets that the VM ran before it",
    "background": "migrating saves a snapshot of a VM that runs on (capability `background-snapshot`)",
    "colo": "COLO replication may be on (migration status `colo`)",
    "migration-events": "QEMU sends MIGRATION events (capability `events`)",
    "reset-meanwhile": "the machine was reset while the outgoing migration was under way",
    "incoming": "QEMU waits for an incoming migration or loads one",
    # How it was launched
    "new": "nothing but the negotiation has been asked yet",
    "starting": "QEMU has not answered its first command yet",
    "deferred": "the incoming migration waits for `migrate-incoming` (-incoming defer)",
    "autostart": "the VM starts by itself (no -S, and no `stop` since)",
    "sleeps": "the machine offers its guest S3 (no disable_s3 on the command line)",
    "others": "another monitor than ours can act on this VM (HMP console, second QMP socket)",
    "debugger": "a debugger can stop the VM (gdbstub)",
    "kvm": "an accelerator that can report an internal error is in use",
    # Run state, as other machines see it
    "vcpus-run": "the vCPUs run",
    # The kind of hotplug a device has
    "pcie": "native PCIe hotplug (pcie-root-port, with ACPI hotplug off)",
    "acpi": "ACPI PCI hotplug (i440fx, and q35's ports by default)",
    "shpc": "a slot behind the hotplug controller of a PCI bridge (pci-bridge, pcie-pci-bridge, with ACPI hotplug off)",
    "sync": "a bus whose devices go at once (SCSI, USB, virtio-serial)",
    "cpu": "a vCPU",
    "dimm": "a memory device in a DIMM slot",
    "other": "any other kind (ccw, pseries, ...)",
    "failover": "the primary of a failover pair: kept hidden until the guest negotiates",
    "raced": "DEVICE_DELETED came while a `device_del` of this device was unanswered",
}

_BIT: Final = {name: 2 * i for i, name in enumerate(GUARDS)}

#: The guards that describe one device rather than the VM.
DEVICE_KINDS: Final = ("pcie", "acpi", "shpc", "sync", "cpu", "dimm", "other")


def may(name: str) -> int:
    """Return the bit that says the guard may hold."""
    return 1 << _BIT[name]


def maynot(name: str) -> int:
    """Return the bit that says the guard may not hold."""
    return 2 << _BIT[name]


def mask(when: Iterable[str]) -> int:
    """Return the bits a row with these guards asks for; ``!name`` asks for the opposite."""
    bits = 0
    for guard in when:
        bits |= maynot(guard[1:]) if guard.startswith("!") else may(guard)
    return bits


def opposite(needed: int) -> int:
    """Return, for the bits a row asks for, the bits that say the contrary."""
    return (needed & _MAYS) << 1 | (needed >> 1) & _MAYS


_MAYS: Final = sum(1 << bit for bit in _BIT.values())


def clear_mask(names: Iterable[str]) -> int:
    """Return the *and* mask that forgets these guards, before :func:`held`, :func:`denied`, :func:`open_` set them."""
    bits = 0
    for name in names:
        bits |= 3 << _BIT[name]
    return ~bits


def held(*names: str) -> int:
    """Return the bits of guards that certainly hold."""
    return sum(may(name) for name in names)


def denied(*names: str) -> int:
    """Return the bits of guards that certainly do not hold."""
    return sum(maynot(name) for name in names)


def open_(*names: str) -> int:
    """Return the bits of guards that may hold or not."""
    return sum(may(name) | maynot(name) for name in names)


def names(profile: int, wanted: Iterable[str] = GUARDS) -> dict[str, bool | None]:
    """Read a profile back: guard -> True, False, or None where it is open."""
    values: dict[int, bool | None] = {1: True, 2: False, 3: None, 0: None}
    return {name: values[profile >> _BIT[name] & 3] for name in wanted}
