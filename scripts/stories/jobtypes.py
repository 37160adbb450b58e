"""Jobs that are no block jobs, jobs of one transaction, and jobs that fail."""

import contextlib
import subprocess
import time

from support.monitor import Closed

from stories.blockjobs import (
    MANUAL,
    SCSI,
    TAKEN,
    ask,
    chain,
    concluded,
    do,
    families,
    finished,
    image,
    moves,
    reaches,
    refuses,
)
from stories.stage import add_node, leave, story


def file_node(vm, stage, name):
    """Add a node of an empty file."""
    filename = stage.image(f"{name}.raw", form="raw", size="0")
    vm.qmp.ok("blockdev-add", {"driver": "file", "node-name": name, "filename": filename})
    return name


def throttled(vm, file):
    """Add a node above a file's on which every request takes its time, and return its name."""
    name = f"{file}.slow"
    vm.qmp.ok(
        "blockdev-add", {"driver": "throttle", "node-name": name, "throttle-group": "slow", "file": file}
    )
    return name


def slow_group(vm):
    """Add the group of limits that these nodes share."""
    vm.qmp.ok("object-add", {"qom-type": "throttle-group", "id": "slow", "limits": {"iops-total": 4}})


def slowly_run(vm, name):
    """Send every verb to a job that runs, reset the machine, and wait for its end; it never pauses."""
    reaches(vm, name, "running")
    refuses(vm, name, "running")
    for verb in ("pause", "resume", "set-speed"):
        for block in families(verb):
            ask(vm, verb, name, block=block)
    vm.qmp.ok("system_reset")
    vm.qmp.ok("query-jobs")


@story
def create(stage):
    """Images are created as jobs: one with every verb on the way, one that is cancelled, one that fails."""
    vm = chain(stage, "n1")
    slow_group(vm)
    for name in ("r1", "r2"):
        options = {
            "driver": "qcow2",
            "file": throttled(vm, file_node(vm, stage, f"{name}.file")),
            "size": 1 << 20,
        }
        vm.qmp.ok("blockdev-create", {"job-id": name, "options": options})
        slowly_run(vm, name)
        do(vm, "pause", name)  # which the job never notices
        if name == "r2":
            do(vm, "cancel", name)
        reaches(vm, name, "concluded")
        concluded(vm, name)
    vm.qmp.ok(
        "blockdev-create", {"job-id": "r3", "options": {"driver": "file", "filename": "no/such", "size": 0}}
    )
    reaches(vm, "r3", "concluded")
    concluded(vm, "r3")
    leave(vm)


def encrypted(stage, name, form, *options):
    """Create an encrypted image that the secret s0 opens; 7.2 measures the CPU first, and does not always succeed."""
    secret = ["--object", "secret,id=s0,data=of s0", "-o", ",".join(options)]
    command = [stage.qemu.img, "create", "-q", "-f", form, *secret, name, "1M"]
    for _ in range(50):
        if subprocess.run(command, cwd=stage.run, check=False, stderr=subprocess.DEVNULL).returncode == 0:
            return name
    raise RuntimeError(f"{name} cannot be created")


#: A second key for an encrypted image.
SECOND_KEY = {"state": "active", "new-secret": "s1", "iter-time": 10}


def with_secrets(stage):
    """Start a VM that has a key and another one."""
    vm = chain(stage, "n1")
    for name in ("s0", "s1"):
        vm.qmp.ok("object-add", {"qom-type": "secret", "id": name, "data": f"of {name}"})
    return vm


@story
def amend(stage):
    """An encrypted image is amended as a job: nothing is changed; it is given a second key, with every verb."""
    encrypted(
        stage, "l1.qcow2", "qcow2", "encrypt.format=luks", "encrypt.key-secret=s0", "encrypt.iter-time=10"
    )
    vm = with_secrets(stage)
    slow_group(vm)
    vm.qmp.ok("blockdev-add", {"driver": "file", "node-name": "l1.file", "filename": "l1.qcow2"})
    key = {"format": "luks", "key-secret": "s0"}
    file = throttled(vm, "l1.file")
    vm.qmp.ok("blockdev-add", {"driver": "qcow2", "node-name": "l1", "file": file, "encrypt": key})
    vm.qmp.ok("x-blockdev-amend", {"job-id": "a0", "node-name": "l1", "options": {"driver": "qcow2"}})
    reaches(vm, "a0", "concluded")
    concluded(vm, "a0")
    options = {"driver": "qcow2", "encrypt": {"format": "luks", **SECOND_KEY}}
    vm.qmp.ok("x-blockdev-amend", {"job-id": "a1", "node-name": "l1", "options": options})
    slowly_run(vm, "a1")
    reaches(vm, "a1", "concluded")
    concluded(vm, "a1")
    leave(vm)


