"""A session on a display: one who looks at the guest's screen, by VNC or SPICE.

Theory. Both tell three things of a client, by its address: it connected; it was let in and looks (*initialized*); it went. One
who is not let in goes without the second. SPICE tells them of every channel, which has an address of its own; VNC of every
client. A client that comes by websocket or TLS is listed by ``query-vnc`` before VNC_CONNECTED is sent (ui/vnc.c
vnc_connect(), vnc_start_protocol()): ``unannounced``, which shows as ``connected``.

Clients that QEMU cannot tell apart (a Unix socket without a name) share an address: the triggers ``... of several`` then say of
all of them what is true of any.
"""

from __future__ import annotations

from typing import Final

from qemustate.statemachine.rows import Table, rows

_REF: Final = "qapi/ui.json VNC_CONNECTED, SPICE_CONNECTED"
_IN: Final = "qapi/ui.json VNC_INITIALIZED, SPICE_INITIALIZED"
_OUT: Final = "qapi/ui.json VNC_DISCONNECTED, SPICE_DISCONNECTED"
_THERE: Final = "connected initialized"

TABLE: Final = Table(
    name="display",
    states=("gone", "connected", "initialized", "unannounced"),
    initial="gone",
    rows=(
        *rows("connected", "gone unannounced", "connected", cause="connected", ref=_REF),
        *rows("initialized", "connected", "initialized", cause="let in", ref=_IN),
        *rows("disconnected", _THERE, "gone", cause="disconnected", ref=_OUT),
        *rows("connected of several", _THERE, _THERE, ref=_REF),
        *rows("connected of several", "unannounced", _THERE, ref=_REF),
        *rows("initialized of several", _THERE, _THERE, ref=_IN),
        *rows("disconnected of several", _THERE, _THERE, ref=_OUT),
    ),
    shows={"unannounced": "connected"},
)

#: Internal states in which there is somebody.
THERE: Final = ("connected", "initialized", "unannounced")
