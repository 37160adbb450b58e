"""Every fact goes into the log, then into the state, and only then to whoever acts on it.

Who wants to see what happens reads the log behind the writer, at its own pace (``qemustate.vm.cursor`` on this
loop, ``LogReader.follow`` in another thread or process): nothing is queued for it.

When the log cannot be written (see :mod:`qemustate.events.writer`) the VM comes first: messages still change
the state. Only a command that may change something is refused, since nobody could tell later that it was sent.
When the log works again the state is what the log can tell: that before the failure, and a gap.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from qemustate.errors import BadInput
from qemustate.events.observe import observed
from qemustate.events.reader import LogReader
from qemustate.events.redact import redact_bytes
from qemustate.events.together import observed_all
from qemustate.events.writer import LogWriter
from qemustate.qmp.framing import Malformed
from qemustate.qmp.messages import Command
from qemustate.statemachine.fold import apply, fold
from qemustate.statemachine.state import VM
from qemustate.statemachine.tables import HASH

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from qemustate.events.writer import Entry
    from qemustate.qmp.connection import Incoming
    from qemustate.qmp.messages import Message

#: Commands that change nothing, or that must work whatever the disk does (QAPI names; all ``query-*`` besides).
_ALWAYS: Final = frozenset({"qmp_capabilities", "quit", "qom-get", "qom-list", "qom-list-types", "qom-list-properties", "device-list-properties"})  # fmt: skip


class Scribe:
    """Writes facts to ``writer``, whose only user it is. For one thread."""

    def __init__(self, writer: LogWriter) -> None:
        self.writer = writer

    def record(self, kind: str, body: dict[str, Any]) -> None:
        """Record one fact of ours, seen now."""
        self._take([(kind, body, _now())])

    def relayed(self, messages: Sequence[Incoming], *, sender: Literal["qemu", "client"]) -> None:
        """Record messages seen now, in this order, of which none is ours; ``sender`` is whose they are."""
        if messages:
            now = _now()
            self._take([(kind, body, now) for kind, body in _entries(messages, sender)])

    def close(self) -> None:
        """Close the log."""
        self.writer.close()

    def _take(self, entries: list[Entry], *, required: bool = False) -> None:
        try:
            if len(entries) == 1:
                kind, body, at = entries[0]
                first = self.writer.append(kind, body, at, required=required)
            else:
                numbers = self.writer.append_many(entries)
                first = numbers.start if numbers else 0
        except BadInput as error:
            # One of them cannot be kept: all the others are, and a gap stands in its place.
            for kind, body, at in entries:
                if len(entries) == 1:
                    kind, body = "gap", {"why": f"a record that cannot be kept: {error}", "missing": 1}
                self._take([(kind, body, at)], required=required)
            return
        self._written(first, entries)

    def _written(self, first: int, entries: list[Entry]) -> None:
        """Go on after records were written from number ``first`` on, or dropped where that is 0."""


class Recorder(Scribe):
    """Folds what it writes into ``vm``, which is the state after all that the log holds so far."""

    def __init__(self, writer: LogWriter, vm: VM) -> None:
        super().__init__(writer)
        self.vm = vm
        #: Called, without arguments, after records were written and folded.
        self.on_growth: list[Callable[[], None]] = []
        #: Called with the state after each record that was folded; it tells what changed in ``changed``.
        self.on_record: list[Callable[[VM], None]] = []
        self._reader = LogReader(writer.path)
        #: The state that the log tells, while the log cannot be written.
        self._before: dict[str, Any] | None = None

    def messages(self, messages: Sequence[Incoming]) -> None:
        """Record messages of a session of ours.

        Raises RecordingFailed, and keeps nothing, for a command that may change something and cannot be
        recorded.
        """
        if len(messages) != 1:
            self.relayed(messages, sender="qemu")
            return
        # A command or its answer, and somebody waits for exactly this.
        message = messages[0]
        required = type(message) is Command and not _is_allowed_always(message.name)
        self._take_one(*_entry(message, "qemu"), _now(), required=required)

    def close(self) -> None:
        """Close the log; the state stays, and counts the log's last record."""
        super().close()
        if self.writer.seq > self.vm.seq:
            self._catch_up(self.writer.seq + 1)
        self._tell()

    def _tell(self) -> None:
        for tell in self.on_growth:
            tell()

    def _take(self, entries: list[Entry], *, required: bool = False) -> None:
        if self.writer.full and self._before is None:
            self.writer.rotate(self.vm.to_plain(), HASH)
        super()._take(entries, required=required)

    def _take_one(self, kind: str, body: dict[str, Any], at: int, *, required: bool) -> None:
        """Take a single entry as :meth:`_take` does, in fewer steps where nothing is in the way."""
        if self.writer.full:
            self._take([(kind, body, at)], required=required)
            return
        try:
            seq = self.writer.append(kind, body, at, required=required)
        except BadInput:
            self._take([(kind, body, at)], required=required)
            return
        if seq == self.vm.seq + 1 and self._before is None:
            self._apply(seq, at, kind, body)
            self._tell()
        else:
            self._written(seq, [(kind, body, at)])

    def _written(self, first: int, entries: list[Entry]) -> None:
        vm = self.vm
        if not first:
            if self._before is None:
                self._before = vm.to_plain()
            for kind, body, at in entries:
                self._apply(vm.seq, at, kind, body)
            return
        if first != vm.seq + 1 or self._before is not None:
            self._catch_up(first)
        step = self._apply if self.on_record else partial(apply, self.vm)
        for seq, (kind, body, at) in enumerate(entries, first):
            step(seq, at, kind, body)
        self._tell()

    def _apply(self, seq: int, at: int, kind: str, body: dict[str, Any]) -> None:
        apply(self.vm, seq, at, kind, body)
        if self.on_record:
            for tell in tuple(self.on_record):
                tell(self.vm)

    def _catch_up(self, seq: int) -> None:
        """Fold what the writer itself has put before record ``seq``: a gap, the head of a new segment."""
        if self._before is not None:
            self.vm, self._before = VM.from_plain(self._before), None
        for record in self._reader.records(self.vm.seq + 1):
            if record.seq >= seq:
                break
            apply(self.vm, record.seq, record.time, record.kind, record.body)


