# SPDX-License-Identifier: Apache-2.0
"""The plugin class of chaos: its texts, as they stand in a TXT record."""

import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastdns import __version__
from fastdns.plugin import BlockContext, Directive, Dispenser, Plugin, SetupError

if TYPE_CHECKING:
    from fastdns._stage import CompiledStage

TEXT_MAX = 255  # octets
VERSION = f"fastdns-{__version__}"
AUTHORS = ("the fastdns authors",)
ESCAPE = re.compile(rb"\\(\d{3}|.?)", re.S)


@dataclass(frozen=True)
class Texts:
    """What one line says; without arguments the defaults."""

    version: str = VERSION
    authors: tuple[str, ...] = AUTHORS


def occurrence(d: Dispenser) -> Texts:
    """VERSION and AUTHORS. The first line counts; CoreDNS does not look at further ones."""
    words = d.remaining_args()
    if d.next_block():
        raise d.err(f"unknown property '{d.val}'")
    while d.next():
        continue
    if len(words) < 2:
        return Texts(words[0]) if words else Texts()
    return Texts(words[0], tuple(sorted(set(words[1:]))))


def octets(text: str) -> bytes:
    """A text as it is sent: cut at 255 octets as it is written, then `\\DDD` and `\\X` are octets."""

    def plain(match: re.Match[bytes]) -> bytes:
        found = match[1]
        return bytes([int(found) & 255]) if len(found) == 3 else found

    return ESCAPE.sub(plain, text.encode("utf-8", "surrogateescape")[:TEXT_MAX])


class Chaos(Plugin):
    """Says version, authors and host name."""

    name = "chaos"
    directive = Directive(
        "chaos", parse_one=occurrence, usage="chaos [VERSION] [AUTHORS...]",
        help="Answers version.bind and the like in class CH.",
    )
    any_class = True

    def __init__(self, config: Texts, block: BlockContext) -> None:
        super().__init__(config, block)
        from ._chaos import AUTHORS_OCTETS

        self.version = octets(config.version)
        self.hostname = octets(socket.gethostname() or "localhost")
        self.authors = [octets(author) for author in config.authors]
        if sum(13 + len(author) for author in self.authors) > AUTHORS_OCTETS:
            raise SetupError(self.name, "more authors than one message holds")

    def compiled(self) -> "CompiledStage":
        from ._chaos import stage

        return stage(self.version, self.hostname, self.authors)
