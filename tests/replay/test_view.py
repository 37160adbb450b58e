"""The front door: qemustate.replay(path)."""

import subprocess
import sys

import pytest

import qemustate
from qemustate.errors import BadInput


def test_replay_gives_views(quit_story):
    """The one call gives the VMs of a trace, which can be seen at any record."""
    (vm,) = qemustate.replay(str(quit_story))
    assert vm.name == "quit"
    assert vm.state["process"]["is"] == "exited"
    assert vm.state["process"]["exit"] == {"status": 0}
    assert vm.findings == []
    assert vm.devices == vm.state["devices"]
    early = vm.at(5)
    assert (early.seq, early.state["monitor"]["is"]) == (5, "negotiating")
    assert vm.state["process"]["is"] == "exited"
    assert vm.at(10**6).state == vm.state
    assert "after record 5" in repr(early)


def test_replay_refuses_what_is_no_trace(tmp_path):
    """What is no trace is a BadInput."""
    with pytest.raises(BadInput):
        qemustate.replay(tmp_path)


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "first",
    ["import qemustate", "import qemustate.replay.view", "from qemustate.replay.source import Source"],
)
def test_the_name_works_in_any_order_of_imports(quit_story, first):
    """The function and the package of the same name do not shadow each other, whichever is imported first."""
    done = run(
        f"{first}\nimport qemustate\nprint(qemustate.replay({str(quit_story)!r})[0].name)\nimport qemustate.replay.check as c\nprint(c.check.__name__)"
    )
    assert (done.stdout, done.stderr) == ("quit\ncheck\n", "")


def test_import_is_light():
    """Importing the package loads no dependency and no asyncio; using a name loads what it needs."""
    done = run(
        "import sys, qemustate\n"
        "print(sorted({'msgspec', 'msgpack', 'asyncio', 'transitions'} & set(sys.modules)))\n"
        "print(qemustate.LogReader.__name__, set(qemustate.__all__) <= set(dir(qemustate)))"
    )
    assert (done.stdout, done.stderr) == ("[]\nLogReader True\n", "")


def test_every_public_name_is_there():
    """Each name in __all__ can be had, and no other."""
    for name in qemustate.__all__:
        assert getattr(qemustate, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        qemustate.nothing  # noqa: B018
