"""A device with an id (or, without one, its QOM path): what hotplug makes of it.

Theory. ``device_add`` answered means the object exists; the guest may not have seen it. ``device_del`` answered means
the request was accepted, never that the device is gone: gone is DEVICE_DELETED for its id. In between
lies the guest, and the rule of its bus:

* **native PCIe** (hw/pci/pcie.c): the guest is told by the attention button and ejects after 5 s. A slot that was
  never powered (plugged while the vCPUs stood still, or into a guest that does not listen) is emptied at once. A reset forgets the request.
* **SHPC** (hw/pci/shpc.c), the controller of a conventional bridge: the same, but a request is never refused.
* **ACPI** (hw/acpi/pcihp.c): the guest ejects when it has handled the event. A reset completes what is pending.
* **SCSI, USB, virtio-serial** (hw/core/qdev.c): the device goes with the command; only the event is late, and the
  id is free before it comes.
* **vCPU, DIMM** (hw/acpi/cpu.c, memory_hotplug.c): as ACPI, but a guest may refuse (ACPI_DEVICE_OST), and a reset
  forgets the request. Under TCG a vCPU's own DEVICE_DELETED never comes, only its local APIC's.

DEVICE_DELETED may come with no request (the guest ejects, a sibling function or the controller goes), and for a
child object first (``ID/virtio-backend``), which shows that the device has left the machine. An id that is used
again before the event of its earlier bearer has come is told apart by counting (see ``DeviceCell``).

While the VM migrates away QEMU refuses ``device_add`` (system/qdev-monitor.c: device_add not allowed while migrating), a hidden
device's excepted.

A reset forgets a request, not its outcome: a device that had left before is gone, and DEVICE_DELETED comes after RESET.
Until then, or until ``qom-list`` tells, a reset leaves both possible.

Hidden states. ``present-off``: in a slot that has no power yet. ``ejected``: left the machine, not announced yet;
shows as ``unplugging``. ``leaving``: certainly left, DEVICE_DELETED still to come; shows as ``gone``.
``hidden``: the primary of a failover pair, kept back until the guest negotiates; shows as ``adding``. QEMU has only
its options: no query lists it, ``device_del`` does not find it, and the same may be added again.
"""

from __future__ import annotations

from typing import Final

from qemustate.statemachine.rows import SILENT, Row, Table, rows

_THERE = "present present-off unplugging"
_ANY = f"{_THERE} planned adding hidden ejected leaving gone"

#: Where an id may be when a new bearer takes it.
_NEW = "adding gone leaving ejected planned"

_DEL = "qapi/qdev.json device_del"
_ADD = "qapi/qdev.json device_add"
_DELETED = "qapi/qdev.json DEVICE_DELETED"
_PCIE = "hw/pci/pcie.c pcie_cap_slot_unplug_request_cb()"
_PCIHP = "hw/acpi/pcihp.c"
_SHPC = "hw/pci/shpc.c"
_HIDDEN = "system/qdev-monitor.c qdev_should_hide_device(): a hidden device has only options"


def _slots(
    trigger: str, source: str, dest: str, *, when: str = "", cause: str, pcie: str, shpc: str
) -> list[Row]:
    """Return the rows of a slot that has power of its own to switch: native PCIe's and SHPC's."""
    return [
        *rows(trigger, source, dest, when=f"pcie {when}", cause=cause, ref=pcie),
        *rows(trigger, source, dest, when=f"shpc {when}", cause=cause, ref=shpc),
    ]


