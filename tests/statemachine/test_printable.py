"""Texts for a terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qemustate.statemachine.printable import printable


@given(st.text())
def test_any_text_becomes_one_printable_line(text):
    """Whatever is in a text, it is shown on one line, and what was printable is as it was."""
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown
    assert shown == text or not text.isprintable()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a b\\n", "a b\\n"),
        ("\x1b[2J\r\n", r"\x1b[2J\r\n"),
        ("\ud800\u202eä", r"\ud800\u202eä"),
        ("\x9b\u2028", r"\x9b\u2028"),
    ],
)
def test_what_is_not_printable_is_escaped(text, shown):
    """Controls, directions and halves of pairs are escaped, letters of any script are not."""
    assert printable(text) == shown
