# SPDX-License-Identifier: Apache-2.0
"""rewrite: what is asked instead, what the client sees of it, and what its lines in the Corefile may say.

The expected values of the tables were compared with CoreDNS 1.14.7 over the same records.
"""

import asyncio
import pickle
import socket
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdns._drive import Bench
from fastdns._wire import expand, name_from_text, name_to_text, scan
from fastdns.cli import main
from fastdns.corefile.dispenser import Dispenser
from fastdns.corefile.lexer import tokenize
from fastdns.errors import ConfigError
from fastdns.plugin import AAAA, ANY, AXFR, CH, HINFO, MX, NXDOMAIN, PTR, REFUSED, SERVFAIL, SOA, TXT, A, Plugin, Reply
from fastdns.plugins.rewrite import Rewrite
from fastdns.plugins.rewrite._rewrite import stage
from fastdns.plugins.rewrite.names import MATCHES, mapper
from fastdns.plugins.rewrite.program import reason, rows
from fastdns.plugins.rewrite.reply import edit, question, written
from fastdns.plugins.rewrite.undo import Code, Owners, Target, Ttl, Values
from fastdns.testing import ADDRESS, Answer, Server, Worker, exchange, receive
from fastdns.testing import question as query_of
from tests.faults.upstream import Asked, Upstream
from tests.probes import installed

SOA_TEXT = "ns1.example.net. host.example.net. 1 7200 3600 1209600 60"
ZONE = {
    ("example.net.", "SOA"): [SOA_TEXT],
    ("example.net.", "NS"): ["ns1.example.net."],
    ("example.net.", "MX"): ["10 mx1.example.net."],
    ("www.example.net.", "A"): ["192.0.2.10", "192.0.2.11"],
    ("www.example.net.", "AAAA"): ["2001:db8::10"],
    ("alias.example.net.", "CNAME"): ["www.example.net."],
    ("ext.example.net.", "CNAME"): ["www.example.com."],
    ("txt.example.net.", "TXT"): ['"hello"'],
    ("mail.example.net.", "MX"): ["10 mx1.example.net.", "20 MX2.example.net."],
    ("srv.example.net.", "SRV"): ["1 2 3 host.example.net."],
    ("nap.example.net.", "NAPTR"): ['100 10 "U" "SIP" "" sip.example.net.'],
    ("ptr.example.net.", "PTR"): ["www.example.net."],
    ("dn.example.net.", "DNAME"): ["other.example.net."],
    ("rp.example.net.", "RP"): ["mbox.example.net. txt.example.net."],
}
OWN_OPTION = (65001, b"own")


def zone(asked: Asked) -> list[bytes]:
    """The answers of an authority for example.net; all else is REFUSED. An OPT comes back with an option of its own."""
    query = dns.message.from_wire(asked.wire)
    reply = dns.message.make_response(query)
    name, kind = query.question[0].name.canonicalize(), query.question[0].rdtype
    reply.flags |= dns.flags.AA
    if not name.is_subdomain(dns.name.from_text("example.net.")):
        reply.set_rcode(REFUSED)
        return [reply.to_wire()]
    for _ in range(3):
        data = ZONE.get((str(name), dns.rdatatype.to_text(kind)))
        alias = ZONE.get((str(name), "CNAME"))
        rows = data or alias
        if rows is None:
            if not any(owner == str(name) for owner, _ in ZONE):
                reply.set_rcode(NXDOMAIN)
            reply.authority.append(dns.rrset.from_text("example.net.", 60, "IN", "SOA", SOA_TEXT))
            break
        reply.answer.append(dns.rrset.from_text(name, 300, "IN", "CNAME" if data is None else kind, *rows))
        if data is not None or not alias or not alias[0].endswith("example.net."):
            break
        name = dns.name.from_text(alias[0])
    if query.edns >= 0:
        reply.use_edns(0, 0, 1232, options=[dns.edns.GenericOption(*OWN_OPTION)])
    return [reply.to_wire(max_size=65535)]


def corefile(lines: str, port: int, *more: str) -> str:
    rules = "\n".join(f"rewrite {line}" for line in lines.strip().splitlines())
    return ".:0 {\n" + rules + "\n" + "\n".join(more) + f"\nforward . 127.0.0.1:{port}\n}}\n"


EXACT = """
name in.test www.example.net
name exact Two.TEST alias.example.net
name mx.test example.net
name none.test nope.example.net
name above.test example.net
"""
SUFFIX = """
name suffix .a.test .example.net
name suffix .b.test .example.net answer auto
name suffix c.test example.net answer auto
"""
PREFIX = """
name prefix pre. www.
name prefix q al. answer auto
name prefix p. "" answer auto
"""
SUBSTRING = """
name substring .dle. .example.
name substring one.two.net example.net answer auto
"""
R3 = r"answer name (.*)\.example\.net r3-{1}.r3.test value (.*)\.example\.net {1}.v.test"
REGEX = r"""
name regex (.*)\.r1\.test {1}.example.net
name regex (.*)\.r2\.test {1}.example.net answer auto
name regex (.*)-(.*)\.r3\.test\.$ {2}{1}.example.net R3
name regex ^(a)?(w+)\.r4\.test {2}{1}.example.net answer auto value (.*)\.example\.net n.{1}.
name regex (.*)\.r5\.test {1}..example.net
name regex r7 www.example.net
""".replace("R3", R3)
NUMBERS = """
type HINFO TXT
class CH IN
continue type MX A
"""
TTLS = """
continue ttl www.example.net 10
continue ttl prefix alias. 5-40
continue ttl suffix mail.example.net -7
continue ttl substring xt.example.net 1000-
continue ttl regex ^srv 0
"""
RCODES = """
continue rcode nope.example.net NXDOMAIN NOERROR
continue rcode suffix .other.test REFUSED 3
continue rcode prefix www. 0 SERVFAIL
continue rcode substring xt. noerror yxdomain
continue rcode regex ^mail NOERROR BADCOOKIE
"""
CNAMES = r"""
continue cname exact www.example.com. www.example.net.
continue cname prefix ww. x.
continue cname substring nothing x
continue cname regex (.*)\.v4\.test {1}.example.net
"""
CHAIN = """
continue name in.test mid.test
continue type TXT A
name mid.test www.example.net
name www.example.net nope.example.net
"""
REVERSED = """
continue name suffix .a.test .b.test answer auto
continue name suffix .b.test .example.net answer auto
continue ttl suffix .example.net 77
"""

WWW = ["192.0.2.10", "192.0.2.11"]


def addresses(owner: str, ttl: int = 300) -> list[str]:
    return [f"{owner} {ttl} IN A {address}" for address in WWW]


