# SPDX-License-Identifier: Apache-2.0
"""What the target of a CNAME has, for the same reply.

Strategy: the server asks itself, as the same client (`query.lookup`), and whatever it answers to the type stands behind
the CNAME. Names in RDATA may be compressed in that answer and must not be when they move, so the records are read as
objects, but for addresses, which hold no names.
"""

from __future__ import annotations

import functools
from typing import Any

from fastdns._wire import name_from_text, name_to_text, scan
from fastdns.plugin import AAAA, A, PluginError, Query, Reply
from fastdns.rrtext import Record

NO_NAMES = (A, AAAA)


async def follow(query: Query, cname: Record) -> Reply | None:
    """The server's own answer for a CNAME's target; None: it has none."""
    try:
        found = await query.lookup(name_to_text(cname.rdata), query.type)
    except PluginError:
        return None
    return found if isinstance(found, Reply) else None


def rest_of(reply: Reply) -> list[Record]:
    """The records of a reply's answer section."""
    _, records = scan(reply.wire)
    answers = [record for record in records if record[0] == 0]
    if all(record[2] in NO_NAMES for record in answers):
        return [Record(*record[1:]) for record in answers]
    return [_moved(record) for record in reply.message.rr]


@functools.cache
def _whole() -> Any:
    """A class of buffers that compress nothing. dnslib is imported when the first record moves."""
    from dnslib.label import DNSBuffer

    return type("Whole", (DNSBuffer,), {"encode_name": DNSBuffer.encode_name_nocompress})


def _moved(record: Any) -> Record:
    """A record of a message, its names whole."""
    buffer = _whole()()
    record.rdata.pack(buffer)
    return Record(name_from_text(str(record.rname)), record.rtype, record.rclass, record.ttl, bytes(buffer.data))
