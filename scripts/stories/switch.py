"""A network card whose packets another process moves (vhost-user), and that process, in as little as QEMU takes for one."""

import contextlib
import socket
import struct
import threading
import time

from stories.stage import PORTS, gone, leave, look, plug, remove, story
from stories.vhost import SHARED


class Switch:
    """The least that QEMU takes for the other side of a vhost-user netdev: it answers, and moves no packet."""

    #: Request -> the answer (QEMU docs/interop/vhost-user.rst): features, protocol features, a ring's base, a queue count.
    ANSWERS = {1: 1 << 30 | 1 << 32, 11: 0, 15: 0, 17: 1}  # noqa: RUF012 - a constant

    def __init__(self, path):
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(str(path))
        self._server.listen()
        self._peer = None
        threading.Thread(target=self._serve, daemon=True).start()

    def drop(self):
        """Hang up on QEMU."""
        self._peer.shutdown(socket.SHUT_RDWR)

    def close(self):
        """Stop listening."""
        self._server.close()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                self._peer, _ = self._server.accept()
                with self._peer:
                    self._talk(self._peer)

    def _talk(self, peer):
        while len(head := peer.recv(12, socket.MSG_WAITALL)) == 12:
            request, flags, size = struct.unpack("<III", head)
            body = peer.recv(size, socket.MSG_WAITALL) if size else b""
            if request in self.ANSWERS:
                answer = (
                    struct.pack("<II", body[0], 0)
                    if request == 11
                    else struct.pack("<Q", self.ANSWERS[request])
                )
                peer.sendall(struct.pack("<III", request, flags & 3 | 4, len(answer)) + answer)


@story
def vhost_user_net(stage):
    """A network card on a switch in another process, which hangs up and is there again (10.0 says so); the netdev takes its chardev along."""
    switch = Switch(stage.run / "net.sock")
    vm = stage.machine(*SHARED, *PORTS, append="guest.nodrivers")
    vm.boot()
    address = {"type": "unix", "data": {"path": "net.sock"}}
    backend = {"type": "socket", "data": {"addr": address, "server": False, "reconnect": 1}}
    vm.qmp.ok("chardev-add", {"id": "c1", "backend": backend})
    vm.qmp.ok("netdev_add", {"type": "vhost-user", "id": "nd1", "chardev": "c1"})
    plug(vm, "net1", "virtio-net-pci", netdev="nd1")
    vm.console.settles("test -d /sys/bus/pci/devices/0000:01:00.0")
    vm.qmp.refused("chardev-remove", {"id": "c1"})
    switch.drop()
    time.sleep(2)
    look(vm)
    remove(vm, "net1")
    gone(vm, "net1")
    vm.qmp.ok("netdev_del", {"id": "nd1"})
    vm.qmp.refused("chardev-remove", {"id": "c1"})
    vm.qmp.ok("query-chardev")
    leave(vm)
    switch.close()