NEGATIVE = f"example.net. 60 IN SOA {SOA_TEXT}"
CASES: list[Any] = [
    # rules, name, type, answer, rcode, authority
    (EXACT, "in.test.", A, addresses("in.test."), 0, []),
    (EXACT, "IN.tEsT.", A, addresses("in.test."), 0, []),
    (EXACT, "in.test.", AAAA, ["in.test. 300 IN AAAA 2001:db8::10"], 0, []),
    (EXACT, "in.test.", TXT, [], 0, [NEGATIVE]),
    (EXACT, "sub.in.test.", A, [], REFUSED, []),
    (EXACT, "TWO.test.", A, ["two.test. 300 IN CNAME www.example.net.", *addresses("www.example.net.")], 0, []),
    (EXACT, "mx.test.", MX, ["mx.test. 300 IN MX 10 mx1.mx.test."], 0, []),
    (EXACT, "mx.test.", SOA, ["mx.test. 300 IN SOA ns1.mx.test. host.example.net. 1 7200 3600 1209600 60"], 0, []),
    (EXACT, "none.test.", A, [], NXDOMAIN, [NEGATIVE]),
    (EXACT, "above.test.", 2, ["above.test. 300 IN NS ns1.above.test."], 0, []),
    (SUFFIX, "www.a.test.", A, addresses("www.example.net."), 0, []),
    (SUFFIX, "www.b.test.", A, addresses("www.b.test."), 0, []),
    (SUFFIX, "WwW.B.test.", A, addresses("www.b.test."), 0, []),
    (SUFFIX, "alias.b.test.", A, ["alias.b.test. 300 IN CNAME www.b.test.", *addresses("www.b.test.")], 0, []),
    (SUFFIX, "x.b.test.", A, [], NXDOMAIN,
     ["example.net. 60 IN SOA ns1.b.test. host.example.net. 1 7200 3600 1209600 60"]),
    (SUFFIX, "mail.b.test.", MX, ["mail.b.test. 300 IN MX 10 mx1.b.test.", "mail.b.test. 300 IN MX 20 MX2.b.test."],
     0, []),
    (SUFFIX, "srv.b.test.", 33, ["srv.b.test. 300 IN SRV 1 2 3 host.b.test."], 0, []),
    (SUFFIX, "nap.b.test.", 35, ['nap.b.test. 300 IN NAPTR 100 10 "U" "SIP" "" sip.b.test.'], 0, []),
    (SUFFIX, "ptr.b.test.", PTR, ["ptr.b.test. 300 IN PTR www.b.test."], 0, []),
    (SUFFIX, "dn.b.test.", 39, ["dn.b.test. 300 IN DNAME other.b.test."], 0, []),
    (SUFFIX, "rp.b.test.", 17, ["rp.b.test. 300 IN RP mbox.example.net. txt.example.net."], 0, []),
    (SUFFIX, "c.test.", SOA, ["c.test. 300 IN SOA ns1.c.test. host.example.net. 1 7200 3600 1209600 60"], 0, None),
    (SUFFIX, "b.test.", A, [], REFUSED, []),
    (PREFIX, "pre.example.net.", A, addresses("www.example.net."), 0, []),
    (PREFIX, "prefix.example.net.", A, [], NXDOMAIN, [NEGATIVE]),
    (PREFIX, "q.ias.example.net.", A, [], NXDOMAIN, [NEGATIVE]),
    (SUBSTRING, "www.dle.net.", A, addresses("www.example.net."), 0, []),
    (SUBSTRING, "www.one.two.net.", A, addresses("www.one.two.net."), 0, []),
    (SUBSTRING, "alias.one.two.net.", A,
     ["alias.one.two.net. 300 IN CNAME www.example.net.", *addresses("www.example.net.")], 0, []),
    (REGEX, "www.r1.test.", A, addresses("www.example.net."), 0, []),
    (REGEX, "WWW.r2.test.", A, addresses("www.r2.test."), 0, []),
    (REGEX, "w-ww.r3.test.", A, addresses("r3-www.r3.test."), 0, []),
    (REGEX, "as-ali.r3.test.", A, ["r3-alias.r3.test. 300 IN CNAME www.v.test.", *addresses("r3-www.r3.test.")], 0, []),
    (REGEX, "l-mai.r3.test.", MX, ["r3-mail.r3.test. 300 IN MX 10 mx1.v.test.",
                                   "r3-mail.r3.test. 300 IN MX 20 MX2.v.test."], 0, None),
    (REGEX, "www.r4.test.", A, addresses("www.r4.test."), 0, []),
    (REGEX, "x.r5.test.", A, [], SERVFAIL, []),
    (REGEX, "foo.r7.bar.", A, addresses("www.example.net."), 0, []),
    (REGEX, "other.test.", A, [], REFUSED, []),
    (NUMBERS, "txt.example.net.", HINFO, ['txt.example.net. 300 IN TXT "hello"'], 0, []),
    (NUMBERS, "mail.example.net.", MX, [], 0, [NEGATIVE]),
    (NUMBERS, "nope.example.net.", HINFO, [], NXDOMAIN, [NEGATIVE]),
    (TTLS, "WWW.example.net.", A, addresses("WWW.example.net.", 10), 0, []),
    (TTLS, "alias.example.net.", A,
     ["alias.example.net. 40 IN CNAME www.example.net.", *addresses("www.example.net.", 40)], 0, []),
    (TTLS, "mail.example.net.", A, [], 0, [NEGATIVE.replace(" 60 IN", " 7 IN")]),
    (TTLS, "txt.example.net.", TXT, ['txt.example.net. 1000 IN TXT "hello"'], 0, []),
    (TTLS, "srv.example.net.", 33, ["srv.example.net. 0 IN SRV 1 2 3 host.example.net."], 0, []),
    (TTLS, "ptr.example.net.", PTR, ["ptr.example.net. 300 IN PTR www.example.net."], 0, []),
    (RCODES, "nope.example.net.", A, [], 0, [NEGATIVE]),
    (RCODES, "x.other.test.", A, [], NXDOMAIN, []),
    (RCODES, "other.test.", A, [], REFUSED, []),
    (RCODES, "www.example.net.", A, addresses("www.example.net."), SERVFAIL, []),
    (RCODES, "txt.example.net.", TXT, ['txt.example.net. 300 IN TXT "hello"'], 6, []),
    (CNAMES, "ext.example.net.", A, ["ext.example.net. 300 IN CNAME www.example.net.", *addresses("www.example.net.")],
     0, []),
    (CNAMES, "ext.example.net.", AAAA,
     ["ext.example.net. 300 IN CNAME www.example.net.", "www.example.net. 300 IN AAAA 2001:db8::10"], 0, []),
    (CNAMES, "alias.example.net.", A,
     ["alias.example.net. 300 IN CNAME www.example.net.", *addresses("www.example.net.")], 0, []),
    (CHAIN, "in.test.", A, addresses("in.test."), 0, []),
    (CHAIN, "in.test.", TXT, addresses("in.test."), 0, []),
    (CHAIN, "mid.test.", A, addresses("mid.test."), 0, []),
    (CHAIN, "www.example.net.", A, [], NXDOMAIN, [NEGATIVE]),
    (REVERSED, "www.a.test.", A, addresses("www.a.test.", 77), 0, []),
    (REVERSED, "www.b.test.", A, addresses("www.b.test.", 77), 0, []),
    (REVERSED, "alias.a.test.", A,
     ["alias.a.test. 77 IN CNAME www.a.test.", *addresses("www.a.test.", 77)], 0, []),
]  # fmt: skip


