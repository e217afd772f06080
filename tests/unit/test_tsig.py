# SPDX-License-Identifier: Apache-2.0
"""TSIG's record, octet by octet: what is good, what is wrong and how, and signatures that dnspython verifies."""

from __future__ import annotations

import base64
import struct

import dns.exception
import dns.message
import dns.name
import dns.tsig
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdns._tsig import ALGORITHMS as OURS
from fastdns._tsig import KeyTable
from fastdns._wire import name_from_text
from fastdns.numbers import A
from fastdns.testing import question
from tests import signing
from tests.signing import ALGORITHMS, BADKEY, BADSIG, BADTIME, BADTRUNC, MD5, NAME, SECRET, SIZES, append, sign

NOW = 1_800_000_000
GOOD, FORMERR = 0, -1
OTHER = "other.key.test."
KEYS = KeyTable({name_from_text(NAME): base64.b64decode(SECRET), name_from_text(OTHER): b"x" * 200})
QUERY = question("www.example.org.", A, id=0x1234)


def verify(wire: bytes, now: int = NOW) -> int:
    return KEYS.verify(wire, now)[0]


def owner() -> bytes:
    return name_from_text(NAME)


def rdata(
    *, algorithm: bytes = b"\x0bhmac-sha256\0", moment: int = NOW, fudge: int = 300, mac: bytes = bytes(32),
    mac_len: int | None = None, ident: int = 0x1234, error: int = 0, other: bytes = b"", other_len: int | None = None,
) -> bytes:
    """The RDATA of a TSIG record with anything in it."""
    return (
        algorithm + moment.to_bytes(6, "big") + struct.pack("!HH", fudge, len(mac) if mac_len is None else mac_len)
        + mac + struct.pack("!HHH", ident, error, len(other) if other_len is None else other_len) + other
    )


# ---- verifying


def test_the_algorithms():
    assert [name.rstrip(".") for name in OURS] == list(ALGORITHMS)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("name", [NAME, "KEY.Test.", OTHER])
def test_what_dnspython_signed_is_good(algorithm, name):
    secret = SECRET if name != OTHER else base64.b64encode(b"x" * 200).decode()
    signed = sign(QUERY, name=name, secret=secret, algorithm=algorithm, at=NOW)
    assert KEYS.verify(signed.wire, NOW) == (GOOD, name.lower())


def test_the_letters_of_the_algorithm_do_not_count():
    wire = sign(QUERY, at=NOW).wire
    assert verify(wire.replace(b"\x0bhmac-sha256", b"\x0bHMAC-Sha256")) == GOOD


def test_the_first_id_is_signed():
    """A forwarder may have given the query another (RFC 8945 5.4)."""
    assert verify(sign(QUERY, at=NOW, original_id=0x4321).wire) == GOOD
    signed = sign(QUERY, at=NOW).wire
    assert verify(b"\x99\x99" + signed[2:]) == GOOD


def test_an_opt_is_signed_too():
    signed = sign(question("www.example.org.", A, bufsize=1232, options=[(10, b"12345678")]), at=NOW).wire
    assert verify(signed) == GOOD
    assert verify(signed.replace(b"12345678", b"12345679")) == BADSIG


def test_other_data_is_signed_too():
    signed = sign(QUERY, at=NOW, other=b"octets").wire
    assert verify(signed) == GOOD
    assert verify(signed.replace(b"octets", b"octetS")) == BADSIG


