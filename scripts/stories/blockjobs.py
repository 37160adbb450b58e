"""Block jobs of every type, with every verb in every status that lasts, and what becomes of the nodes."""

import subprocess
import time

from stories.stage import add_node, leave, story

#: Nothing goes by itself.
MANUAL = {"auto-finalize": False, "auto-dismiss": False}

#: A bus on which disks come and go at once.
SCSI = ["-device", "virtio-scsi-pci,id=scsi0"]

#: job.c JobVerbTable: verb -> the statuses in which a job takes it, of those that last.
_MOVING = "running paused ready standby"
TAKEN = {
    "cancel": f"{_MOVING} waiting pending",
    "pause": _MOVING,
    "resume": _MOVING,
    "set-speed": _MOVING,
    "change": _MOVING,
    "complete": "ready standby",
    "finalize": "pending",
    "dismiss": "concluded",
}


#: Verbs that only the block-job-* family of commands has.
OF_BLOCK_JOBS = ("set-speed", "change")


def families(verb):
    """Return for each family of commands that has a verb whether it is block-job-*."""
    return (True,) if verb in OF_BLOCK_JOBS else (False, True)


def ask(vm, verb, name, *, block=False, **more):
    """Send a verb, by its command of the job-* or of the block-job-* family, and return the answer."""
    word = "block-job" if block or verb in OF_BLOCK_JOBS else "job"
    key = "device" if word == "block-job" and verb not in ("change", "dismiss", "finalize") else "id"
    if verb == "set-speed":
        more = {"speed": 1, **more}
    if verb == "change":
        more = {"type": "mirror", "copy-mode": "write-blocking", **more}
    return vm.qmp.command(f"{word}-{verb}", {key: name, **more})


def do(vm, verb, name, **more):
    """Send a verb that must be taken."""
    answer = ask(vm, verb, name, **more)
    assert "return" in answer, (verb, name, answer)


def reaches(vm, name, status):
    """Wait until a job tells this status."""
    vm.qmp.event("JOB_STATUS_CHANGE", id=name, status=status)


def moves(vm, verb, name, status, **more):
    """Send a verb and wait for the status it leads to."""
    vm.qmp.forget()
    do(vm, verb, name, **more)
    reaches(vm, name, status)


def refuses(vm, name, status):
    """Send every verb that a job of this status does not take, by both families of commands."""
    for verb, statuses in TAKEN.items():
        if status not in statuses.split():
            for block in families(verb):
                answer = ask(vm, verb, name, block=block)
                assert "error" in answer, (verb, name, status, answer)


def handled(vm, name, status="running", paused="paused", *, reset=True):
    """Do with a job what can be done without ending it, in a status and in the one it is paused in."""
    refuses(vm, name, status)
    ask(vm, "resume", name)  # not paused
    ask(vm, "change", name)  # since 8.2, and of a mirror only
    do(vm, "set-speed", name)
    moves(vm, "pause", name, paused)
    refuses(vm, name, paused)
    ask(vm, "pause", name, block=True)  # paused already
    ask(vm, "cancel", name, block=True)  # asks for force
    ask(vm, "change", name)
    do(vm, "set-speed", name)
    vm.qmp.ok("query-jobs")
    moves(vm, "resume", name, status)
    moves(vm, "pause", name, paused, block=True)
    moves(vm, "resume", name, status, block=True)
    if reset:
        vm.qmp.ok("system_reset")
        time.sleep(0.2)
        vm.qmp.ok("query-jobs")


def finished(vm, name, *, block=False):
    """Finalize a job that waits for it, and dismiss it."""
    reaches(vm, name, "pending")
    refuses(vm, name, "pending")
    vm.qmp.ok("query-jobs")
    moves(vm, "finalize", name, "concluded", block=block)
    concluded(vm, name, block=block)


def concluded(vm, name, *, block=False):
    """Dismiss a job that is over, after all else was refused."""
    refuses(vm, name, "concluded")
    vm.qmp.ok("query-jobs")
    vm.qmp.ok("query-block-jobs")
    moves(vm, "dismiss", name, "null", block=block)
    ask(vm, "dismiss", name)
    ask(vm, "cancel", name, block=True)


