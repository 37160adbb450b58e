"""The house holds: who may import whom, how long a module may be, and that what is public says what it is."""

import ast
import json
import statistics
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import qemustate

HOUSE = Path(qemustate.__file__).parent
MODULES = sorted(HOUSE.rglob("*.py"))

#: Room -> the rooms it may import besides itself; every room may import `errors`.
MAY_IMPORT = {
    "qmp": set(),
    "hardware": {"qmp"},
    "events": {"qmp"},
    "statemachine": {"events", "hardware", "qmp"},
    "replay": {"statemachine", "events", "qmp"},
    "vm": {"statemachine", "events", "hardware", "qmp"},
    "cli": {"vm", "replay", "statemachine", "events", "hardware", "qmp"},
}

#: Package -> the only files and rooms that may import it: one door per dependency.
DOORS = {
    "transitions": ("statemachine/machine.py",),
    "msgpack": ("events/codec.py",),
    "asyncio": ("qmp/aio.py", "vm/"),
    "subprocess": ("vm/process.py",),
}

#: What `import qemustate` alone must not load.
HEAVY = ("msgspec", "msgpack", "transitions", "asyncio", "argparse")


def name_of(module):
    """Return a module's path inside the package."""
    return module.relative_to(HOUSE).as_posix()


def imports(module):
    """Return the dotted names that a module imports anywhere in it, also for type checkers only."""
    names = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(module)}: a relative import"
            # `from qemustate.statemachine import guards` names a module in its second half.
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def public(tree):
    """Yield (dotted name, node) of what a module shows: functions, classes, and their methods."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name[0] != "_":
            yield node.name, node
            if isinstance(node, ast.ClassDef):
                yield from ((f"{node.name}.{name}", method) for name, method in public(node))


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_a_room_imports_only_rooms_below_it(module):
    """Imports go down: errors <- qmp <- events <- statemachine <- replay; vm beside replay; cli above all."""
    rooms = {name.split(".")[1] for name in imports(module) if name.startswith("qemustate.")}
    if module.parent == HOUSE:
        allowed = {"events", "replay", "vm"} if module.name == "__init__.py" else set()
    else:
        room = module.relative_to(HOUSE).parts[0]
        allowed = MAY_IMPORT[room] | {room, "errors", "__version__"}

    assert rooms <= allowed


def test_modules_import_each_other_in_no_circle():
    """Every module can be read after those it imports, also those it imports for their types only."""
    named = {f"qemustate.{name_of(m).removesuffix('.py').replace('/', '.')}": imports(m) for m in MODULES}
    # A name stands in a module, or is one.
    seen = {name: names | {it.rpartition(".")[0] for it in names} for name, names in named.items()}
    left = set(seen)
    while read := {name for name in left if not seen[name] & left - {name}}:
        left -= read

    assert sorted(left) == []


@pytest.mark.parametrize("package", DOORS)
def test_a_dependency_has_one_door(package):
    """A package that shapes code is imported where it is meant to be, and it is imported there."""
    users = {name_of(m) for m in MODULES if any(it.split(".")[0] == package for it in imports(m))}

    assert [user for user in users if not user.startswith(DOORS[package])] == []
    assert all(any(user.startswith(door) for user in users) for door in DOORS[package])


def test_every_module_says_what_it_is():
    """Every module has a docstring."""
    assert [name_of(m) for m in MODULES if not ast.get_docstring(ast.parse(m.read_text()))] == []


def test_everything_public_says_what_it_promises():
    """Every public function, class and method has a docstring."""
    silent = [
        f"{name_of(module)}: {name}"
        for module in MODULES
        for name, node in public(ast.parse(module.read_text()))
        if not ast.get_docstring(node)
    ]

    assert silent == []


def test_modules_are_short():
    """No module is over 500 lines, and half of them are under 200."""
    lines = {name_of(module): len(module.read_text().splitlines()) for module in MODULES}

    assert {name: count for name, count in lines.items() if count > 500} == {}
    assert statistics.median(lines.values()) < 200


@pytest.mark.parametrize("name", qemustate.__all__)
def test_every_export_is_there(name):
    """Every name of the front door leads to something that can be called."""
    assert callable(getattr(qemustate, name))


def test_the_front_door_shows_what_it_exports():
    """dir() of the package lists every export, and a name that is none is an AttributeError."""
    assert set(qemustate.__all__) <= set(dir(qemustate))
    assert isinstance(qemustate, ModuleType)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        qemustate.nothing  # noqa: B018  (the access is the test)


def test_importing_the_package_is_light():
    """`import qemustate` loads none of the libraries that only some of its users need."""
    code = f"import qemustate, json, sys; print(json.dumps([n for n in {HEAVY!r} if n in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert json.loads(done.stdout) == []