@given(st.integers(2, len(QUERY) - 1), st.integers(1, 255))
@settings(max_examples=200)
def test_each_octet_of_the_message_counts(at, change):
    wire = bytearray(sign(QUERY, at=NOW).wire)
    wire[at] ^= change
    try:
        found = verify(bytes(wire))
    except ValueError:
        return  # no longer a query
    # An odd letter case of the question is another octet, too.
    assert found in (BADSIG, FORMERR)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_each_bit_of_the_mac_counts(algorithm):
    signed = sign(QUERY, at=NOW, algorithm=algorithm)
    at = signed.wire.index(signed.mac)
    for bit in range(8 * SIZES[algorithm]):
        wire = bytearray(signed.wire)
        wire[at + bit // 8] ^= 1 << bit % 8
        assert verify(bytes(wire)) == BADSIG


@pytest.mark.parametrize(
    ("apart", "fudge", "wanted"),
    [(0, 300, GOOD), (300, 300, GOOD), (-300, 300, GOOD), (301, 300, BADTIME), (-301, 300, BADTIME), (0, 0, GOOD),
     (1, 0, BADTIME), (-65535, 65535, GOOD), (-65536, 65535, BADTIME)],
)
def test_the_clock(apart, fudge, wanted):
    assert verify(sign(QUERY, at=NOW, fudge=fudge).wire, NOW + apart) == wanted


@pytest.mark.parametrize("moment", [0, 1, (1 << 48) - 1])
def test_the_ends_of_time(moment):
    signed = sign(QUERY, at=moment).wire
    assert (verify(signed, moment), verify(signed, NOW)) == (GOOD, BADTIME)


def test_the_mac_is_judged_before_the_clock():
    assert verify(sign(QUERY, at=0, secret=base64.b64encode(b"guess").decode()).wire) == BADSIG


@pytest.mark.parametrize("name", ["nobody.", "key.", "test.", ".", "x.key.test.", "key.test.x.", "a" * 63 + ".test."])
def test_keys_that_are_not_known(name):
    assert KEYS.verify(sign(QUERY, name=name, at=NOW).wire, NOW) == (BADKEY, "")


@pytest.mark.parametrize("algorithm", [b"\x08hmac-md5\x07sig-alg\x03reg\x03int\0", b"\0", b"\x0bhmac-sha257\0",
                                       b"\x08gss-tsig\0", b"\x0bhmac-sha256\x01x\0", b"\x3f" + b"a" * 63 + b"\0"])
@pytest.mark.parametrize("mac", [b"", bytes(16), bytes(1000)])
def test_algorithms_that_are_not_known(algorithm, mac):
    assert verify(append(QUERY, owner(), rdata(algorithm=algorithm, mac=mac))) == BADKEY


def test_md5_is_not_used():
    """RFC 8945 6: it must not be."""
    assert verify(sign(QUERY, algorithm=MD5, at=NOW).wire) == BADKEY


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_cut_macs(algorithm):
    """RFC 8945 5.2.2.1."""
    size = SIZES[algorithm]
    least = max(10, size // 2)
    for length in range(size + 1):
        wanted = GOOD if length >= least else FORMERR
        assert verify(sign(QUERY, at=NOW, algorithm=algorithm, cut=length).wire) == wanted, length
    wire = append(QUERY, owner(), rdata(algorithm=name_from_text(algorithm), mac=bytes(size + 1)))
    assert verify(wire) == FORMERR


# ---- hostile octets


def test_names_with_pointers():
    """The owner may have some (it is any record's), the algorithm may not (RFC 8945 4.2)."""
    query = question("key.test.", A, id=0x1234)
    signed = sign(query, at=NOW)
    tail = signed.wire[len(query) + len(owner()) :]
    assert verify(signed.wire[: len(query)] + b"\xc0\x0c" + tail) == GOOD
    assert verify(append(query, owner(), rdata(algorithm=b"\xc0\x0c"))) == FORMERR


@pytest.mark.parametrize(
    ("what", "octets"),
    [
        ("nothing", b""),
        ("no algorithm", rdata()[13:]),
        ("a label past the end", rdata(algorithm=b"\x3fhmac")),
        ("a label type of old", rdata(algorithm=b"\x41hmac-sha256\0")),
        ("a name without end", b"\x01a" * 200),
        ("a name of 256 octets", rdata(algorithm=(b"\x3f" + b"a" * 63) * 4 + b"\0")),
        ("a MAC past the end", rdata(mac_len=39)),
        ("a MAC of 65,535", rdata(mac_len=65535)),
        ("a MAC shorter than what follows", rdata(mac_len=31)),
        ("other data past the end", rdata(other_len=1)),
        ("other data of 65,535", rdata(other=b"abc", other_len=65535)),
        ("other data that is not counted", rdata(other=b"abc", other_len=2)),
        ("something behind it", rdata() + b"\0"),
        ("half of it", rdata()[:30]),
    ],
)
def test_what_cannot_be_understood(what, octets):
    assert verify(append(QUERY, owner(), octets)) == FORMERR


@pytest.mark.parametrize("length", range(len(rdata(other=b"abcdef"))))
def test_rdata_cut_anywhere(length):
    assert verify(append(QUERY, owner(), rdata(other=b"abcdef")[:length])) == FORMERR


@pytest.mark.parametrize(("klass", "ttl"), [(1, 0), (254, 0), (255, 1), (255, 1 << 31)])
def test_class_any_and_ttl_0(klass, ttl):
    assert verify(append(QUERY, owner(), rdata(), klass=klass, ttl=ttl)) == FORMERR


@given(st.binary(max_size=120))
@settings(max_examples=1000)
def test_any_rdata(octets):
    assert verify(append(QUERY, owner(), octets)) in (FORMERR, BADKEY, BADSIG)


@given(st.integers(0, 200), st.integers(0, 255), st.integers(0, 200), st.integers(0, 255))
@settings(max_examples=1000)
def test_a_good_record_with_two_wrong_octets(at, octet, also, another):
    wire = bytearray(sign(QUERY, at=NOW).wire)
    first = len(QUERY)
    for place, value in ((at, octet), (also, another)):
        wire[first + place % (len(wire) - first)] = value
    try:
        found = verify(bytes(wire))
    except ValueError:
        return
    assert found in (FORMERR, BADKEY, BADSIG) or bytes(wire).lower() == sign(QUERY, at=NOW).wire.lower()


@given(st.binary(max_size=300))
@settings(max_examples=300)
def test_any_owner(octets):
    try:
        assert verify(append(QUERY, octets, rdata())) in (FORMERR, BADKEY, BADSIG)
    except ValueError:
        return


# ---- signing


def reply_to(wire: bytes, answers: int = 1) -> bytes:
    """A reply without a signature."""
    end = wire.index(b"\0", 12) + 5
    record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\1"
    return wire[:2] + b"\x81\x80" + struct.pack("!HHHH", 1, answers, 0, 0) + wire[12:end] + record * answers


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("cut", [None, "cut"])
def test_dnspython_verifies_a_reply(algorithm, cut, monkeypatch):
    monkeypatch.setattr("time.time", lambda: NOW + 5.0)
    least = max(10, SIZES[algorithm] // 2)
    signed = sign(QUERY, at=NOW, algorithm=algorithm, cut=least if cut else None)
    (reply,) = KEYS.sign(signed.wire, [reply_to(signed.wire)], NOW, NOW + 5)
    found = signed.reply(reply)
    assert len(found.answer) == 1 and found.tsig_error == 0
    record = signing.record_of(reply)
    assert (record.owner, record.rdata.time_signed, record.rdata.fudge) == (NAME, NOW + 5, 300)
    assert (record.rdata.original_id, record.rdata.other, len(record.rdata.mac)) == (0x1234, b"", SIZES[algorithm])


@pytest.mark.parametrize("error", [BADTIME, BADTRUNC])
def test_errors_that_are_signed(error, monkeypatch):
    monkeypatch.setattr("time.time", lambda: float(NOW))
    signed = sign(QUERY, at=NOW - 1000 if error == BADTIME else NOW)
    (reply,) = KEYS.sign(signed.wire, [reply_to(signed.wire, 0)], NOW, NOW + 1, error)
    record = signing.record_of(reply)
    assert record.rdata.error == error
    if error == BADTIME:
        assert record.rdata.time_signed == NOW - 1000
        assert record.rdata.other == (NOW + 1).to_bytes(6, "big")
        monkeypatch.setattr("time.time", lambda: float(NOW - 1000))
    with pytest.raises(dns.tsig.PeerError):
        signed.reply(reply)
    # dnspython says what the peer says before it looks at the MAC: that is made anew.
    bare = record.rdata.replace(mac=b"")
    made, _ = dns.tsig.sign(reply_to(signed.wire, 0), signed.key, bare, record.rdata.time_signed, signed.mac)
    assert made.mac == record.rdata.mac


@pytest.mark.parametrize(("error", "name"), [(BADSIG, NAME), (BADKEY, "Nobody.Knows.")])
def test_errors_that_are_not(error, name):
    wrong = base64.b64encode(b"guess").decode()
    signed = sign(QUERY, at=NOW, secret=wrong, name=name)
    (reply,) = KEYS.sign(signed.wire, [reply_to(signed.wire, 0)], NOW, NOW)
    record = signing.record_of(reply)
    assert (record.rdata.error, record.rdata.mac, record.rdata.other) == (error, b"", b"")
    assert record.owner.lower() == name.lower() and record.rdata.algorithm == dns.tsig.HMAC_SHA256


@pytest.mark.parametrize("algorithm", ["hmac-sha1", "hmac-sha512"])
@pytest.mark.parametrize("messages", [1, 2, 3, 250])
def test_dnspython_verifies_a_stream(algorithm, messages, monkeypatch):
    """Each message is signed with the MAC of the one before (RFC 8945 5.3.1)."""
    monkeypatch.setattr("time.time", lambda: float(NOW))
    signed = sign(QUERY, at=NOW, algorithm=algorithm)
    replies = KEYS.sign(signed.wire, [reply_to(signed.wire, n % 5) for n in range(messages)], NOW, NOW)
    assert len(replies) == messages
    chain, mac = None, signed.mac
    for octets in replies:
        found = dns.message.from_wire(octets, keyring={signed.key.name: signed.key}, request_mac=mac, multi=True,
                                      tsig_ctx=chain)
        assert found.had_tsig
        chain, mac = found.tsig_ctx, b""
    if messages > 2:
        del replies[1]
        chain, mac = None, signed.mac
        with pytest.raises(dns.tsig.BadSignature):
            for octets in replies:
                found = dns.message.from_wire(octets, keyring={signed.key.name: signed.key}, request_mac=mac,
                                              multi=True, tsig_ctx=chain)
                chain, mac = found.tsig_ctx, b""


def test_two_queries_have_two_macs():
    one, other = sign(QUERY, at=NOW), sign(QUERY, at=NOW + 1)
    replies = [KEYS.sign(signed.wire, [reply_to(QUERY)], NOW, NOW)[0] for signed in (one, other)]
    assert replies[0] != replies[1]


# ---- keys


def test_many_keys_are_found():
    table = KeyTable({name_from_text(f"k{n}.test."): str(n).encode() for n in range(500)})
    assert len(table) == 500
    for n in (0, 1, 9, 10, 99, 100, 255, 499):
        secret = base64.b64encode(str(n).encode()).decode()
        assert table.verify(sign(QUERY, name=f"K{n}.test.", secret=secret, at=NOW).wire, NOW) == (GOOD, f"k{n}.test.")
    assert table.verify(sign(QUERY, name="k500.test.", at=NOW).wire, NOW) == (BADKEY, "")


def test_no_keys_at_all():
    assert KeyTable({}).verify(sign(QUERY, at=NOW).wire, NOW) == (BADKEY, "")


@pytest.mark.parametrize(("keys", "text"), [
    ({b"\3key": b"x"}, "no name in wire form"), ({b"": b"x"}, "no name in wire form"),
    ({b"\0\0": b"x"}, "no name in wire form"), ({b"\0": b""}, "1 to 1024 octets"),
    ({b"\0": bytes(1025)}, "1 to 1024 octets"), ({bytes([1, n >> 8, 1, n & 255, 0]): b"x" for n in range(16385)},
                                                 "at most 16,384 keys"),
])  # fmt: skip
def test_keys_that_are_none(keys, text):
    with pytest.raises(ValueError, match=text):
        KeyTable(keys)


def test_queries_without_a_record():
    with pytest.raises(ValueError, match="no admissible query"):
        KEYS.verify(QUERY, NOW)
    with pytest.raises(ValueError, match="no admissible query"):
        KEYS.sign(QUERY, [], NOW, NOW)


def test_replies_that_are_none():
    signed = sign(QUERY, at=NOW).wire
    for reply in (b"", bytes(11), bytes(65500)):
        with pytest.raises(ValueError, match="no reply"):
            KEYS.sign(signed, [reply], NOW, NOW)
    with pytest.raises(ValueError, match="cannot be understood"):
        KEYS.sign(append(QUERY, owner(), b""), [], NOW, NOW)