def image(stage, name, *, full=True):
    """Create an image with sixteen megabytes of data in it, or none."""
    filename = stage.image(f"{name}.qcow2")
    if full:
        command = [
            stage.qemu.img,
            "bench",
            "-w",
            "-c",
            "256",
            "-d",
            "1",
            "-s",
            "65536",
            "--pattern=7",
            filename,
        ]
        subprocess.run(command, cwd=stage.run, check=True, stdout=subprocess.DEVNULL)
    return filename


def node(stage, name, *, backing="", full=True):
    """Return the arguments of a qcow2 node on an image of its own."""
    text = f"driver=qcow2,node-name={name},file.driver=file,file.filename={image(stage, name, full=full)}"
    return ["-blockdev", f"{text},backing={backing}" if backing else text]


def chain(stage, *names, more=(), empty=()):
    """Start a VM with a disk on a chain of images, the base first, and let the firmware run."""
    arguments = [
        word
        for at, name in enumerate(names)
        for word in node(stage, name, backing=names[at - 1] if at else "", full=name not in empty)
    ]
    vm = stage.bare("-m", "32", *arguments, "-device", f"virtio-blk-pci,id=vd1,drive={names[-1]}", *more)
    vm.qmp.ok("cont")
    time.sleep(0.3)
    return vm


def nodes(vm):
    """Ask which nodes there are and which one the disk is on."""
    vm.qmp.ok("query-named-block-nodes", {"flat": True})
    return vm.qmp.ok("query-block")[0]["inserted"]["node-name"]


@story
def commit(stage):
    """An image of the middle is committed, with every verb and a reset; then the top one, and the disk is on the base."""
    vm = chain(stage, "base", "mid", "top")
    vm.qmp.ok(
        "block-commit",
        {"job-id": "c1", "device": "top", "top-node": "mid", "base-node": "base", "speed": 1, **MANUAL},
    )
    reaches(vm, "c1", "running")
    handled(vm, "c1")
    do(vm, "set-speed", "c1", speed=0)
    finished(vm, "c1")
    nodes(vm)
    vm.qmp.ok("blockdev-del", {"node-name": "mid"})
    vm.qmp.ok("block-commit", {"job-id": "c2", "device": "top", **MANUAL})
    reaches(vm, "c2", "ready")
    handled(vm, "c2", "ready", "standby")
    assert nodes(vm) != "base"
    vm.qmp.forget()
    do(vm, "complete", "c2")
    finished(vm, "c2", block=True)
    assert nodes(vm) == "base"
    vm.qmp.ok("blockdev-del", {"node-name": "top"})
    vm.qmp.refused("blockdev-del", {"node-name": "base"})
    leave(vm)


@story
def commit_cancelled(stage):
    """A commit of the top image is cancelled on the way, then when ready; another is told to complete and the disk is asked for nothing."""
    vm = chain(stage, "base", "top")
    for name, block in (("c1", False), ("c2", True)):
        vm.qmp.ok("block-commit", {"job-id": name, "device": "top", "speed": 1, **MANUAL})
        reaches(vm, name, "running")
        moves(vm, "pause", name, "paused")
        moves(vm, "cancel", name, "concluded", block=block, **({"force": True} if block else {}))
        concluded(vm, name, block=block)
    vm.qmp.ok("block-commit", {"job-id": "c3", "device": "top"})
    reaches(vm, "c3", "ready")
    moves(vm, "cancel", "c3", "null", block=True)
    vm.qmp.refused("blockdev-del", {"node-name": "top"})
    vm.qmp.ok("block-commit", {"job-id": "c4", "device": "top"})
    reaches(vm, "c4", "ready")
    moves(vm, "complete", "c4", "null", block=True)
    vm.qmp.ok("blockdev-del", {"node-name": "top"})
    leave(vm)


