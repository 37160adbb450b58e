"""The vocabulary of facts: every kind of record, and what its body holds.

A record is something that was seen or decided, never a state. It has

``seq``   its number: 1, 2, 3, ... per VM, never restarting, also not across segments
``time``  when we saw it, microseconds since 1970 (UTC); 0 where nobody knows. A label: ``seq`` is the truth
``kind``  one of the names below; a later version of a kind is written ``name/2``
``body``  a map of plain values, whose keys are given below

==================  =====================================================================================
kind                body
==================  =====================================================================================
``segment``         first item of every file: ``format`` "qemustate", ``version`` 1, ``vm`` name, ``segment``
                    number from 1, ``chain`` checksum of the segment before it (0 for the first);
                    optional ``source``: the foreign format this log was imported from, ``lacks``: list of
                    what the trace cannot show (see LACKS)
``snapshot``        ``state`` plain data of the state after record ``seq - 1``, ``tables`` hash of the tables
``closed``          the writer ended on purpose; last item of a log that was closed. Empty body
``gap``             facts may be missing here. ``why`` a sentence; optional ``missing`` number of records lost
``spawned``         a QEMU was started: ``argv`` list (secrets replaced), optional ``pid``, ``start`` (clock
                    ticks since boot, field 22 of /proc/PID/stat), ``boot`` the id of that boot (Linux
                    random(4)), ``binary``, ``monitor`` the path of our monitor's socket, ``stderr`` the
                    file that has its standard error; ``late`` true when what happened between then and
                    the next record was not seen
``exited``          that process ended: ``status`` int or ``signal`` int, or neither when nobody could see
``helper``          a helper process of the VM, by ``name`` (virtiofsd, swtpm, ...): started, with ``argv``,
                    ``pid``, ``start``, optional ``boot``; or ended, with ``status`` or ``signal``, or ``gone`` true
``opened``          a monitor connection was made; optional ``address``, ``first`` true when nobody can have
                    spoken on a monitor of this process before, ``alone`` true when nobody but us can have
                    spoken on this monitor since it was lost
``lost``            that connection ended; optional ``why``, ``by`` "us" when it was not QEMU that ended it, and
                    ``alone`` true when nobody but us is to use this monitor until it is opened again
``greeting``        a QMP message, see below
``command``         a QMP message sent to QEMU; optional ``fds``: how many file descriptors went with it
``reply``           a QMP message: ``return``
``failure``         a QMP message: ``error``
``event``           a QMP message
``malformed``       bytes that are no QMP message: ``data`` (bytes), ``from`` "qemu" or "client", ``error``
``deadline``        a deadline passed: ``waiting`` what for, ``id`` of the command or ``correlation`` of the
                    intent, ``after`` microseconds
``held``            the monitor did not greet: another client holds it
``begun``           an intent: ``intent`` its name, ``correlation`` its id, ``subject``; optional ``arguments``
                    from which it can be made again, ``steps`` list of ``[command, arguments, undo]`` that
                    it will send, ``undo`` ``[command, arguments]`` or nil (secrets replaced)
``ended``           that intent: ``correlation``, ``intent``, ``subject``, ``outcome`` "done", "refused" or
                    "unknown", ``why``; optional ``left`` list of commands that would take back what is left
``note``            a remark of a person or an importer: ``text``
==================  =====================================================================================

A QMP message's body has ``qmp``, the parsed object, and ``text``, its exact text, only where printing
``qmp`` the way its sender prints (QEMU: ``", "`` and ``": "``, ASCII; we: compact) would not give the
text back. ``text`` is a string, or bytes where it is no valid UTF-8. Where the object itself cannot be
kept (integers beyond 64 bits, lone surrogates, infinities, nesting deeper than 500) there is only
``text``, and :func:`qemustate.events.observe.parsed` reads the object from it.

``origin`` ``[file, line]`` may stand in any body of an imported record.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

#: Kinds whose body carries a QMP message.
MESSAGE_KINDS: Final = frozenset({"greeting", "command", "reply", "failure", "event"})

#: Every kind, in the order of the table above.
KINDS: Final = (
    "segment", "snapshot", "closed", "gap", "spawned", "exited", "helper", "opened", "lost",
    "greeting", "command", "reply", "failure", "event", "malformed",
    "deadline", "held", "begun", "ended", "note",
)  # fmt: skip

#: What a trace may lack; a rule that needs one of these is then *not checked*.
LACKS: Final = ("commands", "replies", "events", "times", "beginning", "process")


class Record(msgspec.Struct, frozen=True, gc=False):
    """One fact; see the module's table for ``kind`` and ``body``."""

    seq: int
    time: int
    kind: str
    body: dict[str, Any]