@story
def amend_luks(stage):
    """A LUKS image is given a second key as a job: 7.2 does it, 10.0 aborts (block/graph-lock.c bdrv_graph_rdlock_main_loop())."""
    encrypted(stage, "l1.luks", "luks", "key-secret=s0", "iter-time=10")
    vm = with_secrets(stage)
    file = {"driver": "file", "filename": "l1.luks"}
    vm.qmp.ok("blockdev-add", {"driver": "luks", "node-name": "l1", "file": file, "key-secret": "s0"})
    vm.qmp.post(
        "x-blockdev-amend", {"job-id": "a1", "node-name": "l1", "options": {"driver": "luks", **SECOND_KEY}}
    )
    with contextlib.suppress(Closed):
        reaches(vm, "a1", "concluded")
        concluded(vm, "a1")
        vm.qmp.ok("quit")
    vm.qmp.closed()
    vm.wait()


@story
def snapshot_verbs(stage):
    """Every verb right behind a snapshot that is saved, loaded and deleted: QEMU serves nobody before it is over."""
    vm = chain(stage, "n1")
    where = {"tag": "one", "vmstate": "n1", "devices": ["n1"]}
    for name, execute in (
        ("save", "snapshot-save"),
        ("load", "snapshot-load"),
        ("delete", "snapshot-delete"),
    ):
        arguments = {key: where[key] for key in where if key != "vmstate" or name != "delete"}
        vm.qmp.post(execute, {"job-id": name, **arguments})
        for verb in TAKEN:
            if verb != "dismiss":
                ask(vm, verb, name)
        reaches(vm, name, "concluded")
        vm.qmp.ok("query-status")
        concluded(vm, name)
        vm.qmp.post(execute, {"job-id": f"{name}2", **arguments, "tag": "two"})
        vm.qmp.post("system_reset")
        reaches(vm, f"{name}2", "concluded")
        vm.qmp.ok("query-status")
        moves(vm, "dismiss", f"{name}2", "null")
    leave(vm)


def pair(vm, names, *, grouped=True, **more):
    """Back up two disks in one transaction; the second takes for ever."""
    actions = [
        {
            "type": "blockdev-backup",
            "data": {
                "job-id": name,
                "device": f"n{at}",
                "target": f"t{at}",
                "sync": "full",
                "speed": at - 1,
                **more,
            },
        }
        for at, name in enumerate(names, 1)
    ]
    return vm.qmp.command(
        "transaction",
        {"actions": actions, "properties": {"completion-mode": "grouped" if grouped else "individual"}},
    )


@story
def job_transaction(stage):
    """Two backups of one transaction: the quick one waits for the slow one, with every verb; cancelled, failed, finalized together."""
    vm = chain(stage, "n1")
    for name in ("n2", "t1", "t2"):
        add_node(vm, name, image(stage, name, full=name == "n2"))
    for names, cancelled in ((("a1", "a2"), "a1"), (("b1", "b2"), "b2")):
        pair(vm, names, **MANUAL)
        reaches(vm, names[0], "waiting")
        refuses(vm, names[0], "waiting")
        vm.qmp.ok("query-jobs")
        vm.qmp.ok("system_reset")
        vm.qmp.forget()
        do(vm, "cancel", cancelled, block=cancelled == "b2")
        for name in names:
            reaches(vm, name, "concluded")
        vm.qmp.ok("query-jobs")
        for name in names:
            concluded(vm, name)
    pair(vm, ("c1", "c2"), **MANUAL)
    reaches(vm, "c1", "waiting")
    do(vm, "set-speed", "c2", speed=0)
    for name in ("c1", "c2"):
        reaches(vm, name, "pending")
    do(vm, "finalize", "c1")
    for name in ("c1", "c2"):
        reaches(vm, name, "concluded")
        do(vm, "dismiss", name)
    pair(vm, ("d1", "d2"), grouped=False)
    reaches(vm, "d1", "null")
    moves(vm, "cancel", "d2", "null")
    answer = pair(vm, ("e1", "e1"))
    assert "error" in answer
    vm.qmp.ok("query-jobs")
    leave(vm)


