"""QEMU's options: which take an argument, and in which form they read it.

An argument has one of five forms. Which form an option has decides how a value is written and read
(:mod:`qemustate.hardware.cmdline`):

* no argument at all (:data:`FLAGS`);
* JSON, since a version of QEMU that differs by option (:data:`JSON_SINCE`), else one of the next two;
* ``key=value`` read by QemuOpts (QEMU ``util/qemu-option.c``): flat, a key may come more than once;
* ``key=value`` read by keyval (QEMU ``util/keyval.c``): keys are paths, ``file.driver=...`` (:data:`NESTED`);
* plain text, used as it is (:data:`PLAIN`).

Sources: QEMU ``qemu-options.hx`` for names and arguments, ``system/vl.c`` and the ``implied_opt_name`` of each
QemuOptsList for the first key. Names are the union over all targets, from QEMU 5.0 to 10.0.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Options without an argument.
FLAGS: Final = _names(
    """
    S async-teardown audio-help curses daemonize enable-fips enable-kvm enable-sync-profile full-screen h help
    jitdump mem-prealloc no-acpi no-fd-bootchk no-hpet no-reboot no-shutdown no-user-config nodefaults nographic
    nouserconfig old-param only-migratable perfmap portrait preconfig s semihosting singlestep snapshot usb
    version win2k-hack xen-attach xen-domid-restrict
    """
)

#: Options whose argument is used as it is.
PLAIN: Final = _names(
    """
    D L alt-grab append balloon bios bt cdrom chroot d debugcon dfilter dtb dump-vmstate echr fda fdb g gdb hda
    hdb hdc hdd incoming initrd k kernel loadvm mem-path monitor mtdblock parallel pflash pidfile prom-env qmp
    qmp-pretty qtest qtest-log readconfig rotate runas sd seed serial set shim soundhw tb-size usbdevice user uuid
    vga watchdog watchdog-action writeconfig xen-domid
    """
)

#: Options of ``key=value``, and the key that the first value may leave out (empty: none may).
KEYED: Final[dict[str, str]] = {
    "accel": "accel",
    "acpitable": "",
    "action": "",
    "add-fd": "",
    "audio": "driver",
    "audiodev": "driver",
    "blockdev": "driver",
    "boot": "order",
    "chardev": "backend",
    "compat": "",
    "cpu": "model",
    "device": "driver",
    "display": "type",
    "drive": "",
    "fsdev": "fsdriver",
    "fw_cfg": "name",
    "global": "",
    "icount": "shift",
    "iscsi": "",
    "m": "size",
    "machine": "type",
    "mon": "chardev",
    "msg": "",
    "name": "guest",
    "net": "type",
    "netdev": "type",
    "nic": "type",
    "numa": "type",
    "object": "qom-type",
    "option-rom": "romfile",
    "overcommit": "",
    "plugin": "file",
    "realtime": "",
    "rtc": "",
    "run-with": "",
    "sandbox": "enable",
    "semihosting-config": "enable",
    "smbios": "",
    "smp": "cpus",
    "spice": "",
    "tpmdev": "type",
    "trace": "enable",
    "virtfs": "fsdriver",
    "vnc": "vnc",
}

#: The version from which on an option is better written as JSON. ``-device`` takes it since 6.2, where a device
#: that came so could not be unplugged (fixed in 7.0).
JSON_SINCE: Final[dict[str, tuple[int, int]]] = {
    "blockdev": (2, 9),
    "object": (6, 0),
    "device": (7, 0),
    "netdev": (7, 2),
}

#: Options that read JSON as well, though they are written as ``key=value``.
JSON_READ: Final = frozenset({*JSON_SINCE, "audiodev", "compat", "display"})

#: Options whose keys are paths: ``file.driver=...``.
NESTED: Final = frozenset({"audiodev", "blockdev", "compat", "display", "machine", "netdev"})

#: Options in which a key that comes more than once makes a list; in the others the last one counts.
LISTS: Final = frozenset({"net", "netdev", "nic", "numa", "object", "smbios", "spice"})

#: Options that are given once for each thing; the others set something, and the last one counts, or all merge.
REPEATED: Final = _names(
    """
    accel acpitable add-fd audiodev blockdev chardev debugcon device drive fsdev fw_cfg global iscsi L mon
    monitor mtdblock net netdev nic numa object option-rom parallel pflash plugin prom-env qmp qmp-pretty
    readconfig sd serial set smbios spice tpmdev trace usbdevice virtfs vnc
    """
)

#: Every name there is.
NAMES: Final = FLAGS | PLAIN | KEYED.keys()

#: Other spellings of one option.
_SAME: Final = {"M": "machine"}


@lru_cache(maxsize=4096)
def name_of(word: str) -> str:
    """Return the name of the option that a word of a command line is: ``--M`` is ``machine``."""
    name = word[2:] if word.startswith("--") else word[1:]
    return _SAME.get(name, name)
