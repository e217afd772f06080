# SPDX-License-Identifier: Apache-2.0
"""tsig: what signed and unsigned queries get, over UDP and over TCP; what others see of a signature; its lines."""

from __future__ import annotations

import base64
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import dns.exception
import dns.message
import dns.tsig
import pytest

from fastdns import testing
from fastdns._drive import Bench
from fastdns._stats import Stats
from fastdns.numbers import AAAA, AXFR, FORMERR, MX, NOERROR, NXDOMAIN, REFUSED, SERVFAIL, TXT, A
from fastdns.plugins.tsig._tsig import stage
from fastdns.testing import ADDRESS, Answer, Worker, exchange, question, receive
from tests import signing
from tests.faults import serving
from tests.faults.upstream import Asked, Upstream, reply
from tests.machine import needs
from tests.probes import installed
from tests.signing import ALGORITHMS, BADKEY, BADSIG, BADTIME, BADTRUNC, MD5, NAME, NOTAUTH, SECRET, SIZES, Signed

GUESS = base64.b64encode(b"guess").decode()
COREFILE = f"""
signed.test {{
    prometheus 127.0.0.1:0
    errors
    tsig {{
        secret {NAME.upper()} {SECRET}
        require TXT AXFR
        require_opcode NOTIFY
    }}
    probe
    whoami
}}
part.test {{
    prometheus 127.0.0.1:0
    tsig only.part.test other.test {{
        secret second.test. {SECRET}
        require all
    }}
    probe
    whoami
}}
plain.test {{
    probe
    whoami
}}
whole.test {{
    tsig {{
        whole_mac
    }}
    whoami
}}
front.test {{
    front
    tsig {{
        require all
    }}
    probe
    whoami
}}
alias.test {{
    tsig {{
        require all
    }}
    rewrite name suffix .alias.test .rewritten.test
    probe
}}
early.test {{
    any
    chaos
    tsig
    whoami
}}
look.test {{
    tsig {{
        require all
    }}
    probe
}}
acl.test {{
    cookie
    tsig
    acl {{
        block type A
        filter type AAAA
        drop type TXT
    }}
    whoami
}}
"""

both = pytest.mark.parametrize("proto", ["udp", "tcp"])


async def signer(plugin, query, next):
    """Who signed it, as a plugin sees that: the query itself, a replacement, and a copy that is kept."""
    one, other = query.tsig, query.replace(name="x.").tsig
    return query.reply().txt(one.key or "-", str(one.verified), str(one == other))


async def seen(plugin, query, next):
    """What is left of the record in the octets."""
    return query.reply().txt(str(len(query.wire) == query.size), str(signing.record_of(query.wire) is not None))


@pytest.fixture(scope="module")
def worker(tmp_path_factory) -> Iterator[Worker]:
    with installed(tmp_path_factory.mktemp("site")):
        import fastdns_probes  # type: ignore[import-not-found]

        fastdns_probes.BEHAVIOURS |= {"signer": signer, "seen": seen}
        with Worker(COREFILE) as worker:
            yield worker


def get(worker: Worker, signed: Signed, proto: str = "udp") -> dns.message.Message:
    """The verified reply to a signed query."""
    return signed.reply(exchange(signed.wire, worker.port, proto))


def count(worker: Worker, result: str) -> int:
    return worker.counter("fastdns_tsig_queries_total", result=result)


# ---- what a query gets


@both
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("name", [NAME, "Key.TEST.", "second.test."])
@pytest.mark.parametrize("options", [{}, {"bufsize": 1232}, {"bufsize": 4096, "do": True, "options": [(3, b"")]}])
def test_a_signed_query_has_a_signed_reply(worker, proto, algorithm, name, options):
    """Whichever block on the listener the key stands in."""
    before = count(worker, "verified")
    signed = signing.ask("ok.signed.test", TXT, options, name=name, algorithm=algorithm)
    found = get(worker, signed, proto)
    assert found.rcode() == NOERROR and found.answer and (found.edns == 0) == bool(options)
    record = signing.record_of(exchange(signed.wire, worker.port, proto))
    assert (record.owner, len(record.rdata.mac), record.rdata.fudge) == (name.lower(), SIZES[algorithm], 300)
    assert abs(record.rdata.time_signed - time.time()) < 60
    assert count(worker, "verified") == before + 2


