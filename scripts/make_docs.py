"""Rewrite the pages of docs/ that show the code: states.md, events.md, rules.md, cli.md, records.md.

Everything in them is read from the tables, the rules, the commands' own help and the docstrings, so that they cannot
say what the code does not. A test compares what is committed with what would be written.
"""

import contextlib
import io
import os
import re
from pathlib import Path

from docstrings import code, markdown

from qemustate.cli import main as cli
from qemustate.events import format as log_format
from qemustate.events import records
from qemustate.statemachine import tables
from qemustate.statemachine.effects import EFFECTS
from qemustate.statemachine.evidence import EVIDENCE, FACTS, INFORMATIONAL
from qemustate.statemachine.guards import GUARDS
from qemustate.statemachine.rows import ASSUMPTIONS
from qemustate.statemachine.rules import RULES

DOCS = Path(__file__).resolve().parent.parent / "docs"
NOTICE = "<!-- Written by `make docs` from the code. Change the code, not this page. -->\n"


def pages():
    """Return the text of every page by its file name."""
    return {
        "states.md": states(),
        "events.md": seen(),
        "rules.md": rules(),
        "cli.md": commands(),
        "records.md": log(),
    }


def table(head, lines):
    """Return a Markdown table."""
    rows = [head, ["---"] * len(head), *lines]
    return (
        "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows) + "\n"
    )


# --- states.md

ROWS = """\
A row says: on this trigger, from this state, QEMU may be in that state afterwards. [observer.md](observer.md) says how
rows are read. In the diagrams the states are those that people see, and a dotted arrow is a *silent* row, which QEMU takes
without telling anybody; rows that change nothing that people see are left out. The tables show all rows, hidden states
included; `=` stays where it is.
"""


def states():
    """Return the page of the machines."""
    parts = [
        NOTICE,
        "# The state machines\n",
        ROWS,
        "\n".join(f"- [{name}](#{name})" for name in tables.TABLES)
        + "\n- [Guards](#guards)\n- [Assumptions](#assumptions)\n",
    ]
    parts += [machine(it) for it in tables.TABLES.values()]
    used = {name.lstrip("!"): set() for name in GUARDS}
    leaning = {name: set() for name in ASSUMPTIONS}
    for it in tables.TABLES.values():
        for row in it.rows:
            for guard in row.when:
                used[guard.lstrip("!")].add(it.name)
            if row.assumption:
                leaning[row.assumption].add(it.name)
    parts += [
        "## Guards\n",
        "What must be possible for a row to be taken; `!name` asks for the opposite. A guard is possible unless the facts exclude it.\n",
        table(
            ["guard", "it holds when", "rows of"],
            [[f"`{n}`", s, ", ".join(sorted(used[n]))] for n, s in GUARDS.items()],
        ),
        "## Assumptions\n",
        "What a row may lean on. Their uses are counted.\n",
        table(
            ["assumption", "sentence", "rows of"],
            [[f"`{n}`", s, ", ".join(sorted(leaning[n]))] for n, s in ASSUMPTIONS.items()],
        ),
    ]
    return "\n".join(parts)


def machine(it):
    """Return the section of one table."""
    module = getattr(tables, it.name)
    hidden = ", ".join(f"`{inner}` shows as `{shown}`" for inner, shown in it.shows.items())
    return "\n".join(
        [
            f"## {it.name}\n",
            markdown(module.__doc__),
            f"Begins as `{it.initial}`." + (f" Hidden states: {hidden}." if hidden else "") + "\n",
            diagram(it),
            table(["trigger", "from", "to", "guards", "cause", "assumption", "QEMU", "source"], lines(it)),
            couplings(it),
        ]
    )


def couplings(it):
    """Return what a machine's states mean for the guards of the others."""
    if not it.couplings:
        return ""
    told = [
        [
            f"`{c.guard}`",
            "may hold" if c.opens else "holds",
            " ".join(f"`{state}`" for state in c.states),
            " ".join(f"`{guard}`" for guard in c.when),
            " ".join(
                filter(
                    None,
                    (
                        f"from {dotted(c.since)}" if c.since else "",
                        f"before {dotted(c.until)}" if c.until else "",
                    ),
                )
            ),
            c.ref,
        ]
        for c in it.couplings
    ]
    return "What its states mean for other machines' guards:\n\n" + table(
        ["guard", "", "in", "when", "QEMU", "source"], told
    )


def diagram(it):
    """Return a Mermaid diagram: one arrow for all triggers that lead from one shown state to another."""
    shown = list(dict.fromkeys(it.shown(state) for state in it.states))
    arrows = {}
    for row in it.rows:
        source, dest = it.shown(row.source), it.shown(row.dest)
        if source != dest:
            arrows.setdefault((source, dest, row.silent), {})[row.trigger] = None
    number = {name: f"s{n}" for n, name in enumerate(shown)}
    drawn = [f'  {number[name]}(["{name}"])' for name in shown]
    for (source, dest, silent), triggers in arrows.items():
        arrow = "-.->" if silent else f'-- "{"<br>".join(triggers)}" -->'
        drawn.append(f"  {number[source]} {arrow} {number[dest]}")
    return "\n".join(["```mermaid", "flowchart LR", *drawn, "```", ""])


