# SPDX-License-Identifier: Apache-2.0
"""rrl: the buckets against a model of them, floods over real sockets, and what its lines may say."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import signal
import socket
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdns._drive import Bench
from fastdns._stage import CompiledStage
from fastdns._stats import Stats
from fastdns.corefile.dispenser import Dispenser
from fastdns.corefile.lexer import tokenize
from fastdns.errors import ConfigError
from fastdns.numbers import NXDOMAIN, REFUSED, A
from fastdns.plugins.rrl._rrl import octets, stage
from fastdns.plugins.rrl.config import RRL, ranges
from fastdns.testing import Answer, Server, Worker, question, receive
from tests.faults import serving
from tests.faults.upstream import Asked, Upstream, reply
from tests.machine import needs_ipv6
from tests.probes import installed

QUERY = question("a.test.", A, id=7)
FAILED = QUERY[:2] + b"\x81\x83" + QUERY[4:]
SECOND = 1_000_000_000
QUERIES, MISSES, ERRORS = range(3)
DROPPED, TRUNCATED, REFUSED_, REPORTED = range(4)
FIRST = 100
ALLOWED, COOKIE, EVICTED, CONTENDED = range(200, 204)
SLOTS = ([FIRST + i for i in range(12)], [ALLOWED, COOKIE])


def limits(
    queries: tuple[int, int] = (0, 0),
    misses: tuple[int, int] = (0, 0),
    errors: tuple[int, int] = (0, 0),
    *,
    prefixes: tuple[int, int] = (24, 56),
    slip: int = 0,
    report: bool = False,
    allow: tuple[str, ...] = (),
    networks: int = 1024,
) -> CompiledStage:
    """A stage; each limit is (nanoseconds of a token, tokens)."""
    allowed = (ranges(allow, 4), ranges(allow, 6))
    return stage(
        (queries, misses, errors), prefixes, slip, report, False, allowed, networks, [SLOTS], (EVICTED, CONTENDED)
    )


class Bucket:
    """A stage on a bench; `ask` says whether a query of `client` passes."""

    def __init__(self, made: CompiledStage) -> None:
        self.stats = Stats.create(4)
        self.bench = Bench(made, self.stats)

    def run(self, client: str, at: int = 0, **fields: object) -> tuple[str, bool, int, bytes]:
        address = ipaddress.ip_address(client)
        family = 1 if address.version == 4 else 2
        return self.bench.run(QUERY, client=address.packed.ljust(16, b"\0"), family=family, now_ns=at, **fields)  # type: ignore[arg-type]

    def ask(self, client: str, at: int = 0, proto: int = 0) -> bool:
        return self.run(client, at, proto=proto)[0] == "next"

    def limited(self, kind: int, action: int) -> int:
        return self.stats.get(FIRST + kind * 4 + action)


# ---- the bucket


ARRIVALS = st.lists(st.tuples(st.integers(0, 3 * SECOND), st.integers(0, 2)), max_size=120)


@given(st.integers(1, 2000), st.integers(1, 20), ARRIVALS, st.integers(0, 1 << 62))
@settings(max_examples=200, deadline=None)
def test_a_bucket_is_filled_and_emptied_as_one_of_tokens(rate, burst, arrivals, start):
    """The stage keeps one time; the model counts what is in each bucket."""
    cost = SECOND // rate
    bucket = Bucket(limits((cost, burst)))
    level = [burst * cost] * 3
    then = [start] * 3
    now = start
    for wait, network in arrivals:
        now += wait
        level[network] = min(burst * cost, level[network] + now - then[network])
        then[network] = now
        passes = level[network] >= cost
        level[network] -= cost if passes else 0
        assert bucket.ask(f"192.0.{network}.{wait % 256}", now) == passes


@given(st.lists(st.integers(0, SECOND // 4), max_size=200), st.integers(1, 50), st.integers(1, 10))
@settings(deadline=None)
def test_no_window_has_more_than_the_burst_and_the_rate(waits, rate, burst):
    bucket = Bucket(limits((SECOND // rate, burst)))
    now, passed = 0, []
    for wait in waits:
        now += wait
        if bucket.ask("192.0.2.1", now):
            passed.append(now)
    for i, first in enumerate(passed):
        for j in range(i, len(passed)):
            assert j - i + 1 <= burst + (passed[j] - first) * rate / SECOND + 1


def test_a_clock_that_lags_behind_another_workers_takes_nothing_back():
    bucket = Bucket(limits((SECOND, 2)))
    assert bucket.ask("192.0.2.1", 10 * SECOND)
    assert bucket.ask("192.0.2.1", 10 * SECOND - 1000) is False
    assert bucket.ask("192.0.2.1", 10 * SECOND)
    assert not bucket.ask("192.0.2.1", 10 * SECOND)


@pytest.mark.parametrize(
    ("prefixes", "one", "other", "same"),
    [
        ((24, 56), "192.0.2.1", "192.0.2.255", True),
        ((24, 56), "192.0.2.1", "192.0.3.1", False),
        ((32, 56), "192.0.2.1", "192.0.2.2", False),
        ((20, 56), "192.0.2.1", "192.0.15.1", True),
        ((20, 56), "192.0.2.1", "192.0.16.1", False),
        ((24, 56), "2001:db8::1", "2001:db8:0:ff::1", True),
        ((24, 56), "2001:db8::1", "2001:db8:0:100::1", False),
        ((24, 128), "2001:db8::1", "2001:db8::2", False),
        ((24, 61), "2001:db8::1", "2001:db8:0:7::1", True),
        ((24, 61), "2001:db8::1", "2001:db8:0:8::1", False),
        ((32, 32), "32.1.13.184", "2001:db8::", False),
    ],
)
def test_a_network_is_what_the_prefix_says(prefixes, one, other, same):
    bucket = Bucket(limits((SECOND, 1), prefixes=prefixes))
    assert bucket.ask(one)
    assert bucket.ask(other) is not same


def test_what_follows_an_ipv4_address_in_its_field_counts_for_nothing():
    bucket = Bucket(limits((SECOND, 1)))
    client = bytes([192, 0, 2, 1])
    assert bucket.bench.run(QUERY, client=client + bytes(12))[0] == "next"
    assert bucket.bench.run(QUERY, client=client + b"\xff" * 12)[0] == "drop"


def test_tcp_has_a_bucket_of_its_own_and_is_refused():
    bucket = Bucket(limits((SECOND, 1), slip=1))
    assert bucket.ask("192.0.2.1") and not bucket.ask("192.0.2.1")
    assert bucket.ask("192.0.2.1", proto=1)
    assert bucket.run("192.0.2.1", proto=1)[:3] == ("rcode", False, REFUSED)
    assert (bucket.limited(QUERIES, TRUNCATED), bucket.limited(QUERIES, REFUSED_)) == (1, 1)


@pytest.mark.parametrize(
    ("slip", "answered"),
    [(0, []), (1, [1, 2, 3, 4, 5, 6]), (2, [2, 4, 6]), (3, [3, 6]), (7, [])],
)
def test_slip(slip, answered):
    bucket = Bucket(limits((SECOND, 1), slip=slip))
    assert bucket.ask("192.0.2.1")
    for other in range(3):
        bucket.ask(f"198.51.{other}.1")  # other networks do not disturb the count
    found = []
    for number in range(1, 7):
        verdict, _, rcode, octets = bucket.run("192.0.2.1")
        assert verdict in ("drop", "reply")
        if verdict == "reply":
            got = Answer.of(octets)
            assert rcode == 0 and got.flags == {"qr", "tc", "rd"} and len(octets) == len(QUERY)
            found.append(number)
    assert found == answered
    assert bucket.limited(QUERIES, TRUNCATED) == len(answered)
    assert bucket.limited(QUERIES, DROPPED) == 6 - len(answered)


def test_errors_are_counted_when_they_leave():
    bucket = Bucket(limits(errors=(SECOND, 2), slip=2))
    told = [bucket.run("192.0.2.1", reply=FAILED, rcode=NXDOMAIN) for _ in range(4)]
    assert [(written, rcode) for _, written, rcode, _ in told] == [(True, 3), (True, 3), (False, 3), (True, 0)]
    assert Answer.of(told[3][3]).flags == {"qr", "tc", "rd"}
    assert [bucket.limited(ERRORS, action) for action in range(4)] == [1, 1, 0, 0]
    assert bucket.run("192.0.2.1", rcode=2)[:3] == ("next", False, 2) and bucket.limited(ERRORS, DROPPED) == 2
    assert bucket.run("192.0.2.1", reply=FAILED, rcode=0)[1], "NOERROR is none"
    assert bucket.run("192.0.2.1", reply=FAILED, rcode=3, proto=1)[1:3] == (True, 3), "TCP is not concerned"
    assert bucket.run("192.0.3.1", reply=FAILED, rcode=3)[1:3] == (True, 3), "another network"
    assert bucket.run("192.0.2.1", SECOND, reply=FAILED, rcode=3)[1:3] == (True, 3), "a second later"


def test_silence_is_no_error():
    bucket = Bucket(limits(errors=(SECOND, 1)))
    for _ in range(3):
        bucket.run("192.0.2.1", rcode=NXDOMAIN)
        bucket.run("192.0.2.1", rcode=2, dropped=True)
    assert bucket.run("192.0.2.1", reply=FAILED, rcode=3)[1]


def test_the_servers_own_questions_are_not_limited():
    bucket = Bucket(limits((SECOND, 1)))
    assert all(bucket.run("192.0.2.1", background=True)[0] == "next" for _ in range(5))
    assert bucket.ask("192.0.2.1")


def test_report_only_counts_and_limits_nothing():
    bucket = Bucket(limits((SECOND, 1), errors=(SECOND, 1), slip=1, report=True))
    for _ in range(5):
        assert bucket.run("192.0.2.1", reply=FAILED, rcode=3)[:3] == ("next", True, 3)
    assert [bucket.limited(kind, REPORTED) for kind in range(3)] == [4, 0, 4]
    assert sum(bucket.limited(kind, action) for kind in range(3) for action in range(3)) == 0


# ---- the table


def test_a_full_table_gives_the_newcomer_the_fullest_bucket_as_it_is():
    bucket = Bucket(limits((SECOND, 10), networks=8))
    for network in range(8):
        for _ in range(3 if network == 5 else 10):
            assert bucket.ask(f"10.0.{network}.1")
    assert bucket.stats.get(EVICTED) == 0
    assert [bucket.ask("10.0.99.1") for _ in range(8)] == [True] * 7 + [False]
    assert bucket.stats.get(EVICTED) == 1
    assert not any(bucket.ask(f"10.0.{network}.1") for network in range(8) if network != 5)


def test_a_bucket_that_is_full_again_is_taken_without_loss():
    bucket = Bucket(limits((SECOND, 2), networks=8))
    for network in range(8):
        assert bucket.ask(f"10.0.{network}.1", 0) and bucket.ask(f"10.0.{network}.1", network * 1000)
    assert [bucket.ask("10.0.99.1", 2 * SECOND) for _ in range(3)] == [True, True, False]
    assert bucket.stats.get(EVICTED) == 0


@given(st.lists(st.integers(0, 4000), min_size=1, max_size=300))
@settings(deadline=None)
def test_nobody_leaves_a_limit_by_filling_the_table(others):
    bucket = Bucket(limits((SECOND, 50), networks=8))
    while bucket.ask("192.0.2.1"):
        pass
    for other in others:
        bucket.ask(f"10.{other >> 8}.{other & 255}.1")
        assert not bucket.ask("192.0.2.1")


def test_processes_share_a_bucket_to_the_token():
    burst, each, processes = 5000, 4000, 3
    made, stats = limits((3600 * SECOND // burst, burst)), Stats.create(8)
    # Two that come first at once may each take a place for the network: one query would be charged to nobody.
    assert Bench(made, stats).run(QUERY, client=bytes(16), now_ns=1)[0] == "next"
    readers = []
    for row in range(1, processes + 1):
        reader, writer = os.pipe()
        if os.fork() == 0:
            try:
                bench = Bench(made, stats, row)
                passed = sum(bench.run(QUERY, client=bytes(16), now_ns=1)[0] == "next" for _ in range(each))
                os.write(writer, passed.to_bytes(4, "big"))
            finally:
                os._exit(0)
        os.close(writer)
        readers.append(reader)
    passed = [int.from_bytes(os.read(reader, 4), "big") for reader in readers]
    for reader in readers:
        os.close(reader)
        os.wait()
    assert 1 + sum(passed) == burst + stats.get(CONTENDED)


# ---- who is allowed


NETWORKS = st.one_of(
    st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)).map(
        lambda at: str(ipaddress.ip_network((at[0], at[1]), strict=False))),
    st.tuples(st.integers(0, 2**128 - 1), st.integers(0, 128)).map(
        lambda at: str(ipaddress.ip_network((at[0], at[1]), strict=False))),
)
ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))


@given(st.lists(NETWORKS, max_size=20), st.lists(ADDRESSES, max_size=10))
@settings(deadline=None)
def test_allow_is_membership(networks, addresses):
    parsed = [ipaddress.ip_network(network) for network in networks]
    bucket = Bucket(limits((SECOND, 1), prefixes=(32, 128), allow=tuple(networks)))
    edges = [edge for network in parsed for edge in (network.network_address, network.broadcast_address)]
    for address in dict.fromkeys([*addresses, *edges]):
        bucket.ask(str(address))
        assert bucket.ask(str(address)) == any(address in network for network in parsed)


# ---- real sockets


def flood(port: int, clients: list[str], each: int, name: str = "n{}.test.") -> Counter[str]:
    """`each` questions from each address; what came back by address, as `ok`, `tc` or an rcode."""
    found: Counter[str] = Counter()
    for client in clients:
        family = socket.AF_INET6 if ":" in client else socket.AF_INET
        to = "::1" if ":" in client else "127.0.0.1"
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            sock.bind((client, 0))
            sock.connect((to, port))
            for number in range(each):
                sock.send(question(name.format(number), A, id=number))
            while serving.readable(sock, 0.3):
                flags = int.from_bytes(sock.recv(512)[2:4], "big")
                found[f"{client} {'tc' if flags & 0x200 else 'ok' if flags & 15 == 0 else flags & 15}"] += 1
    return found


def test_networks_are_limited_apart():
    clients = [f"127.0.{network}.{host}" for network in (1, 2, 3) for host in (1, 2)]
    with Worker(". {\nrrl {\nqueries 1 20\nslip 2\nipv4_prefix 24\n}\nwhoami\n}\n") as worker:
        found = flood(worker.port, clients, 40)
        for network in (1, 2, 3):
            of_all = [found[f"127.0.{network}.{host} {what}"] for what in ("ok", "tc") for host in (1, 2)]
            answered, cut = sum(of_all[:2]), sum(of_all[2:])
            assert 20 <= answered <= 35 and cut == (80 - answered) // 2
        assert worker.counter("fastdns_rrl_limited_total", **{"class": "queries"}) == 240 - sum(
            count for key, count in found.items() if key.endswith(" ok"))


def test_a_client_of_a_flooded_network_gets_through_by_tcp():
    with Worker(". {\nrrl {\nqueries 1 5\nslip 1\n}\nwhoami\n}\n") as worker:
        flood(worker.port, ["127.0.0.9"], 50)
        assert "tc" in worker.ask("a.test.", A).flags
        assert worker.ask("a.test.", A, "tcp").additional


def test_tcp_is_refused_over_its_limit_and_the_connection_stays():
    with Worker(". {\nrrl {\nqueries 1 5\n}\nwhoami\n}\n") as worker, socket.socket() as sock:
        sock.settimeout(5)
        sock.connect(("127.0.0.1", worker.port))
        rcodes = Counter()
        for number in range(30):
            wire = question("a.test.", A, id=number)
            sock.sendall(len(wire).to_bytes(2, "big") + wire)
            rcodes[receive(sock, int.from_bytes(receive(sock, 2), "big"))[3] & 15] += 1
        assert 5 <= rcodes[0] <= 20 and rcodes[0] + rcodes[REFUSED] == 30


def test_allowed_clients_are_counted_and_pass():
    with Worker(". {\nrrl {\nqueries 1 5\nallow 127.0.1.0/24\nallow 192.0.2.1\n}\nwhoami\n}\n") as worker:
        found = flood(worker.port, ["127.0.1.7", "127.0.2.7"], 50)
        assert found["127.0.1.7 ok"] == 50 and found["127.0.2.7 ok"] < 30
        assert worker.counter("fastdns_rrl_exempt_total", reason="allow") == 50


def test_all_queries_are_seen_by_prometheus():
    with Worker(". {\nprometheus 127.0.0.1:0\nrrl {\nqueries 1 5\nslip 3\n}\nwhoami\n}\n") as worker:
        flood(worker.port, ["127.0.0.1"], 40)
        assert worker.counter("coredns_dns_requests_total") == 40


def missing(asked: Asked) -> list[bytes | float]:
    return [reply(asked, rcode=NXDOMAIN, answers=0)] if asked.name.startswith("x") else [reply(asked)]


@pytest.mark.parametrize("cached", ["cache", "cache test"])
def test_misses_are_limited_and_hits_are_not(cached):
    corefile = ". {{\nrrl {{\nmisses 1 10\nslip 2\n}}\n{}\nforward . 127.0.0.1:{}\n}}\n"
    with Upstream() as up, Worker(corefile.format(cached, up.port)) as worker:
        assert worker.ask("hot.test.", A).answer
        found = flood(worker.port, ["127.0.0.1"], 60, "{}.test.")
        assert 9 <= found["127.0.0.1 ok"] <= 20 and found["127.0.0.1 tc"] >= 18
        assert len(up.asked) == 1 + found["127.0.0.1 ok"]
        assert all(worker.ask("hot.test.", A).answer for _ in range(50))
        assert worker.counter("fastdns_rrl_limited_total", **{"class": "misses"}) == 60 - found["127.0.0.1 ok"]
        assert worker.ask("tcp.test.", A, "tcp").answer, "TCP has its own"


def test_a_stale_answer_that_would_be_verified_first_is_a_miss():
    """`serve_stale verify` asks an upstream on the client's behalf, so it takes a token as any miss does."""
    names = [f"n{number}.test." for number in range(20)]
    text = (". {{\nrrl {{\nmisses 1 4\nslip 0\nallow 127.0.0.2\n}}\n"
            "cache {{\nsuccess 1000 1 1\nserve_stale 1h verify\n}}\nforward . 127.0.0.1:{}\n}}\n")
    with Upstream() as up, Worker(text.format(up.port)) as worker:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.2", 0))
            sock.settimeout(5)
            for name in names:
                sock.sendto(question(name, A), ("127.0.0.1", worker.port))
                sock.recv(512)
        assert len(up.asked) == len(names)
        time.sleep(1.1)  # they have expired
        answered = 0
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect(("127.0.0.1", worker.port))
            for name in names:
                sock.send(question(name, A))
            while serving.readable(sock, 0.5):
                answered += sock.recv(512)[3] & 15 == 0
        assert 4 <= answered == len(up.asked) - len(names) < 12
        assert worker.counter("fastdns_rrl_limited_total", **{"class": "misses"}) == len(names) - answered


