# SPDX-License-Identifier: Apache-2.0
"""Messages as objects: each gap of dnslib that fastdns.message closes, against dnspython as the judge."""

import subprocess
import sys

import dns.edns
import dns.flags
import dns.message
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns.message import (
    CLASS,
    QTYPE,
    RCODE,
    RDMAP,
    RR,
    ClientSubnet,
    Cookie,
    EDNSOption,
    ExtendedError,
    Message,
    Padding,
    option,
    text,
)
from fastdns.rdata import ROWS

OWNER = "www.example.org."
RECORDS = [
    "AFSDB 1 www.example.org.",
    "APL 1:192.168.32.0/21 !1:192.168.38.0/28 2:2001:db8::/32",
    "CDNSKEY 257 3 13 AAECAw==",
    "CDS 1 13 2 " + "AB" * 32,
    "CSYNC 66 3 A NS AAAA",
    "DNAME b.example.org.",
    "EUI48 00-00-5e-00-53-2a",
    "EUI64 00-00-5e-ef-10-00-00-2a",
    'HINFO "a b" "c"',
    'HTTPS 1 . alpn="h2"',
    "KX 1 www.example.org.",
    "MX 10 www.example.org.",
    "NSEC3 1 0 5 AABB 2t7b4g4vsa5smi47k61mv5bv1a22bojr A RRSIG",
    "NSEC3 1 1 0 - 2t7b4g4vsa5smi47k61mv5bv1a22bojr",
    "NSEC3PARAM 1 0 5 AABB",
    "OPENPGPKEY AAECAw==",
    "PX 10 www.example.org. mail.example.org.",
    "RRSIG A 8 3 60 20300101000000 20200101000000 1 www.example.org. AAECAw==",
    "RT 1 www.example.org.",
    "SMIMEA 3 1 1 " + "ab" * 32,
    "SOA www.example.org. root.example.org. 1 2 3 4 5",
    "SVCB 1 www.example.org. port=8004",
    'TXT "a\\"b\\\\" "c"',
    'URI 10 1 "http://www.example.org/"',
    "ZONEMD 1 1 1 " + "AB" * 48,
]


def message(*records: str) -> bytes:
    reply = dns.message.make_response(dns.message.make_query(OWNER, "A"))
    for record in records:
        kind, rdata = record.split(None, 1)
        reply.answer.append(dns.rrset.from_text(OWNER, 60, "IN", kind, rdata))
    return reply.to_wire()


def judged(wire: bytes) -> list[str]:
    return sorted(line for rrset in dns.message.from_wire(wire).answer for line in rrset.to_text().splitlines())


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_is_read_into_fields_and_written_back(record):
    wire = message(record)
    parsed = Message.parse(wire)
    assert not parsed.rr[0].rdata.toZone().startswith("\\#")
    assert judged(parsed.pack()) == judged(wire)


@pytest.mark.parametrize("record", [r for r in RECORDS if r.split()[0] in {name for name, _ in ROWS.values()}])
def test_a_line_of_a_zone_file_gives_the_same_record(record):
    wire = message(record)
    shown = text(Message.parse(wire).rr[0])
    made = Message()
    made.add_answer(*RR.fromZone(shown))
    assert judged(made.pack()) == judged(wire)


def test_records_survive_another_order():
    # Pointers inside opaque RDATA would lead to the wrong place once the record has moved.
    wire = message(*RECORDS)
    parsed = Message.parse(wire)
    parsed.rr.reverse()
    assert judged(parsed.pack()) == judged(wire)


def test_a_compressed_name_inside_rdata_of_an_old_type():
    head = message()[:12]
    question = b"\3www\7example\3org\0\0\1\0\1"
    rdata = b"\0\1\xc0\x10"
    wire = head[:6] + b"\0\1" + head[8:] + question + b"\xc0\x0c\0\x12\0\1\0\0\0\x3c" + bytes([0, len(rdata)]) + rdata
    parsed = Message.parse(wire)
    parsed.questions = []
    assert judged(parsed.pack()) == ["www.example.org. 60 IN AFSDB 1 example.org."]


def test_a_last_empty_option_is_seen():
    query = dns.message.make_query(OWNER, "A", use_edns=0, options=[dns.edns.GenericOption(3, b"")])
    assert [(o.code, o.data) for o in Message.parse(query.to_wire()).edns.rdata] == [(3, b"")]


def test_options_have_classes():
    options = [
        ExtendedError(18, "no"), Cookie(b"12345678", b"abcdefgh"), ClientSubnet("192.0.2.0/24", 16), Padding(7),
        EDNSOption(65001, b"x"),
    ]
    query = dns.message.make_query(OWNER, "A", use_edns=0,
                                   options=[dns.edns.GenericOption(o.code, o.data) for o in options])
    error, cookie, subnet, padding, other = Message.parse(query.to_wire()).edns.rdata
    assert (error.info_code, error.text) == (18, "no")
    assert (cookie.client, cookie.server) == (b"12345678", b"abcdefgh")
    assert (subnet.network, subnet.scope) == ("192.0.2.0/24", 16)
    assert isinstance(padding, Padding) and padding.data == bytes(7)
    assert type(other) is EDNSOption


