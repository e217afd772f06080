# SPDX-License-Identifier: Apache-2.0
"""What is asked: query files, synthetic names, mixes.

    read(Path("queries.txt"))                       dnsperf's format: a name and a type a line
    synthetic(1000)                                 h0000000.example.org to h0000999.example.org, type A
    mix(100_000, hit_ratio=0.9, nxdomain=0.05, types={"A": 7, "AAAA": 3}, do=0.2)

Strategy: each gives `Questions`, packed once before the run, so the generator copies octets and nothing else. A mix
is drawn from a seeded generator: the same arguments give the same queries on every machine. An error in a file names
file and line.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fastdns._log import TYPES
from fastdns._wire import name_from_text
from fastdns.errors import FastdnsError

from ._load import Questions

__all__ = ["Edns", "Questions", "QuestionsError", "mix", "parse", "query", "read", "synthetic", "type_number"]

ZONE = "example.org"
MISSING_ZONE = "missing.example.org"
BY_NAME = {name: number for number, name in TYPES.items()}
TYPE_BY_NUMBER = re.compile(r"TYPE(\d{1,5})", re.IGNORECASE)
HEADER = b"\0\0\1\0\0\1\0\0\0\0\0"  # all but the last octet: RD, one question
MOST_LINE = 4096  # octets of a line in a query file
NOERROR, NXDOMAIN, ANY_RCODE = 0, 3, -1


class QuestionsError(FastdnsError):
    """A query file is wrong: `FILE:LINE - CAUSE`."""

    def __init__(self, file: str, line: int, cause: str) -> None:
        super().__init__(file, line, cause)
        self.file, self.line, self.cause = file, line, cause

    def __str__(self) -> str:
        return f"{self.file}:{self.line} - {self.cause}" if self.line else f"{self.file}: {self.cause}"


@dataclass(frozen=True)
class Edns:
    """The OPT record of a query (RFC 6891): its payload size in octets, and DO (RFC 3225)."""

    size: int = 1232
    do: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.size <= 65535:
            raise ValueError(f"EDNS size {self.size}: must be 0 .. 65535")

    def wire(self) -> bytes:
        return b"\0\0\x29" + self.size.to_bytes(2, "big") + (b"\0\0\x80\0" if self.do else b"\0\0\0\0") + b"\0\0"


def type_number(text: str) -> int:
    """A type by its name, in any case, or as TYPEnn (RFC 3597 5). ValueError when it is neither."""
    number = BY_NAME.get(text.upper())
    if number is not None:
        return number
    match = TYPE_BY_NUMBER.fullmatch(text)
    if match and int(match[1]) <= 65535:
        return int(match[1])
    raise ValueError(f"unknown type {text!r}")


def question_wire(name: bytes, qtype: int, edns: Edns | None) -> bytes:
    question = name + qtype.to_bytes(2, "big") + b"\0\1"
    return HEADER + (b"\1" + question + edns.wire() if edns else b"\0" + question)


def query(name: str, qtype: int, edns: Edns | None = None) -> bytes:
    """A query in wire form, class IN, RD set, id 0. ValueError when the name is none."""
    return question_wire(name_from_text(name), qtype, edns)


def parse(lines: Iterable[str], file: str = "-", edns: Edns | None = None) -> Iterator[bytes]:
    """Queries from lines of dnsperf's format: `name type`; a line that begins with `;` or `#` is a comment.

    QuestionsError names the line.
    """
    for number, line in enumerate(lines, 1):
        if len(line) > MOST_LINE:
            raise QuestionsError(file, number, f"a line of {len(line)} characters")
        words = line.split()
        if not words or words[0][0] in ";#":
            continue
        if len(words) != 2:
            cause = f"{words[2]!r} behind name and type" if len(words) > 2 else f"no type behind {words[0]!r}"
            raise QuestionsError(file, number, cause)
        try:
            yield query(words[0], type_number(words[1]), edns)
        except ValueError as error:
            raise QuestionsError(file, number, str(error)) from None


def read(path: str | Path, edns: Edns | None = None) -> Questions:
    """A query file. QuestionsError: it cannot be read, holds no question, or a line is wrong."""
    try:
        with Path(path).open(encoding="utf-8", errors="surrogateescape") as file:
            wires = list(parse(file, str(path), edns))
    except OSError as error:
        raise QuestionsError(str(path), 0, error.strerror or str(error)) from None
    if not wires:
        raise QuestionsError(str(path), 0, "no question in it")
    return Questions(wires)


def numbered(prefix: bytes, first: int, count: int) -> Iterator[bytes]:
    """Labels in wire form: the prefix and a number of seven digits or more."""
    for number in range(first, first + count):
        label = b"%b%07d" % (prefix, number)
        yield bytes([len(label)]) + label


def synthetic(
    count: int,
    *,
    first: int = 0,
    qtype: str = "A",
    zone: str = ZONE,
    edns: Edns | None = None,
    rcode: int = ANY_RCODE,
) -> Questions:
    """Names hNNNNNNN.ZONE, numbered from `first`. ValueError for a count below 1 or a wrong zone, type or rcode."""
    if count < 1 or first < 0:
        raise ValueError(f"{count} names from number {first}: one at least, from 0 or higher")
    tail = question_wire(name_from_text(zone), type_number(qtype), edns)[len(HEADER) :]
    flag, tail = tail[:1], tail[1:]
    head = HEADER + flag
    wires = [head + label + tail for label in numbered(b"h", first, count)]
    return Questions(wires, None if rcode == ANY_RCODE else [rcode] * count)


def share(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} {value}: must be 0 .. 1")
    return value


def mix(
    count: int,
    *,
    hit_ratio: float = 1.0,
    hot: int = 1000,
    first: int = 0,
    nxdomain: float = 0.0,
    types: Mapping[str, float] | None = None,
    edns: float = 0.0,
    edns_size: int = 1232,
    do: float = 0.0,
    zone: str = ZONE,
    missing_zone: str = MISSING_ZONE,
    check: bool = True,
    seed: int = 1,
) -> Questions:
    """`count` queries drawn by shares (0 .. 1).

    `hit_ratio`: of names that come again and again, drawn of `hot` ones (h0000000 on); the others are asked once each,
    numbered from `first` in names of their own (m0000000 on), so a cache cannot have them. `nxdomain`: of names below
    `missing_zone`, which has none; hits and misses alike. `types`: their weights, A alone by default. `edns`: with an
    OPT of `edns_size` octets; `do`: of those with OPT, with DO. `check`: NXDOMAIN is expected below the missing zone
    and NOERROR elsewhere. ValueError for anything outside these ranges.
    """
    for name, value in (("hit_ratio", hit_ratio), ("nxdomain", nxdomain), ("edns", edns), ("do", do)):
        share(name, value)
    if count < 1 or hot < 1 or first < 0:
        raise ValueError(f"{count} queries, {hot} hot names, from number {first}: counts are 1 at least, numbers 0")
    weights = dict(types or {"A": 1.0})
    numbers = [type_number(name) for name in weights]
    if min(weights.values()) < 0 or sum(weights.values()) <= 0:
        raise ValueError(f"weights of types {weights}: none may be negative, one must be positive")
    draw = random.Random(seed)
    plain, signed = Edns(edns_size), Edns(edns_size, do=True)
    zones = name_from_text(zone), name_from_text(missing_zone)
    kinds = draw.choices(numbers, list(weights.values()), k=count)
    wires: list[bytes] = []
    rcodes: list[int] = []
    missed = first
    for qtype in kinds:
        missing = draw.random() < nxdomain
        if draw.random() < hit_ratio:
            label = b"h%07d" % draw.randrange(hot)
        else:
            label = b"m%07d" % missed
            missed += 1
        opt = None
        if draw.random() < edns:
            opt = signed if draw.random() < do else plain
        wires.append(question_wire(bytes([len(label)]) + label + zones[missing], qtype, opt))
        rcodes.append(NXDOMAIN if missing else NOERROR)
    return Questions(wires, rcodes if check else None)