@pytest.mark.parametrize("behind", ["cache other.example\n", ""])
def test_what_no_cache_is_asked_for_is_a_miss(behind):
    corefile = f". {{{{\nrrl {{{{\nmisses 1 3\n}}}}\n{behind}forward . 127.0.0.1:{{}}\n}}}}\n"
    with Upstream() as up, Worker(corefile.format(up.port)) as worker:
        found = flood(worker.port, ["127.0.0.1"], 20, "same.test.")
        assert 3 <= found["127.0.0.1 ok"] <= 9 and len(up.asked) <= 9


def test_nxdomain_is_limited_though_cached_and_answers_are_not():
    corefile = ". {{\nrrl {{\nerrors 1 5\nslip 0\n}}\ncache\nforward . 127.0.0.1:{}\n}}\n"
    with Upstream(missing) as up, Worker(corefile.format(up.port)) as worker:
        found = flood(worker.port, ["127.0.0.1"], 40, "x.test.")
        assert 5 <= found[f"127.0.0.1 {NXDOMAIN}"] == sum(found.values()) <= 20
        assert flood(worker.port, ["127.0.0.1"], 40, "a.test.")["127.0.0.1 ok"] == 40
        assert worker.ask("x.test.", A, "tcp").rcode == NXDOMAIN


