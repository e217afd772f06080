# SPDX-License-Identifier: Apache-2.0
"""loadbalance: the order that a reply leaves in, and what its line in the Corefile may say."""

import socket
import threading
from collections import Counter
from itertools import permutations

import dns.flags
import dns.message
import dns.name
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdns._drive import Bench
from fastdns.corefile.dispenser import Dispenser
from fastdns.corefile.lexer import tokenize
from fastdns.errors import ConfigError
from fastdns.plugin import A
from fastdns.plugins.loadbalance._loadbalance import stage
from fastdns.plugins.loadbalance.config import LOADBALANCE, Settings
from fastdns.testing import Server

SEEDS = range(200)
RANK = {"CNAME": 0, "A": 2, "AAAA": 2, "MX": 3}


def reply(*answer: str, authority: tuple[str, ...] = (), additional: tuple[str, ...] = (), qtype: str = "A") -> bytes:
    """A compressed reply; each record is `owner TYPE rdata`."""
    message = dns.message.make_response(dns.message.make_query("www.example.org.", qtype))
    for section, lines in ((message.answer, answer), (message.authority, authority), (message.additional, additional)):
        for line in lines:
            owner, kind, data = line.split(" ", 2)
            section.append(dns.rrset.from_text(owner, 300, "IN", kind, data))
    return message.to_wire()


def shuffled(wire: bytes, seed: int, qtype: str = "A", rcode: int = 0, options: bytes = b"") -> bytes:
    """What the stage makes of a reply."""
    query = dns.message.make_query("www.example.org.", qtype).to_wire()
    return Bench(stage(), seed=seed).run(query, reply=wire, rcode=rcode, options=options)[3]


def records(wire: bytes, section: str = "answer") -> list[str]:
    message = dns.message.from_wire(wire, one_rr_per_rrset=True)
    return [f"{s.name} {dns.rdatatype.to_text(s.rdtype)} {s[0].to_text()}" for s in getattr(message, section)]


def addresses(n: int, owner: str = "www.example.org.") -> list[str]:
    return [f"{owner} A 192.0.2.{i}" for i in range(n)]


def orders(wire: bytes, section: str = "answer") -> Counter[tuple[str, ...]]:
    return Counter(tuple(records(shuffled(wire, seed), section)) for seed in SEEDS)


@pytest.mark.parametrize(
    "wire",
    [
        reply(),
        reply("www.example.org. A 192.0.2.1"),
        reply("www.example.org. A 192.0.2.1", authority=("example.org. NS ns.example.org.",),
              additional=("ns.example.org. A 192.0.2.9",)),
        reply("www.example.org. CNAME a.example.org.", "a.example.org. A 192.0.2.1"),
        reply("www.example.org. TXT one", "www.example.org. TXT two"),
    ],
    ids=["empty", "one", "one-per-section", "cname-and-one", "no-addresses"],
)  # fmt: skip
def test_nothing_to_shuffle_is_untouched(wire):
    assert all(shuffled(wire, seed) == wire for seed in SEEDS)


def test_two_addresses_swap_half_of_the_time():
    wire = reply(*addresses(2))
    swapped = sum(shuffled(wire, seed) != wire for seed in range(4000))
    assert 1800 < swapped < 2200  # six standard deviations; the seeds are fixed


@pytest.mark.parametrize("n", [3, 4])
def test_every_order_of_addresses_comes_up(n):
    wire = reply(*addresses(n))
    assert {tuple(records(shuffled(wire, seed))) for seed in range(1000)} == set(permutations(records(wire)))


def test_a_and_aaaa_are_shuffled_together():
    wire = reply(*addresses(2), "www.example.org. AAAA 2001:db8::1", "www.example.org. AAAA 2001:db8::2")
    assert len(orders(wire)) > 10
    assert all(sorted(order) == sorted(records(wire)) for order in orders(wire))


