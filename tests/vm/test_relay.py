"""Bytes and descriptors between two sockets: the same, at the same place, whatever the chunks."""

import asyncio
import contextlib
import os
import socket
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qemustate.vm.relay import HIGH_WATER, Way, close_all, receive


def exactly(sock):
    """Read a stream to its end byte by byte, as QEMU does: all bytes, and at which of them descriptors came."""
    data, places = bytearray(), []
    while True:
        byte, fds, _, _ = socket.recv_fds(sock, 1, 16)
        if not byte:
            return bytes(data), places
        if fds:
            places.append((len(data), len(fds)))
            close_all(fds)
        data += byte


@contextlib.contextmanager
def pairs():
    """Yield (source's far end, near end, sink's near end, far end)."""
    far, near = socket.socketpair()
    sink, reader = socket.socketpair()
    with far, near, sink, reader:
        yield far, near, sink, reader


class Watch:
    """Looks on: keeps all it is shown, and where descriptors were."""

    def __init__(self):
        self.data, self.places = bytearray(), []

    def __call__(self, data, fds):
        if fds:
            self.places.append((len(self.data), fds))
        self.data += data


async def relayed(near, sink, watch, *, late=False):
    """Relay one stream to its end."""
    way = Way(near, watch)
    if late:
        await way.source_ended
    way.deliver_to(sink)
    async with asyncio.timeout(60):
        await way.ended
    way.stop()


PIECES = st.lists(st.tuples(st.binary(min_size=1, max_size=30), st.integers(0, 3)), max_size=12)


@given(pieces=PIECES, late=st.booleans())
@settings(deadline=None, max_examples=100)
def test_descriptors_stay_at_their_byte(pieces, late):
    """However many pieces with and without descriptors lie in the socket at once, each descriptor keeps its byte."""
    read, write = os.pipe()
    with pairs() as (far, near, sink, reader):
        for data, count in pieces:
            socket.send_fds(far, [data], [read] * count)
        far.close()
        watch = Watch()
        asyncio.run(relayed(near, sink, watch, late=late))
        offsets = [sum(len(data) for data, _ in pieces[:index]) for index in range(len(pieces))]
        expected = [(offset, count) for offset, (_, count) in zip(offsets, pieces, strict=True) if count]
        seen = exactly(reader)
    os.close(read)
    os.close(write)
    assert seen == (b"".join(data for data, _ in pieces), expected)
    assert (bytes(watch.data), watch.places) == seen


@pytest.mark.usefixtures("no_leaks")
def test_a_passed_descriptor_is_the_same_file(tmp_path):
    """What comes out is the file that went in, and nothing stays open here."""
    with (tmp_path / "file").open("wb") as file, pairs() as (far, near, sink, reader):
        socket.send_fds(far, [b"take"], [file.fileno()])
        far.close()
        asyncio.run(relayed(near, sink, Watch()))
        data, fds, _, _ = socket.recv_fds(reader, 100, 16)
        assert data == b"take"
        assert os.fstat(fds[0]).st_ino == os.fstat(file.fileno()).st_ino
        close_all(fds)


def test_tens_of_megabytes_pass_unchanged():
    """A stream of 40 MB arrives whole while it is read slowly at first."""
    sent = os.urandom(1 << 20) * 40
    with pairs() as (far, near, sink, reader):
        writer = threading.Thread(target=lambda: (far.sendall(sent), far.shutdown(socket.SHUT_WR)))
        received = bytearray()

        def read():
            received.extend(reader.recv(1))
            while data := reader.recv(1 << 16):
                received.extend(data)

        reading = threading.Thread(target=read)
        writer.start()
        reading.start()
        watch = Watch()
        asyncio.run(relayed(near, sink, watch))
        writer.join()
        reading.join()
    assert received == sent
    assert watch.data == sent


def test_a_reader_that_does_not_read_holds_the_sender_back():
    """Only so much is kept for a reader that does not read; then the source is not read either."""

    async def scenario(far, near, sink):
        watch = Watch()
        way = Way(near, watch)
        way.deliver_to(sink)
        far.setblocking(False)
        sent = idle = 0
        while idle < 50:
            try:
                sent += far.send(bytes(1 << 16))
                idle = 0
            except BlockingIOError:
                idle += 1
            await asyncio.sleep(0.001)
        way.stop()
        return sent, len(watch.data)

    with pairs() as (far, near, sink, _):
        room = 2 * near.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        sent, seen = asyncio.run(scenario(far, near, sink))
    assert seen <= HIGH_WATER + 2 * (1 << 16) + room
    assert sent <= seen + room


@pytest.mark.parametrize("how", ["half", "whole"])
def test_the_end_is_passed_on_as_it_was(how):
    """A side that stops sending can still be sent to; a side that has gone cannot."""

    async def scenario(far, near, sink, reader):
        there, back = Way(near, Watch()), Way(sink, Watch())
        there.deliver_to(sink)
        back.deliver_to(near)
        far.sendall(b"last")
        far.shutdown(socket.SHUT_WR) if how == "half" else far.close()
        await there.ended
        assert await asyncio.to_thread(reader.recv, 100) == b"last"
        assert await asyncio.to_thread(reader.recv, 100) == b""
        if how == "half":
            reader.sendall(b"answer")
            reader.close()
            await back.ended
            assert far.recv(100) == b"answer"
        else:
            with pytest.raises(BrokenPipeError):
                reader.sendall(b"answer")
            await back.source_ended
        there.stop()
        back.stop()

    with pairs() as ends:
        asyncio.run(scenario(*ends))


def test_what_has_no_reader_any_more_is_still_looked_at():
    """When the sink's far end is gone, the rest of the stream is read and shown, and the end is reached."""
    with pairs() as (far, near, sink, reader):
        reader.close()
        far.sendall(b"nobody reads this")
        far.close()
        watch = Watch()
        asyncio.run(relayed(near, sink, watch))
    assert watch.data == b"nobody reads this"


def test_a_look_that_fails_does_not_stop_the_bytes():
    """A mistake of who looks on is reported, and the bytes pass."""

    def fail(_data, _fds):
        raise ZeroDivisionError

    async def scenario(near, sink):
        told = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
        await relayed(near, sink, fail)
        return told

    with pairs() as (far, near, sink, reader):
        far.sendall(b"passes")
        far.close()
        told = asyncio.run(scenario(near, sink))
        assert reader.recv(100) == b"passes"
    assert [type(it) for it in told] == [ZeroDivisionError]


def test_nothing_there_is_not_the_end():
    """No bytes yet is told from no bytes ever."""
    with pairs() as (far, near, _, _):
        with pytest.raises(BlockingIOError):
            receive(near)
        far.close()
        assert receive(near) == []
