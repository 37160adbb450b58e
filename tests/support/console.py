"""The guest's serial port: command lines in, their output and status out."""

import re
import time

from support.monitor import Closed, connect

PROMPT = re.compile(rb"@@RC=(\d+)@@\r?\n")


class Console:
    """Runs command lines in the guest, one at a time."""

    def __init__(self, path, alive):
        self._socket = connect(path, alive)
        self._seen = b""

    def ready(self, timeout=180):
        """Wait until the guest is there (again)."""
        self._until(re.compile(rb"@@READY@@\r?\n"), timeout)

    def post(self, line):
        """Type a line and wait for nothing."""
        self._socket.sendall(line.encode() + b"\n")

    def run(self, line, timeout=60):
        """Run a line and return (status, output)."""
        self.post(line)
        return self.answer(timeout)

    def answer(self, timeout=60):
        """Return the (status, output) of a line that was posted."""
        output, found = self._until(PROMPT, timeout)
        return int(found[1]), output.decode(errors="replace").strip()

    def settles(self, line, timeout=60):
        """Run a line again and again until its status is 0."""
        deadline = time.monotonic() + timeout
        while self.run(line)[0]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"in the guest: {line}")
            time.sleep(0.1)

    def close(self):
        """Hang up."""
        self._socket.close()

    def _until(self, pattern, timeout):
        deadline = time.monotonic() + timeout
        while not (found := pattern.search(self._seen)):
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(
                    f"the guest did not say {pattern.pattern!r} in {timeout} s: {self._seen[-300:]!r}"
                )
            self._socket.settimeout(left)
            try:
                data = self._socket.recv(4096)
            except TimeoutError:
                continue
            if not data:
                raise Closed("QEMU closed the serial port")
            self._seen += data
        before, self._seen = self._seen[: found.start()], self._seen[found.end() :]
        return before, found
