# SPDX-License-Identifier: Apache-2.0
"""geoip: which labels a query gets, by which address, and which databases are taken. Databases are made here."""

from __future__ import annotations

import ipaddress

import pytest

from fastdns.corefile import Dispenser, tokenize
from fastdns.errors import ConfigError
from fastdns.numbers import A
from fastdns.plugins.geoip import Geoip
from fastdns.plugins.geoip.config import Settings
from fastdns.plugins.geoip.places import number, schema
from fastdns.plugins.geoip.subnet import client_subnet
from fastdns.testing import Worker, question
from tests.mmdb import database

HERE = {
    "city": {"names": {"en": "Zürich", "de": "Zürich"}},
    "continent": {"code": "EU", "names": {"en": "Europe"}},
    "country": {"iso_code": "CH", "names": {"en": "Switzerland"}, "is_in_european_union": False},
    "location": {"latitude": 47.0, "longitude": -8.00001, "time_zone": "Europe/Zurich"},
    "postal": {"code": "8000"},
    "subdivisions": [{"iso_code": "ZH"}, {"x": 1}, {"iso_code": "B"}],
}
LABELS = {
    "geoip/city/name": "Zürich",
    "geoip/continent/code": "EU",
    "geoip/continent/name": "Europe",
    "geoip/country/code": "CH",
    "geoip/country/is_in_european_union": "false",
    "geoip/country/name": "Switzerland",
    "geoip/latitude": "47",
    "geoip/longitude": "-8.00001",
    "geoip/postalcode": "8000",
    "geoip/subdivisions/code": "ZH,,B",
    "geoip/timezone": "Europe/Zurich",
}
UNKNOWN = {name: "false" if name.endswith("union") else "" for name in LABELS}
OTHER = {"country": {"iso_code": "DE", "is_in_european_union": True}}


def ecs(text: str, bits: int) -> tuple[int, bytes]:
    """A client subnet option with no more octets than it needs."""
    address = ipaddress.ip_address(text)
    family = b"\0\1" if address.version == 4 else b"\0\2"
    return 8, family + bytes([bits, 0]) + address.packed[: (bits + 7) // 8]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("geoip")
    networks = {"127.0.0.0/8": HERE, "2001:db8::/32": OTHER, "192.0.2.0/24": {"country": {"iso_code": "AT"}}}
    owner = {"autonomous_system_number": 64512, "autonomous_system_organization": "Org, Inc."}
    for name, octets in {
        "city": database("GeoLite2-City", networks),
        "v4": database("GeoIP2-City", {"127.0.0.0/8": HERE}, 4),
        "elsewhere": database("DBIP-City-Lite", {"198.51.100.0/24": HERE}),
        "asn": database("GeoLite2-ASN", {"127.0.0.1/32": owner}),
        "others": database("GeoLite2-ASN", {"198.51.100.0/24": owner}),
        "odd": database("GeoLite2-City", {"127.0.0.0/8": {"city": "none", "subdivisions": "x", "location": []}}),
        "domain": database("GeoIP2-Domain", {"127.0.0.0/8": {"domain": "x"}}),
        "unknown": database("Own-City", {"127.0.0.0/8": HERE}),
        "text": b"no database" * 100,
    }.items():
        (folder / name).write_bytes(octets)
    return folder


def labels(worker: Worker, **asked) -> dict[str, str]:
    """The labels that one query had."""
    (plugin,) = [plugin for name, plugin in worker.generation.members() if name == "geoip"]
    seen: list[dict[str, str]] = []
    own = type(plugin).metadata

    def spy(query) -> None:
        own(plugin, query)
        seen.append(dict(query.metadata))

    metadata = next(plugin for name, plugin in worker.generation.members() if name == "metadata")
    metadata.providers = [type("Spy", (), {"metadata": staticmethod(spy)})]
    assert worker.ask("a.test.", A, **asked).additional
    return seen[-1]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("city", LABELS),
        ("v4", LABELS),
        ("elsewhere", UNKNOWN),
        ("odd", UNKNOWN),
        ("asn", {"geoip/asn/number": "64512", "geoip/asn/org": "Org, Inc."}),
        ("others", {"geoip/asn/number": "0", "geoip/asn/org": ""}),
    ],
)
def test_labels(folder, name, found):
    with Worker(f". {{\nmetadata\ngeoip {folder / name}\nwhoami\n}}\n") as worker:
        assert labels(worker) == found


