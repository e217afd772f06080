# SPDX-License-Identifier: Apache-2.0
"""Numbers of the DNS by their names: types, classes, response codes (IANA, RFC 6895).

Strategy: plain integers, because `query.type` is one. Only what plugins compare with stands here; the whole table, with
names, is `fastdns._log.TYPES` and `fastdns.message`.
"""

A, NS, CNAME, SOA, PTR, HINFO, MX, TXT, AAAA, SRV = 1, 2, 5, 6, 12, 13, 15, 16, 28, 33
NAPTR, DNAME, DS, RRSIG, NSEC, DNSKEY, NSEC3, SVCB, HTTPS, CAA = 35, 39, 43, 46, 47, 48, 50, 64, 65, 257
IXFR, AXFR, ANY = 251, 252, 255

IN, CH, CLASS_ANY = 1, 3, 255

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 0, 1, 2, 3, 4, 5

ANSWER, AUTHORITY, ADDITIONAL = 0, 1, 2
"""Sections of a reply."""
