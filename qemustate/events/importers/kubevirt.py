r"""libvirt's log as KubeVirt's virt-launcher prints it: a JSON object for each line.

::

    {"component":"virt-launcher","level":"info","msg":"QEMU_MONITOR_RECV_EVENT: mon=0x7f... event={...}",
     "pos":"qemuMonitorJSONIOProcessLine:205","subcomponent":"libvirt","thread":"80","timestamp":"2023-...Z"}

The second line of a message of two is an object of its own, without ``pos``. Turned on by the annotation
``kubevirt.io/libvirt-log-filters``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from qemustate.events.importers import libvirt, libvirt_follow
from qemustate.events.importers.conversation import Entry, Found, Skipped
from qemustate.events.importers.files import LINE_LIMIT, TraceFile, blocks, whole_lines

#: What must stand in a line that libvirt wrote.
_SIGN: Final = b'"subcomponent":"libvirt"'


class _Line(msgspec.Struct):
    msg: str
    level: str = "info"
    pos: str = ""
    thread: str = "0"
    timestamp: str = ""


_decode = msgspec.json.Decoder(_Line).decode


def sniff(head: bytes) -> bool:
    """Say whether a line is one of libvirt's, wrapped."""
    return head.lstrip().startswith(b"{") and _SIGN in head


def find(files: Sequence[TraceFile]) -> list[Found]:
    """Return the VMs that the files tell of. Raises BadInput where a file cannot be read."""
    return libvirt.find(files, _unwrapped)


def follow(file: TraceFile, skipped: Skipped) -> Iterator[tuple[str, Entry]]:
    """Return the entries of a growing log's VMs, each with the VM's name. Raises BadInput where it cannot be read."""
    return libvirt_follow.read(file, skipped, _unwrapped)


def _unwrapped(file: TraceFile) -> Iterator[tuple[int, bytes]]:
    """Yield blocks of lines as libvirt wrote them: one for each line of the file, whatever stood there."""
    first, text = 1, b""
    for _, block in blocks(file, together=False):
        text += b"".join(_unwrap(line) + b"\n" for line in block.removesuffix(b"\n").split(b"\n"))
        if end := whole_lines(text):
            yield first, text[:end]
            first, text = first + text.count(b"\n", 0, end), text[end:]
    if text:
        yield first, text


def _unwrap(line: bytes) -> bytes:
    if _SIGN not in line or len(line) > LINE_LIMIT:
        return b""
    try:
        it = _decode(line)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return b""
    text = it.msg.replace("\r", "").replace("\n", "\n ").encode("utf-8", "surrogateescape")
    if not it.pos:
        return b" " + text.replace(b"\n", b" ")
    day, _, clock = it.timestamp.rstrip("Z").partition("T")
    head = f"{day} {clock[:12]:0<12}+0000: {it.thread}: {it.level} : {it.pos} : "
    return head.encode("utf-8", "surrogateescape") + text.replace(b"\n", b" ")