def open_recorder(
    path: str | os.PathLike[str],
    *,
    vm: str | None = None,
    on_state: Callable[[LogWriter], None] | None = None,
) -> Recorder:
    """Open the log ``path`` for a VM (a new one gets the name ``vm``, "vm" by default) and fold what it holds.

    ``on_state`` as for LogWriter. Raises what LogWriter raises.
    """
    writer = LogWriter(path, vm, on_state=on_state)
    try:
        return Recorder(writer, _folded(LogReader(path), writer.seq))
    except BaseException:
        writer.close()
        raise


def _folded(reader: LogReader, last: int) -> VM:
    """Return the state after all that a log holds, from its last snapshot on where these tables made that."""
    snapshot = reader.nearest_snapshot(last)
    if snapshot is None or (snapshot.body.get("tables") != HASH and reader.first_seq == 1):
        return fold(reader)
    return fold(reader.records(snapshot.seq), VM.from_plain(snapshot.body["state"]))


def _entries(messages: Sequence[Incoming], sender: str) -> list[tuple[str, dict[str, Any]]]:
    if Malformed in {*map(type, messages)}:
        return [_entry(message, sender) for message in messages]
    return observed_all(cast("Sequence[Message]", messages))


def _entry(message: Incoming, sender: str) -> tuple[str, dict[str, Any]]:
    if isinstance(message, Malformed):
        return "malformed", {"data": redact_bytes(message.data), "from": sender, "error": message.error}
    return observed(message)


def _is_allowed_always(command: str) -> bool:
    return command in _ALWAYS or command.startswith("query-")


def _now() -> int:
    return time.time_ns() // 1000
