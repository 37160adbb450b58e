"""The documentation is true: its examples run, its links lead somewhere, its generated pages are fresh."""

import doctest
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import make_docs
import pytest
from support import found

from qemustate.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
#: What the examples read; they run in a folder of their own that has nothing else.
SHOWN = ("qemustate", "tests", "examples")
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block of a page."""

    kind: str
    text: str

    @property
    def runs(self):
        """Whether it is an example: Python, or a shell session whatever it is called."""
        return self.kind in ("python", "pycon", "console") or (not self.kind and self.text.startswith("$ "))

    @property
    def live(self):
        """Whether it starts a QEMU."""
        return "qemu-system-" in self.text


def blocks(page, *, live):
    """Return the examples of a page, those that start a QEMU or the others."""
    every = [Block(kind, textwrap.dedent(text)) for _, kind, text in FENCE.findall(page.read_text())]
    return [block for block in every if block.runs and block.live == live]


def same(expected, seen):
    """Tell whether text is as expected, where ``...`` stands for any text."""
    return doctest.OutputChecker().check_output(expected, seen, doctest.ELLIPSIS)


def sessions(text):
    """Yield (command line, expected output) of a console block."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        line, _, expected = part.partition("\n")
        yield line, expected


def run_console(page, text, *, rewrite):
    """Run the lines of a console block; compare what they print, or write it into the page."""
    for line, expected in sessions(text):
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            line,
            shell=True,
            env={**os.environ, "PATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if rewrite and "..." not in expected and not same(expected, done.stdout):
            page.write_text(page.read_text().replace(f"$ {line}\n{expected}", f"$ {line}\n{done.stdout}", 1))
            continue

        assert same(expected, done.stdout), f"$ {line}\n{done.stdout}"


def run_doctest(page, text, names):
    """Run a session of the interactive interpreter."""
    test = doctest.DocTestParser().get_doctest(text, names, page.name, str(page), 0)
    report = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(test, out=report.append, clear_globs=False)
    names.update(test.globs)

    assert runner.summarize(verbose=False).failed == 0, "".join(report)


def run_all(page, found_blocks, folder, monkeypatch, *, rewrite):
    """Run examples one after another, as a reader would, in a folder that shows what they read."""
    for name in SHOWN:
        (folder / name).symlink_to(ROOT / name)
    monkeypatch.chdir(folder)
    names = {"__name__": "__example__"}
    for block in found_blocks:
        if block.kind == "python":
            exec(compile(block.text, page.name, "exec"), names)
        elif block.kind == "pycon":
            run_doctest(page, block.text, names)
        else:
            run_console(page, block.text, rewrite=rewrite)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, live=False)], ids=lambda page: page.name)
def test_examples(page, tmp_path, monkeypatch, rewrite):
    """Every example of a page runs, and prints what the page says."""
    run_all(page, blocks(page, live=False), tmp_path, monkeypatch, rewrite=rewrite)


@pytest.mark.qemu
@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, live=True)], ids=lambda page: page.name)
def test_live_examples(page, tmp_path, monkeypatch, rewrite):
    """Every example that starts a QEMU does so, and prints what the page says."""
    try:
        binary = found.qemu("7.2").binary
    except found.NotFound as missing:
        pytest.skip(str(missing))
    monkeypatch.setenv("PATH", f"{Path(binary).parent}:{os.environ['PATH']}")
    run_all(page, blocks(page, live=True), tmp_path, monkeypatch, rewrite=rewrite)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "tests/stories/README.md"], ids=lambda page: page.name)
def test_links(page):
    """Every link to a place in the project leads to something that is there."""
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", FENCE.sub("", page.read_text()))

    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="each version of argparse has its own layout")
@pytest.mark.parametrize("name", ["states.md", "rules.md", "cli.md", "records.md"])
def test_generated_pages_are_fresh(name):
    """What is committed is what `make docs` writes."""
    assert (ROOT / "docs" / name).read_text() == make_docs.pages()[name]


def test_every_command_is_in_the_page_of_commands():
    """The page of commands has a section for each command with its usage."""
    page = (ROOT / "docs" / "cli.md").read_text()

    assert [
        name for name in COMMANDS if f"## {name}\n" not in page or f"usage: qemustate {name}" not in page
    ] == []


def test_the_readme_is_short():
    """A newcomer reads the README in one go: under 150 lines."""
    assert len((ROOT / "README.md").read_text().splitlines()) < 150
