# SPDX-License-Identifier: Apache-2.0
"""Server block keys: from `tls://example.org:8853 10.0.0.0/27` to (scheme, zone, port), and who may share what.

Strategy: `inspect` expands every key once, before any plugin is asked, so the rest of the server sees
only normalised zones. What can only be judged after `bind` and `view` ran (two blocks that claim the
same zone of the same listener) is a separate check over listen keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import KeysError
from . import addresses, names
from .dispenser import Dispenser
from .lexer import Token
from .parser import RawBlock
from .units import quote


class ZoneKey(NamedTuple):
    """One key: `zone` in lower case with final dot, `port` a number. str() is `dns://example.org.:53`."""

    scheme: str
    zone: str
    port: int

    def __str__(self) -> str:
        return f"{self.scheme}://{self.zone}:{self.port}"


@dataclass(frozen=True)
class ServerBlock:
    """One server block: `zones` are its keys, the first of which is the one that plugins are set up for.

    `tokens` maps a directive's name to the tokens of all its occurrences, in order of first appearance.
    `index` is the block's place in the Corefile.
    """

    index: int
    filename: str
    zones: tuple[ZoneKey, ...]
    tokens: dict[str, tuple[Token, ...]]

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys as text, `dns://example.org.:53`."""
        return tuple(map(str, self.zones))

    def dispenser(self, directive: str) -> Dispenser:
        """A fresh cursor over the tokens of `directive` (KeyError where the block has none)."""
        return Dispenser(self.filename, self.tokens[directive], self.keys, directive)


def expand_key(text: str, port: int = 53) -> list[ZoneKey]:
    """The keys that one written key stands for; `port` is the default of `dns://`. ValueError if malformed.

    `unix://` is refused: CoreDNS knows the scheme, serves nothing for it and ends without a word.
    """
    scheme, rest = addresses.split_scheme(text)
    if scheme == addresses.UNIX:
        raise ValueError(f"no server for scheme: {quote(text)}")
    zones, written = names.split_zone_port(rest)
    for zone in zones:
        names.split_zone_port(names.fqdn(zone))
    number = int(written) if written else port if scheme == addresses.DNS else addresses.DEFAULT_PORTS[scheme]
    return [ZoneKey(scheme, names.normalize(zone), number) for zone in zones]


def inspect(filename: str, blocks: Sequence[RawBlock], port: int = 53) -> tuple[ServerBlock, ...]:
    """Server blocks with their keys expanded.

    Raises KeysError: `error inspecting server blocks: ...`, or `address N: invalid port`.
    """
    found: list[ServerBlock] = []
    for index, block in enumerate(blocks):
        try:
            zones = tuple(zone for key in block.keys for zone in expand_key(key, port))
        except ValueError as error:
            raise KeysError(f"error inspecting server blocks: {error}", filename) from None
        for zone in zones:
            if not 0 <= zone.port <= 65535:
                raise KeysError(f"address {zone.port}: invalid port", filename)
        tokens = {name: tuple(tokens) for name, tokens in block.tokens.items()}
        found.append(ServerBlock(index, filename, zones, tokens))
    return tuple(found)


class ListenKey(NamedTuple):
    """A key on one listen address; `address` is "" for all. str() is `dns://a.:53 on 127.0.0.1`."""

    key: ZoneKey
    address: str = ""

    def __str__(self) -> str:
        return f"{self.key} on {self.address}" if self.address else str(self.key)


def check_listeners(claims: Iterable[tuple[ListenKey, bool]]) -> None:
    """Refuse claims that cannot be served beside each other, in Corefile order: (listen key, has a view).

    A zone may be claimed once per address; the same zone and port may not be bound in one place and unbound
    in another. A claim with a view shares its zone with others and is checked for the latter only.
    Raises KeysError.
    """
    taken: set[ListenKey] = set()
    by_key: dict[ZoneKey, ListenKey] = {}
    for claim, filtered in claims:
        overlap: ListenKey | None = None
        if claim in taken:
            if not filtered:
                raise KeysError(f"cannot serve {claim} - it is already defined")
        elif claim.key in by_key:
            if not claim.address:
                overlap = by_key[claim.key]
            elif ListenKey(claim.key) in taken:
                overlap = ListenKey(claim.key)
        if overlap is not None:
            raise KeysError(f"cannot serve {claim} - zone overlap listener capacity with {overlap}")
        if not filtered:
            taken.add(claim)
            by_key[claim.key] = claim
