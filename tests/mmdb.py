# SPDX-License-Identifier: Apache-2.0
"""Writes small databases in MaxMind's format, version 2.0, for tests: a tree of bits, and records behind it."""

from __future__ import annotations

import ipaddress
import struct
from typing import Any

MARK = b"\xab\xcd\xefMaxMind.com"
PADDING = bytes(16)
SIZED = {"uint16": 5, "uint32": 6, "uint64": 9}


class Sized(int):
    """A whole number of a given type: `Sized.of("uint16", 7)`."""

    kind = "uint32"

    @classmethod
    def of(cls, kind: str, value: int) -> Sized:
        made = cls(value)
        made.kind = kind
        return made


def head(kind: int, size: int) -> bytes:
    """The control octets of a value."""
    first, extended = (kind << 5, b"") if kind <= 7 else (0, bytes([kind - 7]))
    if size < 29:
        return bytes([first | size]) + extended
    if size < 29 + 256:
        return bytes([first | 29]) + extended + bytes([size - 29])
    return bytes([first | 30]) + extended + struct.pack("!H", size - 285)


def encode(value: Any) -> bytes:
    """A value of the data section."""
    if isinstance(value, bool):
        return head(14, int(value))
    if isinstance(value, str):
        octets = value.encode()
        return head(2, len(octets)) + octets
    if isinstance(value, float):
        return head(3, 8) + struct.pack("!d", value)
    if isinstance(value, int):
        octets = value.to_bytes(8, "big").lstrip(b"\0")
        return head(SIZED[getattr(value, "kind", "uint32")], len(octets)) + octets
    if isinstance(value, dict):
        return head(7, len(value)) + b"".join(encode(part) for pair in value.items() for part in pair)
    return head(11, len(value)) + b"".join(map(encode, value))


def database(kind: str, networks: dict[str, Any], version: int = 6) -> bytes:
    """A database of type `kind` with a record for each network, which must not lie within each other."""
    nodes: list[list[int | None]] = [[None, None]]
    data = b""
    for text, record in networks.items():
        network = ipaddress.ip_network(text)
        width = 128 if version == 6 else 32
        address = int(network.network_address)
        bits = [address >> (width - 1 - i) & 1 for i in range(network.prefixlen + width - network.max_prefixlen)]
        at = 0
        for bit in bits[:-1]:
            following = nodes[at][bit]
            if following is None:
                following = nodes[at][bit] = len(nodes)
                nodes.append([None, None])
            at = following
        nodes[at][bits[-1]] = -1 - len(data)
        data += encode(record)
    count = len(nodes)

    def entry(value: int | None) -> bytes:
        found = count if value is None else value if value >= 0 else count + len(PADDING) + (-1 - value)
        return struct.pack("!I", found)

    tree = b"".join(entry(side) for node in nodes for side in node)
    about = {
        "binary_format_major_version": Sized.of("uint16", 2),
        "binary_format_minor_version": Sized.of("uint16", 0),
        "build_epoch": Sized.of("uint64", 1),
        "database_type": kind,
        "description": {"en": "for tests"},
        "ip_version": Sized.of("uint16", version),
        "languages": ["en"],
        "node_count": count,
        "record_size": Sized.of("uint16", 32),
    }
    return tree + PADDING + data + MARK + encode(about)