@pytest.fixture(scope="module")
def upstream():
    with Upstream(zone) as up:
        yield up


@pytest.fixture(scope="module")
def served(upstream):
    """A server of each set of rules, made when it is asked for."""
    workers: dict[str, Worker] = {}

    def get(rules: str) -> Worker:
        if rules not in workers:
            workers[rules] = Worker(corefile(rules, upstream.port))
        return workers[rules]

    yield get
    for worker in workers.values():
        worker.stop()


@pytest.mark.parametrize("proto", ["udp", "tcp"])
@pytest.mark.parametrize("rules,name,qtype,answer,rcode,authority", CASES)
def test_case(served, rules, name, qtype, answer, rcode, authority, proto):
    wire = query_of(name, qtype)
    got = exchange(wire, served(rules).port, proto)
    reply = Answer.of(got)
    assert reply.rcode == rcode
    assert sorted(reply.answer) == sorted(answer)
    if authority is not None:
        assert reply.authority == authority
    end = 12 + len(name_from_text(name)) + 4
    assert got[4:6] == b"\0\1" and got[12:end] == wire[12:end], "the question is the client's, letter by letter"


def test_another_class_is_asked(served):
    reply = served(NUMBERS).ask("www.example.net.", A, qclass=CH)
    assert sorted(reply.answer) == addresses("www.example.net.") and reply.message.q.qclass == CH


# ---- options


def options_of(reply: Answer) -> list[tuple[int, bytes]] | None:
    edns = reply.message.edns
    return None if edns is None else [(option.code, bytes(option.data)) for option in edns.rdata]


def asked_options(upstream: Upstream, name: str) -> list[tuple[int, bytes]] | None:
    message = dns.message.from_wire(upstream.of(name)[-1].wire)
    return [(int(o.otype), o.to_wire()) for o in message.options] if message.edns >= 0 else None


SET = "edns0 local set 0xffee 0x61626364"
OPTION_CASES: list[Any] = [
    # rules, options of the query (None: no OPT), what is asked, what the reply echoes where nobody has an OPT
    (SET, None, [(65518, b"abcd")], [(65518, b"abcd")]),
    (SET, [], [(65518, b"abcd")], [(65518, b"abcd")]),
    (SET, [(65518, b"x")], [(65518, b"abcd")], [(65518, b"abcd")]),
    ("edns0 local append 0xffed world", [(65517, b"x")], [(65517, b"x")], [(65517, b"x")]),
    ("edns0 local append 65517 world", [], [(65517, b"world")], [(65517, b"world")]),
    ("edns0 local replace 0177755 world", None, [], []),
    ("edns0 local replace 0177755 world", [(65517, b"x")], [(65517, b"world")], [(65517, b"world")]),
    ("edns0 local unset 65517", [(65517, b"x"), (65516, b"y")], [(65516, b"y")], []),
    ("edns0 local set 65517 hi revert", [], [(65517, b"hi")], []),
    ("edns0 local set 65517 hi revert", [(65517, b"x")], [(65517, b"hi")], [(65517, b"x")]),
    ("edns0 nsid set", None, [(3, b"")], [(3, b"")]),
    ("edns0 nsid set revert", [], [(3, b"")], []),
    ("edns0 nsid unset", [(3, b"")], [], []),
    ("edns0 subnet set 24 56", None, [(8, bytes.fromhex("000118007f0000"))], []),
    ("edns0 subnet append 8 56", [(8, bytes.fromhex("000110000102"))], [(8, bytes.fromhex("000110000102"))], []),
    ("edns0 subnet replace 0 0", [(8, bytes.fromhex("000110000102"))], [(8, bytes.fromhex("00010000"))], []),
    ("edns0 subnet unset", [(8, bytes.fromhex("000110000102"))], [], []),
    ("edns0 local set 1 {qname}", None, [(1, b"WWW.example.net.")], [(1, b"WWW.example.net.")]),
    ("edns0 local set 65499 {qtype}", None, [(65499, b"\0\1")], [(65499, b"\0\1")]),
    ("edns0 local set 65499 {client_ip}", None, [(65499, b"\x7f\0\0\1")], [(65499, b"\x7f\0\0\1")]),
    ("edns0 local set 65499 {server_ip}", None, [(65499, b"\x7f\0\0\1")], [(65499, b"\x7f\0\0\1")]),
    ("edns0 local set 65499 {protocol}", None, [(65499, b"udp")], [(65499, b"udp")]),
    ("edns0 local set 65499 {no/label}", None, None, None),
    ("continue edns0 local set 65499 a\nedns0 local set 65498 b", [(10, b"12345678")],
     [(10, b"12345678"), (65499, b"a"), (65498, b"b")], [(10, b"12345678"), (65499, b"a"), (65498, b"b")]),
]  # fmt: skip


@pytest.mark.parametrize("rules,sent,asked,echoed", OPTION_CASES)
def test_options(served, upstream, rules, sent, asked, echoed):
    wire = {} if sent is None else {"bufsize": 1400, "options": sent}
    reply = served(rules).ask("WWW.example.net.", A, **wire)
    assert asked_options(upstream, "www.example.net.") == asked
    # The upstream's own OPT stays; an OPT is also where only a rule put one into the query.
    assert options_of(reply) == (None if asked is None else [OWN_OPTION])
    lines = "".join(f"rewrite {line}\n" for line in rules.splitlines())
    with Worker(f".:0 {{\n{lines}whoami\n}}") as own:
        found = own.ask("WWW.example.net.", A, **wire)
        assert options_of(found) == echoed
        if found.message.edns is not None:
            assert found.message.edns.rclass == (4096 if sent is None else 1400)


def test_ports_are_options_too(served, upstream):
    with Worker(corefile("continue edns0 local set 65499 {client_port}\ncontinue edns0 local set 65498 {server_port}",
                         upstream.port)) as worker:
        worker.ask("txt.example.net.", TXT)
    (_, client), (_, server) = asked_options(upstream, "txt.example.net.") or []
    assert int.from_bytes(client, "big") > 0 and len(client) == 2
    assert len(server) == 2


def test_own_options_of_the_reply_are_reverted(served):
    reply = served("edns0 local set 65001 mine revert").ask("www.example.net.", A)
    assert options_of(reply) == []
    reply = served("edns0 local set 65001 mine revert").ask("www.example.net.", A, options=[(65001, b"his")])
    assert options_of(reply) == [(65001, b"his")]


# ---- failures


