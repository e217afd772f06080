# SPDX-License-Identifier: Apache-2.0
"""loadbalance: what it costs per reply, the copying of the reply by the kit included (`untouched` shows that part)."""

import dns.message
import dns.rrset
import pytest

from fastdns._drive import Bench
from fastdns.plugins.loadbalance._loadbalance import image, stage
from fastdns.published import Board, make

from ..kept import QUERY

TURNS = 100_000


def reply(count: int, kind: str) -> bytes:
    message = dns.message.make_response(dns.message.from_wire(QUERY))
    data = [f"192.0.2.{i}" if kind == "A" else f"10 mx{i}.example.org." for i in range(count)]
    message.answer.append(dns.rrset.from_text("www.example.org.", 300, "IN", kind, *data))
    return message.to_wire()


@pytest.mark.parametrize(
    ("count", "kind"), [(1, "A"), (2, "A"), (4, "A"), (4, "MX")], ids=["untouched", "two", "four", "four-mx"]
)
def bench_shuffle(repeated, count, kind):
    bench = Bench(stage(), seed=1)
    wire = reply(count, kind)
    done = repeated(bench.run, QUERY, reply=wire, repeat=TURNS, items=TURNS, unit="reply")
    assert done[:3] == ("next", True, 0) and len(done[3]) == len(wire)


@pytest.mark.parametrize("how", ["weighted", "prefer"])
def bench_choice(repeated, how):
    board = Board(make())
    board.publish(
        image([(b"\3www\7example\3org\0", bytes(10) + b"\xff\xff\xc0\0\2" + bytes([i]), 1 + i) for i in range(4)]))
    network = (bytes(10) + b"\xff\xff\xc0\0\2\2", bytes(10) + b"\xff\xff\xc0\0\2\3")
    bench = Bench(stage(weights=board) if how == "weighted" else stage([network]), seed=1)
    wire = reply(4, "A")
    done = repeated(bench.run, QUERY, reply=wire, repeat=TURNS, items=TURNS, unit="reply")
    assert done[:3] == ("next", True, 0) and len(done[3]) == len(wire)
