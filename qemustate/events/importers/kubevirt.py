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

from qemustate.events.importers import libvirt
from qemustate.events.importers.conversation import Found
from qemustate.events.importers.files import LINE_LIMIT, TraceFile, lines

#: What must stand in a line that libvirt wrote.
_SIGN: Final = b'"subcomponent":"libvirt"'
_BLOCK: Final = 256 << 10


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


def _unwrapped(file: TraceFile) -> Iterator[tuple[int, bytes]]:
    """Yield blocks of lines as libvirt wrote them: one for each line of the file, whatever stood there."""
    first, size = 1, 0
    block: list[bytes] = []
    for number, line in lines(file):
        text = _unwrap(line)
        if size > _BLOCK and not text.startswith(b" "):
            yield first, b"\n".join([*block, b""])
            first, size, block = number, 0, []
        block.append(text)
        size += len(text)
    yield first, b"\n".join([*block, b""])


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
