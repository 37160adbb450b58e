"""Texts for a terminal: what a guest, a client or a log named may hold anything, and is shown on one line all the same."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Return a text with all that is no printable character written as its escape: ``\n``, ``\x1b``, ``\u202e``.

    So no name makes a second line of one, or tells a terminal what to do. What is printable, the backslash too, stays.
    """
    if text.isprintable():
        return text
    return "".join(it if it.isprintable() else it.encode("unicode_escape").decode() for it in text)
