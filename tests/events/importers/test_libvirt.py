"""libvirt's logs: a real one whole, and made-up ones for each way a log can be."""

import json
import lzma
import re
from pathlib import Path

import pytest

from qemustate.events.importers import files
from qemustate.events.observe import parsed
from qemustate.replay.check import check
from qemustate.replay.source import ForeignTrace, Source, records
from qemustate.statemachine.fold import apply

REAL = Path(__file__).parent / "testdata" / "libvirt-9.0"

STAMP = "2024-03-01 12:00:{:02d}.000+0000: {}: {} : {} : {}\n"
GREETING = '{"QMP": {"version": {}, "capabilities": []}}'


class Log:
    """Writes a libvirt log line by line; each line is a second later."""

    def __init__(self, *, debug=True, end="\r"):
        self.text, self.second, self.debug, self.end = "", 0, debug, end

    def put(self, function, text, *, thread=7, level="info"):
        self.text += STAMP.format(self.second % 60, thread, level, function, text)
        self.second += 1
        return self

    def daemon(self):
        self.text += (
            f"2024-03-01 12:00:{self.second:02d}.000+0000: 1: info : libvirt version: 9.0.0, package: x\n"
        )
        return self

    def new(self, mon, *, thread=7):
        self.put("qemuMonitorOpenInternal:647", f"QEMU_MONITOR_NEW: mon={mon} fd=22")
        return self.line(GREETING, thread=thread) if self.debug else self

    def close(self, mon):
        return self.put("qemuMonitorClose:782", f"QEMU_MONITOR_CLOSE: mon={mon}")

    def line(self, text, *, thread=7, function="qemuMonitorJSONIOProcessLine:189"):
        return self.put(function, f"Line [{text}]", thread=thread, level="debug")

    def send(self, mon, text, *, fd=-1):
        self.put("qemuMonitorSend:861", f"QEMU_MONITOR_SEND_MSG: mon={mon} msg={text}{self.end}\n fd={fd}")
        return self.write(mon, text)

    def write(self, mon, text, *, written=None, thread=7):
        size = len(text) + 2
        told = f"len={size} ret={size if written is None else written} errno=0"
        return self.put(
            "qemuMonitorIOWrite:366",
            f"QEMU_MONITOR_IO_WRITE: mon={mon} buf={text}{self.end}\n {told}",
            thread=thread,
        )

    def reply(self, mon, text, *, thread=7):
        if self.debug:
            self.line(text, thread=thread)
        return self.put(
            "qemuMonitorJSONIOProcessLine:208",
            f"QEMU_MONITOR_RECV_REPLY: mon={mon} reply={text}",
            thread=thread,
        )

    def event(self, mon, name, *, thread=7):
        text = json.dumps({"event": name})
        if self.debug:
            self.line(text, thread=thread)
        return self.put(
            "qemuMonitorJSONIOProcessLine:203",
            f"QEMU_MONITOR_RECV_EVENT: mon={mon} event={text}",
            thread=thread,
        )

    def named(self, mon, name):
        return self.put(
            "qemuDomainObjEnterMonitorInternal:6107", f"Entering monitor (mon={mon} vm=0xff name={name})"
        )

    def ask(self, mon, name, *, thread=7, value="{}"):
        self.send(mon, f'{{"execute":"{name}","id":"libvirt-1"}}')
        return self.reply(mon, f'{{"return": {value}, "id": "libvirt-1"}}', thread=thread)

    def socket(self, mon, domain, *, thread=7):
        value = json.dumps(
            [{"filename": f"unix:/var/lib/libvirt/qemu/domain-{domain}/monitor.sock,server=on"}]
        )
        return self.ask(mon, "query-chardev", value=value, thread=thread)

    @property
    def bytes(self):
        return self.text.encode()


ASKED = ["qmp_capabilities", "reply"]


