"""Real QEMUs without a guest, as many as a test asks for."""

import contextlib

import pytest
from support.live import Live


@pytest.fixture
def live(qemu, tmp_path):
    """Return a function that starts a QEMU with these arguments, in the folder `tmp_path`."""
    with contextlib.ExitStack() as stack:

        def start(*arguments, pass_fds=()):
            machine = Live(qemu, arguments, cwd=tmp_path, pass_fds=pass_fds)
            stack.callback(machine.end)
            return machine

        yield start