@both
@pytest.mark.parametrize(
    ("what", "rcode", "error", "result"),
    [
        ({"name": "nobody.test."}, NOTAUTH, BADKEY, "badkey"),
        ({"algorithm": MD5}, NOTAUTH, BADKEY, "badkey"),
        ({"secret": GUESS}, NOTAUTH, BADSIG, "badsig"),
        ({"at": -301}, NOTAUTH, BADTIME, "badtime"),
        ({"at": 310}, NOTAUTH, BADTIME, "badtime"),
        ({"at": -20, "fudge": 10}, NOTAUTH, BADTIME, "badtime"),
        ({"at": -290}, NOERROR, 0, "verified"),
        ({"cut": 16}, NOERROR, 0, "verified"),
        ({"cut": 15}, FORMERR, None, None),
        ({"cut": 0}, FORMERR, None, None),
    ],
)
@pytest.mark.parametrize("options", [{}, {"bufsize": 1232}])
def test_what_is_wrong_is_said(worker, proto, what, rcode, error, result, options):
    before = result and count(worker, result)
    what = dict(what)
    if "at" in what:
        what["at"] += time.time()
    signed = signing.ask("ok.signed.test", TXT, options, **what)
    octets = exchange(signed.wire, worker.port, proto)
    got, record = Answer.of(octets), signing.record_of(octets)
    assert got.rcode == rcode and (record is None) == (error is None)
    assert bool(got.answer) == (error == 0)
    if error is None:
        return
    assert count(worker, result) == before + 1
    assert record.rdata.error == error and got.message.questions and (got.message.edns is not None) == bool(options)
    assert len(record.rdata.mac) == (0 if error in (BADKEY, BADSIG) else 32)
    assert len(record.rdata.other) == (6 if error == BADTIME else 0)
    if error == BADTIME:
        assert abs(int.from_bytes(record.rdata.other, "big") - time.time()) < 60
        assert record.rdata.time_signed == int(what["at"])


@both
def test_the_reply_to_an_unknown_key_has_its_name_and_algorithm(worker, proto):
    signed = signing.ask("ok.signed.test", TXT, name="No.Such." + "Key." * 40)
    record = signing.record_of(exchange(signed.wire, worker.port, proto))
    assert record.owner == ("no.such." + "key." * 40) and record.rdata.algorithm == dns.tsig.HMAC_SHA256


@both
@pytest.mark.parametrize(
    ("name", "qtype", "rcode"),
    [("ok.signed.test", A, NOERROR), ("ok.signed.test", TXT, REFUSED), ("ok.signed.test", AXFR, REFUSED),
     ("ok.only.part.test", A, REFUSED), ("only.part.test", MX, REFUSED), ("ok.xonly.part.test", A, NOERROR),
     ("ok.plain.test", TXT, NOERROR), ("ok.whole.test", TXT, NOERROR), ("ok.front.test", A, REFUSED)],
)
def test_what_need_not_be_signed_and_what_must(worker, proto, name, qtype, rcode):
    before = count(worker, "unsigned")
    wire = question(name, qtype, bufsize=1232)
    octets = exchange(wire, worker.port, proto)
    got = Answer.of(octets)
    assert got.rcode == rcode and signing.record_of(octets) is None and got.message.edns is not None
    assert bool(got.answer or got.additional) == (rcode == NOERROR)
    counted = rcode == REFUSED and "front" not in name  # there is no `prometheus` line in that block; all the same:
    assert count(worker, "unsigned") == before + (counted or rcode == REFUSED)


@both
def test_opcodes(worker, proto):
    notify = bytearray(question("ok.signed.test", A, rd=False))
    notify[2] |= 4 << 3
    assert Answer.of(exchange(bytes(notify), worker.port, proto)).rcode == REFUSED
    assert get(worker, signing.sign(bytes(notify)), proto).rcode() == NOERROR


@both
@pytest.mark.parametrize("what", [{}, {"secret": GUESS}, {"name": "nobody."}, {"at": 1.0}])
def test_names_outside_its_zones_pass_untouched(worker, proto, what):
    for name in ("seen.part.test", "seen.plain.test"):
        octets = exchange(signing.ask(name, TXT, **what).wire, worker.port, proto)
        got = Answer.of(octets)
        assert (got.rcode, signing.record_of(octets)) == (NOERROR, None)
        assert got.answer == [f'{name}. 0 IN TXT "True" "True"']


@both
def test_names_inside_have_the_record_taken_off(worker, proto):
    found = get(worker, signing.ask("seen.only.part.test", TXT), proto)
    assert '"True" "False"' in found.answer[0].to_text()