@story
def job_refused(stage):
    """Jobs that QEMU takes back before they run: a speed below zero, a name for the filter that is in use."""
    vm = chain(stage, "base", "top")
    add_node(vm, "t1", stage.image("t1.qcow2"))
    vm.qmp.refused(
        "blockdev-mirror", {"job-id": "m1", "device": "top", "target": "t1", "sync": "full", "speed": -1}
    )
    vm.qmp.refused(
        "block-commit", {"job-id": "c1", "device": "top", "base-node": "base", "filter-node-name": "t1"}
    )
    vm.qmp.refused("block-stream", {"job-id": "s1", "device": "top", "speed": -1})
    vm.qmp.refused("blockdev-backup", {"job-id": "1!", "device": "top", "target": "t1", "sync": "full"})
    for verb in TAKEN:
        for block in families(verb):
            ask(vm, verb, "nosuch", block=block)
    vm.qmp.ok("query-jobs")
    leave(vm)


def failing(vm, stage, name, backing=None):
    """Add a node whose first read of data fails."""
    file = {
        "driver": "blkdebug",
        "inject-error": [{"event": "read_aio", "errno": 5, "once": True}],
        "image": {"driver": "file", "filename": image(stage, name)},
    }
    add_node(vm, name, file=file, backing=backing)
    return name


@story
def job_error(stage):
    """A request of a job fails: it stops and is resumed, with every verb before; it goes on by itself; it ends."""
    vm = chain(stage, "n1", more=SCSI)
    for at, policy in enumerate(("stop", "stop", "ignore", "report")):
        source = failing(vm, stage, f"e{at}")
        add_node(vm, f"t{at}", stage.image(f"t{at}.qcow2"))
        execute = "blockdev-backup" if at == 0 else "blockdev-mirror"
        arguments = {
            "device": source,
            "target": f"t{at}",
            "sync": "full",
            "on-source-error": policy,
            **MANUAL,
        }
        name = f"j{at}"
        vm.qmp.ok(execute, {"job-id": name, **arguments})
        vm.qmp.event("BLOCK_JOB_ERROR", device=name)
        if policy == "stop":
            time.sleep(0.2)
            vm.qmp.ok("query-block-jobs")
            refuses(vm, name, "paused")
            vm.qmp.ok("system_reset")
            ask(vm, "cancel", name, block=True)
            vm.qmp.forget()
            do(vm, "resume", name, block=at == 1)
        if at == 0:
            finished(vm, name)
            continue
        if policy != "report":
            reaches(vm, name, "ready")
            do(vm, "cancel", name)
        reaches(vm, name, "concluded")
        concluded(vm, name)
    leave(vm)


@story
def job_error_in_chain(stage):
    """A commit and a stream whose reads fail stop, are resumed, and end."""
    vm = chain(stage, "n1")
    add_node(vm, "base", image(stage, "base"), backing=None)
    failing(vm, stage, "mid", backing="base")
    add_node(vm, "top", stage.image("top.qcow2"), backing="mid")
    failing(vm, stage, "base2")
    add_node(vm, "top2", stage.image("top2.qcow2"), backing="base2")
    for name, execute, arguments in (
        ("c1", "block-commit", {"device": "top", "top-node": "mid", "base-node": "base"}),
        ("s1", "block-stream", {"device": "top2"}),
    ):
        vm.qmp.ok(execute, {"job-id": name, "on-error": "stop", **arguments})
        vm.qmp.event("BLOCK_JOB_ERROR", device=name)
        time.sleep(0.2)
        vm.qmp.ok("query-jobs")
        moves(vm, "resume", name, "null")
    leave(vm)
