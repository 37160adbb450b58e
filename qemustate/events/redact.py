r"""Secrets do not enter the log: tables of where QEMU takes them, and a marker in their place.

Nothing here changes its input; what has no secret in it comes back as the same object. Names of secrets
(``password-secret``, ``key-secret``, ``tls-creds``) are no secrets and stay.

Sources: QAPI ``qapi/{qom,ui,block-core,crypto,misc-target}.json``, ``hmp-commands.hx``,
``qemu-options.hx``; URIs of QEMU ``block/{curl,iscsi,nbd,rbd}.c``; systemd's credentials as
systemd.io/CREDENTIALS describes them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: What stands where a secret was.
MARKER: Final = "***"

#: Members that hold a secret in whatever object they stand (``cookie`` is curl's).
_MEMBERS: Final = frozenset({"password", "passwd", "cookie"})

#: Properties of QOM objects that hold one: ``secret``'s ``data``.
_PROPERTIES: Final = frozenset({"data", "password"})

#: ``-vnc password=on`` and ``"password": "off"`` only say that there is one.
_SWITCHES: Final = frozenset({"on", "off"})

_OPTION: Final = r"((?:[^,]|,,)*)"

#: Secrets in free text: pattern, and what replaces it. Applied to every string that could hold one.
_TEXT: Final = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # scheme://user:password@host, and iscsi's user%password
        (r"(://[^/?#\s@:%\"']*[:%])[^/?#\s\"']*@", rf"\1{MARKER}@"),
        # rbd:pool/image:id=user:key=SECRET:...
        (r"(\brbd:\S*?:key=)[^:\s,\"']*", rf"\1{MARKER}"),
        (rf"((?:^|[,.\s])(?:password|passwd|cookie)=)(?!(?:on|off)(?:[,\s]|$)){_OPTION}", rf"\1{MARKER}"),
        (r"(\"(?:password|passwd|cookie)\"\s*:\s*\")[^\"]*", rf"\1{MARKER}"),
        (r"(io\.systemd\.credential(?:\.binary)?:[^=\s]*=)\S*", rf"\1{MARKER}"),
        (rf"(io\.systemd\.credentials/[^,]*,(?:string|file)=){_OPTION}", rf"\1{MARKER}"),
    )
]

#: One of these is in every text that a pattern above could match.
_SIGNS: Final = ("@", "key=", "passw", "cookie", "io.systemd.")

#: A ``secret`` object's data, in ``-object`` and ``object_add``, as options or as JSON.
_SECRET_OBJECT: Final = re.compile(r"\bsecret\b")
_SECRET_DATA: Final = [
    (re.compile(rf"((?:^|[,\s])data=){_OPTION}"), rf"\1{MARKER}"),
    (re.compile(r"(\"data\"\s*:\s*\")(?:[^\"\\]|\\.)*"), rf"\1{MARKER}"),
]

#: Commands of the human monitor: what stays, and after it the secret to the end of the line.
_HMP: Final = re.compile(
    r"(\s*(?:set_password\s+\S+|change\s+vnc\s+passw(?:or)?d|block_passwd\s+\S+"
    r"|qom-set\s+\S+\s+(?:data|password))\s+)\S.*",
    re.DOTALL,
)
_HMP_READS: Final = re.compile(r"\s*qom-get\s+\S+\s+(?:data|password)\b")

#: Commands whose reply may be a secret, as their arguments tell.
READS_SECRETS: Final = frozenset({"qom-get", "human-monitor-command"})

#: In bytes that are no message: members that may hold a secret, also where the text ends in them.
_RAW: Final = re.compile(
    rb"([\"'](?:password|passwd|cookie|data|secret|arg|value|command-line)[\"']\s*:\s*[\"'])(?:[^\"'\\]|\\.)*",
    re.DOTALL,
)

Arguments = dict[str, Any]


def redact_text(text: str) -> str:
    """Return free text without the secrets that can be told by their surroundings, credentials in URIs first."""
    if not any(sign in text for sign in _SIGNS):
        return text
    for pattern, replacement in _TEXT:
        text = pattern.sub(replacement, text)
    return text


def redact_hmp(line: str) -> str:
    """Return a line for the human monitor without its secrets."""
    found = _HMP.fullmatch(line)
    if found is not None:
        return found[1] + MARKER
    return redact_text(_without_data(line) if line.lstrip().startswith("object_add") else line)


def redact_argv(argv: Sequence[str]) -> list[str]:
    """Return QEMU's command line without its secrets."""
    kept, option = [], ""
    for word in argv:
        kept.append(redact_text(_without_data(word) if option in {"-object", "--object"} else word))
        option = word
    return kept


def redact_bytes(data: bytes) -> bytes:
    """Return bytes that are no message without what may be secrets in them; rather too much than too little."""
    return _RAW.sub(rb"\1" + MARKER.encode(), data)