@both
def test_a_cut_mac_is_badtrunc_where_it_must_be_whole(worker, proto):
    for cut, error in ((None, 0), (31, BADTRUNC), (16, BADTRUNC)):
        before = worker.counter("fastdns_tsig_queries_total", result="badtrunc")
        octets = exchange(signing.ask("ok.whole.test", A, cut=cut).wire, worker.port, proto)
        record = signing.record_of(octets)
        assert (record.rdata.error, len(record.rdata.mac)) == (error, 32)
        assert Answer.of(octets).rcode == (NOTAUTH if error else NOERROR)
        assert worker.counter("fastdns_tsig_queries_total", result="badtrunc") == before + bool(error)


@both
@pytest.mark.parametrize(("name", "qtype", "rcode"), [
    ("error.signed.test", A, REFUSED), ("panic.signed.test", A, SERVFAIL), ("refused.signed.test", A, REFUSED),
    ("nonsense.signed.test", A, SERVFAIL), ("a.acl.test", A, REFUSED), ("a.acl.test", AAAA, NOERROR),
])  # fmt: skip
def test_errors_are_signed_too(worker, proto, name, qtype, rcode):
    found = get(worker, signing.ask(name, qtype, {"bufsize": 1232}), proto)
    assert found.rcode() == rcode and found.edns == 0


def test_silence_stays_silence(worker):
    for name in ("silent.signed.test", "unwritten.signed.test", "a.acl.test"):
        with pytest.raises(TimeoutError):
            exchange(signing.ask(name, TXT).wire, worker.port, seconds=0.3)


@both
def test_replies_of_plugins_before_it_are_signed_too(worker, proto):
    """RFC 8945 5.3; but for a signature that was wrong they say nothing of it, and have no record."""
    assert "HINFO" in get(worker, signing.ask("a.early.test", 255), proto).answer[0].to_text()
    for what in ({"secret": GUESS}, {"name": "nobody."}):
        octets = exchange(signing.ask("a.early.test", 255, **what).wire, worker.port, proto)
        assert (Answer.of(octets).rcode, signing.record_of(octets)) == (NOERROR, None)


def test_badcookie_is_signed(worker):
    found = get(worker, signing.ask("a.acl.test", MX, {"options": [(10, bytes(24))]}))
    assert found.rcode() == 23


@both
def test_two_records_or_one_that_is_not_the_last(worker, proto):
    signed = signing.ask("ok.signed.test", TXT)
    for wire in (signing.append(signed.wire, b"\0", b""), signing.sign(signed.wire).wire,
                 signed.wire[:11] + b"\2" + signed.wire[12:] + b"\0\0\x29\2\0\0\0\0\0\0\0"):
        octets = exchange(wire, worker.port, proto)
        assert (Answer.of(octets).rcode, signing.record_of(octets)) == (FORMERR, None)


@both
def test_a_record_that_cannot_be_understood(worker, proto):
    """FORMERR where there are keys, whatever the name; elsewhere nobody looks at it."""
    for name in ("ok.signed.test", "ok.plain.test"):
        wire = signing.append(question(name, A), b"\0", bytes(3))
        assert Answer.of(exchange(wire, worker.port, proto)).rcode == FORMERR
    with Worker(". {\nwhoami\n}\n") as other:
        octets = exchange(signing.append(question("a.", A), b"\0", bytes(3)), other.port, proto)
        assert (Answer.of(octets).rcode, signing.record_of(octets)) == (NOERROR, None)


# ---- who signed it


@both
@pytest.mark.parametrize("name", ["signer.signed.test", "signer.plain.test", "signer.only.part.test"])
def test_a_plugin_learns_who_signed(worker, proto, name):
    octets = exchange(signing.ask(name, TXT, name="Second.Test.").wire, worker.port, proto)
    assert Answer.of(octets).answer == [f'{name}. 0 IN TXT "second.test." "True" "True"']


@both
@pytest.mark.parametrize("what", [None, {"secret": GUESS}, {"name": "nobody.test."}, {"at": 1.0}])
def test_not_verified_is_the_default(worker, proto, what):
    name = "signer.plain.test"
    wire = question(name, TXT) if what is None else signing.ask(name, TXT, **what).wire
    assert Answer.of(exchange(wire, worker.port, proto)).answer == [f'{name}. 0 IN TXT "-" "False" "True"']


def test_without_keys_nobody_is_known(tmp_path, monkeypatch):
    with installed(tmp_path):
        import fastdns_probes

        monkeypatch.setitem(fastdns_probes.BEHAVIOURS, "signer", signer)
        with Worker(". {\nprobe\n}\n") as other:
            octets = exchange(signing.ask("signer.test", TXT).wire, other.port)
            assert Answer.of(octets).answer == ['signer.test. 0 IN TXT "-" "False" "True"']


