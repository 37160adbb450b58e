"""A device or backend is one map of QEMU's own property names to values; nothing of ours stands between.

The same map goes on a command line and into the QMP command that plugs it:

=============  ==================  ===============  ============================  ================================
class          option              named by         plugged with                  source
=============  ==================  ===============  ============================  ================================
``Device``     ``-device``         ``id``           ``device_add``/``device_del``     qapi/qdev.json
``Blockdev``   ``-blockdev``       ``node-name``    ``blockdev-add``/``blockdev-del`` qapi/block-core.json
``Netdev``     ``-netdev``         ``id``           ``netdev_add``/``netdev_del``     qapi/net.json
``Chardev``    ``-chardev``        ``id``           ``chardev-add``/``chardev-remove`` qapi/char.json
``Object``     ``-object``         ``id``           ``object-add``/``object-del``     qapi/qom.json
``Fsdev``      ``-fsdev``          ``id``           nothing: command line only    qemu-options.hx
=============  ==================  ===============  ============================  ================================

Values are QAPI's: bool, int, str, list and map. A file descriptor of this process is an :class:`Fd`, several for
one property are a list of them.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final


class Fd(int):
    """A file descriptor of this process, to be handed to QEMU: inherited at launch, sent with ``getfd`` when plugged."""

    __slots__ = ()


class Text(str):
    """A value that was read from ``key=value``: only QEMU knows whether it is a number, a boolean or a string.

    A part with such a value goes on a command line as ``key=value`` again.
    """

    __slots__ = ()


class Part(dict[str, Any]):
    """One device or backend: a map of property names to values. ``option`` is its option without the dash."""

    option: ClassVar[str]
    #: The member that names it, and the member that says what it is.
    named_by: ClassVar[str] = "id"
    kind_key: ClassVar[str]

    @property
    def id(self) -> str:
        """Its id (a block node's ``node-name``), empty where it has none."""
        return str(self.get(self.named_by, ""))

    @property
    def kind(self) -> str:
        """What it is: a device's or node's ``driver``, an object's ``qom-type``, a netdev's ``type``."""
        return str(self.get(self.kind_key, ""))


class Device(Part):
    """A frontend (``-device``, ``device_add``)."""

    option = "device"
    kind_key = "driver"


class Blockdev(Part):
    """A block node (``-blockdev``, ``blockdev-add``)."""

    option = "blockdev"
    named_by = "node-name"
    kind_key = "driver"


class Netdev(Part):
    """A network backend (``-netdev``, ``netdev_add``)."""

    option = "netdev"
    kind_key = "type"


class Chardev(Part):
    """A character device, flat as on the command line (``-chardev socket,id=c,path=p`` is ``backend`` "socket").

    QMP nests the same differently (``chardev-add``: ``{"id", "backend": {"type", "data"}}``).
    """

    option = "chardev"
    kind_key = "backend"


class Object(Part):
    """A QOM object made by the user (``-object``, ``object-add``)."""

    option = "object"
    kind_key = "qom-type"


class Fsdev(Part):
    """A 9p file system backend (``-fsdev``); QMP has no command for it."""

    option = "fsdev"
    kind_key = "fsdriver"


#: Option -> the class of its parts.
PARTS: Final[dict[str, type[Part]]] = {
    kind.option: kind for kind in (Device, Blockdev, Netdev, Chardev, Object, Fsdev)
}