def redact_message(
    kind: str, body: dict[str, Any], text: bytes | None = None, command: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return a QMP message's object without secrets: ``body`` itself where there are none.

    ``text``, its exact bytes where known, makes the search cheap. ``command`` is the object of the command
    that a reply answers.
    """
    if kind == "command":
        body = _redact_command(body)
    elif kind == "reply" and command is not None and _reads_secret(command):
        body = {**body, "return": MARKER}
    if text is None or may_hold(text, kind):
        walked: dict[str, Any] = _walk(body)
        return walked
    return body


def may_hold(text: bytes, kind: str) -> bool:
    r"""Say whether there is one of the signs: ``@``, ``=``, or a member's name.

    QEMU prints no such member itself, only within strings, where its quotes are escaped. Single bytes are
    looked for as integers, which is seven times as fast.
    """
    if 0x40 in text or 0x3D in text:
        return True
    return (kind == "command" or 0x5C in text) and (text.find(b"passw") >= 0 or text.find(b"cookie") >= 0)


def takes_secrets(command: dict[str, Any]) -> bool:
    """Say whether a command of this name may have a secret among its arguments, whatever it is called there."""
    name = command.get("execute") or command.get("exec-oob")
    return isinstance(name, str) and name in _COMMANDS


def _redact_command(body: dict[str, Any]) -> dict[str, Any]:
    name = body.get("execute") or body.get("exec-oob")
    redact = _COMMANDS.get(name) if isinstance(name, str) else None
    arguments = body.get("arguments")
    if redact is None or not isinstance(arguments, dict):
        return body
    kept = redact(arguments)
    return body if kept is arguments else {**body, "arguments": kept}


def _walk(value: Any) -> Any:
    """Redact strings and secret members at any depth; the same object where there is nothing to redact."""
    done: list[Any] = []
    # Without recursion: a message may be nested deeper than Python's stack. Children come before parents.
    stack: list[tuple[Any, bool]] = [(value, False)]
    while stack:
        value, visited = stack.pop()
        if isinstance(value, str):
            done.append(redact_text(value))
        elif not isinstance(value, dict | list):
            done.append(value)
        elif not visited:
            stack.append((value, True))
            stack.extend((child, False) for child in (value.values() if isinstance(value, dict) else value))
        else:
            done.append(_rebuilt(value, [done.pop() for _ in range(len(value))]))
    return done[0]


def _rebuilt(value: Any, children: list[Any]) -> Any:
    """Return the container with these children; itself where they are its own."""
    if isinstance(value, list):
        return value if all(map(_is_same, value, children)) else children
    children = [
        MARKER if _is_secret(name, child) else child for name, child in zip(value, children, strict=True)
    ]
    return value if all(map(_is_same, value.values(), children)) else dict(zip(value, children, strict=True))


def _is_same(one: Any, other: Any) -> bool:
    return one is other


def _is_secret(name: str, value: Any) -> bool:
    return name in _MEMBERS and isinstance(value, str) and value not in _SWITCHES


def _without_data(word: str) -> str:
    """Return the text of an object without the data of a secret."""
    if _SECRET_OBJECT.search(word):
        for pattern, replacement in _SECRET_DATA:
            word = pattern.sub(replacement, word)
    return word


def _member(*names: str) -> Callable[[Arguments], Arguments]:
    """Return what replaces these arguments."""

    def redact(arguments: Arguments) -> Arguments:
        present = [name for name in names if name in arguments]
        return {**arguments, **dict.fromkeys(present, MARKER)} if present else arguments

    return redact


def _object_add(arguments: Arguments) -> Arguments:
    """``data``, also in ``props``, where QEMU before 6.0 took it."""
    kept = _member("data")(arguments)
    props = kept.get("props")
    return {**kept, "props": _member("data")(props)} if isinstance(props, dict) and "data" in props else kept


def _qom_set(arguments: Arguments) -> Arguments:
    return _member("value")(arguments) if arguments.get("property") in _PROPERTIES else arguments


def _change(arguments: Arguments) -> Arguments:
    """``change vnc password``, gone in QEMU 6.0."""
    return _member("arg")(arguments) if arguments.get("device") == "vnc" else arguments


def _human(arguments: Arguments) -> Arguments:
    line = arguments.get("command-line")
    if not isinstance(line, str):
        return arguments
    kept = redact_hmp(line)
    return arguments if kept == line else {**arguments, "command-line": kept}


def _reads_secret(command: dict[str, Any]) -> bool:
    arguments = command.get("arguments")
    if not isinstance(arguments, dict):
        return False
    match command.get("execute"):
        case "qom-get":
            return arguments.get("property") in _PROPERTIES
        case "human-monitor-command":
            return _HMP_READS.match(str(arguments.get("command-line"))) is not None
    return False


#: Commands whose arguments hold secrets: what replaces them.
_COMMANDS: Final[dict[str, Callable[[Arguments], Arguments]]] = {
    "object-add": _object_add,
    "set_password": _member("password"),
    "change-vnc-password": _member("password"),
    "change": _change,
    "block_passwd": _member("password"),
    "qom-set": _qom_set,
    "sev-inject-launch-secret": _member("secret"),
    "human-monitor-command": _human,
}
