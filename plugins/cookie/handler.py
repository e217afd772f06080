# SPDX-License-Identifier: Apache-2.0
"""The plugin class of cookie: its secrets, and the counters of its block."""

import secrets
from typing import TYPE_CHECKING

from fastdns.plugin import Plugin

from .config import COOKIE, SECRET_OCTETS
from .metrics import BADCOOKIE, QUERIES, RESULTS

if TYPE_CHECKING:
    from fastdns._stage import CompiledStage
    from fastdns._stats import Stats

WORDS = ("low", "high", "drawn")
WORD = 1 << 64


def drawn_secret(stats: "Stats") -> bytes:
    """The server's own secret: drawn once, kept in shared words that are never exported and that outlive a reload."""
    low, high, drawn = (stats.intern("fastdns_cookie_word", (("word", word),), "word") for word in WORDS)
    if not stats.get(drawn):
        stats.set_shared(low, secrets.randbits(64))
        stats.set_shared(high, secrets.randbits(64))
        stats.set_shared(drawn, 1)
    return b"".join((stats.get(slot) % WORD).to_bytes(SECRET_OCTETS // 2, "little") for slot in (low, high))


class Cookie(Plugin):
    """Gives clients a DNS cookie, and knows it again."""

    name = "cookie"
    directive = COOKIE
    first_in_c = True

    def compiled(self) -> "CompiledStage":
        from ._cookie import stage

        keys = [bytes.fromhex(text) for text in self.config["secret"]] or [drawn_secret(self.block.stats)]
        return stage(keys, self.config["require"], [self.slots(i) for i in range(len(self.block.servers))])

    def slots(self, listener: int) -> list[int]:
        """The counters of one listener: by result, and BADCOOKIE. One that the block cannot be reached by has none."""
        if listener not in self.block.listeners:
            return [0] * (len(RESULTS) + 1)
        server, view, stats = self.block.servers[listener], self.block.view, self.block.stats
        return [
            *(QUERIES.slot(server, view, result, stats=stats) for result in RESULTS),
            BADCOOKIE.slot(server, view, stats=stats),
        ]