@both
def test_look_ups_of_the_server_are_the_clients(worker, proto):
    """What is asked for a client that signed is signed; for another one it is not, and the block refuses it."""
    unsigned = exchange(question("lookup.plain.test", A), worker.port, proto)
    assert Answer.of(unsigned).answer == ['lookup.plain.test. 0 IN TXT "5 (0, 0, 0) 5"']
    for name in ("lookup.plain.test", "lookup.look.test"):
        octets = exchange(signing.ask(name, A).wire, worker.port, proto)
        assert Answer.of(octets).answer == [f'{name}. 0 IN TXT "0 (1, 0, 0) 5"']
    assert get(worker, signing.ask("lookup.look.test", A), proto).rcode() == NOERROR


@both
@pytest.mark.parametrize("name", ["ok.front.test", "outer.ok.front.test", "seen.front.test"])
def test_behind_a_plugin_in_python(worker, proto, name):
    """The query goes to Python in front of tsig, and what stands behind goes on with a copy, or with another query."""
    found = get(worker, signing.ask(name, TXT), proto)
    assert found.answer and (not name.startswith("seen") or '"True" "False"' in found.answer[0].to_text())
    for what, error in (({"secret": GUESS}, BADSIG), ({"name": "Nobody."}, BADKEY), ({"at": 1.0}, BADTIME)):
        octets = exchange(signing.ask(name, TXT, **what).wire, worker.port, proto)
        assert (Answer.of(octets).rcode, signing.record_of(octets).rdata.error) == (NOTAUTH, error)
    assert Answer.of(exchange(question(name, TXT), worker.port, proto)).rcode == REFUSED


# ---- size


def long_reply(worker: Worker, octets: int, bufsize: int, **what: object) -> bytes:
    options = {"bufsize": bufsize} if bufsize else {}
    return exchange(signing.ask(f"sized.x{octets}.signed.test", A, options, **what).wire, worker.port)


async def sized(plugin, query, next):
    """A reply of so many octets: `sized.x400.`."""
    rest = int(query.name.split(".")[1][1:]) - len(query.reply().wire) - 12
    return query.reply(NXDOMAIN).record(65280, bytes(rest))


@pytest.mark.parametrize("bufsize", [0, 600, 1232])
def test_the_record_always_fits(worker, monkeypatch, bufsize):
    """Where it leaves no room for the others there are none of them (RFC 8945 5.3): the client asks again over TCP."""
    import fastdns_probes

    monkeypatch.setitem(fastdns_probes.BEHAVIOURS, "sized", sized)
    limit = bufsize or 512
    record = len(signing.ask("x.", A).wire) - len(question("x.", A))
    fits = limit - record - (11 if bufsize else 0)
    for octets in (fits - 1, fits):
        wire = long_reply(worker, octets, bufsize)
        assert len(wire) == octets + limit - fits and not wire[2] & 2 and Answer.of(wire).rcode == NXDOMAIN
    for octets in (fits + 1, limit, limit + 1, 4000):
        signed = signing.ask(f"sized.x{octets}.signed.test", A, {"bufsize": bufsize} if bufsize else {})
        wire = exchange(signed.wire, worker.port)
        found = signed.reply(wire)
        assert len(wire) < limit and wire[2] & 2 and found.rcode() == NOERROR
        assert not (found.answer or found.authority or found.additional) and found.question
        over_tcp = signed.reply(exchange(signed.wire, worker.port, "tcp"))
        assert over_tcp.answer and not over_tcp.flags & 0x200 and over_tcp.rcode() == NXDOMAIN


def test_a_reply_is_cut_for_a_wrong_signature_as_for_a_good_one(worker):
    assert not long_reply(worker, 4000, 0, secret=GUESS)[2] & 2