def test_a_good_cookie_passes_but_misses_are_counted():
    corefile = ". {{\ncookie\nrrl {{\nqueries 1 5\nmisses 1 5\nerrors 1 1\n}}\ncache\nforward . 127.0.0.1:{}\n}}\n"
    with Upstream(missing) as up, Worker(corefile.format(up.port)) as worker:
        first = worker.ask("hot.test.", A, options=[(10, b"12345678")])
        (cookie,) = [o.data for o in first.message.edns.rdata if o.code == 10]
        flood(worker.port, ["127.0.0.1"], 30)
        for _ in range(30):
            assert worker.ask("hot.test.", A, options=[(10, cookie)]).answer
        assert worker.counter("fastdns_rrl_exempt_total", reason="cookie") == 30
        rcodes = Counter(worker.ask(f"x{n}.test.", A, options=[(10, cookie)]).rcode for n in range(20))
        assert 5 <= rcodes[NXDOMAIN] <= 15 and rcodes[REFUSED] == 20 - rcodes[NXDOMAIN]
        refused = worker.counter("fastdns_rrl_limited_total", **{"class": "misses", "action": "refused"})
        assert refused == rcodes[REFUSED]


@needs_ipv6
def test_workers_share_a_limit(tmp_path: Path):
    """Two sockets: which worker gets a query is up to the kernel, and both give out of one bucket."""
    web = serving.free_port()
    corefile = (
        f".:{{port}} {{\n bind 127.0.0.1 ::1\n multisocket 2\n prometheus 127.0.0.1:{web}\n"
        " rrl {\n queries 1 40\n slip 0\n }\n whoami\n}\n"
    )
    with serving.Server(tmp_path, corefile) as server:
        for client in ("127.0.0.1", "::1"):
            found: Counter[str] = Counter()
            for _ in range(30):  # another port each time
                found += flood_once(server.port, client, 10)
            assert 40 <= found["ok"] < 60 and set(found) == {"ok"}
        assert 480 <= serving.counted(web, "fastdns_rrl_limited_total", **{"class": "queries"}) <= 520


