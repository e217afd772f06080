# SPDX-License-Identifier: Apache-2.0
"""Server block keys and listeners: what CoreDNS 1.14.7 serves for them, or says."""

from __future__ import annotations

import ipaddress
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns._wire import name_from_text
from fastdns.corefile import Source, load_source
from fastdns.corefile.blocks import ListenKey, ZoneKey, check_listeners
from fastdns.corefile.names import is_domain_name, normalize, reverse_zones, split_zone_port
from fastdns.errors import ConfigError, KeysError


def keys(line: str) -> list[str]:
    return list(load_source(Source("Corefile", f"{line} {{\n}}\n".encode()), port=1053).blocks[0].keys)


GOOD = [
    (".", ["dns://.:1053"]),
    ("Example.ORG", ["dns://example.org.:1053"]),
    ("example.org.:53", ["dns://example.org.:53"]),
    ("a:+15353 b:053", ["dns://a.:15353", "dns://b.:53"]),
    (".:0", ["dns://.:0"]),
    ("tls://a quic://a grpc://a https://a https3://a dns://a", [
        "tls://a.:853", "quic://a.:853", "grpc://a.:443", "https://a.:443", "https3://a.:443", "dns://a.:1053"]),
    ("tls://a:8853", ["tls://a.:8853"]),
    ("TLS://a http://x:15", ["dns://tls://a.:1053", "dns://http://x.:15"]),
    ("10.0.0.0/24", ["dns://0.0.10.in-addr.arpa.:1053"]),
    ("10.0.0.1/32:5", ["dns://1.0.0.10.in-addr.arpa.:5"]),
    ("10.1.2.3/8", ["dns://10.in-addr.arpa.:1053"]),
    ("0.0.0.0/0", ["dns://in-addr.arpa.:1053"]),
    ("10.0.0.1/31:5 b", ["dns://0.0.0.10.in-addr.arpa.:5", "dns://1.0.0.10.in-addr.arpa.:5", "dns://b.:1053"]),
    ("2001:db8::/32", ["dns://8.b.d.0.1.0.0.2.ip6.arpa.:1053"]),
    ("tls://2001:db8::/62", [f"tls://{n}.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.:853" for n in range(4)]),
    ("10.0.0.0/33 example.org:port", ["dns://10.0.0.0/33.:1053", "dns://example.org:port.:1053"]),
    ("10.0.0.0/27:x 010.0.0.0/8", ["dns://10.0.0.0/27:x.:1053", "dns://010.0.0.0/8.:1053"]),
    ("a\\.b *.x foo] é", ["dns://a\\.b.:1053", "dns://*.x.:1053", "dns://foo].:1053", "dns://é.:1053"]),
]  # fmt: skip


@pytest.mark.parametrize(("line", "expected"), GOOD)
def test_keys(line, expected):
    assert keys(line) == expected


INSPECT = "error inspecting server blocks: "
BAD = [
    ("a:", INSPECT + 'expecting data after last colon: "a:"'),
    (":", INSPECT + 'expecting data after last colon: ":"'),
    ("a:15353:", INSPECT + 'expecting data after last colon: "a:15353:"'),
    ("tls://", INSPECT + 'expecting data after last colon: ""'),
    ("b a..b", INSPECT + "zone is not a valid domain name: a..b"),
    (".a", INSPECT + "zone is not a valid domain name: .a"),
    (":53", INSPECT + "zone is not a valid domain name: "),
    ("x" * 64, INSPECT + "zone is not a valid domain name: " + "x" * 64),
    # No question holds these, though CoreDNS starts with them.
    ("\\300.example", INSPECT + "zone is not a valid domain name: \\300.example"),
    ("\\1.example", INSPECT + "zone is not a valid domain name: \\1.example"),
    ("a" * 62 + "\\.\\", INSPECT + "zone is not a valid domain name: " + "a" * 62 + "\\.\\"),
    (("x" * 63 + ".") * 3 + "y" * 62, INSPECT + "zone is not a valid domain name: " + ("x" * 63 + ".") * 3 + "y" * 62),
    ("\u0130" * 31, INSPECT + "zone is not a valid domain name: " + "\u0130" * 31),
    ("y." * 130, INSPECT + "specified zone is too long: 260 > 255"),
    ("::1/64", INSPECT + "invalid CIDR ::1/64"),
    ("0::/8", INSPECT + "invalid CIDR 0::/8"),
    (".:99999", "address 99999: invalid port"),
    (".:-1", "address -1: invalid port"),
    ("unix://x", INSPECT + 'no server for scheme: "unix://x"'),  # ours: CoreDNS ends without a word
]


