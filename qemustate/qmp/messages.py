"""The five messages of QMP, as light values.

Each keeps ``body``, the JSON object exactly as it was parsed (all members, also those we do not know),
and ``text``: the exact bytes of the document without surrounding white space, as sent or received.

Source of the shapes: QEMU ``docs/interop/qmp-spec.rst``.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Message(msgspec.Struct, frozen=True, gc=False):
    """One JSON object on the wire. ``body`` is the parsed object, ``text`` its exact bytes."""

    body: dict[str, Any]
    text: bytes


class Greeting(Message, frozen=True, gc=False):
    """``{"QMP": {"version": {...}, "capabilities": [...]}}``, the server's first message."""

    @property
    def version(self) -> tuple[int, int, int]:
        """``(major, minor, micro)`` of the QEMU; ``(0, 0, 0)`` where the greeting does not say."""
        qemu = self.body["QMP"].get("version", {}).get("qemu", {})
        return qemu.get("major", 0), qemu.get("minor", 0), qemu.get("micro", 0)

    @property
    def capabilities(self) -> list[str]:
        """What may be enabled in ``qmp_capabilities``: ``["oob"]`` on every QEMU since 2.12."""
        return [c for c in self.body["QMP"].get("capabilities", []) if isinstance(c, str)]


class Command(Message, frozen=True, gc=False):
    """``{"execute": name, "arguments": {...}, "id": any}``; ``fds`` counts descriptors sent with it."""

    fds: int = 0

    @property
    def name(self) -> str:
        """The command's name, whether executed in band or out of band."""
        name: str = self.body["execute"] if "execute" in self.body else self.body["exec-oob"]
        return name

    @property
    def oob(self) -> bool:
        """Sent with ``exec-oob``: may overtake commands that wait in band."""
        return "exec-oob" in self.body

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments; empty where the command has none."""
        arguments: dict[str, Any] = self.body.get("arguments", {})
        return arguments

    @property
    def id(self) -> Any:
        """The id, any JSON value; None where the command has none."""
        return self.body.get("id")


class Reply(Message, frozen=True, gc=False):
    """``{"return": any, "id": any}``: the command was done. ``command`` is whose, None when unknown."""

    command: Command | None = None

    @property
    def value(self) -> Any:
        """What the command returned."""
        return self.body["return"]

    @property
    def id(self) -> Any:
        """The id echoed; None where there is none."""
        return self.body.get("id")


class Failure(Message, frozen=True, gc=False):
    """``{"error": {"class": ..., "desc": ...}, "id": any}``: refused. ``command`` is whose, or None."""

    command: Command | None = None

    @property
    def error_class(self) -> str:
        """QAPI's ``QapiErrorClass``: GenericError, CommandNotFound, DeviceNotFound, ..."""
        return str(self.body["error"].get("class", ""))

    @property
    def desc(self) -> str:
        """The sentence for a person; its wording is no contract of QEMU's."""
        return str(self.body["error"].get("desc", ""))

    @property
    def id(self) -> Any:
        """The id echoed; None where there is none (as when the command could not be parsed)."""
        return self.body.get("id")


class Event(Message, frozen=True, gc=False):
    """``{"event": name, "data": {...}, "timestamp": {...}}``, sent by QEMU on its own."""

    @property
    def name(self) -> str:
        """The event's name, as in QAPI (``DEVICE_DELETED``)."""
        name: str = self.body["event"]
        return name

    @property
    def data(self) -> dict[str, Any]:
        """The event's data; empty where the event has none."""
        data: dict[str, Any] = self.body.get("data", {})
        return data

    @property
    def time(self) -> int | None:
        """QEMU's own time stamp in microseconds since 1970; None where it is absent or -1 (unknown)."""
        stamp = self.body.get("timestamp")
        if not isinstance(stamp, dict):
            return None
        seconds, micro = stamp.get("seconds"), stamp.get("microseconds")
        if isinstance(seconds, int) and isinstance(micro, int) and seconds >= 0 and micro >= 0:
            return seconds * 1_000_000 + micro
        return None
