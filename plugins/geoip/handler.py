# SPDX-License-Identifier: Apache-2.0
"""The plugin class of geoip: a database that is opened once, before the workers are forked, and so shared by them."""

import ipaddress
from typing import TYPE_CHECKING, Any

from fastdns.plugin import BlockContext, MetadataProvider, Plugin, Query, SetupError

from . import places
from .config import GEOIP, Settings
from .subnet import client_subnet

if TYPE_CHECKING:
    from fastdns._stage import CompiledStage


class Geoip(Plugin, MetadataProvider):
    """Says where the client of each query is."""

    name = "geoip"
    directive = GEOIP

    def __init__(self, config: Settings, block: BlockContext) -> None:
        super().__init__(config, block)
        self.database = self.open(config)
        try:
            kind = places.schema(self.database.metadata().database_type)
        except ValueError as error:
            raise SetupError(self.name, config.error(str(error))) from None
        self.labels = places.city if kind == places.CITY else places.asn

    def open(self, config: Settings) -> Any:
        """The database, mapped into memory. Its path does not depend on `root`, as in CoreDNS."""
        try:
            import maxminddb
        except ImportError:
            raise SetupError(self.name, "a database needs maxminddb: pip install 'fastdns[geoip]'") from None
        try:
            return maxminddb.open_database(config.database)
        except OSError as error:
            why = f"open {config.database}: {(error.strerror or str(error)).lower()}"
        except maxminddb.InvalidDatabaseError:
            why = "error opening database: invalid MaxMind DB file"
        raise SetupError(self.name, config.error(f"failed to open database file: {why}"))

    def compiled(self) -> "CompiledStage":
        from fastdns._stage import passing

        return passing(self.name)

    def metadata(self, query: Query) -> None:
        """All labels of the database's kind. A database of IPv4 alone says nothing of IPv6 addresses."""
        address = None
        if self.config.subnet and query.edns:
            address = client_subnet(query.wire)
        if address is None:
            address = ipaddress.ip_address(query.client)
        try:
            record = self.database.get(address)
        except ValueError:
            return
        labels = query.metadata
        for name, value in self.labels(record):
            labels[f"geoip/{name}"] = value