@pytest.mark.parametrize(("line", "error"), BAD)
def test_bad_keys(line, error):
    with pytest.raises(KeysError) as caught:
        keys(line)
    assert str(caught.value) == error


def claim(zone: str, address: str = "", view: bool = False, port: int = 53) -> tuple[ListenKey, bool]:
    return ListenKey(ZoneKey("dns", zone, port), address), view


@pytest.mark.parametrize(
    ("claims", "error"),
    [
        ([claim("."), claim(".", port=54), claim("a.")], None),
        ([claim("."), claim(".")], "cannot serve dns://.:53 - it is already defined"),
        ([claim(".", "127.0.0.1"), claim(".", "127.0.0.2")], None),
        ([claim(".", "127.0.0.1"), claim(".", "127.0.0.1")],
         "cannot serve dns://.:53 on 127.0.0.1 - it is already defined"),
        ([claim(".", "127.0.0.1"), claim(".")],
         "cannot serve dns://.:53 - zone overlap listener capacity with dns://.:53 on 127.0.0.1"),
        ([claim("."), claim(".", "127.0.0.1")],
         "cannot serve dns://.:53 on 127.0.0.1 - zone overlap listener capacity with dns://.:53"),
        ([claim(".", view=True), claim(".", view=True), claim(".")], None),
        ([claim("."), claim(".", view=True)], None),
        ([claim(".", "127.0.0.1"), claim(".", view=True)],
         "cannot serve dns://.:53 - zone overlap listener capacity with dns://.:53 on 127.0.0.1"),
        ([claim(".", view=True), claim(".", "127.0.0.1")], None),
    ],
)  # fmt: skip
def test_listeners(claims, error):
    if error is None:
        check_listeners(claims)
        return
    with pytest.raises(KeysError) as caught:
        check_listeners(claims)
    assert str(caught.value) == error


def test_schemes_do_not_overlap():
    check_listeners([(ListenKey(ZoneKey(scheme, ".", 53)), False) for scheme in ("dns", "tls")])


def test_a_block_pickles_and_hands_out_its_directives():
    corefile = load_source(Source("dir/Corefile", b"a b {\n log x {\n  y\n }\n log z\n}\n"))
    (block,) = pickle.loads(pickle.dumps(corefile)).blocks
    d = block.dispenser("log")
    assert (d.filename, d.keys, d.directive) == ("dir/Corefile", ("dns://a.:53", "dns://b.:53"), "log")
    found = []
    while d.next():
        found.append((d.val, d.remaining_args(), d.line))
        while d.next_block():
            found.append((d.val, d.remaining_args(), d.line))
    assert found == [("log", ["x"], 2), ("y", [], 3), ("log", ["z"], 5)]
    with pytest.raises(KeyError):
        block.dispenser("errors")


NETWORKS = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.integers(0, 32)), st.tuples(st.ip_addresses(v=6), st.integers(0, 128))
)


@given(NETWORKS, st.data())
def test_reverse_zones_cover_exactly_the_network(pair, data):
    network = ipaddress.ip_network(pair, strict=False)
    zones = reverse_zones(network)
    assert len(zones) == len(set(zones)) <= 128
    inside = network[data.draw(st.integers(0, network.num_addresses - 1))]
    assert sum(f".{inside.reverse_pointer}.".endswith("." + zone) for zone in zones) == 1
    other = data.draw(st.ip_addresses(v=network.version))
    covered = any(f".{other.reverse_pointer}.".endswith("." + zone) for zone in zones)
    assert covered == (other in network)


@given(st.text(st.sampled_from("a.:\\0129/é-"), max_size=30) | st.text(max_size=300))
def test_any_key_is_a_zone_or_refused(text):
    try:
        zones, port = split_zone_port(text)
    except ValueError:
        return
    assert zones
    assert all(map(is_domain_name, zones))
    for zone in zones:
        name_from_text(normalize(zone))  # what the router is told
    assert port == "" or port == str(int(port))


def test_errors_of_keys_are_configuration_errors():
    with pytest.raises(ConfigError) as caught:
        keys("a:")
    assert caught.value.file == "Corefile"
