# SPDX-License-Identifier: Apache-2.0
"""Records from text: headers by table, RDATA against dnspython, and texts that are no records.

What miekg/dns makes of the same texts is held in tests/plugins/template.json, by way of the plugin that uses them.
"""

from __future__ import annotations

import random

import dns.rdata
import dns.rdataclass
import dns.rdatatype
import pytest

from fastdns.rrtext import parse_record, ttl_of
from fastdns.rrtext.types import RDATA, TYPE_NUMBERS

X, ONE = b"\1x\0", bytes([1, 2, 3, 4])


@pytest.mark.parametrize(
    ("text", "record"),
    [
        ("x. 60 IN A 1.2.3.4", (X, 1, 1, 60, ONE)),
        ("x A 1.2.3.4", (X, 1, 1, 3600, ONE)),
        ("x 1h30m a 1.2.3.4", (X, 1, 1, 5400, ONE)),
        ("x in 7 A 1.2.3.4", (X, 1, 1, 7, ONE)),
        ("x CH A 1.2.3.4", (X, 1, 3, 3600, ONE)),
        ("x CLASS42 TYPE1 1.2.3.4", (X, 1, 42, 3600, ONE)),
        ("x ANY A 1.2.3.4", (X, 1, 255, 3600, ONE)),
        ("X.\tA\t1.2.3.4  ; a comment", (b"\1X\0", 1, 1, 3600, ONE)),
        ("x ( 5\n A ; more\n 1.2.3.4 ) ", (X, 1, 1, 5, ONE)),
        ("\n\nx A 1.2.3.4\ny A 5.6.7.8", (X, 1, 1, 3600, ONE)),
        ("@ A 1.2.3.4", (b"\0", 1, 1, 3600, ONE)),
        ("\\120 A 1.2.3.4", (X, 1, 1, 3600, ONE)),
        ("a\\.b.x A 1.2.3.4", (b"\3a.b\1x\0", 1, 1, 3600, ONE)),
        ("x TYPE65280 \\# 2 ab cd", (X, 65280, 1, 3600, b"\xab\xcd")),
        ("x TYPE65280 \\# 0", (X, 65280, 1, 3600, b"")),
        ("x A \\# 4 01020304", (X, 1, 1, 3600, ONE)),
        ("x TXT a \"b c\" \"\" d\"e\"", (X, 16, 1, 3600, b"\1a\3b c\0\1d\1e")),
        ('x TXT "\\"\\\\\\065;("', (X, 16, 1, 3600, b'\5"\\A;(')),
        ("x TXT " + "y" * 300, (X, 16, 1, 3600, b"\xff" + b"y" * 255 + b"\x2d" + b"y" * 45)),
        ("x MX 10 @", (X, 15, 1, 3600, b"\0\x0a\0")),
    ],
)
def test_a_record(text, record):
    assert parse_record(text) == record


