"""The exact printers print what the fast ones print, and more."""

import json

import pytest
from hypothesis import given, settings
from support.values import VALUES

from qemustate.qmp import jsonprint
from qemustate.qmp.jsontext import print_compact, print_qemu


@settings(deadline=None, max_examples=300)
@given(VALUES)
def test_they_agree_with_the_fast_printers(value):
    """A value prints to the same bytes whichever printer is chosen, and the standard library reads it back."""
    assert jsonprint.qemu(value) == print_qemu(value)
    assert jsonprint.compact(value) == print_compact(value)
    assert json.loads(jsonprint.qemu(value)) == json.loads(jsonprint.compact(value)) == value


def test_tuples_print_as_arrays():
    """A tuple is an array to both."""
    assert jsonprint.compact((1, (2,))) == b"[1,[2]]"
    assert jsonprint.qemu((1, ())) == b"[1, []]"


@pytest.mark.parametrize("value", [{1: 2}, [b"bytes"], {"a": {1}}], ids=ascii)
def test_only_json_values_print(value):
    """What JSON has no form for raises TypeError, and names that are no strings do."""
    for print_value in (jsonprint.qemu, jsonprint.compact):
        with pytest.raises(TypeError):
            print_value(value)
