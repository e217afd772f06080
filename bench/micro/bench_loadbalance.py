# SPDX-License-Identifier: Apache-2.0
"""What loadbalance costs per reply, the copying of the reply by the kit included (`untouched` shows that part)."""

import dns.message
import dns.rrset
import pytest

from fastdns._drive import Bench
from fastdns.plugins.loadbalance._loadbalance import stage

TURNS = 100_000
QUERY = dns.message.make_query("www.example.org.", "A").to_wire()


def reply(count: int, kind: str = "A") -> bytes:
    message = dns.message.make_response(dns.message.from_wire(QUERY))
    data = [f"192.0.2.{i}" if kind == "A" else f"10 mx{i}.example.org." for i in range(count)]
    message.answer.append(dns.rrset.from_text("www.example.org.", 300, "IN", kind, *data))
    return message.to_wire()


@pytest.mark.parametrize(
    ("count", "kind"), [(1, "A"), (2, "A"), (4, "A"), (4, "MX")], ids=["untouched", "two", "four", "four-mx"]
)
def bench_loadbalance(benchmark, count, kind):
    """The time shown is that of TURNS replies; extra_info holds nanoseconds per reply."""
    bench = Bench(stage(), seed=1)
    wire = reply(count, kind)
    benchmark.pedantic(bench.run, args=(QUERY,), kwargs={"reply": wire, "repeat": TURNS}, rounds=5, warmup_rounds=1)
    benchmark.extra_info["nanoseconds per reply"] = round(benchmark.stats.stats.median / TURNS * 1e9, 1)
