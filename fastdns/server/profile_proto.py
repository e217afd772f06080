# SPDX-License-Identifier: Apache-2.0
"""Profiles in the format of pprof: profile.proto, gzipped, as `go tool pprof` and speedscope read it.

Strategy: the format is a protobuf message of a dozen fields, so it is written by hand: varints and length-delimited
fields. Strings, functions and locations are numbered once. One mapping that claims to have function names keeps the
tools from looking for symbols in a binary.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Sequence

Frame = tuple[str, str, int, int]  # function, file, its first line, the line


def varint(value: int) -> bytes:
    """A number; negative ones as 64 bits, two's complement."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field: int, value: int) -> bytes:
    """A field that holds a number; one of zero is left out."""
    return varint(field << 3) + varint(value) if value else b""


def octets(field: int, value: bytes) -> bytes:
    """A field that holds octets or a message."""
    return varint(field << 3 | 2) + varint(len(value)) + value


def packed(field: int, values: Iterable[int]) -> bytes:
    """A repeated field of numbers."""
    return octets(field, b"".join(varint(value) for value in values))


class Profile:
    """A profile that is being filled. `kinds` are the (name, unit) of a sample's values."""

    def __init__(self, kinds: Sequence[tuple[str, str]], period: tuple[str, str], period_value: int) -> None:
        self.strings = {"": 0}
        self.functions: dict[tuple[str, str, int], int] = {}
        self.locations: dict[tuple[int, int], int] = {}
        self.body: list[bytes] = []
        self.tail: list[bytes] = []
        self.default = kinds[-1][0]
        for name, unit in kinds:
            self.body.append(octets(1, self._kind(name, unit)))
        self.tail.append(octets(11, self._kind(*period)) + number(12, period_value))

    def _kind(self, name: str, unit: str) -> bytes:
        return number(1, self.text(name)) + number(2, self.text(unit))

    def text(self, text: str) -> int:
        """The number of a string."""
        return self.strings.setdefault(text, len(self.strings))

    def sample(self, stack: Iterable[Frame], values: Sequence[int], labels: Iterable[tuple[str, str | int]]) -> None:
        """Adds a sample; `stack` begins with the innermost frame."""
        message = packed(1, [self._location(frame) for frame in stack]) + packed(2, values)
        for key, value in labels:
            held = number(2, self.text(value)) if isinstance(value, str) else number(3, value)
            message += octets(3, number(1, self.text(key)) + held)
        self.body.append(octets(2, message))

    def _location(self, frame: Frame) -> int:
        name, file, first, line = frame
        function = self.functions.setdefault((name, file, first), len(self.functions) + 1)
        return self.locations.setdefault((function, line), len(self.locations) + 1)

    def comment(self, text: str) -> None:
        """Adds a remark, which `go tool pprof -comments` shows."""
        self.tail.append(number(13, self.text(text)))

    def encode(self, time_ns: int, duration_ns: int) -> bytes:
        """The profile, gzipped."""
        out = [*self.body, octets(3, number(1, 1) + number(5, self.text("fastdns")) + b"".join(
            number(field, 1) for field in (7, 8, 9, 10)))]
        for (function, line), place in self.locations.items():
            held = octets(4, number(1, function) + number(2, line))
            out.append(octets(4, number(1, place) + number(2, 1) + held))
        for (name, file, first), place in self.functions.items():
            named = number(2, self.text(name)) + number(3, self.text(name)) + number(4, self.text(file))
            out.append(octets(5, number(1, place) + named + number(5, first)))
        out += [*self.tail, number(9, time_ns), number(10, duration_ns), number(14, self.text(self.default))]
        # Last, because everything above may have numbered another one; the order of fields is free.
        out += [octets(6, text.encode("utf-8", "replace")) for text in self.strings]
        return gzip.compress(b"".join(out), 6)