_ROWS: list[Row] = [
    *rows("launched", "gone adding planned", "present", when="!failover", cause="command line", ref="-device"),
    *rows("launched", "gone adding planned", "hidden", when="failover", cause="command line", ref="-device failover_pair_id="),
    *rows("launched", _THERE, "="),
    *rows("planned", "gone", "planned", cause="intent", ref="a record of ours: an intent"),
    *rows("planned", f"{_THERE} planned adding hidden ejected leaving", "=", ref="who leaves is still to be announced, and not the one to come"),
    *rows("plan ended", "planned", "gone", ref="a record of ours: the intent is over"),
    *rows("plan ended", _ANY.replace(" planned ", " "), "="),
    # --- plug
    *rows("execute device_add", "gone planned", "adding", cause="device_add", ref=_ADD),
    *rows("execute device_add", f"{_THERE} adding hidden ejected leaving", "=", ref="the id may still be taken"),
    *_slots("return device_add", _NEW, "present-off", when="!vcpus-run !failover !outgoing", cause="device_add", pcie=_PCIE, shpc=f"{_SHPC} shpc_device_plug_cb()"),
    *_slots("return device_add", _NEW, "present", when="vcpus-run !failover !outgoing", cause="device_add", pcie=_ADD, shpc=_ADD),
    *rows("return device_add", _NEW, "present", when="!pcie !shpc !failover !outgoing", cause="device_add", ref=_ADD),
    *rows("return device_add", f"{_NEW} hidden", "hidden", when="failover", cause="device_add", ref=_HIDDEN),
    *rows("return device_add", "hidden", "present", when="!failover", cause="device_add", ref="the guest negotiated unseen"),
    *rows("return device_add", "unplugging", "present", cause="device_add", ref="the earlier device was gone, or the id would have been refused"),
    *rows("error device_add", "adding planned", "gone", cause="refused", ref=_ADD),
    *rows("error device_add", f"{_THERE} hidden ejected leaving gone", "=", ref="the bearer of the id stays"),
    *rows("error device_add:duplicate", f"{_THERE} hidden", "=", ref="Duplicate device ID, Duplicate ID"),
    *rows("error device_add:duplicate", "adding", "present", ref="the id is taken, so its bearer is there"),
    *rows("negotiated", "hidden", "present", cause="guest", ref="qapi/net.json FAILOVER_NEGOTIATED"),
    *rows("negotiated", f"{_THERE} planned adding ejected leaving gone", "="),
    *rows("RESUME", "present-off", "present", cause="resumed", ref=_PCIE),
    *rows("RESUME", "present unplugging planned adding hidden ejected leaving gone", "="),
    # --- unplug
    *rows("execute device_del", _ANY, "=", ref=_DEL),
    *rows("return device_del", "present", "unplugging", when="!sync", cause="device_del", ref=_DEL),
    *_slots("return device_del", "present-off", "leaving", cause="device_del", pcie=_PCIE, shpc=f"{_SHPC} shpc_device_unplug_request_cb()"),
    *rows("return device_del", "present-off", "unplugging", when="!pcie !shpc", cause="device_del", ref=_DEL),
    *rows("return device_del", "present present-off", "leaving", when="sync", cause="device_del", ref="hw/core/qdev.c qdev_unplug()"),
    *rows("return device_del", "unplugging", "=", ref="asked again"),
    *rows("return device_del", "gone leaving", "=", when="raced", ref="hw/core/qdev.c: another thread may send DEVICE_DELETED before the answer is sent"),
    *rows("error device_del:not-found", "leaving gone adding hidden planned", "=", ref=f"DeviceNotFound; {_HIDDEN}"),
    *rows("error device_del:not-found", "unplugging ejected", "leaving", cause="DeviceNotFound", ref="DeviceNotFound: it has left the machine"),
    *rows("error device_del:pending", "unplugging present", "=", ref="is already in the process of unplug"),
    *rows("error device_del:busy", "present present-off unplugging", "=", ref="guest is busy (power indicator blinking)"),
    *rows("error device_del", _ANY, "=", ref=_DEL),
    # --- gone
    *rows("DEVICE_DELETED", f"{_THERE} ejected leaving hidden", "gone", cause="DEVICE_DELETED", ref=_DELETED),
    *rows("DEVICE_DELETED", "adding", "adding gone", ref="a device that failed to realize"),
    *rows("DEVICE_DELETED child", f"{_THERE} ejected leaving", "leaving", cause="DEVICE_DELETED", assume="child-means-parent", ref=_DELETED),
    *rows("DEVICE_DELETED child", "adding planned hidden gone", "=", ref="children of a device that failed to realize"),
    *rows(SILENT, "unplugging", "ejected", assume="announced", ref="hw/core/qdev.c device_unparent(): DEVICE_DELETED comes from device_finalize()"),
    # --- refused
    *rows("refused", "unplugging present", "present", cause="guest refused", ref="DEVICE_UNPLUG_GUEST_ERROR, MEM_UNPLUG_ERROR, ACPI_DEVICE_OST"),
    *rows("refused", "present-off planned adding hidden leaving gone", "="),
    # --- reset
    *rows("RESET", "unplugging", "leaving", when="acpi", cause="reset", ref=f"{_PCIHP} acpi_pcihp_reset()"),
    *_slots("RESET", "unplugging", "present", cause="reset", pcie="hw/pci/pcie.c pcie_cap_slot_reset()", shpc=f"{_SHPC} shpc_reset()"),
    *rows("RESET", "unplugging", "present", when="cpu", cause="reset", ref="hw/acpi/cpu.c"),
    *rows("RESET", "unplugging", "present", when="dimm", cause="reset", ref="hw/acpi/memory_hotplug.c"),
    *rows("RESET", "unplugging", "present leaving unplugging", when="other", cause="reset", ref="hw/ppc/spapr_drc.c, hw/s390x: each its own rule"),
    *rows("RESET", "ejected", "leaving", cause="reset", ref="hw/core/qdev.c device_unparent(): it has left its bus, and a reset brings nothing back"),
    *rows("RESET", "present-off", "present", cause="reset", ref="hw/pci/pcie.c pcie_cap_slot_reset(), hw/pci/shpc.c shpc_reset(): occupied slots get power"),
    *rows("RESET", "present planned adding hidden leaving gone", "="),
    # --- told by a query
    *rows("not listed", "ejected", "leaving", cause="query", ref="qom-list /machine/peripheral"),
    *rows("not listed", "gone leaving hidden planned adding", "="),
    # --- unknown
    *rows("unanswered device_add", "adding planned", "gone present", ref="the answer will not come"),
    *rows("unanswered device_add", f"{_THERE} hidden", "="),
    *rows("unanswered device_add", "ejected leaving gone", "= present", ref="the id was free, or became so; the answer will not come"),
    *rows("unanswered device_del", "present present-off", "= unplugging leaving", when="!sync", ref="the answer will not come"),
    *rows("unanswered device_del", "present present-off", "= leaving", when="sync", ref="the answer will not come"),
    *rows("unanswered device_del", "unplugging planned adding hidden ejected leaving gone", "="),
]  # fmt: skip

TABLE: Final = Table(
    name="device",
    states=(
        "planned",
        "adding",
        "present",
        "unplugging",
        "gone",
        "present-off",
        "ejected",
        "leaving",
        "hidden",
    ),
    initial="gone",
    rows=tuple(_ROWS),
    shows={"present-off": "present", "ejected": "unplugging", "leaving": "gone", "hidden": "adding"},
)

#: Internal states in which QOM has the device; ``qom-list`` and ``device-list-*`` show these.
IN_QOM: Final = ("present", "present-off", "unplugging")
#: Internal states in which QOM does not.
NOT_IN_QOM: Final = ("gone", "leaving", "ejected", "hidden", "planned", "adding")
#: Internal states in which its DEVICE_DELETED may still be due, though the id is free or soon will be.
GOING: Final = ("leaving", "unplugging", "ejected")
#: Internal states that RESUME or RESET may change; in the others those rows stay.
RESTLESS: Final = ("present-off", "unplugging", "ejected")
