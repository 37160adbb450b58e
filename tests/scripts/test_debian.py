"""Where packages come from: the sources that apt is set up with, in both notations."""

import debian

ONE_LINE = """
# deb http://off.example/debian bookworm main
deb http://mirror.example/debian bookworm main contrib  # the mirror
deb [signed-by=/usr/share/keyrings/a.gpg arch=amd64] http://mirror.example/debian bookworm-updates main
deb-src http://mirror.example/debian bookworm main
"""

STANZAS = """
Types: deb deb-src
# a comment inside a stanza
URIs: http://mirror.example/debian http://other.example/debian
Suites: bookworm
 bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/a.gpg

Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
Enabled: no
"""


def test_one_line_sources():
    """Options, trailing comments and commented lines are told apart; source packages are left out."""
    assert list(debian.one_line_sources(ONE_LINE)) == [
        ("", "http://mirror.example/debian", "bookworm", ["main", "contrib"]),
        (
            "[signed-by=/usr/share/keyrings/a.gpg arch=amd64]",
            "http://mirror.example/debian",
            "bookworm-updates",
            ["main"],
        ),
    ]


def test_stanza_sources():
    """A stanza is every address with every suite, its key included; one that is off is left out."""
    key = "[signed-by=/usr/share/keyrings/a.gpg]"

    assert list(debian.stanza_sources(STANZAS)) == [
        (key, f"http://{host}.example/debian", suite, ["main"])
        for host in ("mirror", "other")
        for suite in ("bookworm", "bookworm-updates")
    ]


def test_backports_come_from_the_mirror_of_the_release(tmp_path, monkeypatch):
    """Each mirror of the release is asked for its backports too; what is not this release's is not asked at all."""
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(ONE_LINE)
    (tmp_path / "sources.list.d" / "vendor.list").write_text("deb http://vendor.example/x stable main\n")
    monkeypatch.setattr(debian, "ETC", tmp_path)

    assert debian.sources("bookworm") == [
        "deb  http://mirror.example/debian bookworm main",
        "deb  http://mirror.example/debian bookworm-backports main",
        "deb [signed-by=/usr/share/keyrings/a.gpg arch=amd64] http://mirror.example/debian bookworm-updates main",
    ]