def test_error_of_the_chain_is_written_here_and_rules_apply():
    rules = "continue name in.test www.example.net\ncontinue rcode in.test SERVFAIL NXDOMAIN\n" \
            "continue rcode suffix .example.net SERVFAIL REFUSED"
    text = ".:0 {\nerrors\n" + "".join(f"rewrite {line}\n" for line in rules.splitlines())
    with Server(text.replace(":0", "") + "forward nowhere.test 127.0.0.1:9\n}\n") as server:
        reply = server.ask("IN.test.", A, bufsize=1300)
        assert reply.rcode == REFUSED and str(reply.message.q.qname) == "IN.test."
        assert reply.message.edns.rclass == 1300
        assert server.ask("else.test.", A).rcode == SERVFAIL
        # CoreDNS prints 0 for the first one, because its rewrite has written the reply.
        assert "5 www.example.net. A: plugin/forward: no next plugin found" in server.wait_for("www.example.net.")


def test_invalid_name_is_an_error_of_the_query():
    with Server(". {\nerrors\nrewrite continue type MX A\nrewrite name regex (.*)bad {1}..\nwhoami\n}\n") as server:
        assert server.ask("x.bad.", A).rcode == SERVFAIL
        assert "2 x.bad. A: invalid name after rewrite: x..." in server.wait_for("invalid name")


def test_cname_target_that_cannot_be_looked_up_stays(served):
    rules = "cname exact www.example.com. www.elsewhere.test."
    reply = served(rules).ask("ext.example.net.", A)
    # Its error reply counts as the answer, as in CoreDNS: the target changes, and nothing follows.
    assert reply.answer == ["ext.example.net. 300 IN CNAME www.elsewhere.test."]


def test_cname_loop_ends(served):
    reply = served("cname exact www.example.com. ext.example.net.").ask("ext.example.net.", A)
    assert reply.answer[0] == "ext.example.net. 300 IN CNAME ext.example.net."


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "(.*)*(.*)*x", "((a?){50}){20}b", "(x+x+)+y"])
def test_hostile_expressions_end(served, pattern):
    # RE2 is linear; one with backtracking would not end within the life of this test.
    name = ".".join(["a" * 60] * 4) + "."
    assert served(f"name regex {pattern} www.example.net").ask(name, A).rcode in (0, REFUSED)


# ---- what others see


def test_log_and_metrics_name_what_was_asked():
    text = '. {\nlog . "L {type} {class} {name} {size}"\nrewrite continue type HINFO TXT\n' \
           "rewrite continue class CH IN\nrewrite name in.test a-longer-name.test\nwhoami\n}\n"
    with Server(text) as server:
        server.ask("in.test.", HINFO)
        assert server.wait_for(" L ").endswith("L TXT IN in.test. 36")


@pytest.mark.parametrize("halves", ["compiled", "python"])
def test_each_message_of_a_transfer_is_changed_back(tmp_path, monkeypatch, halves):
    if halves == "python":
        monkeypatch.setattr(Rewrite, "compiled", lambda self: None)
    text = ".:0 {\nrewrite continue ttl suffix .probe 5\nrewrite name suffix .test .probe answer auto\nprobe\n}\n"
    wire = query_of("stream.Test.", AXFR)
    messages = []
    with installed(tmp_path), Worker(text.replace(".probe 5", ".test 5")) as worker:
        with socket.create_connection((ADDRESS, worker.port), 5) as sock:
            sock.sendall(len(wire).to_bytes(2, "big") + wire)
            while len(messages) < 5:
                messages.append(receive(sock, int.from_bytes(receive(sock, 2), "big")))
    assert all(message[12 : 12 + len(wire) - 12] == wire[12:] for message in messages)
    found = [line for message in messages for line in Answer.of(message).answer]
    assert [line.split()[0].lower() for line in found] == [
        "stream.test.", "h0.stream.test.", "h1.stream.test.", "h2.stream.test.", "stream.test."]
    assert {line.split()[1] for line in found} == {"5"}


def test_a_metadata_label_is_an_option(tmp_path, upstream):
    lines = "edns0 local set 65001 {label/name}\nedns0 local set 65002 {label/none}\nedns0 local set 65003 {label/lazy}"
    rules = "continue " + lines.replace("\n", "\ncontinue ")
    with installed(tmp_path), Worker(corefile(rules, upstream.port, "metadata", "label")) as worker:
        worker.ask("www.example.net.", A)
        assert asked_options(upstream, "www.example.net.") == [(65001, b"www.example.net."), (65003, b"type 1")]


def test_cache_keeps_the_rewritten_question(upstream):
    rules = "name suffix .k1.test .example.net answer auto\nname suffix .k2.test .example.net answer auto"
    with Worker(corefile(rules, upstream.port, "cache")) as worker:
        before = len(upstream.of("srv.example.net."))
        first, second = worker.ask("srv.k1.test.", 33), worker.ask("srv.k2.test.", 33)
        assert first.answer[0].endswith("host.k1.test.") and second.answer[0].endswith("host.k2.test.")
        assert len(upstream.of("srv.example.net.")) == before + 1


# ---- compiled or not


@pytest.mark.parametrize("lines,why", [
    ("name a b\nname suffix a b answer auto\ntype A AAAA\nclass CH IN\nttl suffix a 5\nrcode a 1 2", ""),
    ("edns0 local set 1 x\nedns0 nsid unset\nedns0 subnet unset", ""),
    ("name regex a b", ""), ("ttl regex a 5", ""), ("rcode regex a REFUSED NOERROR", ""),
    ("name suffix a b answer value x y", "'answer' with a regular expression"),
    ("cname a b", "'cname' looks its target up"), ("edns0 nsid set revert", "'revert'"),
    ("edns0 local set 1 {qname}", "the placeholder {qname}"), ("edns0 subnet set 1 1", "the client's subnet"),
    ("continue name a b\n" * 7, ""), ("continue name a b\n" * 8, "8 or more name rules that say 'continue'"),
    ("name a b\n" * 64, ""), ("name a b\n" * 65, "a block with more than 64 rules"),
    ("edns0 local set 1 " + "x" * 508, ""), ("edns0 local set 1 " + "x" * 509, "EDNS options of more than 512 octets"),
    ("name a " + "x" * 1021, "a name longer than a name can be"),
])  # fmt: skip
def test_what_runs_compiled(lines, why):
    config = parse("\n".join(f"rewrite {line}" for line in lines.strip().splitlines()))
    assert reason(config.rules) == why


def test_explain_says_why_a_block_goes_to_python(tmp_path, capsys):
    for line, said in (("name regex a b answer value x y",
                        "has no compiled half for what it is told here: 'answer' with a regular expression"),
                       ("name regex a b", "'rewrite' asks Python; what it decides about a name is kept: every query "
                                          "that comes so far crosses into Python and back the first time"),
                       ("name a b", "every query stays in compiled code")):
        (tmp_path / "Corefile").write_text(f". {{\nrewrite {line}\nforward . 127.0.0.1:9\n}}\n")
        assert main(["explain", "-conf", str(tmp_path / "Corefile")]) == 0
        assert said in " ".join(capsys.readouterr().out.split())