def test_a_python_stage_before_the_cache_changes_nothing(tmp_path: Path):
    """tag stands between rrl and cache: the query goes on as its child."""
    corefile = ". {{\nrrl {{\nmisses 1 5\nslip 0\n}}\ntag\ncache\nforward . 127.0.0.1:{}\n}}\n"
    with installed(tmp_path) as environ, Upstream() as up, Server(corefile.format(up.port), environ=environ) as server:
        assert server.ask("hot.test.", A).answer
        found = flood(server.port, ["127.0.0.1"], 40)
        assert 4 <= found["127.0.0.1 ok"] == len(up.asked) - 1 <= 20
        assert all(server.ask("hot.test.", A).answer for _ in range(20))


def test_buckets_outlive_a_worker(tmp_path: Path):
    corefile = ".:{port} {\n bind 127.0.0.1\n multisocket 1\n rrl {\n queries 1 1000\n slip 0\n }\n whoami\n}\n"
    with serving.Server(tmp_path, corefile) as server:
        serving.wait_for(lambda: len(server.children("worker")) == 2, "the spare")
        answered = sum((flood_once(server.port, "127.0.0.1", 100) for _ in range(12)), Counter())
        assert 1000 <= answered["ok"] < 1100
        workers = server.children("worker")
        os.kill(workers[0], signal.SIGKILL)
        serving.wait_for(lambda: server.children("worker")[:2] not in (workers, []) and len(
            server.children("worker")) == 2, "another worker")
        again = sum((flood_once(server.port, "127.0.0.1", 100) for _ in range(3)), Counter())
        assert again["ok"] < 100
        serving.wait_for(lambda: serving.ask(server.port, seconds=0.2), "a token")


