# SPDX-License-Identifier: Apache-2.0
"""The Python face of the message code (see _wire.pyx). Messages and names are octets in wire form, names lower-cased
only where said; offsets and lengths are octets, TTLs seconds. Malformed input raises ValueError."""

from collections.abc import Iterable
from typing import Any

ADMISSIONS: tuple[str, ...]
"""What admission may say: ok, short, response (both silence), notimp, formerr, badvers."""

Record = tuple[int, bytes, int, int, int, bytes]
"""Section (0 answer, 1 authority, 2 additional), owner, type, class, TTL, RDATA as it stands in the message."""

def parse_query(message: bytes) -> tuple[str, dict[str, Any]]:
    """Admission and fields of a client's message (RFC 1035 4.1, RFC 6891).

    The fields are id, flags, opcode; with a question qname (lower-cased), labels, qtype, qclass; when admitted
    end, has_opt, has_tsig, has_nsid, and with an OPT opt_version, opt_flags, udp_size, opt_off, opt_rdata,
    opt_rdlen, options (a count). None for silence.
    """

def error_reply(message: bytes) -> bytes:
    """The reply to a message that admission refuses; empty when it admits it or says nothing."""

def rcode_reply(message: bytes, rcode: int) -> bytes:
    """Header and question of a reply without records; `rcode` is cut to 4 bits."""

def name_to_text(name: bytes) -> str:
    """Presentation form as CoreDNS prints it, with the trailing dot (RFC 1035 5.1)."""

def name_from_text(text: str) -> bytes:
    """Wire form of a name; a missing trailing dot is added."""

def name_lower(name: bytes) -> bytes:
    """The name with A-Z folded and no other octet changed (RFC 4343)."""

def name_under(name: bytes, zone: bytes) -> bool:
    """Whether a lower-cased name is `zone` or lies below it."""

def name_at(message: bytes, offset: int) -> tuple[bytes, int]:
    """The decompressed name at `offset` and the octets it takes there (RFC 1035 4.1.4)."""

def siphash13(key: bytes, data: bytes) -> int:
    """SipHash-1-3 of `data` under a key of 16 octets, 64 bits."""

def scan(message: bytes) -> tuple[dict[str, Any], list[Record]]:
    """Checks a whole message and lists its records without OPT and TSIG.

    The header fields are id, flags, rcode (12 bits), qtype, qclass, counts, question_end, end (past the last
    record), ulen (uncompressed octets without OPT), has_tsig, has_opt, and with an OPT opt_size, opt_flags,
    opt_last, options (their octets). A TTL with its top bit set is 0 (RFC 2181 8).
    """

def expand(message: bytes) -> list[Record]:
    """The records of a checked message without OPT and TSIG, as `scan` lists them, but the names in their RDATA are
    written out: a record may be moved to another message as it is."""

def question_matches(reply: bytes, query: bytes, exact_case: bool = False) -> bool:
    """Whether the reply has exactly the query's question."""

def strip_opt(message: bytes) -> bytes:
    """The message without OPT and TSIG; empty when it would exceed 65,535 octets."""

def compress(message: bytes, limit: int = 65535) -> tuple[bytes, bool]:
    """The message with names compressed and without OPT and TSIG, cut at a whole record so that it fits into
    `limit` octets; the second value says whether it was cut (and TC set)."""

def recase(message: bytes, query: bytes, anew: bool = False) -> bytes:
    """A message without OPT as the reply to the same question in other letters' case: the records keep theirs.

    `anew`: by the encoder; else by changing pointers, and empty where that does not do.
    """

def finish(
    query: bytes,
    reply: bytes,
    *,
    udp: bool = True,
    ipv6: bool = False,
    limit: int | None = None,
    rcode: int | None = None,
    options: bytes | None = None,
    set_do: bool = False,
    opt_size: int = 4096,
    reserve: int = 0,
    cookie: bytes | None = None,
) -> bytes:
    """What is sent for `reply`: the client's OPT, echoed or own options, extended rcode, cut to the client's size.

    `options` not None: the reply carried an OPT with these options. `reserve`: octets kept for a signature.
    `cookie`: the only COOKIE option that the OPT shall have, ValueError over 40 octets.
    Empty when nothing can be sent (an rcode above 15 without an OPT).
    """

def echo_option(code: int) -> None:
    """Has a further EDNS option code echoed from then on, in the whole process."""

def echo_none() -> None:
    """Forgets the codes that were asked for: another configuration is set up in this process."""

def build(
    query: bytes, flags: int, rcode: int, records: Iterable[tuple[int, bytes | None, int, int, int, bytes]]
) -> bytes:
    """A reply to `query` from records in section order; an owner of None points to the question's name."""
