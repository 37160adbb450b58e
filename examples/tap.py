"""A tap under a runtime that stays as it is: all that it says to QEMU is on record, and what that came to.

    python examples/tap.py FOLDER [QEMU]

The runtime is given another path to connect to; that is the whole change.
"""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import qemustate


def runtime(path: Path) -> None:
    """Your runtime: a QMP client that knows nothing of us."""
    with socket.socket(socket.AF_UNIX) as monitor:
        while monitor.connect_ex(str(path)):
            time.sleep(0.05)
        lines = monitor.makefile("rw", encoding="utf-8")
        lines.readline()  # the greeting
        tablet = {"driver": "usb-tablet", "id": "tablet", "bus": "usb.0"}
        for command, arguments in (
            ("qmp_capabilities", {}), ("device_add", tablet), ("device_add", tablet), ("device_del", {"id": "tablet"}), ("quit", {}),
        ):  # fmt: skip
            lines.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
            lines.flush()
            while not {"return", "error"} & json.loads(lines.readline()).keys():
                pass  # an event


def main(folder: str, qemu: str = "qemu-system-x86_64") -> None:
    """Start a QEMU as the runtime would, a tap before its monitor, and the runtime; then read what the tap recorded."""
    place = Path(folder)
    vm = subprocess.Popen(
        [qemu, "-accel", "tcg", "-M", "q35", "-S", "-display", "none", "-nodefaults", "-device", "qemu-xhci,id=usb",
         "-qmp", f"unix:{place}/qemu.sock,server=on,wait=off"]
    )  # fmt: skip
    tap = subprocess.Popen(
        [Path(sys.executable).with_name("qemustate"), "tap", "--log", place / "vm.log",
         "--connect", place / "qemu.sock", "--listen", place / "qmp.sock"]
    )  # fmt: skip
    runtime(place / "qmp.sock")
    vm.wait()
    tap.wait()

    [seen] = qemustate.replay(str(place / "vm.log"))
    print(*(step.line for step in seen.explain("tablet").steps), sep="\n")
    print(*(f"{finding.severity}: {finding.message}" for finding in seen.findings), sep="\n")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python tap.py FOLDER [QEMU]")
    main(*sys.argv[1:])