WORDS = st.sampled_from(["www", "alias", "mail", "txt", "ww", "a", "example.net", "b.test", ".test", ".net", "net",
                         "www.example.net", "alias.example.net", "example", "example.net.", "in.b.test"])
MODES = st.sampled_from(["", "continue ", "continue ", "stop "])
GROUPS = ["(.*)", "^www\\.(.*)", "(a|w+)\\.", "(x)?net", "(example|b)\\."]
EXPRESSIONS = st.sampled_from([*GROUPS, "[.]test[.]$", "^$"])
SIMPLE = st.one_of(
    st.builds("{}name {} {} {}{}".format, MODES, st.sampled_from(["prefix", "suffix", "substring"]), WORDS, WORDS,
              st.sampled_from(["", " answer auto"])),
    st.builds("{}name {} {}".format, MODES, WORDS, WORDS),
    st.builds("{}name regex {} {}{}".format, MODES, st.sampled_from(GROUPS), st.sampled_from(
        ["www.{1}", "{1}.b.test.", "x", "{1}.net", "..", "example.net.", "a\\.b.test."]),
        st.sampled_from(["", " answer auto"])),
    st.builds("{}name regex {} b.test. answer auto".format, MODES, EXPRESSIONS),
    st.builds("{}ttl regex {} 8-9".format, MODES, EXPRESSIONS),
    st.builds("{}rcode regex {} NOERROR NXDOMAIN".format, MODES, EXPRESSIONS),
    st.builds("{}type {} {}".format, MODES, *[st.sampled_from(["A", "AAAA", "MX", "TXT", "SOA"])] * 2),
    st.builds("{}ttl {} {} {}".format, MODES, st.sampled_from(MATCHES[:4]), WORDS,
              st.sampled_from(["7", "5-50", "-9"])),
    st.builds("{}rcode {} {} {} {}".format, MODES, st.sampled_from(MATCHES[:4]), WORDS,
              *[st.sampled_from(["NOERROR", "NXDOMAIN", "REFUSED", "SERVFAIL"])] * 2),
    st.builds("{}edns0 local {} {} {}".format, MODES, st.sampled_from(["set", "append", "replace"]),
              st.sampled_from(["65001", "65002", "65003"]), st.sampled_from(["x", "longer", "0x"])),
    st.builds("{}edns0 {}".format, MODES, st.sampled_from(["local unset 65001", "nsid set", "nsid unset"])),
)  # fmt: skip
NAMES = st.sampled_from(["www.example.net.", "WWW.b.test.", "alias.B.test.", "example.net.", "b.test.", "a.", ".",
                         "mail.example.net.", "wwww.www.test.", "net.", "a\\.b.test.", "in.b.test."])
SENT = st.sampled_from([{}, {"bufsize": 1400}, {"do": True}, {"options": [(65001, b"c"), (10, b"12345678")]}])


def seen(reply: Answer) -> Any:
    message = reply.message
    edns = None if message.edns is None else (message.edns.rclass, message.edns.ttl, options_of(reply))
    return (reply.rcode, reply.flags, str(message.q), sorted(reply.answer), sorted(reply.authority),
            sorted(reply.additional), edns)


@given(st.lists(SIMPLE, min_size=1, max_size=5), st.lists(st.tuples(NAMES, st.sampled_from([A, MX, SOA, TXT]), SENT),
                                                          min_size=4, max_size=8))
@settings(max_examples=25, deadline=None)
def test_both_halves_do_the_same(upstream, lines, questions):
    text = corefile("\n".join(lines), upstream.port)
    with pytest.MonkeyPatch.context() as patch:
        with Worker(text) as compiled:
            patch.setattr(Rewrite, "compiled", lambda self: None)
            with Worker(text) as python:
                # Once more: what an expression makes of a name is kept then.
                for name, qtype, options in questions * 2:
                    one, other = (server.ask(name, qtype, **options) for server in (compiled, python))
                    assert seen(one) == seen(other), (lines, name, qtype, options)


@given(st.binary(max_size=80), st.booleans(), st.integers(0, 23))
@settings(max_examples=200, deadline=None)
def test_the_compiled_half_takes_any_reply(tail, question_kept, rcode):
    rules = parse("rewrite continue name suffix .test .example.net answer auto\nrewrite continue ttl suffix net 5\n"
                  "rewrite continue rcode suffix net NOERROR REFUSED\nrewrite edns0 local set 65001 x").rules
    bench = Bench(stage(rows(rules), [65001]))
    query = query_of("Www.Test.", A, options=[(65001, b"y"), (3, b"")])
    counts = b"\0\1\0\1\0\1\0\1" if question_kept else b"\0\0" + tail[:6].ljust(6, b"\0")
    wire = query[:2] + b"\x81\x80" + counts + (query_of("www.example.net.", A)[12:] if question_kept else b"") + tail
    verdict, done, code, out = bench.run(query, reply=wire, rcode=rcode, ulen=len(wire))
    assert verdict == "next" and done
    try:
        scan(wire)
    except ValueError:
        return  # what is no message stays as it is: no plugin writes one
    fields, _ = scan(out)
    assert code == (REFUSED if rcode == 0 else rcode)
    assert out[12 : fields["question_end"]] == query[12 : 12 + len(question(Asking("Www.Test.", A)))]


@pytest.mark.parametrize("cookie", [False, True])
@pytest.mark.parametrize("octets", [600, 1150, 1300, 3900, 4030, 5000])
def test_long_queries(upstream, octets, cookie):
    lines = "name long.test www.example.net\nname suffix .test .example.net"
    with Worker(corefile(lines, upstream.port, "errors", "cookie" if cookie else "")) as worker:
        options = [(12, bytes(octets)), (10, b"12345678")]
        proto = "udp" if octets < 4096 else "tcp"
        reply = worker.ask("Long.test.", A, proto, bufsize=4000, options=options)
        assert reply.message.edns.rclass == 4000 and str(reply.message.q.qname) == "Long.test."
        if proto == "tcp":  # more than a datagram that is read can have
            assert reply.rcode == SERVFAIL
            return
        assert sorted(reply.answer) == addresses("long.test.")
        assert asked_options(upstream, "www.example.net.") == options[: 1 if cookie else 2]
        assert (10 in dict(options_of(reply) or [])) == cookie
        # Nothing changes where no rule wants it, however long.
        assert worker.ask("else.net.", A, bufsize=4000, options=[(12, bytes(2000))]).rcode == REFUSED


@pytest.mark.parametrize("more", [(), ("relay",), ("view v {", "expr string(server_port()) != ''", "}")],
                         ids=["compiled", "python behind", "python before"])