@both
def test_long_names_everywhere(proto):
    """Name, key and question of 255 octets: more than 512 in all, as the query had."""
    long = ".".join(["k" * 63, "k" * 63, "k" * 63, "k" * 61]) + "."
    name = ".".join(["n" * 63, "n" * 63, "n" * 63, "n" * 61]) + "."
    with Worker(f". {{\ncookie\ntsig {{\nsecret {long} {SECRET}\nrequire all\n}}\nwhoami\n}}\n") as other:
        for options in ({}, {"bufsize": 512}, {"bufsize": 512, "options": [(10, b"12345678")]}):
            signed = signing.ask(name, A, options, name=long, algorithm="hmac-sha512")
            wire = exchange(signed.wire, other.port, proto)
            found = signed.reply(wire)
            assert found.rcode() == NOERROR and (proto == "tcp") == bool(found.additional)
            assert bool(wire[2] & 2) == (proto == "udp") and (proto == "tcp" or len(wire) <= len(signed.wire) + 16)
        for what, error in (({"secret": GUESS}, BADSIG), ({"at": 1.0}, BADTIME), ({"name": "x" + long[1:]}, BADKEY)):
            signed = signing.ask(name, A, {"bufsize": 512}, **{"name": long, "algorithm": "hmac-sha512", **what})
            wire = exchange(signed.wire, other.port, proto)
            assert (Answer.of(wire).rcode, signing.record_of(wire).rdata.error) == (NOTAUTH, error)
            assert len(wire) <= len(signed.wire) + 6


# ---- streams


def stream_of(worker: Worker, signed: Signed, messages: int) -> list[dns.message.Message]:
    """The messages of a transfer, verified as a chain."""
    found, chain, mac = [], None, signed.mac
    with socket.create_connection((ADDRESS, worker.port)) as sock:
        sock.settimeout(10)
        sock.sendall(struct.pack("!H", len(signed.wire)) + signed.wire)
        for _ in range(messages):
            octets = receive(sock, struct.unpack("!H", receive(sock, 2))[0])
            message = dns.message.from_wire(octets, keyring={signed.key.name: signed.key}, request_mac=mac, multi=True,
                                            tsig_ctx=chain)
            assert message.had_tsig
            chain, mac = message.tsig_ctx, b""
            found.append(message)
    return found


@pytest.mark.parametrize("algorithm", ["hmac-sha1", "hmac-sha384"])
@pytest.mark.parametrize("name", ["stream.n250.signed.test", "stream.n250.front.test", "outer.stream.n250.front.test",
                                  "stream.n250.alias.test", "octets.n250.signed.test"])
def test_a_stream_is_a_chain(worker, algorithm, name):
    """RFC 8945 5.3.1: every message is signed, with the MAC of the one before."""
    signed = signing.ask(name, AXFR, {"bufsize": 1232}, algorithm=algorithm)
    found = stream_of(worker, signed, 252)
    assert all(message.edns == 0 and message.rcode() == 0 and message.answer for message in found)


def test_streams_on_one_connection(worker):
    """Each has a chain of its own."""
    for _ in range(2):
        assert len(stream_of(worker, signing.ask("stream.n5.signed.test", AXFR), 7)) == 7
    with socket.create_connection((ADDRESS, worker.port)) as sock:
        asked = [signing.ask("stream.n3.signed.test", AXFR) for _ in range(3)]
        for signed in asked:
            sock.sendall(struct.pack("!H", len(signed.wire)) + signed.wire)
        chains = {signed.wire[:2]: (signed, None, signed.mac) for signed in asked}
        for _ in range(15):
            octets = receive(sock, struct.unpack("!H", receive(sock, 2))[0])
            signed, chain, mac = chains[octets[:2]]
            message = dns.message.from_wire(octets, keyring={signed.key.name: signed.key}, request_mac=mac, multi=True,
                                            tsig_ctx=chain)
            chains[octets[:2]] = (signed, message.tsig_ctx, b"")


def test_a_stream_over_udp_is_refused_and_signed(worker):
    assert get(worker, signing.ask("stream.n5.signed.test", AXFR)).rcode() == REFUSED


# ---- beside others


CACHED = """. {{
    log . "{{rsize}} {{size}} {{rcode}}"
    tsig {{
        secret {name} {secret}
    }}
    cache
    forward . 127.0.0.1:{port}
}}
"""


@both
def test_the_cache_has_no_signatures(proto):
    """What was kept for a signed query is for all, and nobody gets another's record."""
    with Upstream() as up, Worker(CACHED.format(name=NAME, secret=SECRET, port=up.port)) as worker:
        for first, name in ((True, "a.test."), (False, "b.test.")):
            for number in range(6):
                signed = signing.ask(name, A, {"bufsize": 1232} if number % 3 else {})
                if (number % 2 == 0) == first:
                    assert get(worker, signed, proto).answer
                    continue
                octets = exchange(question(name, A), worker.port, proto)
                assert Answer.of(octets).answer and signing.record_of(octets) is None
        assert sorted(asked.name for asked in up.asked) == ["a.test.", "b.test."]
        assert all(signing.record_of(asked.wire) is None for asked in up.asked)