@pytest.mark.parametrize("end", ["\r", "", "^M", "#015"])
@pytest.mark.parametrize("debug", [True, False])
def test_each_message_is_taken_once(imported, end, debug):
    """Of the two or three tellings of a message one is taken, however the end of the command's line is shown."""
    log = (
        Log(debug=debug, end=end).new("0xa").ask("0xa", "qmp_capabilities").event("0xa", "STOP").close("0xa")
    )
    it = imported("libvirt", log.bytes)
    begin = ["opened", "greeting"] if debug else []
    assert it.said == [*begin, *ASKED, "STOP", "lost"]
    assert it.name == "0xa"
    assert it.skipped.count == 0
    assert it.lacks == ("beginning", "process")


def test_one_physical_line(imported):
    """A command whose fd stands on its own line or on the same is one command; fd=-1 is none."""
    log = Log().new("0xa").send("0xa", '{"execute":"getfd"}', fd=30).send("0xa", '{"execute":"getfd"}')
    it = imported("libvirt", log.bytes)
    (joined,) = {
        tuple(imported("libvirt", log.bytes.replace(b"\r\n ", end)).said) for end in (b" ", b"#015#012 ")
    }
    assert list(joined) == it.said == ["opened", "greeting", "getfd", "getfd"]
    assert [body.get("fds") for body in it.bodies] == [None, None, 1, None]


def test_the_guest_agent_is_not_qemu(imported):
    """Lines of the guest agent are no messages of QEMU's, with or without the function's name."""
    log = (
        Log()
        .new("0xa")
        .line('{"return": {}}', function="qemuAgentIOProcessLine:212")
        .ask("0xa", "qmp_capabilities")
    )
    assert imported("libvirt", log.bytes).said == ["opened", "greeting", *ASKED]
    only = b'Mar 1 h libvirtd[9]: Line [{"return": 5}]\nMar 1 h libvirtd[9]: Line [{"return": 5, "id": "libvirt-3"}]\n'
    assert imported("libvirt", only).said == ["reply"]


def test_several_vms(imported_all):
    """Monitors are told apart by their pointers, and named by what the log says of them."""
    log = Log().new("0xa", thread=1).new("0xb", thread=2)
    log.ask("0xa", "qmp_capabilities", thread=1).ask("0xb", "qmp_capabilities", thread=2)
    log.named("0xa", "one").socket("0xb", "12-two", thread=2).event("0xa", "STOP", thread=1)
    found = imported_all("libvirt", log.bytes)
    assert found["one"].said == ["opened", "greeting", *ASKED, "STOP"]
    assert found["two"].said == ["opened", "greeting", *ASKED, "query-chardev", "reply"]


def test_a_name_told_before_the_first_message(imported):
    """An excerpt may begin with the line that names the domain; one that is opened anew is not meant by it."""
    assert imported("libvirt", Log().named("0xa", "vm").ask("0xa", "cont").bytes).name == "vm"
    assert imported("libvirt", Log().named("0xa", "vm").new("0xa").ask("0xa", "cont").bytes).name == "0xa"


def test_a_pointer_that_is_used_again(imported_all):
    """The same pointer after a close is another monitor."""
    log = Log().new("0xa").ask("0xa", "qmp_capabilities").event("0xa", "STOP").close("0xa")
    log.new("0xa").ask("0xa", "qmp_capabilities").event("0xa", "RESUME")
    found = imported_all("libvirt", log.bytes)
    assert found["0xa"].said == ["opened", "greeting", *ASKED, "STOP", "lost"]
    assert found["0xa#2"].said == ["opened", "greeting", *ASKED, "RESUME"]


@pytest.mark.parametrize("debug", [True, False])
def test_a_daemon_that_begins_again(imported, debug):
    """After a daemon's restart the domain's next monitor goes on with the same VM, behind a loss."""
    log = Log(debug=debug).daemon().new("0xa").ask("0xa", "qmp_capabilities").socket("0xa", "1-vm")
    log.daemon().new("0xb").ask("0xb", "qmp_capabilities").socket("0xb", "1-vm")
    it = imported("libvirt", log.bytes)
    opened = ["opened", "greeting"] if debug else []
    life = [*opened, *ASKED, "query-chardev", "reply"]
    assert it.name == "vm"
    assert it.said == [*life, "lost", *life]
    assert it.bodies[len(life)]["by"] == "us"
    assert [body["first"] for kind, _, body in it.entries if kind == "opened"] == [False] * (2 * debug)


