"""The traffic of the benchmarks is what their figures say it is."""

import json
from collections import Counter

import pytest

from bench import mix
from bench.driven import TABLES, Driven
from qemustate.events.reader import LogReader
from qemustate.replay.check import check
from qemustate.replay.source import Source


@pytest.fixture(scope="module")
def texts():
    """Return 10,000 messages of the mix, parsed."""
    return [json.loads(text) for _, text in mix.messages(10_000)]


def test_the_mix_is_the_same_every_time(texts):
    """A seed is a seed: two runs measure the same bytes."""
    assert [json.loads(text) for _, text in mix.messages(10_000)] == texts


def test_the_shares_are_as_told(texts):
    """55 % events of seven names, and one draw in two hundred a block query with a reply of 5 kB."""
    events = Counter(body["event"] for body in texts if "event" in body)
    queries = {body["id"] for body in texts if body.get("execute") == "query-block"}
    sizes = [len(json.dumps(body)) for body in texts if "return" in body and body["id"] in queries]
    draws = len(texts) - sum("execute" in body for body in texts)

    assert events.total() / len(texts) == pytest.approx(0.55, abs=0.001)
    assert set(events) == {"DEVICE_DELETED", "JOB_STATUS_CHANGE", "RTC_CHANGE", "NIC_RX_FILTER_CHANGED", "BALLOON_CHANGE", "STOP", "RESUME"}  # fmt: skip
    assert len(queries) / draws == pytest.approx(0.005, abs=0.0005)
    assert min(sizes) > 4_500
    assert max(sizes) < 5_500


def test_the_mix_breaks_no_rule(tmp_path):
    """QEMU could have sent it: the rules find nothing, and lack nothing."""
    mix.write_log(tmp_path / "log", 2_000)
    report = check(Source(tmp_path / "log").vms[0])

    # It is cut off anywhere, perhaps between a command and its reply, which is worth a note.
    assert {it.severity for it in report.findings} <= {"note"}
    assert report.vm.watch.runstate.names(report.vm.runstate.belief) in {("paused",), ("running",)}


def test_the_driven_fold_ends_where_ours_does(tmp_path):
    """The transitions machines that ours is measured against come to the same run state and devices."""
    mix.write_log(tmp_path / "log", 2_000)
    driven = Driven()
    fired = driven.fold(LogReader(tmp_path / "log").batches())
    vm = check(Source(tmp_path / "log").vms[0]).vm
    devices = {name: vm.names("device", cell) for name, cell in vm.devices.items() if name.startswith("vd")}

    assert fired > 0
    assert set(TABLES) == {"runstate", *driven.things}
    assert vm.names("runstate", vm.runstate) == (driven.runstate.state,)
    assert devices == {name: (thing.state,) for name, thing in driven.things["device"].items()}


def test_a_trace_of_the_mix_is_imported_whole(tmp_path):
    """The recorded sockets that import is measured on hold every message."""
    mix.write_jsonl(tmp_path / "trace.jsonl", 500)
    trace = Source(tmp_path / "trace.jsonl").vms[0]
    kinds = Counter(kind for kind, _, _ in trace.entries())

    assert kinds["event"] + kinds["command"] + kinds["reply"] + kinds["greeting"] == 500
    assert trace.skipped.count == 0
