"""What a command line says about how a VM starts and how its devices leave."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qemustate.statemachine import guards, launch


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        ([], {"autostart": True, "incoming": False, "debugger": False, "kvm": None}),
        (["-S"], {"autostart": False}),
        (["-incoming", "defer"], {"incoming": True}),
        (["-s"], {"debugger": True}),
        (["-gdb", "tcp::1234"], {"debugger": True}),
        (["-accel", "tcg"], {"kvm": False}),
        (["-accel", "kvm"], {"kvm": True}),
        (["-enable-kvm"], {"kvm": True}),
        (["-M", "q35,accel=tcg"], {"kvm": False}),
        (["-nodefaults", "-qmp", "unix:/a,server=on"], {"others": False}),
        (["-qmp", "unix:/a,server=on"], {"others": True}),
        (["-nodefaults", "-qmp", "unix:/a", "-mon", "chardev=c,mode=control"], {"others": True}),
        (["-monitor", "none", "-qmp", "unix:/a"], {"others": False}),
        (["--S"], {"autostart": False}),
        ([], {"sleeps": True}),
        (["-global", "ICH9-LPC.disable_s3=1"], {"sleeps": False}),
        (["-global", "PIIX4_PM.disable_s3=1"], {"sleeps": False}),
        (["-global", "ICH9-LPC.disable_s3=0"], {"sleeps": True}),
    ],
)
def test_guards_of_the_launch(argv, wanted):
    """Each option that a guard looks at sets it, and nothing else does."""
    profile = launch.read(("qemu-system-x86_64", *argv)).profile()

    assert {name: guards.names(profile)[name] for name in wanted} == wanted


@pytest.mark.parametrize(
    ("argv", "pauses"),
    [
        ([], False),
        (["-no-shutdown"], True),
        (["-action", "shutdown=pause"], True),
        (["-action", "panic=pause"], False),
        (["-no-shutdown", "-action", "panic=pause"], True),
        (["-no-shutdown", "-action", "shutdown=poweroff"], False),
        (["-readconfig", "f"], None),
    ],
)
def test_what_a_shutdown_does(argv, pauses):
    """-no-shutdown and -action say whether SHUTDOWN ends the process or pauses the VM."""
    assert launch.read(("qemu", *argv)).shutdown_pauses is pauses


def test_devices_in_both_spellings():
    """-device is read as key=value, with ,, for a comma, and as JSON."""
    found = launch.read(
        (
            "qemu",
            "-device",
            "virtio-blk-pci,id=vd0,bus=rp0,serial=a,,b",
            "-device",
            '{"driver": "virtio-net-pci", "id": "n0", "mq": true}',
        )
    ).devices

    assert [(d.driver, d.id, d.bus) for d in found] == [
        ("virtio-blk-pci", "vd0", "rp0"),
        ("virtio-net-pci", "n0", ""),
    ]
    assert found[0].properties["serial"] == "a,b"
    assert found[1].properties["mq"] is True


def test_backends_are_named():
    """-blockdev, -netdev, -chardev and -object name what is there from the start."""
    found = launch.read(
        ("qemu", "-blockdev", '{"driver": "null-co", "node-name": "n0"}', "-netdev", "user,id=net0", "-chardev", "socket,id=c0,path=/a",
         "-object", "memory-backend-ram,id=m0,size=1G", "-object", '{"qom-type": "iothread", "id": "io0"}')
    ).backends  # fmt: skip

    assert found == (
        ("node", "n0"),
        ("netdev", "net0"),
        ("chardev", "c0"),
        ("object", "m0"),
        ("object", "io0"),
    )


@pytest.mark.parametrize(
    ("machine", "driver", "bus", "kind"),
    [
        (["-M", "q35"], "virtio-blk-pci", "rp0", "acpi"),
        (["-M", "pc-q35-6.0"], "virtio-blk-pci", "rp0", "pcie"),
        (["-M", "pc-q35-7.2"], "virtio-blk-pci", "rp0", "acpi"),
        (
            ["-M", "q35", "-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"],
            "virtio-blk-pci",
            "rp0",
            "pcie",
        ),
        (["-M", "pc"], "e1000", "pci.0", "acpi"),
        ([], "e1000", "", "acpi"),
        (["-M", "pc"], "e1000", "b0", "acpi"),
        (["-M", "pc,acpi=off"], "e1000", "b0", "shpc"),
        (["-M", "virt"], "virtio-blk-pci", "rp0", "pcie"),
        (["-M", "q35"], "usb-tablet", "xhci.0", "sync"),
        (["-M", "q35"], "usb-ehci", "rp0", "acpi"),
        (["-M", "q35"], "scsi-hd", "scsi0.0", "sync"),
        (["-M", "q35"], "virtserialport", "vs0.0", "sync"),
        (["-M", "q35"], "virtio-scsi-pci", "rp0", "acpi"),
        (["-M", "q35"], "max-x86_64-cpu", "", "cpu"),
        (["-M", "q35"], "pc-dimm", "", "dimm"),
        (["-M", "s390-ccw-virtio"], "virtio-blk-ccw", "", "other"),
        (["-M", "pseries"], "pc-dimm", "", "other"),
    ],
)
def test_the_rule_of_a_bus(machine, driver, bus, kind):
    """Machine, driver and bus say which kind of unplug a device has."""
    known = launch.read(("qemu", *machine))
    profile = launch.hotplug_kind(driver, known, {"rp0": "pcie-root-port", "b0": "pci-bridge"}.get(bus, ""))

    assert [k for k in guards.DEVICE_KINDS if guards.names(profile)[k]] == [kind]


def test_an_unknown_machine_leaves_the_rule_open():
    """Without the command line any rule may be a PCI device's."""
    profile = launch.hotplug_kind("virtio-blk-pci", None, "")

    assert all(guards.names(profile)[k] is None for k in guards.DEVICE_KINDS)


@given(st.lists(st.text(max_size=30), max_size=8))
def test_any_command_line_is_read(argv):
    """No command line at all is an error: it is somebody else's."""
    launch.read(tuple(argv))


@pytest.mark.parametrize(
    "argv",
    [
        ["-device", '{"driver": '],
        ["-blockdev", "{}}"],
        ["-object", "{'qom-type'"],
        ["-machine"],
        ["-action"],
        ["-device"],
    ],
)
def test_broken_arguments_say_nothing(argv):
    """An argument that is cut off or no JSON makes no device and no error."""
    found = launch.read(("qemu", "-S", *argv))

    assert [cold.driver for cold in found.devices] in ([], [""])
    assert found.backends == ()


def test_an_option_without_argument_leaves_the_next_word_alone():
    """A disk image after -nographic is no argument of it, and an argument that looks like an option is one."""
    found = launch.read(("qemu", "-nographic", "-S", "-append", "-S", "-enable-kvm", "disk.img"))

    assert (found.autostart, found.kvm) == (False, True)
    assert launch.read(("qemu", "-append", "-S")).autostart


@pytest.mark.parametrize(
    "argument",
    [
        "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off",
        "driver=ICH9-LPC,property=acpi-pci-hotplug-with-bridge-support,value=off",
    ],
)
def test_global_in_both_spellings(argument):
    """The -global that takes ACPI hotplug away is known however it is written."""
    assert launch.read(("qemu", "-global", argument)).acpi_off
