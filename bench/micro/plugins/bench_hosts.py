# SPDX-License-Identifier: Apache-2.0
"""hosts: an answer out of ten thousand names, a name that goes on, a million lines made an image. The copying of the
reply by the kit is in the first two."""

import pytest

from fastdns._drive import Bench
from fastdns._stats import Stats
from fastdns.plugins.hosts._hosts import Image, stage
from fastdns.published import Board, make

from ..kept import QUERY, reply

TURNS = 200_000
NAMES = 10_000
ZONES = [b"\0"]


def text(names: int) -> bytes:
    lines = [f"10.{i >> 16}.{i >> 8 & 255}.{i & 255} host{i}.example.org" for i in range(names)]
    return "\n".join(["192.0.2.0 www.example.org", *lines]).encode()


@pytest.mark.parametrize("known", [True, False])
def bench_answer(repeated, known):
    stats = Stats.create(4)
    image = Image(text(NAMES) if known else text(NAMES).partition(b"\n")[2], ZONES, True)
    room = bytearray(image.octets)
    image.pack(room)
    bench = Bench(stage(ZONES, ZONES, False, 300, bytes(room), Board(make())), stats, 1)
    done = repeated(bench.run, QUERY, reply=reply(1), repeat=TURNS, items=TURNS, unit="query")
    assert done[0] == ("reply" if known else "next")


def bench_build(repeated):
    octets = text(NAMES)
    assert repeated(Image, octets, ZONES, True, items=NAMES, unit="line").names == NAMES + 1
