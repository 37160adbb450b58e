"""Another process that serves a device, as far as QEMU asks for it before a guest drives it (vhost-user)."""

import contextlib
import os
import socket
import struct
import threading
from pathlib import Path

#: VIRTIO_F_VERSION_1, VHOST_USER_F_PROTOCOL_FEATURES; and of those MQ and CONFIG.
_FEATURES = 1 << 32 | 1 << 30
_PROTOCOL_FEATURES = 1 << 0 | 1 << 9
_REPLY = 0x1 | 0x4


class VhostUser:
    """Listens at `path` and serves whoever connects, in threads of its own; a context manager."""

    def __init__(self, path):
        self.path = str(path)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._open = []
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self):
        self._threads[0].start()
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for peer in self._open:
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for peer in self._open:
            peer.close()
        Path(self.path).unlink()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._listener.accept()
                self._open.append(peer)
                thread = threading.Thread(target=self._serve, args=(peer,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, peer):
        with contextlib.suppress(OSError):
            while header := self._receive(peer, 12):
                request, _, size = struct.unpack("<III", header)
                answer = _answer(request, self._receive(peer, size) if size else b"")
                if answer is not None:
                    peer.sendall(struct.pack("<III", request, _REPLY, len(answer)) + answer)

    @staticmethod
    def _receive(peer, size):
        data = b""
        while len(data) < size:
            piece, fds, _, _ = socket.recv_fds(peer, size - len(data), 16)
            for fd in fds:
                os.close(fd)
            if not piece:
                return b""
            data += piece
        return data


def _answer(request, payload):
    """Return the payload that answers a request, None where nothing is (QEMU docs/interop/vhost-user.rst)."""
    get_features, get_vring_base, get_protocol_features, get_queue_num, get_config = 1, 11, 15, 17, 24
    answers = {
        get_features: struct.pack("<Q", _FEATURES),
        get_protocol_features: struct.pack("<Q", _PROTOCOL_FEATURES),
        get_queue_num: struct.pack("<Q", 8),
        get_vring_base: payload[:4] + bytes(4),
        get_config: payload[:12] + bytes(max(0, len(payload) - 12)),
    }
    return answers.get(request)
