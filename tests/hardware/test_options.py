"""The table of QEMU's options is what QEMU itself says."""

import re
import subprocess

from qemustate.hardware import options

#: `-name argument  what it does`; a flag is followed by two blanks, or by nothing.
_HELP = re.compile(r"^--?([a-zA-Z][\w-]*)(?:/-([a-z]+)| or -(\w+))?(.*)$", re.MULTILINE)


def test_every_option_that_qemu_explains_is_in_the_table(qemu):
    """What -help lists is known, and takes an argument or not as -help shows."""
    text = subprocess.run([qemu.binary, "-help"], capture_output=True, text=True, check=True).stdout
    listed = _HELP.findall(text)
    wrong = []
    for name, second, other, rest in listed:
        flag = not rest or rest.startswith("  ")
        # `-dtb    file    use ...` and `-async-teardown enable ...` are set apart like the other kind.
        flag = flag is not (name in ("dtb", "async-teardown"))
        for spelling in filter(None, (name, second, other)):
            if (spelling in options.FLAGS) is not flag or spelling not in options.NAMES:
                wrong.append(spelling)

    assert wrong == []
    assert len(listed) > 150


def test_an_option_has_one_form():
    """No option is in two tables, and what is said of an option is said of one that exists."""
    assert not options.FLAGS & options.PLAIN
    assert not options.KEYED.keys() & (options.FLAGS | options.PLAIN)
    for names in (options.JSON_READ, options.NESTED, options.LISTS, options.REPEATED):
        assert names <= options.NAMES


def test_spellings_of_one_name():
    """Two dashes are one, and -M is -machine."""
    assert [options.name_of(word) for word in ("-M", "--M", "--S", "-device", "-")] == [
        "machine", "machine", "S", "device", "",
    ]  # fmt: skip
