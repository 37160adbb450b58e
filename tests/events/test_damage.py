"""Where items go on behind damage, and how long finding that may take."""

from qemustate.events.codec import encode
from qemustate.events.damage import Resumption, judge, resume
from qemustate.events.format import Damage


def run(count, body=None, running=0):
    """Return the bytes of items 1, 2, ..., and the checksum before each."""
    data, befores = [], []
    for seq in range(1, count + 1):
        befores.append(running)
        item, running = encode(seq, 0, "note", body or {"n": seq}, running)
        data.append(item)
    return data, befores


def test_items_go_on_behind_the_first_that_is_whole():
    """Behind a damaged item, the next but one is found: its predecessor's checksum vouches for it."""
    data, befores = run(4)
    rest = b"\xc1" + b"".join(data)[1:]

    assert resume(rest) == Resumption(len(data[0]), befores[1], 2)
    assert judge(rest, 0, 1).size == len(data[0])


def test_nothing_goes_on_behind_the_last():
    """Where nothing verifies, all of the rest is damage."""
    data, _ = run(1)

    assert resume(data[0]) is None
    assert resume(b"") is None
    assert judge(data[0][:-1] + b"\xff\xff", 0, 1).size == len(data[0]) + 1


def test_a_long_item_is_found_too():
    """An item of megabytes behind damage is as good as a short one."""
    data, _ = run(2, {"data": bytes(3 << 20)})

    assert resume(b"\xc1" + data[0][1:] + data[1]).seq == 2


def test_hostile_bytes_cost_a_few_passes():
    """Bytes that look like the beginning of huge items everywhere are given up on, not tried one by one."""
    trap = b"\xce\x00\x00\x00\x00\x95\x01\x00\xa1a\x81\xa1a\xc6\x00\x7f\xff\xff"

    assert resume(trap * 20_000) is None


def test_a_sound_item_is_nothing_wrong():
    """What has been completed since is not judged damaged."""
    data, _ = run(1)

    assert judge(data[0], 0, 1) is None
    assert judge(data[0], 0, None) is None
    assert judge(data[0], 0, 2).damage is Damage.WRONG_SEQUENCE
    assert judge(data[0], 1, 1).damage is Damage.BAD_CHECKSUM