@pytest.mark.parametrize(
    "text",
    [
        "", " ", ";x", "x", "x A", "x 60 IN A", " A 1.2.3.4", "x. ANY", "x FOO 1.2.3.4", "x 60 60 A 1.2.3.4",
        "x IN IN A 1.2.3.4",
        "x 4294967296 A 1.2.3.4", "x 1x A 1.2.3.4", "x..y A 1.2.3.4", "y" * 64 + " A 1.2.3.4", "x A 1.2.3.4 5",
        "x A 01.2.3.4", "x A 1.2.3", "x A ::1", "x AAAA 1.2.3.4", "x A (1.2.3.4", "x A 1.2.3.4)", 'x TXT "a',
        "x TXT a\\",
        "$TTL 60", "$INCLUDE /etc/passwd", "$GENERATE 1-2 x A 1.2.3.$", "x MX 65536 a", "x MX -1 a", "x MX 10",
        "x MX 10 a b",
        "x SOA a b 1 2 3 4", "x SOA a b 1 2 3 4 5 6", "x CAA 256 issue a", "x CAA 0 issue a b", "x NAPTR 1 1 S S S .",
        "x DS 1 8 2 AAB", "x DNSKEY 256 3 8 !!", "x TLSA 3 1 1 zz", "x NSEC a FOO", "x NSEC3 1 0 1 - ?",
        "x EUI48 00-11",
        "x HTTPS 1 . port=99999", "x HTTPS 1 . bogus=1", "x HTTPS 1 . alpn=h2 alpn=h3", "x HTTPS 1 . ipv4hint=",
        'x HTTPS 1 . "alpn"=h2', "x HTTPS 1 . alpn=", "x HTTPS 1 . no-default-alpn=1", "x HTTPS 1 . key65535=a",
        "x HTTPS 65536 .",
        "x LOC 91 N 0 E 0", "x LOC 1 60 N 0 E 0", "x LOC 1 N 0 0", "x APL 1:10.0.0.1/8", "x APL 3:10.0.0.0/8",
        "x HIP 2 zz AA== a", "x IPSECKEY 1 1 2 ::1 AA==", "x AMTRELAY 1 2 0 .", "x A \\# 3 010203",
        "x TYPE9 \\# 2 00", "x TYPE70000 \\# 0",
        "x TYPE65280 01", "x A \\# 0", "x RRSIG FOO 8 1 1 1 1 1 a AAAA", "x TXT \\300", "x NID 1 1:2",
        "x CERT BAD 1 1 AA==",
    ],
)  # fmt: skip
def test_no_record(text):
    with pytest.raises(ValueError):
        parse_record(text)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("A", "192.0.2.1"), ("AAAA", "2001:db8::1"), ("AAAA", "::ffff:1.2.3.4"), ("NS", "ns.example."), ("CNAME", "a."),
        ("PTR", "p.example."), ("DNAME", "d."), ("MX", "10 mail.example."), ("SRV", "1 2 3 host."),
        ("SOA", "ns. host\\.master.example. 1 3600 900 604800 300"), ("TXT", '"a b" c "\\"\\200"'),
        ("CAA", '0 issue "letsencrypt.org; a=b"'), ("CAA", "128 iodef mailto:a@b"), ("HINFO", '"PC" "Unix"'),
        ("NAPTR", '100 10 "S" "SIP+D2U" "!^.*$!sip:a@b!" _sip._udp.'), ("TLSA", "3 1 1 " + "ab cd" * 16),
        ("SSHFP", "4 1 " + "ab" * 20), ("DS", "60485 5 1 2BB183AF5F22588179A53B0A98631FAD1A292118"),
        ("CDS", "1 8 2 " + "ab" * 32), ("DNSKEY", "256 3 5 AQPSKmynfzW4kyBv015MUG2DeIQ3 Cbl+"), ("CDNSKEY",
        "257 3 8 AA=="),
        ("RRSIG", "A 5 3 86400 20300322173103 20240220173103 2642 types. oJB1W6WN"), ("NSEC", "h. A MX RRSIG TYPE1234"),
        ("NSEC3", "1 1 12 aabbccdd 2vptu5timamqttgl4luu9kg21e0aor3s MX NS SOA"), ("NSEC3PARAM", "1 0 12 -"),
        ("LOC", "51 30 12.748 N 0 7 39.611 W 0.00m 1m 200m 10m"), ("LOC", "42 21 54 S 71 6 18 E -24m 30m"),
        ("CERT", "PKIX 1 RSASHA1 MIIBIjAN"), ("URI", '10 1 "ftp://e/p"'), ("RP", "a. b."), ("AFSDB", "1 a."), ("KX",
        "1 a."),
        ("APL", "1:192.168.32.0/21 !1:192.168.38.0/28 2:2001:db8::/32"), ("SPF", "x"), ("EUI48", "00-00-5e-00-53-2a"),
        ("EUI64", "00-00-5e-ef-10-00-00-2a"), ("OPENPGPKEY", "mQCNAzIG"), ("CSYNC", "66 3 A NS AAAA"),
        ("ZONEMD", "2018031900 1 1 " + "ab" * 48), ("SMIMEA", "3 0 0 aabb"), ("HIP", "2 2001 AwEAAbdx rvs. b."),
        ("IPSECKEY", "10 1 2 192.0.2.38 AQNRU3mG"), ("IPSECKEY", "10 3 2 gw.example. AQNRU3mG"), ("IPSECKEY",
        "1 0 2 . AQNR"),
        ("AMTRELAY", "10 0 3 r.example."), ("AMTRELAY", "10 1 2 2001:db8::15"), ("DHCID", "AAIBY2/A"), ("RT", "10 rt."),
        ("PX", "10 a. b."), ("GPOS", "-32.6882 116.8652 10.0"), ("X25", "311061700956"), ("ISDN", '"1508" "004"'),
        ("L32", "10 10.1.2.0"), ("L64", "10 2001:0db8:1140:1000"), ("NID", "10 0014:4fff:ff20:ee64"), ("LP", "10 a."),
        ("SVCB", "0 a."), ("HTTPS", '1 . alpn="h2,h3" port=8443 ipv4hint=192.0.2.1,192.0.2.2 ipv6hint=2001:db8::1'),
        ("SVCB", "16 f. mandatory=alpn,port alpn=h2 port=53 no-default-alpn key667=\"h\\210q\""),
        ("SVCB", "1 f. alpn=\"f\\\\\\\\oo\\\\,bar,h2\""), ("NSAP-PTR", "a."), ("RESINFO", "qnamemin exterr=15"),
    ],
)  # fmt: skip
def test_rdata_is_dnspythons(kind, text):
    number = TYPE_NUMBERS[kind]
    expected = dns.rdata.from_text(dns.rdataclass.IN, number, text).to_wire()
    assert parse_record(f"x {kind} {text}").rdata == expected


def test_most_types_have_a_text():
    assert len(RDATA) > 70
    assert parse_record("x URI 1 1 \"a b\"").rdata == b"\0\1\0\1a b"


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("1w2d3h4m5s", 788645), ("5", 5), ("", 0), ("h", 0), ("1H1", 3601)]
)
def test_ttl(text, seconds):
    assert ttl_of(text) == seconds


@pytest.mark.parametrize("seed", range(3))
def test_any_text_is_a_record_or_a_value_error(seed):
    chance = random.Random(seed)
    words = ["x", "x.", "60", "IN", "CH", *TYPE_NUMBERS, "1.2.3.4", "::1", "10", "a.b.", "\\#", "4", "01020304", "("]
    words += [")", ";", '"', "\n", "\\", "AA==", "alpn=h2", "ipv4hint=1.2.3.4", "N", "E", "-", "!1:10.0.0.0/8", "0-0"]
    words += ["\udcff", "é", "\0", "$TTL"]
    for _ in range(4000):
        text = chance.choice(["x ", "x 60 IN ", ""]) + " ".join(chance.choices(words, k=chance.randint(0, 9)))
        try:
            record = parse_record(text)
        except ValueError:
            continue
        assert record.rdata is not None and 0 <= record.ttl < 1 << 32 and len(record.owner) < 256