@pytest.mark.parametrize("octets", [1100, 1300, 3800])
def test_rules_change_long_queries(upstream, tmp_path, octets, more):
    # Options are replaced, the reply is mapped back, errors are written; also where the query lies in the pool already.
    lines = ("continue edns0 local set 65001 abcd\ncontinue name suffix .long.test .example.net answer auto\n"
             "continue ttl suffix example.net 5\ncontinue rcode suffix .broken.test REFUSED NXDOMAIN")
    with installed(tmp_path), Worker(corefile(lines, upstream.port, *more)) as worker:
        if more and more[0] != "relay":
            assert worker.program.python_filter(0) is not None
        for turn in range(3):
            options = [(12, bytes(octets)), (65001, b"client's own"), (65002, bytes([turn]))]
            reply = worker.ask("Www.Long.test.", A, bufsize=4096, options=options)
            assert str(reply.message.q.qname) == "Www.Long.test." and reply.rcode == 0
            assert sorted(reply.answer) == [f"www.long.test. 5 IN A 192.0.2.{n}" for n in (10, 11)]
            assert asked_options(upstream, "www.example.net.") == [options[0], (65001, b"abcd"), options[2]]
        reply = worker.ask("x.Broken.test.", A, bufsize=4096, options=[(12, bytes(octets))])
        assert (reply.rcode, str(reply.message.q.qname)) == (NXDOMAIN, "x.Broken.test.")
        assert 12 in dict(options_of(reply))  # padded to its own size


def test_errors_are_written_by_the_compiled_half_too():
    rules = parse("rewrite continue rcode suffix test SERVFAIL REFUSED\nrewrite name suffix .test .example.net").rules
    bench = Bench(stage(rows(rules), []))
    query = query_of("Www.Test.", A)
    verdict, done, code, out = bench.run(query, rcode=SERVFAIL)
    assert (verdict, done, code) == ("next", True, REFUSED) and out[12:] == query[12:]
    assert bench.run(query, rcode=NXDOMAIN)[1:3] == (False, NXDOMAIN)  # silence, as in CoreDNS
    assert bench.run(query, dropped=True)[1] is False
    assert bench.run(query_of("x.other.", A), rcode=SERVFAIL)[1] is False


def test_the_compiled_half_has_bounds():
    with pytest.raises(ValueError, match="at most 64 rules"):
        stage(rows(parse("rewrite type A A\n" * 65).rules), [])


# ---- replies of any shape


class Asking:
    """What `edit` reads of a query."""

    def __init__(self, name: str, qtype: int) -> None:
        self.wire = query_of(name, qtype)
        self.name_octets = len(name_from_text(name))


LABELS = st.text("aAb-.\\ é1", min_size=1, max_size=12)
CHANGES = st.builds(lambda match, old, new: lambda text: mapper(match, old, new)(text) or text,
                    st.sampled_from([m for m in MATCHES if m != "regex"]), LABELS, LABELS)
STEPS = st.one_of(
    st.builds(Owners, CHANGES), st.builds(Values, CHANGES), st.builds(Code, st.integers(0, 23), st.integers(0, 23)),
    st.builds(lambda a, b: Ttl(min(a, b), max(a, b)), *[st.integers(0, 2**31 - 1)] * 2),
    st.builds(lambda old, new: Target(mapper("substring", old, new)), LABELS, LABELS),
)  # fmt: skip
RECORDS = st.tuples(st.integers(0, 2), st.sampled_from(["a.b.", "x.a-b.", ".", "A.B."]),
                    st.sampled_from([A, 2, 5, SOA, 12, MX, TXT, 33, 35, 39, 64, 46, 999]), st.integers(0, 2**32 - 1),
                    st.binary(max_size=8))


def rdata(kind: int, name: bytes, tail: bytes) -> bytes:
    shapes = {A: b"\1\2\3\4", SOA: name + name + bytes(20), MX: b"\0\1" + name, 33: bytes(6) + name,
              35: bytes(4) + b"\1U\0\0" + name, 64: b"\0\1" + name, 46: bytes(18) + name + tail, TXT: b"\1x", 999: tail}
    return shapes.get(kind, name)


@given(st.lists(RECORDS, max_size=6), st.lists(STEPS, max_size=5), st.sampled_from(["Q.a.b.", ".", "a.b."]))
@settings(max_examples=150, deadline=None)
def test_any_rules_on_any_reply(rows, steps, name):
    asked, client = Asking("a.b.", A), Asking(name, A)
    records = [(section, name_from_text(owner), kind, 1, ttl, rdata(kind, name_from_text(owner), tail))
               for section, owner, kind, ttl, tail in sorted(rows)]
    wire = written(asked.wire[:2] + b"\x81\x80" + asked.wire[4:12], question(asked), records, False)

    async def looked_up(target):
        return None if len(target) % 2 else ([(0, b"\1t\0", A, 1, 5, b"\1\1\1\1")], True)

    made = asyncio.run(edit(client, Reply(wire), steps, looked_up))
    head, found = scan(made.wire)
    assert question(client) == made.wire[12 : head["question_end"]] and head["counts"][0] == 1
    sections = [section for section, *_ in found]
    assert sections == sorted(sections)
    if not any(isinstance(step, Target) for step in steps):
        assert [(kind, rclass) for _, _, kind, rclass, _, _ in found] == [(row[2], 1) for row in records]


@given(st.binary(min_size=12, max_size=60))
@settings(max_examples=100, deadline=None)
def test_what_is_no_reply_is_refused(octets):
    try:
        reply = Reply(octets)
    except ValueError:
        return
    client = Asking("a.b.", A)
    made = asyncio.run(edit(client, reply, [Owners(lambda name: name)], None))
    assert made.wire[12 : 12 + len(question(client))] == question(client)


def test_a_reply_that_grows_too_long_is_cut():
    owner = name_from_text(".".join(["x" * 63] * 3) + ".")
    records = [(0, owner, TXT, 1, 1, b"\1x")] * 400
    wire = written(b"\0\1\x81\x80" + bytes(8), question(Asking("a.b.", A)), records, False)
    head, found = scan(wire)
    assert len(wire) <= 65535 and head["flags"] & 0x0200 and 0 < len(found) < 400


def test_names_in_rdata_are_written_out():
    message = dns.message.make_response(dns.message.make_query("www.example.org.", "MX"))
    message.answer.append(dns.rrset.from_text("www.example.org.", 9, "IN", "MX", "10 mail.example.org."))
    (record,) = expand(message.to_wire())
    assert record == (0, name_from_text("www.example.org."), MX, 1, 9, b"\0\x0a" + name_from_text("mail.example.org."))
    assert name_to_text(record[5][2:]) == "mail.example.org."


