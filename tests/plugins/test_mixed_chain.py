# SPDX-License-Identifier: Apache-2.0
"""One chain of compiled and Python stages, over UDP and TCP: log (C), tag (Python), cache (C), relay (Python),
forward (C)."""

import pytest

from fastdns.numbers import AAAA, A
from fastdns.testing import Server
from tests.faults.upstream import Asked, Upstream, reply
from tests.probes import installed

COREFILE = """
. {{
    errors
    log
    tag
    loadbalance
    cache {{
        denial 1000 60
    }}
    relay
    forward . 127.0.0.1:{port}
}}
"""


def script(asked: Asked):
    if asked.name.lower().startswith("dead"):
        return []
    if asked.name.lower().startswith("error"):
        return [reply(asked, rcode=5, answers=0)]
    return [reply(asked, answers=3)]


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    with installed(tmp_path_factory.mktemp("site")) as environ, Upstream(script) as upstream:
        # One worker: what relay counts is then the server's number of misses.
        corefile = COREFILE.format(port=upstream.port).replace("errors", "multisocket 1\n    errors", 1)
        with Server(corefile, environ=environ) as server:
            yield server, upstream


def strings(got) -> list[str]:
    return sorted(line.split('"')[1].rstrip("0123456789 ") for line in got.additional)


@pytest.mark.parametrize("proto", ["udp", "tcp"])
def test_a_miss_passes_all_stages_and_a_hit_those_before_the_cache(chain, proto):
    server, upstream = chain
    name = f"Miss.{proto}.test"
    before = len(upstream.asked)
    first = server.ask(name, A, proto)
    assert first.rcode == 0 and len(first.answer) == 3 and strings(first) == ["relay", "tag"]
    assert all(line.startswith(f"{name}. ") for line in first.answer)
    again = [server.ask(name, A, proto) for _ in range(5)]
    # relay's record was stored with the answer: its number shows that it did not run again.
    assert {tuple(sorted(got.additional)) for got in again} == {tuple(sorted(first.additional))}
    assert len(upstream.asked) == before + 1
    assert {tuple(sorted(line.split()[-1] for line in got.answer)) for got in again} == {
        ("192.0.2.1", "192.0.2.2", "192.0.2.3")}


def test_both_transports_share_the_cache(chain):
    server, upstream = chain
    server.ask("shared.test", A, "udp")
    before = len(upstream.asked)
    assert server.ask("SHARED.test", A, "tcp").answer and len(upstream.asked) == before


@pytest.mark.parametrize("proto", ["udp", "tcp"])
def test_an_upstreams_refusal_comes_through(chain, proto):
    server, _ = chain
    assert server.ask(f"error.{proto}.test", AAAA, proto).rcode == 5


def test_edns_of_the_client_survives_two_python_stages(chain):
    server, _ = chain
    got = server.ask("edns.test", A, bufsize=1300, do=True, options=[(10, b"12345678")])
    edns = got.message.edns
    assert (edns.edns_len, edns.edns_do, [o.code for o in edns.rdata]) == (1300, 1, [10])


def test_the_log_has_one_line_for_each_query(chain):
    server, _ = chain
    for n in range(3):
        server.ask(f"logged{n}.test", A)
        line = server.wait_for(f"logged{n}.test.")
        assert " NOERROR qr," in line


def test_a_dead_upstream_costs_its_own_query_alone(chain):
    server, _ = chain
    with pytest.raises(TimeoutError):
        server.ask("dead.test", A, seconds=0.3)
    assert server.ask("alive.test", A).rcode == 0
