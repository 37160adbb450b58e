"""A QEMU is asked once what it can do, and whoever asks later is answered from what was kept."""

import os

import pytest

from qemustate.errors import LaunchFailed
from qemustate.vm import probe as module
from qemustate.vm.probe import probe


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Return the folder where things are kept, with nothing in it and nothing in memory."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(module, "_known", {})
    return tmp_path / "qemustate"


@pytest.fixture
def starts(monkeypatch):
    """Return a list that grows with every QEMU that is started."""
    started = []
    monkeypatch.setattr(module, "Process", lambda *args: started.append(args) or _Process(*args))
    return started


_Process = module.Process


def test_it_is_asked_once(qemu, cache, starts):
    """A second question is answered from memory, one of another process from the disk, and another device is asked for alone."""
    first = probe(qemu.binary, ["virtio-rng-pci"])
    assert len(starts) == 2
    assert probe(qemu.binary, ["virtio-rng-pci"]) is first
    module._known.clear()
    again = probe(qemu.binary, ["virtio-rng-pci"])
    assert (again, len(starts)) == (first, 2)
    assert "virtio-blk-pci" in probe(qemu.binary, ["virtio-blk-pci"]).properties
    assert len(starts) == 3
    assert [file.suffix for file in cache.iterdir()] == [".json"]


def test_it_says_what_the_qemu_is(qemu, cache):
    """Version, machines with aliases, schema and properties are the QEMU's."""
    found = probe(qemu.binary, ["virtio-rng-pci", "nosuch"])

    assert ".".join(map(str, found.version)) == qemu.full
    assert {"q35", "pc", "microvm"} <= set(found.machines)
    assert "device_add" in found.schema.commands
    assert found.properties["virtio-rng-pci"]["max-bytes"] == "uint64"
    assert found.properties["nosuch"] is None


def test_a_changed_binary_is_asked_again(qemu, cache, starts, tmp_path):
    """The time of change is part of what a binary is known by."""
    script = tmp_path / "qemu"
    script.write_text(f'#!/bin/sh\nexec {qemu.binary} "$@"\n')
    script.chmod(0o755)
    probe(str(script))
    os.utime(script, ns=(1, 1))
    probe(str(script))

    assert len(starts) == 2


@pytest.mark.parametrize("kept", [b"", b"{}", b'{"version":1}', b"\xff"])
def test_what_was_kept_badly_is_asked_for_again(qemu, cache, starts, kept):
    """A file that cannot be read is written anew."""
    probe(qemu.binary)
    [file] = cache.iterdir()
    file.write_bytes(kept)
    module._known.clear()
    probe(qemu.binary)

    assert len(starts) == 2
    assert file.read_bytes() != kept


def test_without_a_place_to_keep_it(qemu, cache, starts):
    """Where nothing can be written, it is known in this process at least."""
    cache.write_text("no folder")
    probe(qemu.binary)
    probe(qemu.binary)

    assert len(starts) == 1


def test_a_device_that_ends_qemu_is_left_out(qemu, cache, monkeypatch):
    """Where a question ends QEMU, the others are asked all the same."""
    ask = module._properties

    def deadly(client, driver):
        if driver == "deadly":
            client.execute("quit")
            client.execute("query-status")
        return ask(client, driver)

    monkeypatch.setattr(module, "_properties", deadly)
    found = probe(qemu.binary, ["virtio-rng-pci", "deadly", "virtio-blk-pci"])

    assert sorted(found.properties) == ["virtio-blk-pci", "virtio-rng-pci"]


@pytest.mark.parametrize(("program", "said"), [("qemu-nosuch", "no such program"), ("false", "/false: ")])
def test_what_is_no_qemu_is_named(cache, program, said):
    """A missing program, and one that ends at once, are LaunchFailed."""
    with pytest.raises(LaunchFailed, match=said):
        probe(program)