@story
def stream(stage):
    """The base is streamed into the top, with every verb and a reset; a second is cancelled on the way."""
    vm = chain(stage, "base", "mid", "top", empty=["mid", "top"])
    vm.qmp.ok("block-stream", {"job-id": "s1", "device": "mid", "speed": 1, **MANUAL})
    reaches(vm, "s1", "running")
    handled(vm, "s1")
    do(vm, "set-speed", "s1", speed=0)
    finished(vm, "s1")
    vm.qmp.ok("blockdev-del", {"node-name": "base"})
    for name, block in (("s2", False), ("s3", True)):
        vm.qmp.ok("block-stream", {"job-id": name, "device": "top", "speed": 1, **MANUAL})
        reaches(vm, name, "running")
        moves(vm, "cancel", name, "concluded", block=block)
        concluded(vm, name, block=block)
    vm.qmp.ok("block-stream", {"job-id": "s4", "device": "top"})
    reaches(vm, "s4", "null")
    vm.qmp.ok("blockdev-del", {"node-name": "mid"})
    nodes(vm)
    leave(vm)


@story
def mirror_verbs(stage):
    """A mirror with every verb while it runs, is ready, paused and pending; the disk moves to the target when it completes."""
    vm = chain(stage, "n1")
    add_node(vm, "t1", stage.image("t1.qcow2"))
    vm.qmp.ok(
        "blockdev-mirror",
        {"job-id": "m1", "device": "n1", "target": "t1", "sync": "full", "speed": 1, **MANUAL},
    )
    reaches(vm, "m1", "running")
    handled(vm, "m1")
    do(vm, "set-speed", "m1", speed=0)
    reaches(vm, "m1", "ready")
    handled(vm, "m1", "ready", "standby")
    for verb in ("pause", "resume"):
        vm.qmp.post(f"job-{verb}", {"id": "m1"})  # both before the job has noticed
    vm.qmp.ok("query-jobs")
    moves(vm, "pause", "m1", "standby")
    do(vm, "complete", "m1")
    moves(vm, "resume", "m1", "waiting")
    finished(vm, "m1")
    assert nodes(vm) == "t1"
    vm.qmp.ok("blockdev-del", {"node-name": "n1"})
    vm.qmp.refused("blockdev-del", {"node-name": "t1"})
    leave(vm)


@story
def mirror_left(stage):
    """Mirrors that leave the disk where it is: cancelled while paused, in standby, and when pending; and none after a reset."""
    vm = chain(stage, "n1")
    add_node(vm, "t1", stage.image("t1.qcow2"))
    arguments = {"device": "n1", "target": "t1", "sync": "full", **MANUAL}
    for name, speed, paused in (("m1", 1, "paused"), ("m2", 0, "standby")):
        vm.qmp.ok("blockdev-mirror", {"job-id": name, "speed": speed, **arguments})
        reaches(vm, name, "ready" if speed == 0 else "running")
        moves(vm, "pause", name, paused)
        moves(vm, "cancel", name, "concluded")
        concluded(vm, name)
    for name, block in (("m3", False), ("m3", True)):
        vm.qmp.ok("blockdev-mirror", {"job-id": name, **arguments})
        reaches(vm, name, "ready")
        moves(vm, "complete", name, "pending")
        vm.qmp.ok("system_reset")
        moves(vm, "cancel", name, "concluded", block=block)
        vm.qmp.ok("query-jobs")
        concluded(vm, name)
        assert nodes(vm) == "n1"
    leave(vm)


@story
def mirror_replaces(stage):
    """A mirror that replaces a node below the one the disk is on, and one of a node that no disk is on."""
    vm = chain(stage, "n1", more=SCSI)
    for name in ("b1", "t1", "t2"):
        add_node(vm, name, stage.image(f"{name}.qcow2"))
    child = {
        "driver": "qcow2",
        "node-name": "q0",
        "file": {"driver": "file", "filename": stage.image("q0.qcow2")},
    }
    vm.qmp.ok(
        "blockdev-add", {"driver": "quorum", "node-name": "q", "vote-threshold": 1, "children": [child]}
    )
    vm.qmp.ok("device_add", {"driver": "scsi-hd", "id": "vd2", "drive": "q", "bus": "scsi0.0"})
    for name, source, target, more in (("m1", "q", "t1", {"replaces": "q0"}), ("m2", "b1", "t2", {})):
        vm.qmp.ok(
            "blockdev-mirror", {"job-id": name, "device": source, "target": target, "sync": "full", **more}
        )
        reaches(vm, name, "ready")
        moves(vm, "complete", name, "null")
    nodes(vm)
    vm.qmp.refused("blockdev-del", {"node-name": "q"})
    vm.qmp.ok("device_del", {"id": "vd2"})
    vm.qmp.event("DEVICE_DELETED", device="vd2")
    vm.qmp.ok("blockdev-del", {"node-name": "q"})
    vm.qmp.ok("blockdev-del", {"node-name": "b1"})
    leave(vm)


