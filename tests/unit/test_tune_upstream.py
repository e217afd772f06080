# SPDX-License-Identifier: Apache-2.0
"""The tuner's stand-in for upstreams."""

from __future__ import annotations

import socket

import dns.flags
import dns.message
import dns.rcode
from hypothesis import given
from hypothesis import strategies as st

from fastdns.bench.tune_upstream import Upstream, reply


def test_an_address_for_every_name_and_a_denial_for_other_types() -> None:
    with Upstream() as upstream, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5.0)
        client.connect(("127.0.0.1", upstream.port))
        for qtype in ("A", "AAAA", "MX"):
            query = dns.message.make_query("h0000001.example.org", qtype, use_edns=0)
            client.send(query.to_wire())
            answer = dns.message.from_wire(client.recv(4096))
            assert query.is_response(answer)
            assert answer.rcode() == dns.rcode.NOERROR
            assert answer.flags & dns.flags.AA and answer.flags & dns.flags.RA and answer.flags & dns.flags.RD
            addresses = [rrset.to_text().split()[3:] for rrset in answer.answer]
            assert addresses == ([["A", "192.0.2.1"]] if qtype == "A" else [])
            # A denial is cached only with its zone's SOA (RFC 2308 5).
            assert [rrset.to_text().split()[3] for rrset in answer.authority] == ([] if qtype == "A" else ["SOA"])


@given(st.binary(max_size=80))
def test_hostile_octets_get_an_answer_of_their_question_or_none(octets: bytes) -> None:
    answer = reply(octets)
    if answer:
        assert answer[:2] == octets[:2]
        assert not octets[2] & 0x80
        dns.message.from_wire(answer, ignore_trailing=True, one_rr_per_rrset=True)
