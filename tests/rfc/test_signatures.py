# SPDX-License-Identifier: Apache-2.0
"""RFC 8945, section by section, over real sockets: what a server says to each signature, UDP and TCP alike."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from fastdns.numbers import FORMERR, NOERROR, REFUSED, A
from fastdns.testing import Answer, Server, exchange, question
from tests.signing import (
    BADKEY,
    BADSIG,
    BADTIME,
    BADTRUNC,
    MD5,
    NAME,
    NOTAUTH,
    SECRET,
    append,
    ask,
    record_of,
    sign,
)

COREFILE = f"""
. {{
    tsig {{
        secret {NAME} {SECRET}
        require all
    }}
    whoami
}}
whole.test {{
    tsig {{
        whole_mac
    }}
    whoami
}}
"""
PLAIN = question("www.example.org.", A, id=0x1234)
WRONG = base64.b64encode(b"another secret").decode()
KEY = b"\3key\4test\0"
NO_RECORD = None


def rdata(**parts: Any) -> bytes:
    """The RDATA of a good record without a good MAC."""
    return (parts.get("algorithm", b"\x0bhmac-sha256\0") + int(time.time()).to_bytes(6, "big") + b"\1\x2c\0\x20"
            + bytes(32) + b"\x12\x34\0\0\0\0" + parts.get("behind", b""))


@dataclass
class Row:
    """A signed query, and what it gets: rcode, and the error in the reply's record (None: no record)."""

    section: str
    what: str
    make: Callable[[], bytes]
    rcode: int
    error: int | None
    signed: bool = False


def asked(**how: Any) -> Callable[[], bytes]:
    if "apart" in how:
        apart = how.pop("apart")
        return lambda: ask("www.example.org.", A, {}, at=time.time() + apart, **how).wire
    name = how.pop("qname", "www.example.org.")
    return lambda: ask(name, A, {}, **how).wire


def swapped(wire: bytes) -> bytes:
    """The last record in front of an OPT record."""
    return wire[:11] + b"\2" + wire[12:] + b"\0\0\x29\4\xd0\0\0\0\0\0\0"


ROWS = [
    Row("4.2", "class IN", lambda: append(PLAIN, KEY, rdata(), klass=1), FORMERR, NO_RECORD),
    Row("4.2", "a TTL", lambda: append(PLAIN, KEY, rdata(), ttl=1), FORMERR, NO_RECORD),
    Row("4.2", "a pointer for an algorithm", lambda: append(PLAIN, KEY, rdata(algorithm=b"\xc0\x0c")), FORMERR,
        NO_RECORD),
    Row("4.2", "an octet to spare", lambda: append(PLAIN, KEY, rdata(behind=b"\0")), FORMERR, NO_RECORD),
    Row("4.3.2", "another octet in the message", lambda: sign(PLAIN).wire.replace(b"\3www", b"\3WWW"), NOTAUTH, BADSIG),
    Row("5.1", "not the last record", lambda: swapped(sign(PLAIN).wire), FORMERR, NO_RECORD),
    Row("5.1", "two records", lambda: append(sign(PLAIN).wire, KEY, rdata()), FORMERR, NO_RECORD),
    Row("5.2", "no record where one is wanted", lambda: PLAIN, REFUSED, NO_RECORD),
    Row("5.2.1", "a key that is not known", asked(name="nobody."), NOTAUTH, BADKEY),
    Row("5.2.1", "the key in other letters", asked(name="KEY.Test."), NOERROR, 0, True),
    Row("5.2.1", "an algorithm that is not known", lambda: append(PLAIN, KEY, rdata(algorithm=b"\1x\0")), NOTAUTH,
        BADKEY),
    Row("5.2.2", "another secret", asked(secret=WRONG), NOTAUTH, BADSIG),
    Row("5.2.2", "a MAC of zeros", lambda: append(PLAIN, KEY, rdata()), NOTAUTH, BADSIG),
    Row("5.2.2.1", "a whole MAC", asked(), NOERROR, 0, True),
    Row("5.2.2.1", "half a MAC", asked(cut=16), NOERROR, 0, True),
    Row("5.2.2.1", "less than half a MAC", asked(cut=15), FORMERR, NO_RECORD),
    Row("5.2.2.1", "no MAC", asked(cut=0), FORMERR, NO_RECORD),
    Row("5.2.2.1", "ten octets of sha1", asked(cut=10, algorithm="hmac-sha1"), NOERROR, 0, True),
    Row("5.2.2.1", "nine octets of sha1", asked(cut=9, algorithm="hmac-sha1"), FORMERR, NO_RECORD),
    Row("5.2.3", "an hour late", asked(apart=3600), NOTAUTH, BADTIME, True),
    Row("5.2.3", "an hour early", asked(apart=-3600), NOTAUTH, BADTIME, True),
    Row("5.2.3", "a minute late", asked(apart=60), NOERROR, 0, True),
    Row("5.2.3", "a minute late, ten seconds allowed", asked(apart=60, fudge=10), NOTAUTH, BADTIME, True),
    Row("5.2.3", "an hour late with another secret", asked(apart=3600, secret=WRONG), NOTAUTH, BADSIG),
    Row("5.2.4", "half a MAC where it must be whole", asked(cut=16, qname="whole.test."), NOTAUTH, BADTRUNC, True),
    Row("5.4", "another id since it was signed", lambda: b"\x55\x55" + sign(PLAIN).wire[2:], NOERROR, 0, True),
    Row("6", "hmac-md5", asked(algorithm=MD5), NOTAUTH, BADKEY),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(COREFILE) as running:
        yield running


@pytest.mark.parametrize("proto", ["udp", "tcp"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.section} {row.what}")
def test_rfc8945(server, proto, row):
    wire = row.make()
    octets = exchange(wire, server.port, proto)
    got, record = Answer.of(octets), record_of(octets)
    assert (got.rcode, octets[:2]) == (row.rcode, wire[:2])
    assert (record is None) == (row.error is None)
    if record is not None:
        assert record.rdata.error == row.error and record.rdata.original_id == int.from_bytes(wire[:2], "big")
        assert bool(record.rdata.mac) == row.signed and bool(record.rdata.other) == (row.error == BADTIME)
    # RFC 8945 5.3.2: an answer is only for who was verified.
    assert any(" A 127.0.0.1" in line for line in got.additional) == (row.rcode == NOERROR)