@both
def test_a_record_of_the_upstream_goes_no_further(proto):
    def script(asked: Asked) -> list[bytes | float]:
        return [signing.append(reply(asked), b"\1u\0", b"\0" + bytes(16))]

    with Upstream(script) as up, Worker(CACHED.format(name=NAME, secret=SECRET, port=up.port)) as worker:
        for _ in range(2):
            octets = exchange(question("a.test.", A), worker.port, proto)
            assert Answer.of(octets).answer and signing.record_of(octets) is None
            signed = signing.ask("a.test.", A)
            assert get(worker, signed, proto).answer


def test_equal_questions_in_flight_keep_their_own_signatures():
    """One is asked for all; each waiter has its key, its MAC and its id."""
    def script(asked: Asked) -> list[bytes | float]:
        return [0.3, reply(asked)]

    with Upstream(script) as up, Worker(CACHED.format(name=NAME, secret=SECRET, port=up.port)) as worker:
        sockets = []
        for number in range(6):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.settimeout(5)
            sock.connect((ADDRESS, worker.port))
            signed = signing.ask("a.test.", A, algorithm=ALGORITHMS[number % 5]) if number % 3 else None
            sock.send(signed.wire if signed else question("a.test.", A))
            sockets.append((sock, signed))
        for sock, signed in sockets:
            octets = sock.recv(4096)
            assert signing.record_of(octets) is None if signed is None else signed.reply(octets).answer
            sock.close()
        assert len(up.asked) == 1


def test_what_log_says():
    """As CoreDNS's line: the query without the record, the reply with it and with the OPT in front of it."""
    with Upstream() as up, testing.Server(CACHED.format(name=NAME, secret=SECRET, port=up.port)) as server:
        for options in ({}, {"bufsize": 1232}, {"bufsize": 1232, "options": [(10, b"12345678")]}):
            wire = question("a.test.", A, **options)
            signed = signing.sign(wire)
            octets = exchange(signed.wire, server.port)
            # CoreDNS counts names uncompressed.
            server.wait_for(f"{len(octets) + len('a.test.') + 1 - 2} {len(wire)} NOERROR")


@both
def test_the_record_is_the_last_one_whoever_orders_the_others(proto):
    lines = f"loadbalance\nheader {{\nresponse set ra\n}}\ntsig {{\nsecret {NAME} {SECRET}\n}}\nwhoami\n"
    with Worker(f". {{\n{lines}}}\n") as worker:
        for _ in range(20):
            found = get(worker, signing.ask("a.", A, {"bufsize": 1232}), proto)
            assert len(found.additional) == 2 and found.flags & 0x80


def test_refused_by_rrl_is_signed():
    corefile = f". {{\ntsig {{\nsecret {NAME} {SECRET}\n}}\nrrl {{\nqueries 1 1\n}}\nwhoami\n}}\n"
    with Worker(corefile) as worker:
        rcodes = [get(worker, signing.ask("a.", A), "tcp").rcode() for _ in range(9)]
        assert (rcodes[0], rcodes[-1]) == (NOERROR, REFUSED)


def test_view_sees_nothing_else(tmp_path, monkeypatch):
    """A query that Python judges before it is routed keeps what was found."""
    corefile = (
        f". {{\nview one {{\nexpr type() == 'A' and metadata('x/y') == ''\n}}\nmetadata\n"
        f"tsig {{\nsecret {NAME} {SECRET}\nrequire all\n}}\nwhoami\n}}\n. {{\nerratic\n}}\n"
    )
    with Worker(corefile) as worker:
        assert get(worker, signing.ask("a.", A)).additional
        assert Answer.of(exchange(question("a.", A), worker.port)).rcode == REFUSED


# ---- the stage alone


def test_background_queries_pass():
    bench = Bench(stage(None, None, False, [range(2, 8)]), Stats.create(4))
    assert bench.run(question("a.", A), background=True)[0] == "next"


@pytest.mark.parametrize(("types", "opcodes"), [((65536,), ()), ((-1,), ()), ((), (16,)), ((), (-1,))])
def test_numbers_that_there_are_not(types, opcodes):
    with pytest.raises(ValueError, match="bits"):
        stage(types, opcodes, False, [range(6)])


# ---- keys change


