"""The places of a simulated QEMU's buses: who may go where, and ``info qtree``.

A device says its place or is given the first that is free, and is refused one that is taken, in QEMU's words.
"""

#: Kind of bus -> the properties that say a place on it, its places in the order in which QEMU gives them, what it says of one that is taken.
BUSES = {
    "pci": (("addr",), [(f"{slot:x}",) for slot in range(1, 31)], "PCI: slot {0} function 0 not available for {driver}, in use by {user}"),
    "port": (("addr",), [(f"{slot:x}",) for slot in range(32)], "PCI: slot {0} function 0 not available for {driver}, in use by {user}"),
    "scsi": (("channel", "scsi-id", "lun"), [(0, target, 0) for target in range(256)], "lun already used by '{user}'"),
    "usb": (("port",), [(str(port),) for port in range(1, 5)], "usb port {0} (bus {bus}) not found (in use?)"),
    "serial": (("nr",), [(number,) for number in range(1, 31)], "A port already exists at id {0}"),
    "memory": (("slot",), [(slot,) for slot in range(2)], "slot {0} is busy"),
}  # fmt: skip
#: Driver -> the bus that it provides, and its kind.
PROVIDES = {
    "pcie-root-port": ("{0}", "port"),
    "virtio-scsi-pci": ("{0}.0", "scsi"),
    "qemu-xhci": ("{0}.0", "usb"),
    "virtio-serial-pci": ("{0}.0", "serial"),
}
#: The machine's own devices, by their ``addr``.
OWN = (("mch", "00.0"), ("ICH9-LPC", "1f.0"), ("ich9-ahci", "1f.2"), ("ICH9-SMB", "1f.3"))


class Taken(Exception):
    """No place is left on a bus, or not the one that was asked for."""


def seat(driver, arguments, others, version):
    """Return the bus of a device and the properties that say its place there, beside all the others. Raises Taken."""
    bus = "" if driver == "pc-dimm" else arguments.get("bus", "pcie.0")
    kinds = {made: kind for it in others for made, kind in provided(it)}
    kind = "memory" if driver == "pc-dimm" else kinds.get(bus, "pci")
    keys, places, refusal = BUSES[kind]
    taken = {
        place: it.name for it in others if it.bus == bus for place in [tuple(it.said[key] for key in keys)]
    }
    wish = tuple(arguments[key] for key in keys if key in arguments)
    if kind == "scsi" and wish:
        wish = (arguments.get("channel", 0), arguments["scsi-id"], arguments.get("lun", 0))
    if kind == "port" and taken and version >= (10,):  # 7.2 takes a second one
        raise Taken(f"PCI: slot 0 function 0 already occupied, new func {driver} cannot be exposed to guest.")
    place = wish or next((it for it in places if it not in taken), None)
    if place is None or place in taken:
        shown = place or ("0",)
        raise Taken(refusal.format(*shown, driver=driver, bus=bus, user=taken.get(place, "")))
    return bus, dict(zip(keys, place, strict=True))


def provided(device):
    """Return the buses that a device provides, each with its kind."""
    found = PROVIDES.get(device.driver)
    return [(found[0].format(device.name), found[1])] if found else []


def qtree(devices):
    """Return what ``info qtree`` says of these devices."""
    lines = ["bus: main-system-bus", '  dev: q35-pcihost, id ""', "    bus: pcie.0"]
    for driver, addr in OWN:
        lines += [f'      dev: {driver}, id ""', f"        addr = {addr}"]
    return "\r\n".join([*lines, *_on("pcie.0", devices, " " * 6)]) + "\r\n"


def _on(bus, devices, space):
    for it in devices:
        if it.bus != bus:
            continue
        yield f'{space}dev: {it.driver}, id "{it.name}"'
        for key, value in it.said.items():
            if key == "addr":
                yield f"{space}  addr = {int(value, 16):02x}.0"
            elif key == "port":
                yield f"{space}  addr 0.0, port {value}, speed 480, name QEMU USB Tablet, attached"
            else:
                yield f"{space}  {key} = {value} ({value:#x})"
        for made, _ in provided(it):
            yield f"{space}  bus: {made}"
            yield from _on(made, devices, f"{space}    ")
