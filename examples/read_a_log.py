"""What happened to a VM, according to a log that somebody else has written: libvirt's, Kata's, QEMU's own trace, ...

    python examples/read_a_log.py LOG [ID ...]

Nothing has to be converted, and nothing of the runtime that wrote it is touched. Without an ID the lives of devices are
told that did not stay as they were.
"""

import sys

import qemustate


def main(log: str, *wanted: str) -> None:
    """Print, for each VM in the log, its state, the lives of its devices, and what the rules find."""
    for vm in qemustate.replay(log):
        print(f"{vm.name}: {vm.seq} records", *(f"no {what}" for what in vm.lacks), sep=", ")
        print(f"  run state: {' or '.join(vm.state['runstate']['possible'])}")
        for name in wanted or [name for name, device in vm.devices.items() if device["is"] != "present"]:
            life = vm.explain(name)
            print(f"  {name}:", *(step.line for step in life.steps), *life.state, sep="\n  ")
            for missing in life.missing:
                print(f"    still missing: {missing}")
        for finding in vm.findings:
            print(f"  {finding.severity} at {finding.seq}: {finding.message}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python read_a_log.py LOG [ID ...]")
    main(*sys.argv[1:])