@pytest.mark.parametrize(("change", "kept"), [
    (("whoami", "whoami\n log"), True),
    (("slip 0", "slip 0\n ipv4_prefix 24"), True),
    (("slip 0", "slip 1"), False),
])  # fmt: skip
def test_buckets_outlive_a_reload_with_the_same_settings(tmp_path: Path, change: tuple[str, str], kept: bool):
    corefile = ".:{port} {\n bind 127.0.0.1\n multisocket 1\n rrl {\n queries 1 1000\n slip 0\n }\n whoami\n}\n"
    with serving.Server(tmp_path, corefile) as server:
        assert 1000 <= sum((flood_once(server.port, "127.0.0.1", 100) for _ in range(12)), Counter())["ok"] < 1100
        server.write(server.corefile.read_text().replace(*change))
        server.process.send_signal(signal.SIGUSR1)
        server.wait_line("Reloading complete")
        again = sum((flood_once(server.port, "127.0.0.1", 100) for _ in range(3)), Counter())
        # Without a limit all 300 are answered.
        assert (again["ok"] < 150) == kept


def test_buckets_outlive_an_upgrade(tmp_path: Path):
    corefile = ".:{port} {\n bind 127.0.0.1\n multisocket 1\n rrl {\n queries 1 1000\n slip 0\n }\n whoami\n}\n"
    with serving.Server(tmp_path, corefile) as server:
        assert 1000 <= sum((flood_once(server.port, "127.0.0.1", 100) for _ in range(12)), Counter())["ok"] < 1100
        server.process.send_signal(signal.SIGUSR2)
        server.wait_line("Upgrading complete")
        again = sum((flood_once(server.port, "127.0.0.1", 100) for _ in range(3)), Counter())
        assert again["ok"] < 150


