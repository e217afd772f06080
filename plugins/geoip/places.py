# SPDX-License-Identifier: Apache-2.0
"""What a database of MaxMind's format says of an address, as labels.

Strategy: the kind of a database is its type's name, of which CoreDNS's library has a list. A record is digged into by
names; what is missing, or of another type than it should be, reads as CoreDNS's zero: an empty text, `false`, `0`.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from fastdns.corefile.units import quote

CITY, ASN = "city", "asn"
CITY_TYPES = {
    "DBIP-City-Lite", "DBIP-Country-Lite", "DBIP-Country", "DBIP-Location (compat=City)", "GeoLite2-City",
    "GeoIP-City-Redacted-US", "GeoIP2-City", "GeoIP2-City-Africa", "GeoIP2-City-Asia-Pacific", "GeoIP2-City-Europe",
    "GeoIP2-City-North-America", "GeoIP2-City-South-America", "GeoIP2-Precision-City", "GeoLite2-Country",
    "GeoIP2-Country", "DBIP-ISP (compat=Enterprise)", "DBIP-Location-ISP (compat=Enterprise)",
    "GeoIP-Enterprise-Redacted-US", "GeoIP2-Enterprise",
}  # fmt: skip
ASN_TYPES = {"DBIP-ASN-Lite (compat=GeoLite2-ASN)", "GeoLite2-ASN", "GeoIP2-ISP", "GeoIP2-Precision-ISP"}
OTHER_TYPES = {"GeoIP-Anonymous-Plus", "GeoIP2-Anonymous-IP", "GeoIP2-Connection-Type", "GeoIP2-Domain"}


def schema(database_type: str) -> str:
    """`city` or `asn`. Raises ValueError in CoreDNS's words for a database that has neither."""
    if database_type in CITY_TYPES:
        return CITY
    if database_type in ASN_TYPES:
        return ASN
    if database_type in OTHER_TYPES:
        raise ValueError("database does not provide any supported schema (city, asn)")
    why = f"geoip2: reader does not support the {quote(database_type)} database type"
    raise ValueError(f"failed to open database file: {why}")


def dig(record: Any, *path: str) -> Any:
    """What stands under names within names; None where nothing does."""
    for name in path:
        record = record.get(name) if isinstance(record, dict) else None
    return record


def text(record: Any, *path: str) -> str:
    """A text, empty where there is none."""
    found = dig(record, *path)
    return found if isinstance(found, str) else ""


def number(record: Any, *path: str) -> str:
    """A fraction in its shortest decimal form, empty where there is none."""
    found = dig(record, *path)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return ""
    shown = format(Decimal(repr(found)), "f")
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def city(record: Any) -> Iterator[tuple[str, str]]:
    """Labels of a record of a place."""
    for kind in ("city", "country", "continent"):
        yield f"{kind}/name", text(record, kind, "names", "en")
    yield "country/code", text(record, "country", "iso_code")
    yield "country/is_in_european_union", str(dig(record, "country", "is_in_european_union") is True).lower()
    yield "continent/code", text(record, "continent", "code")
    yield "latitude", number(record, "location", "latitude")
    yield "longitude", number(record, "location", "longitude")
    yield "timezone", text(record, "location", "time_zone")
    yield "postalcode", text(record, "postal", "code")
    parts = dig(record, "subdivisions")
    yield "subdivisions/code", ",".join(text(part, "iso_code") for part in parts) if isinstance(parts, list) else ""


def asn(record: Any) -> Iterator[tuple[str, str]]:
    """Labels of a record of a network's owner."""
    found = dig(record, "autonomous_system_number")
    yield "asn/number", str(found) if isinstance(found, int) else "0"
    yield "asn/org", text(record, "autonomous_system_organization")
