# SPDX-License-Identifier: Apache-2.0
"""The lines that a start prints."""

import pytest

from fastdns.server import banner


def test_zones_are_sorted_and_told_once() -> None:
    lines = banner.zone_lines("dns", "", 1053, ["example.org.", ".", "0.0.10.in-addr.arpa.", ".", "Example.net."])
    assert lines == [".:1053", "0.0.10.in-addr.arpa.:1053", "Example.net.:1053", "example.org.:1053"]


@pytest.mark.parametrize(
    ("scheme", "address", "line"),
    [("dns", "127.0.0.1", ".:53 on 127.0.0.1"), ("dns", "::1", ".:53 on ::1"), ("tls", "", "tls://.:53"),
     ("grpc", "::1", "grpc://.:53 on ::1"), ("https", "", "https://.:53"), ("quic", "", "quic://.:53")])
def test_scheme_and_address(scheme: str, address: str, line: str) -> None:
    assert banner.zone_lines(scheme, address, 53, ["."]) == [line]


@pytest.mark.parametrize("zone", ["a_b.org.", "1a.org.", "a-.org.", "xn--é.org.", "*.org."])
def test_zones_without_the_preferred_syntax_are_warned_of_first(zone: str) -> None:
    assert banner.zone_lines("dns", "", 53, [zone]) == [
        f'Warning: Domain "{zone}" does not follow RFC1035 preferred syntax', f"{zone}:53"]


@pytest.mark.parametrize("zone", [".", "org.", "a-b.c1.", "27/8.0.10.in-addr.arpa.", "8.b.d.ip6.arpa."])
def test_preferred(zone: str) -> None:
    assert banner.preferred(zone)


def test_version_lines() -> None:
    first, second = banner.version_lines()
    assert first.startswith("fastdns-")
    assert second.count(", ") == 2