def test_a_table_of_another_size_is_refused():
    with contextlib.closing(os.fdopen(os.memfd_create("test"), "wb")) as file:
        file.truncate(octets(1024) - 1)
        with pytest.raises(ValueError):
            stage(((1, 1),) * 3, (24, 56), 0, False, False, ([], []), 1024, [], (0, 0), file.fileno())
        file.truncate(octets(1024))
        stage(((1, 1),) * 3, (24, 56), 0, False, False, ([], []), 1024, [], (0, 0), file.fileno())


def test_two_stages_of_one_table_share_their_buckets():
    with contextlib.closing(os.fdopen(os.memfd_create("test"), "wb")) as file:
        file.truncate(octets(1024))
        first, second = (Bucket(stage(
            ((SECOND, 2), (0, 0), (0, 0)), (24, 56), 0, False, False, ([], []), 1024, [SLOTS], (EVICTED, CONTENDED),
            file.fileno())) for _ in range(2))
        assert [first.ask("192.0.2.1", 5 * SECOND), second.ask("192.0.2.1", 5 * SECOND)] == [True, True]
        assert [first.ask("192.0.2.1", 5 * SECOND), second.ask("192.0.2.1", 5 * SECOND)] == [False, False]
        assert first.ask("192.0.3.1", 5 * SECOND)


