r"""Many messages observed at once: the records that :func:`qemustate.events.observe.observed` makes of each, for less.

Nearly every message prints back as it came, and holds nothing that must not be kept. Of many together one look tells
that. The few with a sign that they may be otherwise (``@`` and ``=`` as secrets have, what is not ASCII, escapes,
floats, commands that take secrets) are taken out, and looked at one by one.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, Final, TypeAlias

from qemustate.events.format import MAX_DEPTH
from qemustate.events.observe import KINDS, is_shallow, observed, prints_back
from qemustate.events.redact import READS_SECRETS, takes_secrets
from qemustate.qmp.jsontext import Sender
from qemustate.qmp.messages import Command, Event, Message, Reply

#: The kind and the body of a record.
Observed: TypeAlias = tuple[str, dict[str, Any]]

#: Fewer than so many are as quick one by one.
_FEW: Final = 4

#: What a text has in it that may hold a secret, or print in more than one way: more than redact and prints_alike need.
_SIGNS: Final[dict[Sender, tuple[bytes, ...]]] = {
    "client": (b"@", b"=", b"passw", b"cookie"),
    "qemu": (b"@", b"=", b"\\", b"\x7f"),
}
_POINT: Final = re.compile(rb"\.(?<=[0-9]\.)[0-9]")
_KIND: Final = {cls: kind for cls, (kind, _) in KINDS.items()}
_NOT_ASCII: Final = re.compile(rb"[\x80-\xff]")


def observed_all(messages: Sequence[Message]) -> list[Observed]:
    """Return the kind and the body of the record that keeps each message."""
    if len(messages) < _FEW:
        return [observed(message) for message in messages]
    asked = [at for at, message in enumerate(messages) if type(message) is Command]
    if not asked:
        return _from_one_side(messages, "qemu")
    found = _from_one_side([message for message in messages if type(message) is not Command], "qemu")
    for at, ours in zip(asked, _from_one_side([messages[at] for at in asked], "client"), strict=True):
        found.insert(at, ours)
    return found


def _from_one_side(messages: Sequence[Message], sender: Sender) -> list[Observed]:
    alone = {*_signs([message.text for message in messages], sender)}
    alone.update([at for at, it in enumerate(messages) if type(it) is not Event and _may_have_secrets(it)])
    if not alone:
        return _plain(messages, sender)
    found = _plain([message for at, message in enumerate(messages) if at not in alone], sender)
    for at in sorted(alone):
        found.insert(at, observed(messages[at]))
    return found


def _signs(texts: list[bytes], sender: Sender) -> Iterator[int]:
    """Yield the numbers of the texts, from 0, that have a sign in them, or may be nested too deep."""
    together = b"\n".join(texts)
    found: list[int] = []
    for sign in _SIGNS[sender]:
        at = together.find(sign)
        while at >= 0:
            found.append(at)
            end = together.find(b"\n", at)
            at = together.find(sign, end) if end >= 0 else -1
    if sender == "qemu":
        found += [it.start() for it in _POINT.finditer(together)]
        if not together.isascii():
            found += [it.start() for it in _NOT_ASCII.finditer(together)]
    if found:
        ends = list(accumulate(len(text) + 1 for text in texts))
        yield from (bisect_right(ends, at) for at in found)
    if max(map(len, texts), default=0) >= MAX_DEPTH:
        yield from [at for at, text in enumerate(texts) if len(text) >= MAX_DEPTH and not is_shallow(text)]


def _may_have_secrets(message: Message) -> bool:
    """Say whether a message may have a secret in it, whatever its text; or has more to it than a text."""
    if type(message) is Command:
        return message.fds > 0 or takes_secrets(message.body)
    asked = message.command if type(message) is Reply else None
    return asked is not None and asked.name in READS_SECRETS


def _plain(messages: Sequence[Message], sender: Sender) -> list[Observed]:
    """Return what is observed of messages without a sign, which nearly always print back; or else of their halves."""
    if len(messages) < _FEW:
        return [observed(message) for message in messages]
    texts = [message.text for message in messages]
    values = [message.body for message in messages]
    # As if they were one: texts that are JSON each can be joined in one way only.
    if sender == "qemu":
        if prints_back(values, b"[%b]" % b", ".join(texts), "qemu"):
            return [(_KIND[type(message)], {"qmp": message.body}) for message in messages]
    elif b'": ' in texts[0]:
        # As Python's json prints: many clients do.
        if prints_back(values, b"[%b]" % b", ".join(texts), "qemu"):
            return [
                ("command", {"qmp": value, "text": text.decode()})
                for value, text in zip(values, texts, strict=True)
            ]
    elif prints_back(values, b"[%b]" % b",".join(texts), "client"):
        return [("command", {"qmp": value}) for value in values]
    middle = len(messages) // 2
    return _plain(messages[:middle], sender) + _plain(messages[middle:], sender)
