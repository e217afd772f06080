# SPDX-License-Identifier: Apache-2.0
"""Types of TSIG (see _tsig.pxd)."""

ALGORITHMS: tuple[str, ...]

class KeyTable:
    """The keys of a listener: names in wire form, and their secrets."""

    def __init__(self, secrets: dict[bytes, bytes]) -> None: ...
    def __len__(self) -> int: ...
    def verify(self, wire: bytes, now: int) -> tuple[int, str]:
        """(0, an extended error, or -1 for what cannot be understood; the name of the key as text, or "")."""

    def sign(self, wire: bytes, replies: list[bytes], now: int, then: int, error: int = -1) -> list[bytes]:
        """The replies to a signed query, or the messages of a stream, each with its record. `now`: when the query is
        verified, `then`: when they are signed. `error` replaces what came of the query."""