def flood_once(port: int, client: str, each: int) -> Counter[str]:
    found: Counter[str] = Counter()
    family = socket.AF_INET6 if ":" in client else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.connect((client, port))
        for number in range(each):
            sock.send(question("a.test.", A, id=number))
        while serving.readable(sock, 0.05):
            found["ok" if sock.recv(512)[3] & 15 == 0 else "other"] += 1
    return found


def test_it_stands_behind_acl_and_before_cache():
    from fastdns.order import arrange

    assert arrange(["cache", "log", "rrl", "cookie", "forward", "acl", "prometheus"], {}) == [
        "prometheus", "log", "cookie", "acl", "rrl", "cache", "forward"]


# ---- lines


def parsed(text: str):
    return RRL.parse(Dispenser("Corefile", tokenize(text), ("dns://.:53",)))[0]


def test_defaults():
    got = parsed("rrl {\nqueries 5\n}")
    assert dict(got) == {
        "queries": 5, "queries_burst": None, "misses": None, "misses_burst": None, "errors": None,
        "errors_burst": None, "slip": 2, "ipv4_prefix": 24, "ipv6_prefix": 56, "allow": (), "table": 65536,
        "report_only": False}


def test_lines_of_allow_are_joined_and_host_bits_cleared():
    got = parsed("rrl {\nqueries 5\nallow 10.1.2.3/8 ::1\nallow 192.0.2.7\n}")
    assert got.allow == ("10.0.0.0/8", "::1/128", "192.0.2.7/32")
    assert ranges(("10.0.0.0/9", "10.128.0.0/9", "::1/128"), 4) == [(bytes([10, 0, 0, 0]), bytes([10, 255, 255, 255]))]


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ("", "no limit is set: write queries, misses or errors"),
        ("slip 2", "no limit is set: write queries, misses or errors"),
        ("queries", "2: Wrong argument count or unexpected line ending after 'queries'"),
        ("queries 0", "2: rate of queries must be 1 to 1000000, not 0"),
        ("queries -1", "2: rate of queries must be 1 to 1000000, not -1"),
        ("queries 1000001", "2: rate of queries must be 1 to 1000000, not 1000001"),
        ("misses many", "2: rate of misses must be 1 to 1000000, not many"),
        ("errors 5 0", "2: burst of errors must be 1 to 1000000, not 0"),
        ("errors 5 6 7", "2: Wrong argument count or unexpected line ending after '7'"),
        ("queries 1\nqueries 2", "3: queries can only be specified once"),
        ("slip 101", "2: slip must be 0 to 100, not 101"),
        ("ipv4_prefix 33", "2: ipv4_prefix must be 8 to 32, not 33"),
        ("ipv6_prefix 8", "2: ipv6_prefix must be 16 to 128, not 8"),
        ("allow", "2: Wrong argument count or unexpected line ending after 'allow'"),
        ("allow 10.0.0.0/33", "2: invalid address or network: 10.0.0.0/33"),
        ("allow localhost", "2: invalid address or network: localhost"),
        ("table 10", "2: table must be 1024 to 16777216, not 10"),
        ("report_only yes", "2: Wrong argument count or unexpected line ending after 'yes'"),
        ("window 5", "2: unknown property 'window'"),
    ],
)
def test_bad_lines(lines, text):
    with pytest.raises(ConfigError) as error:
        parsed(f"rrl {{\n{lines}\n}}")
    line, colon, told = text.partition(": ") if text[0].isdigit() else ("", "", text)
    where = f"Corefile:{line} - Error during parsing: " if colon else ""
    assert str(error.value) == f"plugin/rrl: {where}{told}"


