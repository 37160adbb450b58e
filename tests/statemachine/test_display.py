"""Who looks at the screen: sessions of VNC and SPICE, named and nameless, announced and not."""

from __future__ import annotations

import pytest

NEW = (10, 0, 2)
SERVER = {"host": "0.0.0.0", "service": "5900", "family": "ipv4", "websocket": False}
SPICE = {"host": "0.0.0.0", "port": "5930", "family": "ipv4"}


def client(service="4000", host="10.0.0.1"):
    return {"host": host, "service": service, "family": "ipv4", "websocket": False}


def vnc(w, what, **who):
    w.event(f"VNC_{what}", server=SERVER, client=client(**who))


def query(w, *clients):
    w.ok("query-vnc", {"enabled": True, "host": "0.0.0.0", "service": "5900", "clients": [*clients]})


def shown(w, name="vnc 10.0.0.1:4000"):
    return w.vm.names("display", w.vm.displays[name])


def test_a_session_connects_is_let_in_and_goes(wire, q35):
    """The three events of a session are its three states, and its address may come again."""
    w = wire(NEW, q35)
    for what, state in (
        ("CONNECTED", "connected"),
        ("INITIALIZED", "initialized"),
        ("DISCONNECTED", "gone"),
    ) * 2:
        vnc(w, what)
        assert shown(w) == (state,)
    assert w.vm.to_json()["displays"]["vnc 10.0.0.1:4000"]["server"] == "0.0.0.0:5900"
    assert not w.rules


def test_who_is_not_let_in_goes_all_the_same(wire, q35):
    """A client without the password is never one that looks."""
    w = wire(NEW, q35)
    vnc(w, "CONNECTED")
    vnc(w, "DISCONNECTED")

    assert shown(w) == ("gone",)
    assert not w.rules


@pytest.mark.parametrize(
    "events", [["INITIALIZED"], ["DISCONNECTED"], ["CONNECTED", "INITIALIZED", "INITIALIZED"]]
)
def test_what_no_display_says(wire, q35, events):
    """Who never came is not let in and does not go, and nobody is let in twice."""
    w = wire(NEW, q35)
    for what in events:
        vnc(w, what)

    assert w.rules == ["impossible-transition"]


def test_every_channel_of_spice_is_a_session(wire, q35):
    """SPICE tells of each channel, by its own port; query-spice lists those that were let in."""
    w = wire(NEW, q35)
    for port in ("1", "2"):
        who = {"host": "::1", "port": port, "family": "ipv6"}
        w.event("SPICE_CONNECTED", server=SPICE, client=who)
    w.event("SPICE_INITIALIZED", server=SPICE, client={"host": "::1", "port": "1", "channel-type": 1})
    w.ok("query-spice", {"enabled": True, "channels": [{"host": "::1", "port": "1"}]})

    assert shown(w, "spice ::1:1") == ("initialized",)
    assert shown(w, "spice ::1:2") == ("connected",)
    w.ok("query-spice", {"enabled": True, "channels": []})
    assert w.rules == ["contradicted-by-query"]


def test_sessions_that_cannot_be_told_apart_are_counted(wire, q35):
    """Nameless sockets share an address: some are there until as many have gone as came."""
    w = wire(NEW, q35)
    nameless = {"service": "", "host": ""}
    for what in ("CONNECTED", "INITIALIZED", "CONNECTED", "DISCONNECTED"):
        vnc(w, what, **nameless)
    assert shown(w, "vnc ?") == ("connected", "initialized")
    query(w, client(**nameless))
    assert shown(w, "vnc ?") == ("connected", "initialized")
    vnc(w, "DISCONNECTED", **nameless)

    assert shown(w, "vnc ?") == ("gone",)
    assert not w.rules


def test_a_client_is_listed_before_it_is_announced(wire, q35):
    """A websocket's client is in query-vnc before VNC_CONNECTED, and one client still."""
    w = wire(NEW, q35)
    query(w, client())
    assert shown(w) == ("connected",)
    vnc(w, "CONNECTED")
    vnc(w, "INITIALIZED")
    assert w.vm.displays["vnc 10.0.0.1:4000"].clients == 1
    vnc(w, "DISCONNECTED")
    query(w)

    assert shown(w) == ("gone",)
    assert not w.rules


def test_a_query_tells_who_is_not_there(wire, q35):
    """A session that query-vnc does not name cannot be; of another server it says nothing, and query-vnc-servers does."""
    w = wire(NEW, q35)
    vnc(w, "CONNECTED")
    w.ok("query-vnc", {"enabled": True, "host": "0.0.0.0", "service": "5901", "clients": []})
    w.ok("query-vnc", {"enabled": False})
    assert shown(w) == ("connected",)
    assert not w.rules
    w.ok("query-vnc-servers", [{"id": "default", "server": [], "clients": []}])

    assert w.rules == ["contradicted-by-query"]


def test_where_nobody_looked_a_session_may_be_there(wire, q35):
    """After a gap a session may have gone; a list says which. One heard of late was there before."""
    w = wire(NEW, q35)
    vnc(w, "CONNECTED")
    w.put("gap", {"why": "lost lines"})
    assert shown(w) == ("connected", "gone", "initialized")
    query(w, client("5"))
    assert shown(w) == ("gone",)
    assert shown(w, "vnc 10.0.0.1:5") == ("connected", "initialized")
    vnc(w, "INITIALIZED", service="6")
    assert shown(w, "vnc 10.0.0.1:6") == ("initialized",)
    vnc(w, "CONNECTED", service="", host="")

    assert shown(w, "vnc ?") == ("connected", "gone", "initialized")
    assert [r for r in w.rules if r != "gap"] == []
