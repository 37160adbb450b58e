"""What tests share: the QEMUs and the guest that are set up here, the recordings, and what a skip means."""

import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
# tests/support and scripts/stories are imported as `support` and `stories`.
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "scripts")]

from support import found  # noqa: E402

# A suite that runs in the background of a shell ignores SIGINT, and so would all that it starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

#: Lines that tests want read when all is done.
FIGURES = pytest.StashKey[list[str]]()
# What decides whether a change lands tries the same examples each time; everybody else's runs look for new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
if os.environ.get("CI") == "true":
    settings.load_profile("repeatable")

#: Fixtures that need something from outside; a test that uses one is marked with the same name.
NEEDS = ("qemu", "guest", "shared")


def pytest_addoption(parser):
    """Add --rewrite."""
    parser.addoption(
        "--rewrite", action="store_true", help="rewrite expected texts with what was seen; then read the diff"
    )


def pytest_collection_modifyitems(items):
    """Mark each test with what it needs, as its fixtures tell."""
    for item in items:
        for name in NEEDS:
            if name in getattr(item, "fixturenames", ()):
                item.add_marker(name)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    """Under CI, a QEMU test that is skipped has failed: nobody reads the skips of a green run."""
    report = (yield).get_result()
    real = item.get_closest_marker("qemu") or item.get_closest_marker("guest")
    if report.skipped and real and os.environ.get("CI") == "true" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which is a failure under CI: {report.longrepr[2]}"


@pytest.fixture
def rewrite(request):
    """Tell whether expected texts are to be rewritten (--rewrite)."""
    return request.config.getoption("--rewrite")


@pytest.fixture(params=found.VERSIONS)
def qemu(request):
    """Return a support.found.Qemu: the test runs once for each version, and is skipped by name where one is missing."""
    try:
        return found.qemu(request.param)
    except found.NotFound as missing:
        pytest.skip(str(missing))


@pytest.fixture
def guest():
    """Return the small Linux guest, a support.found.Guest."""
    try:
        return found.guest()
    except found.NotFound as missing:
        pytest.skip(str(missing))


@pytest.fixture
def shared():
    """Return the folder of recordings that are kept beside the project."""
    folder = ROOT.parent / "shared" / "traces"
    if not folder.is_dir():
        pytest.skip("no recordings in ../shared/traces")
    return folder


@pytest.fixture
def full():
    """Tell whether everything is to be run, however long it takes (QEMUSTATE_FULL=1)."""
    return os.environ.get("QEMUSTATE_FULL") == "1"


@pytest.fixture
def figures(request):
    """Return a list whose lines are printed when all tests are done."""
    return request.config.stash.setdefault(FIGURES, [])


def pytest_terminal_summary(terminalreporter, config):
    """Print the figures."""
    if lines := config.stash.get(FIGURES, []):
        terminalreporter.section("figures")
        for line in lines:
            terminalreporter.write_line(line)