def test_an_edited_reply_keeps_what_came_with_it():
    opt = b"\0\0\x29\x04\xd0\0\0\x80\0\0\5\0\7\0\1x"
    reply = Reply(b"\0\1\x81\x80\0\0\0\0\0\0\0\1" + opt)
    assert reply.opt == b"\0\7\0\1x" and reply.edited().opt == reply.opt
    made = reply.edited(b"\0\1\x81\x80" + bytes(8), rcode=23, options=[(9, b"")], error="text")
    assert made.opt == b"\0\x09\0\0" and made.rcode == 23 and made.wire[3] == 0x87
    assert made.size == 12 + 15
    with pytest.raises(ValueError, match="response code"):
        reply.edited(rcode=4096)
    with pytest.raises(ValueError, match="without its OPT"):
        reply.edited(b"\0\1\x81\x80\0\0\0\0\0\0\0\1" + opt)


# ---- configurations


def parse(text: str) -> Any:
    (config,) = Rewrite.parse(Dispenser("Corefile", tokenize(text, "Corefile"), ("dns://.:53",), "rewrite"))
    return pickle.loads(pickle.dumps(config))


BAD = [
    ('', 'no rule type specified for rewrite'),
    ('stop', 'stop rule must begin with a rule type'),
    ('continue', 'continue rule must begin with a rule type'),
    ('foo', 'invalid rule type "foo"'),
    ('foo bar', 'invalid rule type "foo"'),
    ('stop foo bar', 'invalid rule type "stop"'),
    ('continue Foo bar', 'invalid rule type "continue"'),
    ('answer a b', 'response rewrites must begin with a name rule'),
    ('name', 'too few arguments for a name rule'),
    ('name a', 'too few arguments for a name rule'),
    ('name foo a b',
     'name rule supports only exact, prefix, suffix, substring, and regex name matching, received: foo'),
    ('name foo a b answer auto',
     'name rule supports only exact, prefix, suffix, substring, and regex name matching, received: foo'),
    ('name exact a b c', 'invalid arguments for exact rule'),
    ('name exact a b c d', 'exceeded the number of arguments for a non-answer rule argument for exact rule'),
    ('name prefix a b answer', 'invalid arguments for prefix rule'),
    ('name prefix a b answer foo', 'invalid type "foo" for answer rule for prefix rule'),
    ('name prefix a b answer name x', 'name answer rule for prefix rule: 2 arguments required'),
    ('name prefix a b answer name x y answer', 'type missing for answer rule for prefix rule'),
    ('name prefix a b answer value (x y',
     'value answer rule for prefix rule: invalid regex matching pattern: (x'),
    ('name prefix a b answer name (x y',
     'name answer rule for prefix rule: invalid regex matching pattern: (x'),
    ('name prefix a b answer name x {1}',
     'name answer rule for prefix rule: the rewrite regex pattern ({1}) uses more'
     ' subexpressions than its corresponding matching regex pattern (x)'),
    ('name regex a b answer auto name x y',
     'auto name answer rule cannot be combined with explicit name anwer rules'),
    ('name regex a b answer name x y auto',
     'auto name answer rule cannot be combined with explicit name anwer rules'),
    ('name regex (a b', 'invalid regex matching pattern: (a'),
    ('name regex a {1}',
     'the rewrite regex pattern ({1}) uses more subexpressions than its corresponding matching'
     ' regex pattern (a)'),
    ('name regex a {0}',
     'the rewrite regex pattern ({0}) uses more subexpressions than its corresponding matching'
     ' regex pattern (a)'),
    ('name exact a *.b', 'invalid regex matching pattern: *.b.'),
    ('name exact {1} b',
     'the rewrite regex pattern ({1}.) uses more subexpressions than its corresponding matching'
     ' regex pattern (b.)'),
    ('name a (b', 'invalid regex matching pattern: (b.'),
    ('type A', 'type rules must have exactly two arguments'),
    ('type A B C', 'type rules must have exactly two arguments'),
    ('type A FOO', 'invalid type "FOO"'),
    ('type foo A', 'invalid type "FOO"'),
    ('type NONE A', 'invalid type "NONE"'),
    ('class IN', 'class rules must have exactly two arguments'),
    ('class IN foo', 'invalid class "FOO"'),
    ('class foo IN', 'invalid class "FOO"'),
    ('stop class a b c', 'class rules must have exactly two arguments'),
    ('ttl a', 'too few (1) arguments for a ttl rule'),
    ('ttl a b', "invalid TTL 'b' for a ttl rule"),
    ('ttl a -', "invalid TTL '-' for a ttl rule"),
    ('ttl a 5-3', "invalid TTL '5-3' for a ttl rule"),
    ('ttl a 4294967296', "invalid TTL '4294967296' for a ttl rule"),
    ('ttl a 1-2-3', "invalid TTL '1-2-3' for a ttl rule"),
    ('ttl foo a 5', 'ttl rule supports only exact, prefix, suffix, substring, and regex name matching'),
    ('ttl exact a 5 6', "invalid TTL '' for a ttl rule"),
    ('ttl regex (a 5', 'invalid regex pattern in a ttl rule: (a'),
    ('ttl a +5', "invalid TTL '+5' for a ttl rule"),
    ('ttl a 2147483648-', "invalid TTL '2147483648-' for a ttl rule"),
    ('rcode a', 'too few (1) arguments for a rcode rule'),
    ('rcode a b', 'too few (2) arguments for a rcode rule'),
    ('rcode a 1 foo', "invalid replacement RCODE 'foo' for a rcode rule"),
    ('rcode a 24 1', "invalid matching RCODE '24' for a rcode rule"),
    ('rcode foo a 1 2', 'rcode rule supports only exact, prefix, suffix, substring, and regex name matching'),
    ('rcode exact a 1 2 3', "invalid matching RCODE '' for a rcode rule"),
    ('rcode regex (a 1 2', 'invalid regex pattern in a rcode rule: (a'),
    ('rcode a BADVERS 1', "invalid matching RCODE 'BADVERS' for a rcode rule"),
    ('cname', 'too few (0) arguments for a cname rule'),
    ('cname a', 'too few (1) arguments for a cname rule'),
    ('cname foo a b', 'unknown cname rewrite type: foo'),
    ('cname exact a b c', 'too few (4) arguments for a cname rule'),
    ('cname regex (a b',
     'invalid cname rewrite regex pattern: error parsing regexp: missing closing ): `(a`'),
    ('edns0', 'too few arguments for an EDNS0 rule'),
    ('edns0 local', 'too few arguments for an EDNS0 rule'),
    ('edns0 local foo', 'invalid action: "foo"'),
    ('edns0 foo set', 'invalid rule type "foo"'),
    ('edns0 foo unset', 'invalid rule type "foo"'),
    ('edns0 local set 1', 'EDNS0 local rules require three or four args'),
    ('edns0 local set 1 2 3', 'EDNS0 local rules require three or four args'),
    ('edns0 local set foo bar', 'strconv.ParseUint: parsing "foo": invalid syntax'),
    ('edns0 local set 65536 bar', 'strconv.ParseUint: parsing "65536": value out of range'),
    ('edns0 local set -1 bar', 'strconv.ParseUint: parsing "-1": invalid syntax'),
    ('edns0 local set 0x bar', 'strconv.ParseUint: parsing "0x": invalid syntax'),
    ('edns0 local set 09 bar', 'strconv.ParseUint: parsing "09": invalid syntax'),
    ('edns0 local set 1__0 bar', 'strconv.ParseUint: parsing "1__0": invalid syntax'),
    ('edns0 local set 1 0x1', 'encoding/hex: odd length hex string'),
    ('edns0 local set 1 0xzz', "encoding/hex: invalid byte: U+007A 'z'"),
    ("edns0 local set 1 0x1'", "encoding/hex: invalid byte: U+0027 '''"),
    ('edns0 local set 1 {foo}', 'unsupported variable name "{foo}"'),
    ('edns0 local set 1 {/foo}', 'unsupported variable name "{/foo}"'),
    ('edns0 local set 1 {foo/}', 'unsupported variable name "{foo/}"'),
    ('edns0 local set foo {qname}', 'strconv.ParseUint: parsing "foo": invalid syntax'),
    ('edns0 local unset', 'local unset action requires exactly two arguments'),
    ('edns0 local unset 1 2', 'local unset action requires exactly two arguments'),
    ('edns0 local unset foo', 'strconv.ParseUint: parsing "foo": invalid syntax'),
    ('edns0 nsid set 1', 'EDNS0 NSID rules can accept no more than one arg'),
    ('edns0 nsid unset 1', 'nsid unset action requires exactly one argument'),
    ('edns0 subnet set 1', 'EDNS0 subnet rules require three or four args'),
    ('edns0 subnet set 33 1', 'invalid IPv4 bit mask length 33'),
    ('edns0 subnet set 24 129', 'invalid IPv6 bit mask length 129'),
    ('edns0 subnet set a 1', 'strconv.ParseUint: parsing "a": invalid syntax'),
    ('edns0 subnet set 24 a', 'strconv.ParseUint: parsing "a": invalid syntax'),
    ('edns0 subnet set 70000 1', 'strconv.ParseUint: parsing "70000": value out of range'),
    ('edns0 subnet unset 1', 'subnet unset action requires exactly one argument'),
    ('edns0 local bar 1 2', 'invalid action: "bar"'),
    ('stop {\n name\n}', 'too few arguments for a name rule'),
    ('{\n}', 'no rule type specified for rewrite'),
    ('name regex [a-z b', 'invalid regex matching pattern: [a-z'),
    ('name regex a**  b', 'invalid regex matching pattern: a**'),
    ('name regex (?<n>a)(?P<x b', 'invalid regex matching pattern: (?<n>a)(?P<x'),
    ('cname regex a\\ b',
     'invalid cname rewrite regex pattern: error parsing regexp: trailing backslash at end of'
     ' expression: ``'),
]