def test_another_number_is_another_qemu(imported):
    """A domain of the same name with another number was started anew."""
    log = Log().new("0xa").socket("0xa", "1-vm").close("0xa").new("0xb").socket("0xb", "2-vm")
    life = ["opened", "greeting", "query-chardev", "reply"]
    it = imported("libvirt", log.bytes)
    assert it.said == [*life, "lost", "exited", "spawned", *life]
    assert it.bodies[it.said.index("spawned")]["late"] is True


def test_a_long_name_is_cut_in_the_socket(imported):
    """The name in the monitor's path is cut at 20 characters; where the whole one is told it is the same VM."""
    name = "a-domain-of-some-length"
    log = Log().new("0xa").named("0xa", name).daemon().new("0xb").socket("0xb", f"1-{name[:20]}")
    log.ask("0xb", "x")
    assert imported("libvirt", log.bytes).name == name


def test_probes_are_passed_over(imported, imported_all):
    """Monitors by which libvirt learns what a QEMU can do are no VMs, unless there is nothing else."""
    probe = Log().new("0xa").ask("0xa", "qmp_capabilities").ask("0xa", "query-qmp-schema").close("0xa")
    assert imported("libvirt", probe.bytes).name == "0xa"
    both = probe.new("0xb").ask("0xb", "qmp_capabilities").ask("0xb", "cont")
    assert list(imported_all("libvirt", both.bytes)) == ["0xb"]


def test_a_log_of_lines_only(imported_all):
    """Without any named telling the lines are read, a VM for each thread, and libvirt's word for jobs."""
    log = Log().line('{"return": {}, "id": "libvirt-1"}', thread=1).line('{"event": "STOP"}', thread=2)
    log.put("f:1", "job 'j'(domain: 0xff,vm) state changed to 'ready'(4)", thread=1)
    found = imported_all("libvirt", log.bytes)
    assert found["vm"].said == ["reply", "JOB_STATUS_CHANGE"]
    assert parsed(found["vm"].bodies[1]) == {
        "event": "JOB_STATUS_CHANGE",
        "data": {"id": "j", "status": "ready"},
    }
    assert found["thread-2"].said == ["STOP"]
    assert found["vm"].lacks == ("commands", "beginning", "process")


def test_each_file_has_its_own_tellings(imported_all):
    """A file of lines only is read by its lines, also beside one that has more."""
    lines = (
        Log()
        .line('{"event": "STOP"}', thread=1)
        .put("f:1", "job 'j'(domain: 0xff,a) state changed to 'null'(4)", thread=1)
    )
    whole = Log().new("0xa").named("0xa", "b").ask("0xa", "cont").event("0xa", "RESUME")
    for contents in ((lines.bytes, whole.bytes), (whole.bytes, lines.bytes)):
        found = imported_all("libvirt", *contents)
        assert found["a"].said[0] == "STOP"
        assert found["b"].said == ["opened", "greeting", "cont", "reply", "RESUME"]


def test_a_log_of_writes_only(imported):
    """Without SEND_MSG commands are taken from the writes, and the rest of a short one is no other command."""
    log = Log().write("0xa", '{"execute":"a"}', written=9).write("0xa", 'te":"a"}', written=8)
    log.write("0xa", '{"execute":"b"}').event("0xa", "STOP")
    it = imported("libvirt", log.bytes)
    assert it.said == ["a", "b", "STOP"]
    assert it.skipped.count == 0


@pytest.mark.parametrize(
    "head", ["Feb 11 17:56:21 host libvirtd[1234]: ", "2024-03-01T12:00:00+0000 host virtqemud[9]: ", ""]
)
def test_without_libvirts_own_prefix(imported, head):
    """What journald, syslog and a paste leave of a line is enough."""
    text = f'{head}QEMU_MONITOR_SEND_MSG: mon=0xa msg={{"execute":"stop"}}\r\n fd=-1\n'
    text += f'{head}QEMU_MONITOR_RECV_EVENT: mon=0xa event={{"event": "STOP"}}\n'
    it = imported("libvirt", text.encode())
    assert it.said == ["stop", "STOP"]
    assert any(it.times) == head.startswith("2024")


