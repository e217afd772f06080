# SPDX-License-Identifier: Apache-2.0
"""A query that rules are changing: what is asked so far, and in the end the replacement that goes down the chain.

Strategy: it reads the client's query lazily and makes a replacement only where something changed, so a query that no
rule matches costs the comparisons alone.
"""

from __future__ import annotations

from fastdns._wire import name_from_text, parse_query
from fastdns.plugin import SERVFAIL, PluginError, Query

OPT_SIZE = 4096
Options = list[tuple[int, bytes]]


def split_options(rdata: bytes) -> Options:
    """The options of an OPT record that was checked before."""
    found: Options = []
    at = 0
    while at + 4 <= len(rdata):
        code, size = int.from_bytes(rdata[at : at + 2], "big"), int.from_bytes(rdata[at + 2 : at + 4], "big")
        found.append((code, rdata[at + 4 : at + 4 + size]))
        at += 4 + size
    return found


class Draft:
    """What is asked so far. `name` is in lower case; `written` as it would be sent."""

    __slots__ = ("_options", "edns", "name", "qclass", "qtype", "query", "renamed", "touched", "written")

    def __init__(self, query: Query) -> None:
        self.query = query
        self.name = query.name
        self.qtype = query.type
        self.qclass = query.qclass
        self.edns = query.edns
        self.renamed = False
        self.touched = False
        self._options: Options | None = None

    def rename(self, name: str) -> None:
        """Asks for another name from here on. Raises PluginError when it is none."""
        try:
            name_from_text(name)
        except ValueError:
            raise PluginError(SERVFAIL, f"invalid name after rewrite: {name}") from None
        self.name = name
        self.renamed = True

    @property
    def qname(self) -> str:
        """The name with its letters' case."""
        return self.name if self.renamed else self.query.qname

    @property
    def options(self) -> Options:
        """The options, to be changed in place after `touch`."""
        if self._options is None:
            self._options = []
            if self.query.edns:
                wire = self.query.wire
                _, fields = parse_query(wire)
                start = fields["opt_rdata"]
                self._options = split_options(wire[start : start + fields["opt_rdlen"]])
        return self._options

    def touch(self) -> Options:
        """The options, for a rule of edns0: from here on the query has an OPT."""
        self.touched = True
        self.edns = True
        return self.options

    def asked(self) -> Query:
        """The query that goes on: the client's own, or its replacement."""
        query = self.query
        if not (self.renamed or self.touched or self.qtype != query.type or self.qclass != query.qclass):
            return query
        try:
            return query.replace(
                name=self.name if self.renamed else None,
                type=self.qtype,
                qclass=self.qclass,
                bufsize=None if query.edns or not self.touched else OPT_SIZE,
                options=self.options if self.touched else None,
            )
        except ValueError as error:
            raise PluginError(SERVFAIL, f"invalid query after rewrite: {error}") from None
