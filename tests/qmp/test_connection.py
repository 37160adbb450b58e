"""A session in either role, and a tap between the two, without a socket."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from qemustate.errors import LocalProtocolError
from qemustate.qmp.connection import MAX_FDS, Connection, Malformed, Phase
from qemustate.qmp.messages import Command, Event, Failure, Greeting, Reply

GREETING = b'{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}, "capabilities": ["oob"]}}'


def greeted(**options):
    """Return a client that has been greeted."""
    client = Connection("client", **options)
    client.receive_data(GREETING + b"\r\n")
    return client


def ready(*, oob=False, **options):
    """Return a client that has negotiated."""
    client = greeted(**options)
    command, _ = client.negotiate(oob=oob)
    client.receive_data(b'{"return": {}, "id": "%s"}\r\n' % command.id.encode())
    return client


def served(*, oob=False):
    """Return a server that has negotiated."""
    server = Connection("server")
    server.greet((7, 2, 22))
    enable = b', "arguments": {"enable": ["oob"]}' if oob else b""
    [command] = server.receive_data(b'{"execute": "qmp_capabilities"%s}' % enable)
    server.reply(command)
    return server


#: What a server sends, and its bytes.
SENT = [
    (lambda server: server.greet((7, 2, 22)), GREETING),
    (
        lambda server: server.reply(Command({"execute": "x", "id": 1}, b""), {"a": 1}),
        b'{"return": {"a": 1}, "id": 1}',
    ),
    (lambda server: server.reply(Command({"execute": "x"}, b"")), b'{"return": {}}'),
    (lambda server: server.reply(Command({"execute": "x"}, b""), []), b'{"return": []}'),
    (
        lambda server: server.fail(Command({"execute": "x", "id": None}, b""), "GenericError", "é"),
        b'{"id": null, "error": {"class": "GenericError", "desc": "\\u00E9"}}',
    ),
    (
        lambda server: server.fail(None, "GenericError", "no"),
        b'{"error": {"class": "GenericError", "desc": "no"}}',
    ),
    (
        lambda server: server.event("SHUTDOWN", {"guest": False}, time=1795390678_449028),
        b'{"timestamp": {"seconds": 1795390678, "microseconds": 449028}, "event": "SHUTDOWN", "data": {"guest": false}}',
    ),
    (
        lambda server: server.event("STOP", time=5),
        b'{"timestamp": {"seconds": 0, "microseconds": 5}, "event": "STOP"}',
    ),
]


@pytest.mark.parametrize(("send", "text"), SENT, ids=lambda part: ascii(part)[:30])
def test_what_a_server_sends_a_client_reads(send, text):
    """Each message has these bytes, as QEMU would print it, and a client reads the same message from them."""
    message, data = send(Connection("server"))
    assert data == text + b"\r\n"
    [received] = Connection("client").receive_data(data)
    assert (type(received), received.body, received.text) == (type(message), message.body, text)


@pytest.mark.parametrize(
    ("arguments", "options", "text"),
    [
        (("stop",), {}, b'{"execute":"stop","id":"2"}'),
        (("stop", {}), {}, b'{"execute":"stop","id":"2"}'),
        (("x", {"a": [1, None]}), {}, b'{"execute":"x","arguments":{"a":[1,null]},"id":"2"}'),
        (("yank",), {"oob": True}, b'{"exec-oob":"yank","id":"2"}'),
        (
            ("x", {"a": "caf\u00e9"}),
            {"id": [1]},
            '{"execute":"x","arguments":{"a":"café"},"id":[1]}'.encode(),
        ),
        (("x", {"a": 2**70}), {"id": 7}, b'{"execute":"x","arguments":{"a":1180591620717411303424},"id":7}'),
    ],
    ids=lambda part: ascii(part)[:30],
)
def test_what_a_client_sends_a_server_reads(arguments, options, text):
    """Each command has these bytes, compact, and a server reads the same command from them."""
    command, data = ready(oob=True).command(*arguments, **options)
    assert data == command.text == text
    [received] = served(oob=True).receive_data(data)
    assert received == command


def test_a_session_goes_from_connecting_to_closed():
    """The phases follow the greeting, the answer to qmp_capabilities and the end, and nothing else."""
    client = Connection("client")
    assert client.phase is Phase.CONNECTING
    [greeting] = client.receive_data(GREETING)
    assert client.phase is Phase.NEGOTIATING
    assert client.greeting is greeting
    assert greeting.version == (7, 2, 22)
    command, _ = client.negotiate()
    assert client.phase is Phase.NEGOTIATING
    [reply] = client.receive_data(b'{"return": {}, "id": "1"}')
    assert reply.command is command
    assert client.phase is Phase.READY
    assert not client.oob
    client.receive_eof()
    assert client.phase is Phase.CLOSED


def test_a_refused_negotiation_leaves_the_session_negotiating():
    """When qmp_capabilities fails, it may be tried again and nothing else may be sent."""
    client = greeted()
    client.negotiate(oob=True)
    client.receive_data(b'{"id": "1", "error": {"class": "GenericError", "desc": "no"}}')
    assert client.phase is Phase.NEGOTIATING
    with pytest.raises(LocalProtocolError):
        client.command("stop")
    client.negotiate()
    client.receive_data(b'{"return": {}, "id": "2"}')
    assert client.phase is Phase.READY


@pytest.mark.parametrize(
    ("client", "send", "why"),
    [
        (lambda: Connection("client"), lambda c: c.negotiate(), "no greeting"),
        (lambda: Connection("client"), lambda c: c.command("stop"), "no greeting"),
        (greeted, lambda c: c.command("stop"), "not negotiated"),
        (ready, lambda c: c.negotiate(), "negotiated already"),
        (ready, lambda c: c.command("yank", oob=True), "oob is not enabled"),
        (ready, lambda c: c.command("getfd", fds=MAX_FDS + 1), "17 descriptors"),
        (ready, lambda c: c.command("x", {"a": float("inf")}), "invalid keyword 'inf'"),
        (ready, lambda c: c.command("x", {"a": "\ud83d"}), "not a valid Unicode character"),
        (ready, lambda c: c.command("x", {"a": object()}), "no JSON"),
        (lambda: Connection("server"), lambda c: c.command("stop"), "a server sends no commands"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_what_would_break_the_protocol_is_not_sent(client, send, why):
    """A command that QEMU would not take raises LocalProtocolError, says why, and leaves nothing pending."""
    connection = client()
    number = connection.next_id
    with pytest.raises(LocalProtocolError, match=why):
        send(connection)
    assert connection.pending == []
    assert connection.next_id == number


def test_oob_is_not_asked_of_a_qemu_that_does_not_offer_it():
    """Negotiating oob where the greeting does not offer it is our own mistake."""
    client = Connection("client")
    client.receive_data(b'{"QMP": {"version": {}, "capabilities": []}}')
    with pytest.raises(LocalProtocolError, match="does not offer oob"):
        client.negotiate(oob=True)


def test_after_the_end_nothing_is_sent_and_nothing_read():
    """A closed session takes neither commands nor data."""
    client = ready()
    client.receive_eof()
    with pytest.raises(LocalProtocolError, match="has ended"):
        client.command("stop")
    with pytest.raises(LocalProtocolError, match="after the end"):
        client.receive_data(b"{}")


def test_the_end_leaves_commands_unknown():
    """At the end of the stream the unanswered commands are handed back as unknown, with what was cut off."""
    client = ready()
    first, _ = client.command("quit")
    second, _ = client.command("stop")
    assert client.receive_data(b'{"return": {}, "id": "2"}\r\n{"timesta')[0].command is first
    ended = client.receive_eof()
    assert ended.unknown == [second]
    assert [(broken.data, broken.offset) for broken in ended.malformed] == [
        (b'{"timesta', len(GREETING) + 56)
    ]
    assert client.pending == []


def test_a_word_that_only_the_end_ends_is_reported():
    """What becomes a text only by the end of the stream is among what was cut off, never dropped."""
    for data in (b"42", b'{"event": "STOP"},'):
        client = ready()
        assert client.receive_data(data) == []
        reported = b"".join(broken.data for broken in client.receive_eof().malformed)
        assert reported == data


def test_a_command_keeps_what_was_sent():
    """What the caller does to its arguments afterwards does not change the command."""
    arguments = {"list": [1]}
    command, _ = ready().command("x", arguments)
    arguments["list"].append(2)
    assert command.arguments == {"list": [1]}


def test_ids_start_where_the_caller_says():
    """A client that follows another on the same QEMU starts where that one stopped."""
    client = ready(first_id=40)
    assert client.command("stop")[0].id == "41"
    assert client.next_id == 42


def test_a_withdrawn_command_is_not_pending():
    """A command that was not sent after all is forgotten, its id is not used again."""
    client = ready()
    command, _ = client.command("stop", fds=1)
    client.withdraw(command)
    assert client.pending == []
    assert client.can_send_fds
    assert client.command("stop")[0].id == "3"


def test_one_command_with_descriptors_at_a_time():
    """A second command with descriptors must wait for the answer to the first, others need not."""
    client = ready()
    client.command("getfd", fds=1)
    assert not client.can_send_fds
    with pytest.raises(LocalProtocolError, match="unanswered"):
        client.command("getfd", fds=1)
    client.command("stop")
    client.receive_data(b'{"id": "2", "error": {"class": "GenericError", "desc": "no"}}')
    assert client.can_send_fds


def test_a_server_counts_descriptors_for_the_command_they_came_with():
    """Descriptors belong to the last command of their bytes, or to the one those bytes began."""
    server = served()
    [first, second] = server.receive_data(b'{"execute":"a"}{"execute":"b"}', 2)
    assert (first.fds, second.fds) == (0, 2)
    assert [one.fds for one in server.receive_data(b'{"execute":"c"}{"exe', 1)] == [0]
    assert [one.fds for one in server.receive_data(b'cute":"d"}{"execute":"e"}')] == [0, 1]


@pytest.mark.parametrize(
    ("server", "data", "objection"),
    [
        (served, b'{"execute": "stop"}', None),
        (served, b"}", ("GenericError", "JSON parse error, expecting value")),
        (served, b'{"id": 1}', ("GenericError", "QMP input lacks member 'execute'")),
        (served, b'{"exec-oob": "yank"}', ("GenericError", "QMP input member 'exec-oob' is unexpected")),
        (lambda: served(oob=True), b'{"exec-oob": "yank"}', None),
        (
            served,
            b'{"execute": "qmp_capabilities"}',
            ("CommandNotFound", "Capabilities negotiation is already complete, command ignored"),
        ),
        (
            lambda: Connection("server"),
            b'{"execute": "stop"}',
            ("CommandNotFound", "Expecting capabilities negotiation with 'qmp_capabilities'"),
        ),
        (
            lambda: Connection("server"),
            b'{"execute": "qmp_capabilities", "arguments": {"enable": ["oob"]}}',
            None,
        ),
        (
            lambda: Connection("server"),
            b'{"execute": "qmp_capabilities", "arguments": {"enable": ["nope"]}}',
            ("GenericError", "Parameter 'null' does not accept value 'nope'"),
        ),
        (
            lambda: Connection("server"),
            b'{"execute": "qmp_capabilities", "arguments": {"x": 1}}',
            ("GenericError", "Parameter 'x' is unexpected"),
        ),
        (
            lambda: Connection("server"),
            b'{"execute": "qmp_capabilities", "arguments": {"enable": 1}}',
            ("GenericError", "Invalid parameter type for 'enable', expected: array"),
        ),
    ],
    ids=lambda part: ascii(part)[:30],
)
def test_a_server_objects_as_qemus_monitor_does(server, data, objection):
    """For bad input and bad negotiation a server is told the class and desc that QEMU answers with."""
    connection = server()
    [message] = connection.receive_data(data)
    assert connection.objection(message) == objection


def test_a_capability_that_was_not_offered_is_refused():
    """A server that offers nothing objects to oob."""
    server = Connection("server")
    server.greet((7, 2, 22), capabilities=())
    [command] = server.receive_data(b'{"execute":"qmp_capabilities","arguments":{"enable":["oob"]}}')
    assert server.objection(command) == ("GenericError", "Capability oob not available")


def test_a_refusal_echoes_the_id_of_what_was_no_command():
    """The failure of an object that is no command carries its id, that of damage carries none."""
    server = served()
    [broken] = server.receive_data(b'{"id": "noexec"}')
    failure, data = server.fail(broken, *server.objection(broken))
    assert data.startswith(b'{"id": "noexec", "error"')
    assert failure.command is None
    [damage] = server.receive_data(b"}")
    assert b'"id"' not in server.fail(damage, *server.objection(damage))[1]


def test_a_tap_matches_what_another_client_sent():
    """A tap sees commands of any id, with descriptors, and the replies find them; the session follows along."""
    tap = Connection("client")
    tap.receive_data(GREETING)
    tap.relay(b'{"execute": "qmp_capabilities", "arguments": {"enable": ["oob"]}}')
    tap.receive_data(b'{"return": {}}')
    assert tap.phase is Phase.READY
    assert tap.oob
    [first, second, bad] = tap.relay(
        b'{"execute":"a","id":[1,{"b":2}]}\n{"exec-oob":"b","id":"x"}{"id":3}\n', 1
    )
    assert (first.fds, second.fds, type(bad)) == (0, 1, Malformed)
    assert not tap.can_send_fds
    answers = tap.receive_data(
        b'{"return": {}, "id": "x"}\r\n{"id": 3, "error": {"class": "GenericError", "desc": "QMP input lacks"}}\r\n'
        b'{"return": {}, "id": [1, {"b": 2}]}\r\n'
    )
    assert [answer.command for answer in answers] == [second, None, first]


def test_a_tap_reports_what_was_cut_off_on_either_side():
    """At the end a tap names the unfinished texts of both directions."""
    tap = Connection("client")
    tap.receive_data(b'{"QMP')
    tap.relay(b'{"execute": ')
    assert {broken.data for broken in tap.receive_eof().malformed} == {b'{"QMP', b'{"execute": '}


class Link(RuleBasedStateMachine):
    """A client and a server joined by two byte queues, moved by any number of bytes at a time.

    The model is plain lists: what each side sent must arrive complete, in order, and matched.
    """

    @initialize(oob=st.booleans())
    def connect(self, oob):
        """Greet and negotiate, one chunk each."""
        self.client, self.server = Connection("client"), Connection("server")
        self.to_client = self.server.greet((10, 0, 2))[1]
        self.to_server = b""
        self.events_sent, self.events_seen = 0, 0
        self.asked, self.answered, self.outcomes = [], [], {}
        self.bad_sent = self.bad_seen = 0
        self.wants_oob = oob

    @precondition(lambda self: self.client.phase is Phase.NEGOTIATING and not self.client.pending)
    @rule()
    def negotiate(self):
        """Ask for the capabilities."""
        self.to_server += self.client.negotiate(oob=self.wants_oob)[1]

    @precondition(lambda self: self.client.phase is Phase.READY)
    @rule(oob=st.booleans(), value=st.text(max_size=3) | st.integers() | st.none())
    def send(self, oob, value):
        """Send a command, out of band where that is enabled."""
        _, data = self.client.command("x", {"value": value}, oob=oob and self.client.oob)
        self.to_server += data

    @precondition(lambda self: self.server.phase is Phase.READY)
    @rule(data=st.dictionaries(st.text(max_size=3), st.integers(), max_size=2))
    def emit(self, data):
        """Send an event with a number."""
        self.to_client += self.server.event("E", {"number": self.events_sent, "data": data}, time=1)[1]
        self.events_sent += 1

    @precondition(lambda self: self.client.phase is Phase.READY)
    @rule(damage=st.sampled_from([b"}", b"\xff", b"{'x' 1}", b"[1]", b'{"id": 1}']))
    def spoil(self, damage):
        """Send the server something that is no command."""
        self.to_server += damage
        self.bad_sent += 1

    @rule(size=st.integers(1, 200))
    def carry_to_server(self, size):
        """Deliver some bytes to the server; it answers negotiation and damage at once."""
        chunk, self.to_server = self.to_server[:size], self.to_server[size:]
        for message in self.server.receive_data(chunk):
            objection = self.server.objection(message)
            if objection:
                self.bad_seen += 1
                self.to_client += self.server.fail(message, *objection)[1]
            elif message.name == "qmp_capabilities":
                self.to_client += self.server.reply(message)[1]
            else:
                self.asked.append(message)

    @precondition(lambda self: self.asked)
    @rule(place=st.integers(0, 10), success=st.booleans())
    def answer(self, place, success):
        """Answer any of the commands that have arrived, in any order."""
        command = self.asked.pop(place % len(self.asked))
        value = command.arguments["value"]
        self.outcomes[command.id] = value if success else "refused"
        send = (
            self.server.reply(command, [value])
            if success
            else self.server.fail(command, "GenericError", "refused")
        )
        self.to_client += send[1]

    @rule(size=st.integers(1, 200))
    def carry_to_client(self, size):
        """Deliver some bytes to the client, and compare each message with what was sent."""
        chunk, self.to_client = self.to_client[:size], self.to_client[size:]
        for message in self.client.receive_data(chunk):
            if isinstance(message, Event):
                assert message.data["number"] == self.events_seen
                self.events_seen += 1
            elif isinstance(message, Reply) and message.command.name == "x":
                assert (
                    message.value == [self.outcomes.pop(message.id)] == [message.command.arguments["value"]]
                )
            elif isinstance(message, Failure) and message.command is not None:
                assert self.outcomes.pop(message.id) == message.desc == "refused"
            else:
                assert isinstance(message, Failure | Greeting | Reply)

    @invariant()
    def the_client_waits_for_what_it_should(self):
        """What is pending is what the server has not answered, or whose answer is on its way."""
        if hasattr(self, "client"):
            waiting = {command.id for command in self.client.pending if command.name == "x"}
            assert {command.id for command in self.asked} | set(self.outcomes) <= waiting

    def teardown(self):
        """Deliver everything: nothing may be lost, and the end leaves exactly the unanswered commands."""
        if hasattr(self, "client"):
            while self.to_server:
                self.carry_to_server(1000)
            while self.to_client:
                self.carry_to_client(1000)
            assert self.events_seen == self.events_sent
            assert self.bad_seen == self.bad_sent
            assert self.outcomes == {}
            ended = self.client.receive_eof()
            assert {command.id for command in ended.unknown} == {command.id for command in self.asked}
            assert ended.malformed == []


Link.TestCase.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)
TestLink = Link.TestCase