def lines(it):
    """Return the rows, those that differ only in where they start as one."""
    found = {}
    for row in it.rows:
        key = (row.trigger, row.when, row.cause, row.assumption, row.since, row.until, row.ref)
        found.setdefault((row.dest, key), []).append(row.source)
    merged = {}
    for (dest, key), sources in found.items():
        merged.setdefault(("=" if sources == [dest] else dest, key), []).extend(sources)
    for (dest, (trigger, when, cause, assumption, since, until, ref)), sources in merged.items():
        versions = (f"from {dotted(since)}" if since else "", f"before {dotted(until)}" if until else "")
        yield [
            f"`{trigger}`" if trigger else "*silent*",
            " ".join(f"`{it}`" for it in dict.fromkeys(sources)),
            f"`{dest}`",
            " ".join(f"`{guard}`" for guard in when),
            cause,
            f"`{assumption}`" if assumption else "",
            " ".join(filter(None, versions)),
            ref,
        ]


def dotted(version):
    """Return a version as people write it."""
    return ".".join(map(str, version))


# --- events.md

SEEN = """\
What each thing on the wire means to the [machines](states.md): the machine it steps and the trigger it is there, the guards it sets,
and the one or two functions for what a row cannot say. What is not listed, all of `query-*` that tells no state among it, changes nothing.
"""


def seen():
    """Return the page of what events, commands and answers mean."""
    events = sorted({row.seen for row in EVIDENCE if " " not in row.seen})
    commands = sorted({row.seen.partition(" ")[2] for row in EVIDENCE if " " in row.seen})
    return "\n".join(
        [
            NOTICE,
            "# What events and commands mean\n",
            SEEN,
            "## Events that move a machine\n",
            table(["event", "means"], [[f"`{name}`", meaning(name)] for name in events]),
            "## Events that move none\n",
            table(["event", "why"], [[f"`{name}`", why + kept(name)] for name, why in INFORMATIONAL.items()]),
            "## Commands\n",
            table(
                ["command", "sent", "done", "refused"],
                [
                    [f"`{name}`", *(meaning(f"{word} {name}") for word in ("execute", "return", "error"))]
                    for name in commands
                ],
            ),
        ]
    )


def kept(event):
    """Return what is kept of an event that moves nothing."""
    return f"; its last value is kept as `{FACTS[event][0]}`" if event in FACTS else ""


def meaning(what):
    """Return what the rows of evidence say of one thing seen."""
    parts = []
    for row in EVIDENCE:
        if row.seen != what:
            continue
        where = f"if {row.where[0]} is `{row.where[1]}`: " if row.where else ""
        said = []
        if row.machine:
            said.append(f"{row.machine}: `{row.trigger}`")
        said += [f"`{guard}` holds" for guard in row.holds] + [f"`{guard}` no more" for guard in row.denies]
        if row.effect:
            said.append((EFFECTS[row.effect].__doc__ or "").strip().rstrip("."))
        parts.append(where + ", ".join(said))
    return "; ".join(parts)


# --- rules.md

FINDINGS = """\
`qemustate check` applies these to a trace. A *violation* is what QEMU or its client cannot do by QEMU's own rules, and
makes the exit status 1; a *warning* is worth a look; a *note* is for the record. Each finding names the record it rests on.
"""


def rules():
    """Return the page of the rules."""
    told = [[f"`{r.name}`", r.severity, r.sentence, ", ".join(r.needs)] for r in RULES.values()]
    return "\n".join(
        [
            NOTICE,
            "# The rules\n",
            FINDINGS,
            "A rule that needs something the trace lacks is *not checked*: neither passed nor violated.\n",
            table(["rule", "severity", "finds", "needs"], told),
        ]
    )


# --- cli.md


def commands():
    """Return the page of the commands: what their ``--help`` prints."""
    parts = [NOTICE, "# The command line\n", help_of()]
    parts += [f"## {name}\n\n{help_of(name)}" for name in cli.COMMANDS]
    return "\n".join(parts)


def help_of(*words):
    """Return what a command's help prints on a terminal of 100 columns, fenced."""
    said = io.StringIO()
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "100"
    try:
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            cli.main([*words, "--help"])
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
    return f"```text\n{said.getvalue().rstrip()}\n```\n"


# --- records.md

READER = """\
```console
$ qemustate import qemustate/data/hotplug.jsonl.xz -o vm.log
vm.log: 45 records of VM hotplug from qmp-jsonl
```

```python
import zlib

import msgpack

with open("vm.log", "rb") as file:
    data = file.read()
unpacker = msgpack.Unpacker(strict_map_key=False)
unpacker.feed(data)
start = checksum = 0
for seq, time, kind, body, crc in unpacker:
    end = unpacker.tell()
    checksum = zlib.crc32(data[start : end - 5], checksum)
    assert crc == checksum, f"item {seq} is not what was written"
    checksum = zlib.crc32(data[end - 5 : end], checksum)
    start = end
assert (seq, kind) == (45, "closed")
```
"""


def log():
    """Return the page of the records and the bytes that keep them."""
    return "\n".join(
        [
            NOTICE,
            "# The log\n",
            "## Records\n",
            markdown(records.__doc__),
            "A trace may lack: " + ", ".join(f"`{it}`" for it in records.LACKS) + ".\n",
            "## Bytes\n",
            markdown(log_format.__doc__),
            "### Damage\n",
            table(["name", "what is wrong"], damage()),
            "### A reader in fifteen lines\n",
            "Nothing but a msgpack library and CRC-32 is needed:\n",
            READER,
        ]
    )


def damage():
    """Return the names of damage with the comments that stand above them in the source."""
    source = Path(log_format.__file__).read_text()
    said = {name: text for text, name in re.findall(r'    #: (.+)\n    [A-Z_]+ = "([a-z-]+)"', source)}
    return [[f"`{it.value}`", code(said[it.value])] for it in log_format.Damage]


if __name__ == "__main__":
    for name, text in pages().items():
        (DOCS / name).write_text(text)
        print(f"docs/{name}")