@pytest.mark.parametrize("words,error", BAD)
def test_refused(words, error):
    with pytest.raises(ConfigError) as caught:
        parse(f"rewrite {words}")
    assert str(caught.value) == f"plugin/rewrite: {error}"


@pytest.mark.parametrize("kind,template", [
    ("name regex {} b", "regex pattern too long: 10001 > 10000"),
    ("name suffix a b answer value {} b", "value answer rule for suffix rule: regex pattern too long: 10001 > 10000"),
    ("ttl regex {} 5", "regex pattern too long in a ttl rule: 10001 > 10000"),
    ("rcode regex {} 1 2", "regex pattern too long in a rcode rule: 10001 > 10000"),
    ("cname regex {} b", "regex pattern too long in a cname rule: 10001 > 10000"),
])  # fmt: skip
def test_an_expression_has_a_longest_length(kind, template):
    with pytest.raises(ConfigError, match=template):
        parse("rewrite " + kind.format("a" * 10_001))
    parse("rewrite " + kind.format("a" * 10_000))


@pytest.mark.parametrize("words", [
    "name a b", "NAME Exact a b", "STOP name a b", "Continue TYPE a aaaa", "name regex (a) {2}",
    "name exact a b answer name c d", "name suffix a b answer name x y answer value x y name z w",
    "name prefix a b answer auto value x y",
    "class in any", "type any AXFR", "ttl a 4294967295", "ttl exact a -5", "ttl a 5-", "ttl suffix a 5-9",
    "rcode a 0 23",
    "rcode a notimpl NXDOMAIN", "rcode a 016 5", "cname a b", "cname regex (.*)\\.A\\. {1}.b", "edns0 local set 0x_F a",
    "edns0 LOCAL Set 0b11 {meta/label} revert", "edns0 nsid append revert",
    "edns0 subnet replace 0x18 0", "edns0 local set 017 0x",
    "stop {\nname regex (a) {1}\nanswer name (a) {1}\n}", "{\nttl\na\n5\n}",
])  # fmt: skip
def test_accepted(words):
    assert len(parse(f"rewrite {words}").rules) == 1


def test_all_lines_are_one_instance():
    config = parse("rewrite name a b\nrewrite continue {\n type A AAAA\n}\nrewrite class CH IN\n")
    assert [rule.stop for rule in config.rules] == [True, False, True]


@pytest.mark.parametrize("lines,needs", [
    ("name a b", {"name"}),
    ("type A AAAA\nclass CH IN", {"type", "class"}),
    ("cname a b", set()),
    ("ttl a 5\nedns0 local set 1 x", {"name", "options"}),
    ("edns0 subnet set 1 1\nedns0 local set 1 {server_port}", {"options", "client", "server"}),
    ("edns0 local set 1 {a/b}\nedns0 local set 1 {protocol}\nedns0 local set 1 {qtype}",
     {"options", "metadata", "client", "type"}),
])  # fmt: skip
def test_instance_says_what_its_decision_depends_on(lines, needs):
    with Worker(corefile(lines, 9, "metadata")) as worker:
        (plugin,) = [member for _, member in worker.generation.blocks[0].members if isinstance(member, Rewrite)]
        assert plugin.depends_on() == needs


@pytest.mark.parametrize("line,name,expected", [
    ("name suffix .a.test .b", "x.a.test.", True), ("name suffix .a.test .b", "x.b.test.", False),
    ("ttl regex ^q 5", "q.", True), ("rcode a.test 1 2", "b.test.", False), ("type A AAAA", "any.", True),
])  # fmt: skip
def test_which_names_concern_it(line, name, expected):
    assert Rewrite.concerns(parse(f"rewrite {line}"), name) is expected


def test_too_many_labels_are_refused(upstream):
    lines = "\n".join(f"continue edns0 local set {n} {{a/{n}}}" for n in range(1, 66))
    with pytest.raises(ConfigError, match="plugin/rewrite: a block reads at most 64 metadata labels"):
        Worker(corefile(lines, upstream.port, "metadata"))


def test_it_is_a_plugin_of_the_chain():
    assert issubclass(Rewrite, Plugin) and Rewrite.chain and not Rewrite.any_class and ANY == 255
