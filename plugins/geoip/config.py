# SPDX-License-Identifier: Apache-2.0
"""The grammar of geoip: one database, and one switch."""

from __future__ import annotations

from dataclasses import dataclass

from fastdns.corefile.units import quote
from fastdns.plugin import ConfigError, Directive, Dispenser, Option


@dataclass(frozen=True)
class Settings:
    """`subnet`: the address is that of the client's subnet option where there is one. `place`: of the end of the lines,
    where CoreDNS's errors about the database point: file, line and column."""

    database: str
    subnet: bool = False
    place: tuple[str, int, int] = ("", 0, 0)

    def error(self, text: str) -> ConfigError:
        """An error about the database."""
        from fastdns.errors import CorefileError

        return CorefileError(self.place[0], self.place[1], text, self.place[2])


def read_lines(d: Dispenser) -> Settings:
    """The one line; the current token is its name."""
    if not d.next_arg():
        raise d.arg_err()
    database, subnet = d.val, False
    if d.remaining_args():
        raise d.arg_err()
    while d.next_block():
        if d.val != "edns-subnet":
            raise d.err(f"unknown property {quote(d.val)}")
        subnet = True
    if d.next():
        raise d.err("configuring multiple databases is not supported") if d.next_arg() else d.arg_err()
    return Settings(database, subnet, (d.file, d.line, d.token.column))


GEOIP = Directive(
    "geoip",
    usage="geoip DBFILE",
    options=(Option("edns-subnet", help="Looks up the client subnet of the query (RFC 7871) where it has one."),),
    parse_one=read_lines,
    help="Says where clients are.",
)