def test_cnames_lead_then_the_rest_then_addresses_then_exchanges():
    wire = reply(
        "a.example.org. A 192.0.2.1",
        "a.example.org. MX 10 mx1.example.org.",
        "www.example.org. CNAME b.example.org.",
        "a.example.org. A 192.0.2.2",
        "a.example.org. TXT hello",
        "b.example.org. CNAME a.example.org.",
        "a.example.org. MX 20 mx2.example.org.",
    )
    seen = orders(wire)
    assert len(seen) == 4  # two orders of the addresses, two of the exchanges
    for order in seen:
        kinds = [line.split()[1] for line in order]
        assert kinds == ["CNAME", "CNAME", "TXT", "A", "A", "MX", "MX"]
        assert order[0].startswith("www.") and order[1].startswith("b.")


def test_exchanges_keep_their_names():
    wire = reply(*(f"www.example.org. MX 10 mx{i}.mail.example.org." for i in range(4)))
    for order in orders(wire):
        assert sorted(order) == sorted(records(wire))
    assert len(orders(wire)) > 10


def test_additional_glue_is_shuffled():
    wire = reply(
        "www.example.org. A 192.0.2.1",
        authority=("example.org. NS ns1.example.org.", "example.org. NS ns2.example.org."),
        additional=("ns1.example.org. A 192.0.2.1", "ns2.example.org. AAAA 2001:db8::2"),
    )
    seen = orders(wire, "additional")
    assert set(seen) == set(permutations(records(wire, "additional")))
    assert all(records(shuffled(wire, seed), "authority") == records(wire, "authority") for seed in SEEDS)


def test_owner_written_out_once_and_pointed_to():
    # The first record holds the name that the others point to, so none of them may be moved as it stands.
    wire = reply(*addresses(3, "other.example.net."))
    assert set(orders(wire)) == set(permutations(records(wire)))


def test_uncompressed_owners():
    owner = dns.name.from_text("WWW.example.org.").to_wire()
    head = reply("www.example.org. A 192.0.2.1")[:33]
    wire = head[:6] + b"\0\3" + head[8:]
    for i in range(3):
        wire += owner + bytes.fromhex("0001 0001 0000012c 0004 c00002") + bytes([i])
    assert set(orders(wire)) == set(permutations(records(wire)))


def test_ttl_moves_with_its_record():
    message = dns.message.make_response(dns.message.make_query("www.example.org.", "A"))
    for i in range(2):
        message.answer.append(dns.rrset.from_text("www.example.org.", 100 + i, "IN", "A", f"192.0.2.{i}"))
    wire = message.to_wire()
    pairs = set()
    for seed in SEEDS:
        answer = dns.message.from_wire(shuffled(wire, seed), one_rr_per_rrset=True).answer
        pairs |= {(rrset[0].to_text(), rrset.ttl) for rrset in answer}
    assert pairs == {("192.0.2.0", 100), ("192.0.2.1", 101)}


def test_more_records_than_are_walked_in_place():
    wire = reply(*addresses(100))
    out = shuffled(wire, 7)
    assert out != wire
    assert sorted(records(out)) == sorted(records(wire))


@pytest.mark.parametrize("change", [{"qtype": "AXFR"}, {"qtype": "IXFR"}, {"rcode": 3}, {"rcode": 16}])
def test_transfers_and_failures_are_untouched(change):
    wire = reply(*addresses(4))
    assert all(shuffled(wire, seed, **change) == wire for seed in SEEDS)


def test_the_rcode_in_the_message_counts_too():
    wire = bytearray(reply(*addresses(4)))
    wire[3] |= 3
    assert all(shuffled(bytes(wire), seed) == wire for seed in SEEDS)


def test_header_and_question_stay():
    wire = reply(*addresses(4))
    assert all(shuffled(wire, seed)[:33] == wire[:33] for seed in SEEDS)


