"""A QMP client on a raw socket, for recording and for judging: it leans on nothing of the package it helps to test."""

import contextlib
import json
import socket
import threading
import time


class Closed(Exception):
    """The monitor closed while something was waited for."""


class Refused(Exception):
    """QEMU answered a command with an error, which is `args[0]`: {"class", "desc"}."""


class Monitor:
    """One connection. A thread of its own reads, so that every line has the time at which it came.

    `wire` is a list of {"t", "dir", "raw"}, the exact text in the order of its times. Ids are 1, 2, ...
    """

    def __init__(self, path, *, alive=lambda: True, negotiate=True):
        self.wire = []
        self._changed = threading.Condition()
        self._replies = {}
        self._events = []
        self._ids = 0
        self._greeted = False
        self._eof = False
        self._socket = connect(path, alive)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if negotiate:
            self._wait(lambda: self._greeted or None, 60, "the greeting")
            self.ok("qmp_capabilities")

    def send(self, text):
        """Send the text as it is."""
        with self._changed:
            self.wire.append({"t": time.time(), "dir": "tx", "raw": text})
        try:
            self._socket.sendall(text.encode())
        except OSError as error:
            raise Closed(str(error)) from None

    def post(self, execute, arguments=None):
        """Send a command, wait for nothing, and return its id."""
        self._ids += 1
        message = {"execute": execute, **({"arguments": arguments} if arguments else {}), "id": self._ids}
        self.send(json.dumps(message) + "\n")
        return self._ids

    def reply(self, number, timeout=120):
        """Return the reply to the command with this id, an error reply included. Raises Closed, TimeoutError."""
        return self._wait(lambda: self._replies.pop(number, None), timeout, f"a reply to {number}")

    def command(self, execute, arguments=None, timeout=120):
        """Send a command and return its reply, an error reply included."""
        return self.reply(self.post(execute, arguments), timeout)

    def ok(self, execute, arguments=None, timeout=120):
        """Send a command and return what it returns. Raises Refused when QEMU answers with an error."""
        answer = self.command(execute, arguments, timeout)
        if "error" in answer:
            raise Refused(answer["error"], execute, arguments)
        return answer["return"]

    def refused(self, execute, arguments=None, timeout=120):
        """Send a command that QEMU must refuse, and return the error's text."""
        answer = self.command(execute, arguments, timeout)
        assert "error" in answer, f"{execute} {arguments} was accepted: {answer}"
        return answer["error"]["desc"]

    def event(self, name, timeout=60, **data):
        """Return the first event of this name (with these data) that nobody has asked for before."""

        def taken():
            for index, event in enumerate(self._events):
                if event["event"] == name and data.items() <= event.get("data", {}).items():
                    return self._events.pop(index)
            return None

        return self._wait(taken, timeout, f"the event {name} {data}")

    def forget(self):
        """Drop the events that nobody has asked for."""
        with self._changed:
            self._events.clear()

    def closed(self, timeout=60):
        """Wait until QEMU has closed the connection."""
        self._wait(lambda: self._eof or None, timeout, "end of file", ends=False)

    def close(self):
        """Hang up."""
        with contextlib.suppress(OSError):  # QEMU was first
            self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._socket.close()

    def _wait(self, ready, timeout, what, *, ends=True):
        deadline = time.monotonic() + timeout
        with self._changed:
            while (found := ready()) is None:
                if self._eof and ends:
                    raise Closed(f"closed while waiting for {what}")
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"{what} did not come in {timeout} s; events: {self._events[-5:]}")
                self._changed.wait(left)
            return found

    def _read(self):
        rest = b""
        while True:
            try:
                data = self._socket.recv(65536)
            except OSError:
                data = b""
            now = time.time()
            *lines, rest = (rest + data).split(b"\n")
            with self._changed:
                for line in lines:
                    self._take(now, line + b"\n")
                if not data:
                    if rest:
                        self._take(now, rest)
                    self._eof = True
                self._changed.notify_all()
            if not data:
                return

    def _take(self, now, line):
        text = line.decode()
        self.wire.append({"t": now, "dir": "rx", "raw": text})
        try:
            message = json.loads(text)
        except ValueError:
            return
        if "QMP" in message:
            self._greeted = True
        elif "event" in message:
            self._events.append(message)
        elif "id" in message:
            self._replies[message["id"]] = message


def connect(path, alive, timeout=30):
    """Connect to a Unix socket that QEMU is about to open. Raises Closed when QEMU is not alive any more."""
    deadline = time.monotonic() + timeout
    while True:
        end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            end.connect(str(path))
        except OSError:
            end.close()
            if not alive():
                raise Closed(f"QEMU ended before {path} was open") from None
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return end