def test_a_short_option_stays_plain():
    assert type(option(10, b"1234")) is EDNSOption
    assert type(option(15, b"")) is EDNSOption


@pytest.mark.parametrize("make", [lambda: Cookie(b"1"), lambda: Cookie(b"12345678", b"1"), lambda: ClientSubnet("x")])
def test_wrong_options_are_refused(make):
    with pytest.raises(ValueError):
        make()


def test_names_of_types_classes_and_codes():
    assert (QTYPE[53], QTYPE.SMIMEA, QTYPE[55]) == ("SMIMEA", 53, "HIP")
    assert (CLASS.get(4), CLASS.get(254), CLASS.get(255)) == ("HS", "NONE", "ANY")
    assert (RCODE[16], RCODE[23]) == ("BADSIG", "BADCOOKIE")


def test_the_rcode_counts_the_high_bits():
    reply = dns.message.make_response(dns.message.make_query(OWNER, "A", use_edns=0))
    reply.set_rcode(23)
    parsed = Message.parse(reply.to_wire())
    assert (parsed.header.rcode, parsed.rcode, parsed.rcode_name) == (7, 23, "BADCOOKIE")


def test_empty_rdata_is_read():
    update = bytes.fromhex("000128000000000000010000") + b"\0\0\1\0\xfe\0\0\0\0\0\0"
    parsed = Message.parse(update)
    assert parsed.auth[0].rdata.data == b""
    assert parsed.pack() == update


def test_a_cut_message_keeps_question_and_opt():
    query = dns.message.make_query(OWNER, "A", use_edns=0, payload=1232)
    parsed = Message.parse(query.to_wire())
    reply = parsed.reply()
    reply.add_answer(*RR.fromZone(f"{OWNER} 60 IN A 192.0.2.1"))
    reply.add_ar(parsed.edns)
    cut = dns.message.from_wire(reply.truncate().pack())
    assert cut.flags & dns.flags.TC and cut.question == query.question and cut.payload == 1232 and not cut.answer


def test_a_reply_sets_nothing_but_what_it_must():
    query = dns.message.make_query(OWNER, "A")
    query.flags |= dns.flags.CD
    reply = dns.message.from_wire(Message.parse(query.to_wire()).reply().pack())
    assert dns.flags.to_text(reply.flags) == "QR RD CD" and reply.id == query.id


def test_packed_messages_are_bytes():
    assert type(Message.parse(message(*RECORDS)).pack()) is bytes


def test_a_long_text_is_split():
    record = RDMAP["TXT"]("x" * 600)
    assert [len(part) for part in record.data] == [255, 255, 90]


def test_labels_may_hold_any_octet():
    wire = bytes.fromhex("000101000001000000000000") + b"\3a.\xff\0\0\1\0\1"
    parsed = Message.parse(wire)
    assert str(parsed.q.qname) == "a\\.\\255."
    assert parsed.pack() == wire


def test_pointer_chains_are_no_recursion():
    names = b"".join(b"\xc0" + bytes([0x0C]) if i == 0 else (0xC000 + 12 + 5 + 2 * i - 2).to_bytes(2, "big")
                     for i in range(2000))
    wire = bytes.fromhex("000181000001000100000000") + b"\0\0\1\0\1" + names
    with pytest.raises(ValueError):
        Message.parse(wire)


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_cut_off_message_is_malformed(cut):
    with pytest.raises(ValueError):
        Message.parse(message("MX 10 www.example.org.")[:-cut])


@pytest.mark.parametrize("kind", ["SVCB", "HTTPS"])
@pytest.mark.parametrize("rdata", [
    b"\0\1\1\x80\0", b"\0\1\0\0\3\0\1\1", b"\0\1\0\xff\0\0\2\xff\xff", b"\0\1\0\0\2\0\1x", b"\0\1\0\0\1\0\2\5a",
    b"\0\1\0\0\4\0\3abc", b"\0\1\0\0\6\0\3abc", b"\0\1\0\0\0\0\1a"])
def test_a_service_binding_without_a_text_of_its_own(kind, rdata):
    wire = message(f"{kind} 1 www.example.org. port=8004")
    at = wire.rindex(b"\0\1\3www")
    wire = wire[:at - 2] + len(rdata).to_bytes(2, "big") + rdata
    line = text(Message.parse(wire).rr[0])
    assert line.endswith(f" IN {kind} \\# {len(rdata)} {rdata.hex().upper()}")
    assert RR.fromZone(line)[0].rdata == Message.parse(wire).rr[0].rdata


@given(st.data())
def test_hostile_messages_raise_nothing_but_value_errors(data):
    wire = bytearray(message(*data.draw(st.lists(st.sampled_from(RECORDS), min_size=1, max_size=4))))
    for _ in range(data.draw(st.integers(1, 6))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    try:
        parsed = Message.parse(bytes(wire))
    except ValueError:
        return
    assert isinstance(str(parsed), str)


def test_fastdns_starts_without_dnslib():
    # Its import costs more than the rest of a start; only who touches a message pays.
    code = "import sys, fastdns.plugin, fastdns.chain; print('dnslib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
