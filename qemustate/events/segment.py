"""One segment file, read in blocks that are verified before they are decoded."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final, Self

from qemustate.errors import BadInput
from qemustate.events.codec import Item, NotAnItemError, decode_block, decode_item, leading_seq
from qemustate.events.damage import covered_crc, judge, next_running
from qemustate.events.format import CRC_BYTE, CRC_BYTES, ITEM_BYTE, Damage, Fault, looks_like_log

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Bytes read at once.
_CHUNK: Final = 1 << 20
#: Bytes verified and decoded at once: so few that a block's values die before the garbage collector looks
#: at them (measured: blocks of 16 KiB are read a third faster than blocks of 32 KiB).
_BLOCK: Final = 1 << 14
#: Places that look like the end of a block and are not, before its items are read one by one.
_GUESSES: Final = 8
#: No item is shorter.
_SHORTEST: Final = 10


class Segment:
    """Reads a segment from an item on.

    ``offset`` is the byte behind the last item delivered, ``running`` the segment's checksum up to there,
    ``seq`` the number of the next item (None: whatever it is). ``fault`` says why reading stopped, None
    when it stopped at the end of the file. Raises BadInput where there is no file that can be read.
    """

    def __init__(self, path: Path, *, offset: int = 0, running: int = 0, seq: int | None = None) -> None:
        self.path = path
        self.offset, self.running, self.seq = offset, running, seq
        self.fault: Fault | None = None
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise BadInput(str(path), expected="a log", seen=str(error.strerror)) from error
        if stat.S_ISDIR(os.fstat(self._fd).st_mode):
            os.close(self._fd)
            raise BadInput(str(path), expected="a log", seen="a directory")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def size(self) -> int:
        """Return the file's size in bytes."""
        return os.fstat(self._fd).st_size

    def claims_to_be_log(self) -> bool:
        """Say whether the file begins as a segment does, or is a cut-off beginning of one."""
        head = os.pread(self._fd, 32, 0)
        return looks_like_log(head) or (len(head) < 32 and head[:1] in {b"", bytes([ITEM_BYTE])})

    def blocks(self) -> Iterator[list[Item]]:
        """Yield lists of verified items, in order, up to the end of the file as it is now or a fault.

        May be called again to go on where it stopped.
        """
        self.fault = None
        data, want = b"", _CHUNK
        while True:
            more = os.pread(self._fd, want, self.offset + len(data))
            data += more
            done = 0
            while (block := self._fast(data, done) or self._careful(data, done)) is not None:
                items, end, crc = block
                self.offset += end - done
                self.running, self.seq, done = next_running(data, end, crc), items[-1][0] + 1, end
                yield items
            data = data[done:]
            if data and (not more or self.fault is not None):
                data = self._stop()
            if self.fault is not None or not (more or data):
                return
            # An item longer than what was read: twice as much each time keeps the work linear.
            want = max(_CHUNK, len(data))

    def skip(self, size: int) -> None:
        """Go on ``size`` bytes later, taking the checksum that stands before that place as right."""
        self.offset += size
        before = os.pread(self._fd, CRC_BYTES, self.offset - CRC_BYTES)
        self.running = next_running(before, CRC_BYTES, int.from_bytes(before[1:], "big"))
        self.seq = None

    def _fast(self, data: bytes, start: int) -> tuple[list[Item], int, int] | None:
        """Find a checksum with an item behind it that verifies all from ``start`` on; decode at once."""
        stop, guesses = start + _BLOCK, _GUESSES
        seq = leading_seq(data, start) if self.seq is None else self.seq
        if seq is None:
            return None
        while guesses:
            stop = data.rfind(ITEM_BYTE, start + _SHORTEST, stop)
            if stop < 0:
                return None
            if data[stop - CRC_BYTES] != CRC_BYTE:
                continue
            guesses -= 1
            crc = covered_crc(data, start, stop, self.running)
            behind = leading_seq(data, stop)
            if crc != int.from_bytes(data[stop - 4 : stop], "big") or behind is None:
                continue
            if not 0 < behind - seq <= (stop - start) // _SHORTEST:
                return None
            items = decode_block(data[start:stop], behind - seq)
            if items is None or items[0][0] != seq or items[-1][0] != behind - 1:
                return None
            return items, stop, crc
        return None

    def _careful(self, data: bytes, start: int) -> tuple[list[Item], int, int] | None:
        """Read one item; None when ``data`` ends inside it, or it is unsound, which ``fault`` then says."""
        window = _BLOCK
        try:
            while (found := decode_item(data[start : start + window])) is None:
                if start + window >= len(data):
                    return None
                window *= 8
        except NotAnItemError as error:
            self._note(Damage.BAD_ITEM, len(data) - start, "an item", str(error))
            return None
        item, length = found
        crc = covered_crc(data, start, start + length, self.running)
        if item[4] != crc or (self.seq is not None and item[0] != self.seq):
            self._note(Damage.BAD_CHECKSUM, length, f"checksum {crc:08x}", f"{item[4]:08x}")
            return None
        return [item], start + length, crc

    def _stop(self) -> bytes:
        """Look again at all that is left, and say what is wrong; return it when nothing is."""
        rest = b""
        while more := os.pread(self._fd, 1 << 26, self.offset + len(rest)):
            rest += more
        self.fault = None
        if not rest:
            return rest
        verdict = judge(rest, self.running, self.seq)
        if verdict is None:
            return rest
        self._note(*verdict)
        return b""

    def _note(self, damage: Damage, size: int, expected: str, seen: str) -> None:
        self.fault = Fault(damage, str(self.path), self.offset, size, expected, seen)
