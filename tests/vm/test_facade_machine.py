"""A VM driven at random: whatever is asked of it, and however often it is let go of and dies, the belief holds the truth.

It is driven against a real QEMU, and, longer and with dice of its own, against a program that poses as one
(``support/simulated_qemu.py``). Calm, nothing is lost that was under way. Rough, connections are cut with commands in flight,
and VMs are let go of in the middle of anything.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test
from support.facade import Facade
from support.simulated_qemu import write_program
from support.truth import Judge, judge_file

from qemustate import VirtualMachine
from qemustate.errors import QemuGone, QemustateError

#: With every long case a test takes minutes.
pytestmark = pytest.mark.timeout(3000)
#: A PC with a bus of every kind, and nodes for jobs.
ARGUMENTS = [
    "-machine", "q35,accel=tcg", "-S", "-display", "none", "-nodefaults", "-no-user-config", "-m", "128M,slots=2,maxmem=1G",
    "-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off",
    "-device", "pcie-root-port,id=rp0,chassis=1", "-device", "pcie-root-port,id=rp1,chassis=2",
    "-device", "virtio-scsi-pci,id=scsi", "-device", "qemu-xhci,id=usb", "-device", "virtio-serial-pci,id=vser",
    "-blockdev", '{"driver":"null-co","node-name":"src","size":4194304,"read-zeroes":true}',
    "-blockdev", '{"driver":"null-co","node-name":"dst","size":4194304,"read-zeroes":true}',
]  # fmt: skip
#: An overlay, where nobody reads it.
CHAIN = (
    '{"driver":"qcow2","node-name":"top","file":{"driver":"null-co","node-name":"file"},'
    '"backing":{"driver":"null-co","node-name":"base"}}'
)


class Real(Facade):
    """The facade against a QEMU without a guest: its firmware runs where it is let."""

    qemu = None
    figures = None
    kept = frozenset({"log", "overlay", "judge"})

    async def start(self):
        shutil.copy(self.folder / "overlay", self.place / "overlay")
        overlay = (
            '{"driver":"qcow2","node-name":"top","file":{"driver":"file","filename":"%s"},'
            '"backing":{"driver":"null-co","node-name":"base","size":4194304,"read-zeroes":true}}'
        ) % (self.place / "overlay")
        judged = judge_file(self.place / "judge", self.place / "judge.sock")
        argv = [self.qemu.binary, *self.qemu.args, *ARGUMENTS, "-blockdev", overlay, *judged]
        vm = await VirtualMachine.launch(argv, log=self.log)
        self.judge = Judge(self.place / "judge.sock")
        self.cold = self.judge.truth()
        return vm

    def truth(self):
        return self.judge.truth()

    async def caught_up(self):
        """What QEMU has sent before it answers has arrived when the answer has; a cut connection tells nothing."""
        with contextlib.suppress(QemustateError):
            await self.vm.execute("query-version")

    @rule()
    def die(self):
        """QEMU dies; another is launched into the same log."""
        self._die()

    def _die(self):
        os.kill(self.vm.pid, signal.SIGKILL)
        assert self._again() == {"signal": 9}

    def crashed(self, found=""):
        """A QEMU that breaks down is QEMU's own mistake: told of, and the VM launched again. ``found``: it was when it was looked for."""
        if found:
            self._relaunch()
            how = found
        else:
            how = self._again()
            assert how.get("signal") in (signal.SIGABRT, signal.SIGSEGV), how
        self.figures.append(f"QEMU {self.qemu.full} broke down by itself: {how}")

    def _again(self):
        """Launch another into the same log after QEMU's end; return how it ended."""

        async def over():
            how = await self.vm.wait()
            for operation in self.operations:
                with contextlib.suppress(QemustateError):
                    await operation.settled()
            await self.vm.close()
            return how

        how = self.run(over())
        self._relaunch()
        return how

    def _relaunch(self):
        self.judge.close()
        (self.place / "judge.sock").unlink()
        self.operations, self.jobs = [], []
        self._launch()

    def check_invariants(self, settings, output, runtimes):
        super().check_invariants(settings, output, runtimes)
        if self.vm is not None:
            self.check()

    def teardown(self):
        if self.vm is not None:
            (self.place / "judge.sock").unlink()
        try:
            super().teardown()
        finally:
            self.judge.close()


class Simulated(Real):
    """The facade against a program that poses as a QEMU, and does at will what a QEMU seldom does: see support/simulated_qemu.py."""

    program = None
    kept = frozenset({"log", "judge"})

    async def start(self):
        name = f"{self._count} rough" if self.rough else str(self._count)
        judged = judge_file(self.place / "judge", self.place / "judge.sock")
        argv = [self.program, "-name", name, *ARGUMENTS, "-blockdev", CHAIN, *judged]
        vm = await VirtualMachine.launch(argv, log=self.log)
        self.judge = Judge(self.place / "judge.sock")
        self.cold = self.judge.truth()
        return vm

    async def caught_up(self):
        """As for a real one; while a connection is cut the belief is that of before, so it is waited for."""
        await super().caught_up()
        await asyncio.sleep(0)  # the end of a connection is noticed first
        with contextlib.suppress(QemuGone):
            await self.vm._link.back()

    async def _clean(self):
        os.kill(self.vm.pid, signal.SIGUSR1)  # no connection is cut any more
        await super()._clean()

    @rule(dies=st.sampled_from((False, False, False, True)))
    def die(self, dies):
        """QEMU dies, so seldom that a life is long enough for something to happen in it."""
        if dies:
            self._die()


roughly = pytest.mark.parametrize("rough", [False, True], ids=["calm", "rough"])


def drive(machine, name, examples, steps, **more):
    """Drive a machine so often and so far, and say how often that was."""
    machine = type(name, (machine,), more)
    try:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                # QEMU takes its time as it likes: an example is not twice the same, and does not get smaller.
                phases=[Phase.generate],
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        machine.figures.append(
            f"facade driven at random, {name} {'rough' if machine.rough else 'calm'}: {machine.steps} steps, "
            f"{machine.losses} connections lost, {machine.interrupted} with commands in flight"
        )


@roughly
@pytest.mark.usefixtures("no_leaks")
def test_the_belief_holds_what_qemu_says(qemu, tmp_path, full, figures, rough):
    """After each step of any life the state holds what QEMU says is so; at its end nothing is left, and the log tells the same."""
    subprocess.run([qemu.img, "create", "-q", "-f", "qcow2", tmp_path / "overlay", "4M"], check=True)
    examples, steps = (150, 40) if full else (12, 15)
    name = f"QEMU {qemu.full}"
    drive(Real, name, examples, steps, qemu=qemu, folder=tmp_path, figures=figures, rough=rough)


@roughly
@pytest.mark.usefixtures("no_leaks")
def test_the_belief_holds_what_a_simulated_qemu_says(tmp_path, full, figures, rough):
    """After each step with a QEMU that is as slow and stubborn as it likes the state holds what is so."""
    program = str(write_program(tmp_path / "qemu-system-x86_64"))
    examples = 300 if full else 8
    drive(
        Simulated, "simulated", examples, 40, program=program, folder=tmp_path, figures=figures, rough=rough
    )