def test_it_may_stand_in_a_block_once():
    with pytest.raises(ConfigError, match="can only be used once"):
        RRL.parse(Dispenser("Corefile", tokenize("rrl {\nqueries 1\n}\nrrl {\nqueries 1\n}"), ("dns://.:53",)))


def test_allow_is_bounded():
    with pytest.raises(ConfigError, match="allow has more than 4096 networks"):
        parsed("rrl {\nqueries 1\n" + "".join(f"allow 10.{n >> 8}.{n & 255}.1\n" for n in range(4097)) + "}")


@pytest.mark.parametrize(
    "change", [{"networks": 0}, {"networks": 1 << 25}, {"prefixes": (33, 56)}, {"prefixes": (24, 0)},
               {"queries": (1, 0)}, {"queries": (1, 1 << 21)}])
def test_the_stage_checks_what_it_is_given(change):
    with pytest.raises(ValueError):
        limits(**{"queries": (1, 1), **change})


@pytest.mark.parametrize("first", [b"\1\2\3", b"\1\2\3\5"])
def test_the_stage_checks_ranges(first):
    with pytest.raises(ValueError, match="not a range"):
        stage(((1, 1),) * 3, (24, 56), 0, False, False, ([(first, b"\1\2\3\4")], []), 8, [], (0, 0))
