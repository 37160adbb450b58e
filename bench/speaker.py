"""A QEMU that talks: ``speaker.py SOCKET FILE`` answers every command with the events in FILE, then with a reply.

One client at a time. A program of its own, so that what it takes is not counted against who listens.
"""

import json
import socket
import sys
from pathlib import Path

GREETING = {"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}, "capabilities": ["oob"]}}  # fmt: skip


def commands(connection):
    """Yield the commands of a client that waits for each answer."""
    text = b""
    while data := connection.recv(65536):
        text += data
        try:
            command = json.loads(text)
        except ValueError:
            continue
        text = b""
        yield command


def main(path, events):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    print("listening", flush=True)
    while True:
        connection, _ = listener.accept()
        connection.sendall(json.dumps(GREETING).encode() + b"\r\n")
        for command in commands(connection):
            if command["execute"] != "qmp_capabilities":
                connection.sendall(events)
            reply = {"return": {}, **{name: command[name] for name in ("id",) if name in command}}
            connection.sendall(json.dumps(reply).encode() + b"\r\n")
        connection.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]).read_bytes())
