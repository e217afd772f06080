# SPDX-License-Identifier: Apache-2.0
"""Writes seed inputs for a libFuzzer target: `seeds.py TARGET DIRECTORY`.

Strategy: queries are the RFC probes; replies are the probes with QR set and a few messages that use every RDATA
shape the scanner knows, behind the four octets by which the target chooses its limits; the cache gets operations.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "rfc"))

from probes import NAME, PROBES, header, opt, question, record

WWW, ORG = b"\xc0\x0c", b"\xc0\x18"
SHAPES = [
    record(rtype=2, rdata=b"\x03ns1" + ORG),
    record(rtype=5, rdata=b"\x01a" + WWW),
    record(rtype=6, rdata=WWW + ORG + bytes(20)),
    record(rtype=15, rdata=b"\x00\x0a\x04mail" + ORG),
    record(rtype=14, rdata=WWW + ORG),
    record(rtype=17, rdata=WWW + ORG),
    record(rtype=33, rdata=bytes(6) + WWW),
    record(rtype=35, rdata=bytes(4) + b"\x01S\x02ab\x00" + WWW),
    record(rtype=39, rdata=ORG),
    record(rtype=46, rdata=bytes(18) + ORG + b"signature"),
    record(rtype=47, rdata=ORG + b"\x00\x01\x40"),
    record(rtype=65, rdata=b"\x00\x01\x00\x00\x01\x00\x03\x02h2\x00\x03\x00\x02\x01\xbb"),
    record(rtype=26, rdata=b"\x00\x01" + WWW + ORG),
    record(rtype=16, rdata=b"\x05hello"),
    record(rtype=28, rdata=bytes(16)),
    record(rtype=65280, rdata=b"\xc0\x0c\xff"),
]


def replies():
    """Messages from an upstream."""
    for probe in PROBES:
        if len(probe.wire) >= 12:
            yield probe.wire[:2] + bytes([probe.wire[2] | 0x80]) + probe.wire[3:]
    for at in range(0, len(SHAPES), 4):
        body = b"".join(SHAPES[at : at + 4])
        yield header(flags=0x8180, counts=(1, 2, 1, 2)) + question(NAME) + body + opt()
        yield header(flags=0x8180, counts=(1, 0, 0, 5)) + question(NAME) + opt() + body
    yield header(flags=0x8180, counts=(1, 16, 0, 0)) + question(NAME) + b"".join(SHAPES)
    yield header(flags=0x8180, counts=(1, 60, 0, 0)) + question(NAME) + record() * 60


def operations():
    """Lists of operations on the cache, 16 octets each: stores, look-ups, damage."""
    store = [bytes([0, n, n & 1, 1, 2, 0, 0, 0]) + (60 + 40 * n).to_bytes(8, "little") for n in range(8)]
    find = [bytes([2, n, n & 1]) + bytes(13) for n in range(8)]
    forge = [bytes([7, 1, 0, n, n << 4, 0, 0, 0]) + (0x10000 * n + 0xFF00).to_bytes(8, "little") for n in range(8)]
    damage = [bytes([op, n, 1, 2, 3, 4, 5, 6]) + bytes(range(n, n + 8)) for n in range(3) for op in (4, 5, 6, 8)]
    yield b"".join(store + find)
    yield b"".join(forge)
    yield from (b"".join([*store[:3], one, *find[:3]]) for one in damage)


def main(target, directory):
    """Writes one file a seed."""
    if target == "fuzz_reply":
        seeds = [choice + reply for reply in replies() for choice in (b"\xff\xff\x03\x00", b"\x00\x60\x0d\x20")]
    elif target == "fuzz_cache":
        seeds = list(operations())
    else:
        seeds = [probe.wire for probe in PROBES]
    for number, seed in enumerate(seeds):
        Path(directory, f"seed-{number:03}").write_bytes(seed)


if __name__ == "__main__":
    main(*sys.argv[1:])