def test_a_reply_never_grows_over_the_options_behind_it():
    # SRV targets are written out when the message is written anew; the options of the OPT may lie right behind it.
    target = dns.name.from_text("a.target.example.org.").to_wire()
    srv = b"\xc0\x0c\0\x21\0\1\0\0\0\1\0\x08\0\0\0\0\0\0\xc0\x0c"
    head = reply("www.example.org. A 192.0.2.1")
    late = b"\xc0\x0c\0\5\0\1\0\0\0\1" + len(target).to_bytes(2, "big") + target
    wire = head[:6] + b"\0\3" + head[8:] + srv + late
    grown = shuffled(wire, 1)
    assert records(grown)[0].split()[1] == "CNAME"
    kept = shuffled(wire, 1, options=b"\0\x0a\0\x08" + bytes(8))
    assert kept == wire or len(kept) <= len(wire)


rdata = st.one_of(
    st.integers(0, 255).map(lambda i: ("A", f"192.0.2.{i}")),
    st.integers(0, 255).map(lambda i: ("AAAA", f"2001:db8::{i:x}")),
    st.integers(0, 99).map(lambda i: ("MX", f"{i} mx{i % 3}.example.org.")),
    st.integers(0, 9).map(lambda i: ("TXT", f"t{i}")),
    st.integers(0, 9).map(lambda i: ("CNAME", f"c{i}.example.org.")),
)
owners = st.sampled_from(["www.example.org.", "a.www.example.org.", "other.test.", "mx1.example.org."])
sections = st.lists(st.tuples(owners, rdata), max_size=8).map(lambda rows: tuple(f"{o} {k} {d}" for o, (k, d) in rows))


@given(answer=sections, authority=sections, additional=sections, seed=st.integers(0, 2**64 - 1))
@settings(max_examples=300, deadline=None)
def test_any_reply_keeps_its_records_and_gains_the_order(answer, authority, additional, seed):
    wire = reply(*answer, authority=authority, additional=additional)
    out = shuffled(wire, seed)
    for section in ("answer", "authority", "additional"):
        before, after = records(wire, section), records(out, section)
        assert sorted(before) == sorted(after)
        ranks = [RANK.get(line.split()[1], 1) for line in after]
        assert ranks == sorted(ranks) or len(ranks) == 1
        for rank in (0, 1):
            pick = [line for line in before if RANK.get(line.split()[1], 1) == rank]
            assert pick == [line for line in after if RANK.get(line.split()[1], 1) == rank]


@given(octets=st.binary(max_size=300), counts=st.binary(min_size=8, max_size=8), seed=st.integers(0, 2**64 - 1))
@settings(max_examples=500, deadline=None)
def test_arbitrary_octets_keep_their_length_or_shrink(octets, counts, seed):
    wire = b"\0\0\x80\0" + bytes(b & 7 if i % 2 else 0 for i, b in enumerate(counts)) + octets
    out = shuffled(wire, seed, options=b"\0\0\0\0")
    assert len(out) <= len(wire)
    assert out[:12] == wire[:12]


