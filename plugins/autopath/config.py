# SPDX-License-Identifier: Apache-2.0
"""The grammar of autopath, and the search path of a resolv.conf file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fastdns.corefile.names import normalize, origins
from fastdns.corefile.units import quote
from fastdns.plugin import Directive, Dispenser

FILE_MOST = 1 << 20  # octets
PATH_MOST = 64  # zones: a query may cause so many look-ups


@dataclass(frozen=True)
class Settings:
    """`search` is the path of a file, its last element empty; () where `source`, another plugin, is asked."""

    zones: tuple[str, ...]
    search: tuple[str, ...] = ()
    source: str = ""


def search_path(text: str) -> list[str]:
    """What the last `search` or `domain` line says (resolv.conf(5)), as CoreDNS's library reads it."""
    found: list[str] = []
    for line in text.split("\n"):
        words = line.split()
        if words[:1] == ["domain"]:
            found = words[1:2]
        elif words[:1] == ["search"]:
            found = words[1:]
    return found


def read_file(d: Dispenser, name: str) -> tuple[str, ...]:
    """The path that a file has. Raises OptionError in CoreDNS's words."""
    try:
        with Path(name).open("rb") as file:
            octets = file.read(FILE_MOST)
    except OSError as error:
        why = f"open {name}: {(error.strerror or str(error)).lower()}"
        raise d.fail(f"failed to parse {quote(name)}: {why}") from None
    path = [normalize(zone) for zone in search_path(octets.decode("utf-8", "surrogateescape"))]
    if len(path) > PATH_MOST:
        raise d.fail(f"failed to parse {quote(name)}: more than {PATH_MOST} zones to search")
    return (*path, "")


def read_lines(d: Dispenser) -> Settings:
    """All lines; the current token is the first one's name. Zones are those of the last line, and so is a file's path;
    a plugin that was named once is asked, whatever else is named."""
    zones: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    source = ""
    while True:
        words = d.remaining_args()
        if not words:
            raise d.fail("no resolv-conf specified")
        if words[-1].startswith("@"):
            source = words[-1][1:]
        else:
            search = read_file(d, words[-1])
        zones = tuple(origins(words[:-1], d.keys))
        if not d.next():
            return Settings(zones, search, source)


AUTOPATH = Directive(
    "autopath", parse_one=read_lines, usage="autopath [ZONE...] RESOLV-CONF",
    help="Walks the search path of clients in their place.",
)