def test_keys_change_by_reload(tmp_path: Path):
    corefile = ".:{port} {\n bind 127.0.0.1\n multisocket 2\n tsig {\n  secrets KEYS\n  require all\n }\n whoami\n}\n"
    keys = tmp_path / "keys"
    keys.write_text(f'key "{NAME}" {{ algorithm hmac-sha256; secret "{SECRET}"; }};\n')
    with serving.Server(tmp_path, corefile.replace("KEYS", str(keys))) as server:
        signed = signing.ask("a.", A)
        assert signed.reply(exchange(signed.wire, server.port)).rcode() == NOERROR
        keys.write_text(f'key other. {{ secret "{SECRET}"; }};\n')
        server.process.send_signal(signal.SIGUSR1)
        server.wait_line("Reloading complete")

        def changed() -> bool:
            asked = [signing.ask("a.", A) for _ in range(6)]
            return all(signing.record_of(exchange(one.wire, server.port)).rdata.error == BADKEY for one in asked)

        serving.wait_for(changed, "the new keys")
        signed = signing.ask("a.", A, name="other.")
        assert signed.reply(exchange(signed.wire, server.port)).rcode() == NOERROR
        keys.write_text("key other. {\n secret what?;\n};\n")
        server.process.send_signal(signal.SIGUSR1)
        server.wait_line('the secret of key "other." is not base 64')
        assert signed.reply(exchange(signed.wire, server.port)).rcode() == NOERROR


# ---- other people's programs