def test_a_damaged_line_is_counted(imported):
    """A message that is cut is told by its line; those around it are read."""
    log = Log().new("0xa").reply("0xa", '{"return": {"a').event("0xa", "STOP")
    it = imported("libvirt", log.bytes)
    assert it.said == ["opened", "greeting", "STOP"]
    assert [line for _, line, _ in it.skipped.first] == [4]


def test_the_log_of_a_domain(imported_all):
    """A domain's log alone tells of its launches: command lines, without the environment, and ends."""
    text = (REAL / "ho2.log").read_bytes()
    (it,) = imported_all("libvirt", text, names=["other.log"]).values()
    assert it.name == "ho2"
    assert it.said == ["spawned", "lost", "exited"] * 2
    argv = it.bodies[0]["argv"]
    assert argv[:4] == ["/usr/bin/qemu-system-x86_64", "-name", "guest=ho2,debug-threads=on", "-S"]
    assert argv[-2:] == ["-msg", "timestamp=on"]
    assert it.lacks == ("commands", "replies", "events")


@pytest.mark.parametrize("line", [b"'unclosed", b"", b"A=1 \\\nB=2"])
def test_a_launch_without_a_command_line_is_counted(imported, line):
    """A start whose command line can't be read is told by its line."""
    text = (
        b"2024-03-01 12:00:00.000+0000: starting up libvirt version: 9\n"
        + line
        + b"\n"
        + (REAL / "ho1.log").read_bytes()
    )
    it = imported("libvirt", text)
    assert it.skipped.first[0][1] == 1
    assert it.said[-1] == "exited"


class TestReal:
    """A real log of two domains, with a restart of the daemon in the middle."""

    @pytest.fixture(params=[True, False], ids=["with the domains' logs", "without"])
    def traces(self, request):
        vms = Source(REAL if request.param else REAL / "libvirtd.log.xz").vms
        return {trace.name: trace for trace in vms}

    def test_what_happened_to_the_processes(self, traces):
        """Each launch, loss and end is there, in order."""
        told = {
            name: [it.kind for it in records(trace) if it.kind in ("spawned", "opened", "lost", "exited")]
            for name, trace in traces.items()
        }
        life = ["spawned", "opened", "lost"]
        assert told == {
            "ho1": [*life, "opened", "lost", "exited", *life, "exited"],
            "ho2": [*life, "opened", "lost", "exited", *life, "exited"],
        }

    def test_it_is_all_there(self, traces):
        """Every command has its answer, and the counts are those of the log's lines."""
        counts = {}
        for name, trace in traces.items():
            kinds = [it.kind for it in records(trace)]
            counts[name] = (
                kinds.count("command"),
                kinds.count("reply") + kinds.count("failure"),
                kinds.count("event"),
            )
            assert trace.skipped.count == 0
        assert counts == {"ho1": (885, 885, 34), "ho2": (862, 862, 24)}

    def test_all_at_once_is_each_alone(self, traces):
        """The entries of all VMs in one reading are those of each VM read alone, in the same order."""
        together = {name: [] for name in traces}
        names = list(traces)
        for number, entry in ForeignTrace.entries_together(list(traces.values())):
            together[names[number]].append(entry)
        assert together == {name: list(trace.entries()) for name, trace in traces.items()}

    def test_nothing_impossible_happened(self, traces):
        """No rule finds that QEMU did in its first life what it cannot do."""
        for trace in traces.values():
            found = [it for it in check(trace).findings if it.severity == "violation"]
            first = next(it.seq for it in records(trace) if it.kind == "exited")
            assert [it for it in found if it.seq <= first] == []

    def test_between_two_lives_of_the_daemon_nothing_is_sure(self, traces):
        """The restart widens what is believed, and the first queries narrow it again."""
        trace, seen, lost = traces["ho1"], [], 0
        vm = trace.start()
        for it in records(trace):
            apply(vm, it.seq, it.time, it.kind, it.body)
            possible = vm.names("runstate", vm.runstate)
            if not seen or seen[-1] != possible:
                seen.append(possible)
            if it.kind == "lost":
                lost = len(seen)
            if it.kind == "event" and parsed(it.body)["event"] == "DEVICE_DELETED":
                break
        assert len(seen[lost - 1]) > 5
        assert seen[lost - 2] == seen[lost] == ("running",)
        disk = vm.to_json()["devices"]["virtio-disk1"]
        assert disk["is"] == "gone"

    def test_the_secret_does_not_come_through(self, traces):
        """The VNC password that libvirt logged in clear is in no record."""
        assert b"hunter2" in lzma.decompress((REAL / "libvirtd.log.xz").read_bytes())
        told = [it for trace in traces.values() for it in records(trace)]
        assert sum("set_password" in str(it.body) for it in told) > 0
        assert "hunter2" not in str([it.body for it in told])


