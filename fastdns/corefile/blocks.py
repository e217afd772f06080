# SPDX-License-Identifier: Apache-2.0
"""Server block keys: from `tls://example.org:8853 10.0.0.0/27` to (scheme, zone, port), and who may share what.

Strategy: `inspect` expands every key once, before any plugin is asked, so the rest of the server sees
only normalised zones. What can only be judged after `bind` and `view` ran (two blocks that claim the
same zone of the same listener) is a separate check over listen keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
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
    `index` is the block's place in the Corefile; `places` are the keys' tokens, one for each of `zones`.
    """

    index: int
    filename: str
    zones: tuple[ZoneKey, ...]
    tokens: dict[str, tuple[Token, ...]]
    places: tuple[Token, ...] = field(default=(), compare=False)

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
        zones: list[ZoneKey] = []
        places: list[Token] = []
        for key, token in zip_longest(block.keys, block.places, fillvalue=Token("")):
            assert isinstance(key, str) and isinstance(token, Token)
            expanded = _expand(filename, key, token, port)
            zones += expanded
            places += [token] * len(expanded)
        for zone, token in zip(zones, places, strict=True):
            _check_port(filename, zone, token)
        tokens = {name: tuple(tokens) for name, tokens in block.tokens.items()}
        found.append(ServerBlock(index, filename, tuple(zones), tokens, tuple(places)))
    return tuple(found)


def inspect_key(filename: str, key: str, token: Token, port: int = 53) -> list[ZoneKey]:
    """What one key, written as `token`, stands for. Raises KeysError like `inspect`, with the token's place."""
    zones = _expand(filename, key, token, port)
    for zone in zones:
        _check_port(filename, zone, token)
    return zones


def _expand(filename: str, key: str, token: Token, port: int) -> list[ZoneKey]:
    try:
        return expand_key(key, port)
    except ValueError as error:
        text = f"error inspecting server blocks: {error}"
        raise KeysError(text, token.file or filename, token.line, token.column) from None


def _check_port(filename: str, zone: ZoneKey, token: Token) -> None:
    if not 0 <= zone.port <= 65535:
        raise KeysError(f"address {zone.port}: invalid port", token.file or filename, token.line, token.column)


class ListenKey(NamedTuple):
    """A key on one listen address; `address` is "" for all. str() is `dns://a.:53 on 127.0.0.1`."""

    key: ZoneKey
    address: str = ""

    def __str__(self) -> str:
        return f"{self.key} on {self.address}" if self.address else str(self.key)


class Claims:
    """Who serves what: claims that cannot be served beside each other are refused, in Corefile order.

    A zone may be claimed once per address; the same zone and port may not be bound in one place and unbound
    in another. A claim with a view shares its zone with others and is checked for the latter only.
    """

    def __init__(self) -> None:
        self._taken: set[ListenKey] = set()
        self._by_key: dict[ZoneKey, ListenKey] = {}

    def add(self, claim: ListenKey, filtered: bool) -> None:
        """One more claim; `filtered`: its block has a view. Raises KeysError, and the claim does not count."""
        overlap: ListenKey | None = None
        if claim in self._taken:
            if not filtered:
                raise KeysError(f"cannot serve {claim} - it is already defined")
        elif claim.key in self._by_key:
            if not claim.address:
                overlap = self._by_key[claim.key]
            elif ListenKey(claim.key) in self._taken:
                overlap = ListenKey(claim.key)
        if overlap is not None:
            raise KeysError(f"cannot serve {claim} - zone overlap listener capacity with {overlap}")
        if not filtered:
            self._taken.add(claim)
            self._by_key[claim.key] = claim


def check_listeners(claims: Iterable[tuple[ListenKey, bool]]) -> None:
    """Refuse the first claim that cannot be served beside those before it: (listen key, has a view). KeysError."""
    served = Claims()
    for claim, filtered in claims:
        served.add(claim, filtered)
