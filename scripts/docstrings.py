"""A docstring of this project as Markdown: the little reStructuredText that is used here, and no more."""

import re

#: ``:func:`~a.b.c``` -> ``` `a.b.c` ```
ROLE = re.compile(r":[a-z]+:`~?([^`]+)`")
#: A line of a list of terms: the term as code, two blanks or more, its text.
TERM = re.compile(r"(``\S+``)(?:  +| *$)(.*)")
RULE = re.compile(r"=+( +=+)+$")


def markdown(docstring):
    """Return a docstring as Markdown, with a line end."""
    text = ROLE.sub(r"`\1`", docstring.strip())
    return "\n\n".join(block(part) for part in blocks(text)) + "\n"


def blocks(text):
    """Yield what blank lines separate; a table is one block, and so is a sentence with the literal text below it."""
    held = []
    for part in re.split(r"\n\s*\n", text):
        if held and not unfinished(held) and not (held[0].endswith("::") and part.startswith(" ")):
            yield "\n\n".join(held)
            held = []
        held.append(part)
    yield "\n\n".join(held)


def unfinished(parts):
    """Tell whether these are the beginning of a table whose last rule is still to come."""
    lines = "\n".join(parts).split("\n")
    return RULE.match(lines[0]) is not None and sum(bool(RULE.match(line)) for line in lines) < 3


def block(text):
    """Return one block as Markdown."""
    lines = text.split("\n")
    if RULE.match(lines[0]):
        return table(lines)
    if TERM.match(lines[0]) and all(TERM.match(line) or line.startswith("  ") for line in lines):
        return terms(lines)
    before, literal, after = text.partition("::\n\n")
    if literal:
        return f"{code(before)}:\n\n```text\n{undent(after)}\n```"
    return code(text)


def table(lines):
    """Return a table of two columns whose first is the term."""
    width = lines[0].index(" ")
    rows = []
    for line in lines:
        if RULE.match(line) or not line.strip():
            continue
        first, second = line[:width].strip(), line[width:].strip()
        if first:
            rows.append([first, second])
        else:
            rows[-1][1] += " " + second
    rows.insert(1, ["---", "---"])
    return "\n".join(f"| {code(first)} | {code(second)} |" for first, second in rows)


def terms(lines):
    """Return a list of terms."""
    items = []
    for line in lines:
        found = TERM.match(line)
        if found:
            items.append(f"- {found[1]}: {found[2]}")
        else:
            items[-1] += " " + line.strip()
    return code("\n".join(items))


def undent(text):
    """Return the lines of a literal block without the margin that they share."""
    lines = text.split("\n")
    margin = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    return "\n".join(line[margin:] for line in lines).rstrip()


def code(text):
    """Return reStructuredText's literals as Markdown's; those that hold a backquote keep both."""
    return re.sub(r"``([^`\n]+)``", r"`\1`", text)