@given(data=st.data(), seed=st.integers(0, 2**64 - 1))
@settings(max_examples=300, deadline=None)
def test_a_damaged_reply_is_survived(data, seed):
    wire = bytearray(reply(*addresses(3), "www.example.org. MX 10 mx.example.org.", "www.example.org. MX 20 a.b."))
    for _ in range(data.draw(st.integers(1, 4))):
        wire[data.draw(st.integers(4, len(wire) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(wire[: data.draw(st.integers(0, len(wire)))])
    assert len(shuffled(cut, seed, options=b"\0\0\0\0")) <= len(cut)


def parse(text: str) -> Settings:
    (found,) = LOADBALANCE.parse(Dispenser("Corefile", tokenize(text), ("dns://.:53",)))
    return found


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("loadbalance", Settings()),
        ("loadbalance round_robin", Settings()),
        ("loadbalance {\n}", Settings()),
        ("loadbalance {\nprefer\n}", Settings()),
        ("loadbalance round_robin {\nprefer 10.1.2.3/8 ::1/128\nprefer 10.0.0.0/9\n}",
         Settings(prefer=("10.0.0.0/8", "::1/128", "10.0.0.0/9"))),
        ("loadbalance {\nprefer 10.0.0.0/8\n}\nloadbalance {\nprefer 192.0.2.0/24\n}",
         Settings(prefer=("10.0.0.0/8", "192.0.2.0/24"))),
        ("loadbalance weighted F", Settings("weighted", "F")),
        ("loadbalance weighted F {\nreload 1s\nreload 0\n}", Settings("weighted", "F", 0.0)),
        ("loadbalance {\nprefer 10.0.0.0/8\n}\nloadbalance weighted F", Settings("weighted", "F")),
        ("loadbalance weighted F\nloadbalance weighted G {\nreload 1m\n}", Settings("weighted", "G", 60.0)),
    ],
)
def test_grammar(text, settings):
    assert parse(text) == settings


def test_too_many_networks_are_refused():
    many = " ".join(f"10.{i}.0.0/16" for i in range(256))
    assert len(parse(f"loadbalance {{\nprefer {many}\n}}").prefer) == 256
    with pytest.raises(ConfigError, match="prefer has more than 256 networks"):
        parse(f"loadbalance {{\nprefer {many}\nprefer ::/0\n}}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("loadbalance fleeb", "plugin/loadbalance: unknown policy: fleeb"),
        ("loadbalance round_robin a", "unknown property for round_robin"),
        ("loadbalance weighted", "missing weight file argument"),
        ("loadbalance weighted a b", "unexpected argument(s)"),
        ("loadbalance weighted F {\nprefer 192.0.2.0/24\n}", "unknown property 'prefer'"),
        ("loadbalance weighted F {\nreload\n}", "reload duration value is missing"),
        ("loadbalance weighted F {\nreload 1s 2s\n}", "unexpected argument"),
        ("loadbalance weighted F {\nreload x\n}", "invalid reload duration 'x'"),
        ("loadbalance weighted F {\nreload -1s\n}", "invalid reload duration '-1s'"),
        ("loadbalance {\nreload 1s\n}", "unknown property 'reload'"),
        ("loadbalance {\nprefer 10.0.0.0\n}", 'invalid CIDR "10.0.0.0": invalid CIDR address: 10.0.0.0'),
        ("loadbalance {\nprefer 10.0.0.0/8 foo/99\n}", 'invalid CIDR "foo/99": invalid CIDR address: foo/99'),
        ("loadbalance {\nfleeb\n}", "unknown property 'fleeb'"),
    ],
)
def test_grammar_errors(text, message):
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert message in str(caught.value)


class Upstream:
    """Answers every question over UDP with four addresses, always in the same order, and counts the questions."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.asked = 0
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        while True:
            octets, peer = self.socket.recvfrom(4096)
            if not octets:
                return
            query = dns.message.from_wire(octets)
            message = dns.message.make_response(query)
            name = query.question[0].name
            message.answer.append(dns.rrset.from_text(name, 300, "IN", "A", *(f"192.0.2.{i}" for i in range(4))))
            self.asked += 1
            self.socket.sendto(message.to_wire(), peer)

    def stop(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wake:
            wake.sendto(b"", ("127.0.0.1", self.port))
        self.thread.join()
        self.socket.close()


def test_hits_of_the_cache_are_shuffled_anew():
    upstream = Upstream()
    try:
        corefile = f". {{\nbind 127.0.0.1\nmultisocket 1\nloadbalance\ncache\nforward . 127.0.0.1:{upstream.port}\n}}\n"
        with Server(corefile, bind=False) as server:
            answers = [server.ask("many.example.org", A).answer for _ in range(40)]
    finally:
        upstream.stop()
    assert upstream.asked == 1
    assert all(len(answer) == 4 for answer in answers)
    assert {line.split()[-1] for line in answers[0]} == {f"192.0.2.{i}" for i in range(4)}
    assert len({tuple(line.split()[-1] for line in answer) for answer in answers}) > 5


def test_the_additional_section_is_ordered():
    with Server(". {\nbind 127.0.0.1\nloadbalance\nwhoami\n}\n", bind=False) as server:
        kinds = [line.split()[3] for line in server.ask("www.example.org", A).additional]
    assert kinds == ["SRV", "A"]