PREFIX = re.compile(rb"(?m)^[-\d]+ [\d:.]+\+0000: \d+: \w+ : \w+:\d+ : ")


def grepped(*signs):
    """Return what leaves the lines with one of some signs of a log."""
    return lambda text: b"".join(
        it for it in text.splitlines(keepends=True) if any(sign in it for sign in signs)
    )


@pytest.mark.parametrize(
    "told",
    [
        grepped(b"QEMU_MONITOR_"),
        grepped(b"SEND_MSG", b"RECV_"),
        grepped(b"IO_WRITE", b"Line ["),
        grepped(b": info :", b" fd=", b" len="),
        lambda text: PREFIX.sub(b"Mar  1 12:00:00 host libvirtd[1234]: ", text),
        lambda text: text.replace(b"\r", b""),
        lambda text: text.replace(b"\r", b"^M"),
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: text.replace(b"vda", b"v\xffa"),
    ],
    ids=["monitor", "sent and received", "written and lines", "info", "syslog", "lf", "caret", "crlf", "latin"],
)  # fmt: skip
def test_what_people_make_of_a_log(tmp_path, told):
    """A real log without its prefixes, with some of its lines only, or in other clothes has the same messages of each VM."""
    text = lzma.decompress((REAL / "libvirtd.log.xz").read_bytes())
    path = tmp_path / "libvirtd.log"
    path.write_bytes(told(text))
    counts = {}
    for trace in Source(path).vms:
        kinds = [it.kind for it in records(trace)]
        counts[trace.name] = [kinds.count(it) for it in ("command", "reply", "event", "lost")]
        assert trace.skipped.count == 0
        assert not [it for it in check(trace).findings if it.severity == "violation"]
    assert counts["ho1"][:3] == [885, 885, 34]
    assert counts["ho2"][:3] == [862, 862, 24]
    assert counts["ho1"][3] >= 2


def test_lines_alone_name_their_vms(tmp_path):
    """Where only lines tell of the messages, the path of the monitor's socket among the answers names the domain."""
    text = lzma.decompress((REAL / "libvirtd.log.xz").read_bytes())
    path = tmp_path / "libvirtd.log"
    path.write_bytes(grepped(b"Line [")(text))
    found = {trace.name: [it.kind for it in records(trace)] for trace in Source(path).vms}
    assert {
        name: (kinds.count("reply"), kinds.count("event")) for name, kinds in found.items() if "ho" in name
    } == {
        "ho1": (885, 34),
        "ho2": (862, 24),
    }


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_lines_do_not_depend_on_the_pieces(imported, monkeypatch, size):
    """The entries and their lines are the same whatever the size of the pieces a file is read in."""
    log = Log().new("0xa").ask("0xa", "qmp_capabilities").event("0xa", "STOP").named("0xa", "vm").bytes
    whole = imported("libvirt", log)
    monkeypatch.setattr(files, "_PIECE", size)
    assert imported("libvirt", log).entries == whole.entries
    assert [line for _, line in whole.origins] == [1, 2, 3, 8, 10]


def test_a_length_that_is_none(imported):
    """What is said to have been written may be any digits at all."""
    log = Log().write("0xa", '{"execute":"a"}').write("0xa", '{"execute":"b"}')
    text = log.text.replace("len=17 ret=17", f"len={'9' * 5000} ret=17", 1)
    assert imported("libvirt", text.encode()).said == ["a", "b"]
