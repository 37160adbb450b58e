"""Who looks at the guest's screen: clients of VNC that come, are let in or not, and go."""

import contextlib
import socket
import struct
import time

from stories.stage import leave, story

VNC = ["-vnc", "unix:vnc.sock"]


class Viewer:
    """A VNC client that says no more than it must (RFC 6143), on a socket with a name of its own, or none."""

    def __init__(self, stage, name, server="vnc.sock"):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(30)
        with contextlib.chdir(stage.run):  # the name is told in QEMU's events
            if name:
                self._socket.bind(name)
            self._socket.connect(server)
        self._read(12)
        self._socket.sendall(b"RFB 003.008\n")

    def enter(self, kind=1):
        """Choose how to prove who one is: 1 is not at all, 2 a password, of which this knows none. Return whether QEMU lets it in."""
        kinds = self._read(self._read(1)[0])
        if kind not in kinds:
            return False
        self._socket.sendall(bytes([kind]))
        if kind == 2:
            self._socket.sendall(self._read(16))
        return struct.unpack(">I", self._read(4))[0] == 0

    def look(self):
        """Look, and let others look too; the screen's size and name come back."""
        self._socket.sendall(b"\1")
        width, height, _, length = struct.unpack(">HH16sI", self._read(24))
        return width, height, self._read(length)

    def leave(self):
        """Hang up."""
        self._socket.close()

    def _read(self, size):
        data = self._socket.recv(size, socket.MSG_WAITALL)
        assert len(data) == size, f"the VNC server hung up: {data!r}"
        return data


def watch(stage, vm, name):
    """Come, and look."""
    viewer = Viewer(stage, name)
    assert viewer.enter()
    vm.qmp.event("VNC_CONNECTED")
    viewer.look()
    vm.qmp.event("VNC_INITIALIZED")
    return viewer


@story
def vnc(stage):
    """VNC clients come and go, one of them before it looked; two at a time; one stays until QEMU ends."""
    vm = stage.bare(*VNC)
    vm.qmp.ok("query-vnc")
    vm.qmp.ok("cont")
    first = watch(stage, vm, "one")
    vm.qmp.ok("query-vnc")
    second = Viewer(stage, "two")
    vm.qmp.event("VNC_CONNECTED")
    vm.qmp.ok("query-vnc")
    second.leave()
    vm.qmp.event("VNC_DISCONNECTED")
    third = watch(stage, vm, "three")
    vm.qmp.ok("stop")
    vm.qmp.ok("system_reset")
    vm.qmp.ok("query-vnc-servers")
    first.leave()
    vm.qmp.event("VNC_DISCONNECTED")
    vm.qmp.ok("query-vnc")
    leave(vm)
    third.leave()


@story
def vnc_password(stage):
    """A VNC client without the password is connected and turned away; it is never one that looks."""
    vm = stage.bare("-vnc", "unix:vnc.sock,password=on")
    vm.qmp.ok("set_password", {"protocol": "vnc", "password": "secret"})
    for number in range(2):
        viewer = Viewer(stage, f"guest{number}")
        vm.qmp.event("VNC_CONNECTED")
        assert not viewer.enter(2)
        viewer.leave()
        vm.qmp.event("VNC_DISCONNECTED")
        vm.qmp.ok("query-vnc")
    leave(vm)


@story
def vnc_unnamed(stage):
    """VNC clients that QEMU cannot tell apart: sockets without a name, three of them, coming and going."""
    vm = stage.bare(*VNC)
    viewers = [watch(stage, vm, "") for _ in range(3)]
    vm.qmp.ok("query-vnc")
    for viewer in viewers[:2]:
        viewer.leave()
        vm.qmp.event("VNC_DISCONNECTED")
        vm.qmp.ok("query-vnc")
    time.sleep(0.2)
    leave(vm)
    viewers[2].leave()