@story
def backup_verbs(stage):
    """A backup with every verb, the block-job-* twins, and a reset; a second is cancelled when pending."""
    vm = chain(stage, "n1")
    add_node(vm, "t1", stage.image("t1.qcow2"))
    arguments = {"device": "n1", "target": "t1", "sync": "full", **MANUAL}
    vm.qmp.ok("blockdev-backup", {"job-id": "b1", "speed": 1, **arguments})
    reaches(vm, "b1", "running")
    handled(vm, "b1")
    do(vm, "set-speed", "b1", speed=0)
    finished(vm, "b1", block=True)
    vm.qmp.ok("blockdev-backup", {"job-id": "b2", **arguments})
    reaches(vm, "b2", "pending")
    moves(vm, "cancel", "b2", "concluded")
    concluded(vm, "b2")
    leave(vm)


@story
def job_drained(stage):
    """Jobs that QEMU pauses for a moment by itself: when the VM stops and goes on, and when a disk comes and goes."""
    vm = chain(stage, "n1", more=SCSI)
    for name in ("n2", "t1", "t2"):
        add_node(vm, name, image(stage, name, full=name == "n2"))
    vm.qmp.ok("device_add", {"driver": "scsi-hd", "id": "vd2", "drive": "n2", "bus": "scsi0.0"})
    vm.qmp.ok("blockdev-mirror", {"job-id": "m1", "device": "n1", "target": "t1", "sync": "full"})
    reaches(vm, "m1", "ready")
    vm.qmp.ok("blockdev-backup", {"job-id": "b1", "device": "n2", "target": "t2", "sync": "full", "speed": 1})
    for _ in range(2):
        vm.qmp.ok("stop")
        vm.qmp.ok("query-jobs")
        vm.qmp.ok("cont")
        vm.qmp.ok("query-jobs")
    vm.qmp.ok("system_reset")
    vm.qmp.ok("device_del", {"id": "vd2"})
    vm.qmp.event("DEVICE_DELETED", device="vd2")
    vm.qmp.ok("query-jobs")
    moves(vm, "cancel", "b1", "null")
    moves(vm, "complete", "m1", "null")
    vm.qmp.ok("query-jobs")
    leave(vm)


@story
def disk_moved(stage):
    """A disk is put on an overlay by three commands and taken back to the base by commits; QEMU reopens what is below."""
    vm = chain(stage, "n1")
    vm.qmp.ok(
        "blockdev-snapshot-sync",
        {"node-name": "n1", "snapshot-file": "over1.qcow2", "snapshot-node-name": "over1", "format": "qcow2"},
    )
    assert nodes(vm) == "over1"
    for name in ("over2", "over3"):
        file = {"driver": "file", "node-name": f"{name}.file", "filename": stage.image(f"{name}.qcow2")}
        add_node(vm, name, backing=None, file=file)
    vm.qmp.ok("blockdev-snapshot", {"node": "over1", "overlay": "over2"})
    assert nodes(vm) == "over2"
    vm.qmp.refused("blockdev-snapshot", {"node": "over1", "overlay": "over3"})
    actions = [{"type": "blockdev-snapshot", "data": {"node": "over2", "overlay": "over3"}}]
    vm.qmp.ok("transaction", {"actions": actions})
    assert nodes(vm) == "over3"
    options = {"driver": "qcow2", "node-name": "over3", "file": "over3.file", "backing": "n1"}
    vm.qmp.ok("blockdev-reopen", {"options": [options]})
    vm.qmp.ok("blockdev-del", {"node-name": "over2"})
    vm.qmp.refused("blockdev-del", {"node-name": "over3"})
    vm.qmp.ok("block-commit", {"job-id": "c1", "device": "over3"})
    reaches(vm, "c1", "ready")
    moves(vm, "complete", "c1", "null")
    assert nodes(vm) == "n1"
    vm.qmp.ok("blockdev-del", {"node-name": "over3"})
    vm.qmp.refused("blockdev-del", {"node-name": "n1"})
    leave(vm)