@pytest.mark.parametrize(
    ("options", "country"),
    [
        ([], "CH"),
        ([ecs("2001:db8::", 32)], "DE"),
        ([ecs("192.0.2.7", 24)], "AT"),
        ([ecs("203.0.113.0", 24)], ""),
        ([(10, b"12345678"), ecs("192.0.2.0", 24), ecs("2001:db8::", 32)], "AT"),
        ([(8, b"\0\1")], "CH"),
        ([(8, b"\0\7\x20\0\1\2\3\4")], "CH"),
        ([(8, b"\0\1\x20\0\1\2\3\4\5")], "CH"),
    ],
)
def test_the_clients_subnet(folder, options, country):
    lines = "{\nedns-subnet\n}"
    with Worker(f". {{\nmetadata\ngeoip {folder / 'city'} {lines}\nwhoami\n}}\n") as worker:
        assert labels(worker, options=options, bufsize=1232)["geoip/country/code"] == country
        assert labels(worker)["geoip/country/code"] == "CH"
    with Worker(f". {{\nmetadata\ngeoip {folder / 'city'}\nwhoami\n}}\n") as worker:
        assert labels(worker, options=options, bufsize=1232)["geoip/country/code"] == "CH"


def test_a_database_of_ipv4_says_nothing_of_ipv6(folder):
    lines = "{\nedns-subnet\n}"
    with Worker(f". {{\nmetadata\ngeoip {folder / 'v4'} {lines}\nwhoami\n}}\n") as worker:
        assert labels(worker, options=[ecs("2001:db8::", 32)]) == {}


def test_without_metadata_no_query_passes_python(folder):
    with Worker(f". {{\ngeoip {folder / 'city'}\nwhoami\n}}\n") as worker:
        with pytest.raises(KeyError):
            worker.program.python_stage(0, 0)
        assert worker.ask("a.test.", A).additional


@pytest.mark.parametrize(
    "wire", [b"", b"x" * 11, question("a.", A), question("a.", A, bufsize=1232)[:-3], b"\xff" * 60]
)
def test_no_subnet(wire):
    assert client_subnet(wire) is None


def test_a_subnet_behind_other_records():
    wire = question("a.", A, options=[ecs("192.0.2.0", 24)])
    other = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\1\2\3\4"
    at = len(question("a.", A))
    both = wire[:10] + b"\0\2" + wire[12:at] + other + wire[at:]
    assert str(client_subnet(wire)) == str(client_subnet(both)) == "192.0.2.0"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(52.2242, "52.2242"), (-0.5, "-0.5"), (10.0, "10"), (1e-7, "0.0000001"), (123456789.5, "123456789.5"), (3, "3"),
     (100, "100"), (True, ""), ("1", ""), (None, "")],
)  # fmt: skip
def test_numbers(value, shown):
    assert number({"x": value}, "x") == shown


def test_schemas():
    assert (schema("GeoIP2-Country"), schema("GeoIP2-ISP"), schema("GeoIP2-Enterprise")) == ("city", "asn", "city")


def parse(text: str) -> Settings:
    (settings,) = Geoip.parse(Dispenser("Corefile", tokenize(text), ("dns://.:53",), "geoip"))
    return settings


def test_settings():
    found = parse("geoip /a")
    assert (found.database, found.subnet, found.place[:2]) == ("/a", False, ("Corefile", 1))
    found = parse("geoip b {\nedns-subnet\n}")
    assert (found.database, found.subnet, found.place[:2]) == ("b", True, ("Corefile", 3))


PLACE = "plugin/geoip: Corefile:{line} - Error during parsing: "
ARGUMENTS = "Wrong argument count or unexpected line ending after "


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("geoip", PLACE.format(line=1) + f"{ARGUMENTS}'geoip'"),
        ("geoip a b", PLACE.format(line=1) + f"{ARGUMENTS}'b'"),
        ("geoip a {\nfoo\n}", PLACE.format(line=2) + 'unknown property "foo"'),
        ("geoip a\ngeoip b", PLACE.format(line=2) + "configuring multiple databases is not supported"),
        ("geoip a\ngeoip", PLACE.format(line=2) + f"{ARGUMENTS}'geoip'"),
    ],
)
def test_grammar_errors(text, message):
    with pytest.raises(ConfigError) as error:
        parse(text)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none", "failed to open database file: open FILE: no such file or directory"),
        ("text", "failed to open database file: error opening database: invalid MaxMind DB file"),
        ("domain", "database does not provide any supported schema (city, asn)"),
        ("unknown", 'failed to open database file: geoip2: reader does not support the "Own-City" database type'),
    ],
)
def test_databases_that_are_refused(folder, name, message):
    path = folder / name
    with pytest.raises(ConfigError) as error:
        Worker(f".:53 {{\ngeoip {path}\nwhoami\n}}\n")
    assert str(error.value) == PLACE.format(line=2) + message.replace("FILE", str(path))