def dig(port: int, *arguments: str, program: str = "dig") -> str:
    once = "+tries=1" if program == "dig" else "+retry=0"
    command = [program, "@127.0.0.1", "-p", str(port), once, "+norec", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


@pytest.mark.real_servers
@needs("dig")
@pytest.mark.parametrize("way", ["+notcp", "+tcp"])
@pytest.mark.parametrize("algorithm", [*ALGORITHMS, "hmac-md5"])
def test_dig(worker, way, algorithm):
    out = dig(worker.port, "-y", f"{algorithm}:{NAME}:{SECRET}", way, "ok.signed.test", "TXT")
    assert "TSIG" in out
    if algorithm == "hmac-md5":
        assert "status: NOTAUTH" in out and "BADKEY" in out
    else:
        assert "status: NOERROR" in out and "Couldn't verify" not in out and ";; WARNING" not in out
        assert "192.0.2.1" in out
    wrong = dig(worker.port, "-y", f"{algorithm}:{NAME}:{GUESS}", way, "ok.signed.test", "TXT")
    assert "status: NOTAUTH" in wrong and ("BADKEY" if algorithm == "hmac-md5" else "BADSIG") in wrong


@pytest.mark.real_servers
@needs("dig")
@pytest.mark.parametrize("way", ["+notcp", "+tcp"])
def test_dig_with_a_cut_mac(worker, way):
    out = dig(worker.port, "-y", f"hmac-sha256-128:{NAME}:{SECRET}", way, "ok.signed.test", "TXT")
    assert "status: NOERROR" in out and "192.0.2.1" in out
    assert "BADTRUNC" in dig(worker.port, "-y", f"hmac-sha256-128:{NAME}:{SECRET}", way, "ok.whole.test", "TXT")


@pytest.mark.real_servers
@needs("dig")
def test_dig_transfers(worker):
    out = dig(worker.port, "-y", f"hmac-sha256:{NAME}:{SECRET}", "stream.n300.signed.test", "AXFR")
    assert "XFR size: 302 records (messages 302" in out and "Couldn't verify" not in out
    assert "Transfer failed" in dig(worker.port, "stream.n300.signed.test", "AXFR")


@pytest.mark.real_servers
@needs("kdig")
@pytest.mark.parametrize("way", ["+notcp", "+tcp"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_kdig(worker, way, algorithm):
    key = f"{algorithm}:{NAME}:{SECRET}"
    out = dig(worker.port, "-y", key, way, "ok.signed.test", "TXT", program="kdig")
    assert "status: NOERROR" in out and "TSIG" in out and "192.0.2.1" in out
    out = dig(worker.port, "-y", key, "stream.n300.signed.test", "AXFR", program="kdig")
    assert "302 messages, 302 records" in out and "WARNING" not in out


ZONE_RECORDS = 40
SECONDARIES = {
    "knotd": (
        ["-c", "conf"],
        "server:\n  listen: 127.0.0.1@{port}\n  rundir: {folder}\ndatabase:\n  storage: {folder}\n"
        "key:\n- id: {key}\n  algorithm: {algorithm}\n  secret: {secret}\n"
        "remote:\n- id: us\n  address: 127.0.0.1@{ours}\n  key: {key}\n"
        "acl:\n- id: all\n  address: 127.0.0.0/8\n  action: [notify, transfer]\n"
        "zone:\n- domain: zone.signed.test\n  master: us\n  acl: all\n  storage: {folder}\n"
        "log:\n- target: stderr\n  any: info\n",
    ),
    "nsd": (
        ["-d", "-c", "conf"],
        'server:\n  ip-address: 127.0.0.1@{port}\n  zonesdir: "{folder}"\n  username: ""\n  chroot: ""\n'
        '  pidfile: "{folder}/pid"\n  database: ""\n  xfrdfile: "{folder}/xfrd"\n  xfrdir: "{folder}"\n'
        '  zonelistfile: "{folder}/list"\nremote-control:\n  control-enable: no\n'
        'key:\n  name: "{key}"\n  algorithm: {algorithm}\n  secret: "{secret}"\n'
        'zone:\n  name: "zone.signed.test"\n  zonefile: "zone"\n  request-xfr: AXFR 127.0.0.1@{ours} {key}\n',
    ),
    "named": (
        ["-g", "-n", "1", "-c", "conf"],
        'options {{ directory "{folder}"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};'
        ' pid-file "{folder}/pid"; session-keyfile "{folder}/key"; managed-keys-directory "{folder}"; recursion no; }};'
        '\ncontrols {{ }};\nkey "{key}" {{ algorithm {algorithm}; secret "{secret}"; }};\n'
        'zone "zone.signed.test" {{ type secondary; '
        'primaries {{ 127.0.0.1 port {ours} key "{key}"; }}; file "zone"; }};\n',
    ),
}
SOA_RDATA = b"\0\0" + struct.pack("!IIIII", 7, 3600, 600, 86400, 300)


async def zone(plugin, query, next):
    """A primary of the zone `zone.signed.test`, with many messages."""
    from fastdns.plugin import NS, SOA, Stream

    apex = "zone.signed.test."
    seen = zone.asked
    seen.append((query.type, query.proto, query.tsig.key, query.tsig.verified))
    soa = query.reply(aa=True).record(SOA, SOA_RDATA, ttl=60, name=apex)
    if query.type != AXFR:
        return soa if query.type == SOA else query.reply(aa=True)
    middle = [query.reply(aa=True).a(f"192.0.2.{n}", ttl=60, name=f"h{n}.{apex}") for n in range(ZONE_RECORDS)]
    ns = query.reply(aa=True).record(NS, b"\2h0" + query.wire[12 : 12 + query.name_octets], ttl=60, name=apex)
    return Stream([soa, ns, *middle, query.reply(aa=True).record(SOA, SOA_RDATA, ttl=60, name=apex)])


@pytest.mark.real_servers
@pytest.mark.parametrize("algorithm", ["hmac-sha256", "hmac-sha512"])
@pytest.mark.parametrize("program", SECONDARIES)
def test_a_secondary_verifies_a_transfer(worker, monkeypatch, tmp_path, program, algorithm):
    """Its questions for the SOA and for the zone are signed, and it serves nothing that it could not verify."""
    import fastdns_probes

    path = testing_program(program)
    zone.asked = []
    monkeypatch.setitem(fastdns_probes.BEHAVIOURS, "zone", zone)
    for secret, works in ((SECRET, True), (GUESS, False)):
        folder = tmp_path / str(works)
        folder.mkdir()
        port = testing.free_port()
        arguments, text = SECONDARIES[program]
        (folder / "conf").write_text(text.format(port=port, folder=folder, ours=worker.port, key=NAME.rstrip("."),
                                                 algorithm=algorithm, secret=secret))
        refused = count(worker, "badsig")
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen([path, *arguments], cwd=folder, stdout=log, stderr=log, start_new_session=True)
        try:
            if works:
                serving.wait_for(lambda port=port: served(port), (folder / "log").read_text())
            else:
                serving.wait_for(lambda before=refused: count(worker, "badsig") > before, "a signature that is wrong")
                assert not served(port)
        finally:
            process.terminate()
            process.wait(10)
    assert (AXFR, "tcp", NAME, True) in zone.asked
    assert {(key, verified) for _, _, key, verified in zone.asked} == {(NAME, True)}


def testing_program(name: str) -> str:
    from tests.machine import program

    path = program(name)
    if path is None:
        pytest.skip(f"needs {name}")
    return path


def served(port: int) -> bool:
    """Whether a secondary has the last record of the zone."""
    try:
        octets = exchange(question(f"h{ZONE_RECORDS - 1}.zone.signed.test", A, rd=False), port, seconds=0.3)
    except (OSError, TimeoutError):
        return False
    return Answer.of(octets).answer != []
