# SPDX-License-Identifier: Apache-2.0
"""The option rows on the grammar of CoreDNS's `forward` block: lines read word by word, lists, keywords.

Strategy: the plugin's own rows; each bad block is checked against the text that CoreDNS 1.14.7 printed for it.
"""

from __future__ import annotations

import pickle

import pytest

from fastdns.corefile.tables import markdown_table
from fastdns.errors import ConfigError, SetupError
from fastdns.plugins.forward.config import FORWARD
from tests.grammar import in_full, parse_block


def test_stanzas_in_order():
    found = parse_block(FORWARD, "forward a.test 127.0.0.1 9.9.9.9:5353\nforward . ::1 {\n force_tcp\n}")
    assert [(s.origin, s.to, s.force_tcp) for s in found] == [
        (("a.test", ("a.test.",)), ("127.0.0.1", "9.9.9.9:5353"), False),
        ((".", (".",)), ("::1",), True),
    ]
    assert [s.line for s in found] == [2, 3]


def test_defaults():
    (found,) = parse_block(FORWARD, "forward . 127.0.0.1")
    assert (found.max_fails, found.interval, found.domain, found.no_rec) == (2, 0.5, ".", False)
    assert (found.ignored, found.resolver, found.next, found.source_address) == ((), (), (), None)
    assert (found.expire, found.read_timeout, found.policy) == (10.0, 2.0, "random")


def test_lists_are_joined_and_the_last_of_others_wins():
    (found,) = parse_block(
        FORWARD,
        "forward . 127.0.0.1 {\n except a.test 10.0.0.0/8\n except B.test\n max_fails 3\n max_fails 4\n"
        " failover servfail\n failover REFUSED\n resolver 1.1.1.1\n resolver 9.9.9.9:53\n}",
    )
    assert found.ignored == ("a.test.", "10.in-addr.arpa.", "b.test.")
    assert (found.max_fails, found.failover, found.resolver) == (4, (2, 5), ("9.9.9.9:53",))


def test_health_check():
    (found,) = parse_block(FORWARD, "forward . 127.0.0.1 {\n health_check 1s no_rec domain A.test\n}")
    assert (found.interval, found.no_rec, found.domain) == (1.0, True, "a.test.")


GOOD = [
    "forward . 127.0.0.1\nforward . 127.0.0.2",
    "forward . 127.0.0.1 {\n except a b\n except c\n}",
    "forward . 127.0.0.1 {\n health_check 1s no_rec\n}",
    "forward . 127.0.0.1 {\n health_check 1s no_rec domain A.test\n}",
    "forward . 127.0.0.1 {\n force_tcp\n prefer_udp\n}",
    "forward . 127.0.0.1 {\n max_age 20s\n}",
    "forward . 127.0.0.1 {\n read_timeout 1s\n}",
    "forward . 127.0.0.1 {\n policy sequential\n}",
    "forward . 127.0.0.1 {\n next nxdomain SERVFAIL\n}",
    "forward . 127.0.0.1 {\n next_on_nodata\n}",
    "forward . 127.0.0.1 {\n failover servfail REFUSED\n}",
    "forward . 127.0.0.1 {\n resolver 1.1.1.1:53 ::1 [::1]:53\n}",
    "forward . 127.0.0.1 {\n source_address 127.0.0.1\n}",
    "forward 10.0.0.0/31 127.0.0.1",
]


@pytest.mark.parametrize("text", GOOD)
def test_good(text):
    assert parse_block(FORWARD, text)


BAD_OPTIONS = [
    ("except", "@3 ARGERR 'except'"),
    ("max_fails", "@3 ARGERR 'max_fails'"),
    ("max_fails x", 'strconv.ParseUint: parsing "x": invalid syntax'),
    ("max_fails -1", 'strconv.ParseUint: parsing "-1": invalid syntax'),
    ("max_fails 4294967296", 'strconv.ParseUint: parsing "4294967296": value out of range'),
    ("max_fails 3 4", "@3 unknown property '4'"),
    ("max_connect_attempts", "@3 ARGERR 'max_connect_attempts'"),
    ("max_connect_attempts x", 'strconv.ParseUint: parsing "x": invalid syntax'),
    ("health_check", "@3 ARGERR 'health_check'"),
    ("health_check x", 'time: invalid duration "x"'),
    ("health_check -1s", "health_check can't be negative: -1000000000"),
    ("health_check 1s nope", "health_check: unknown option nope"),
    ("health_check 1s domain", "@3 ARGERR 'domain'"),
    ("health_check 1s domain a..b", "health_check: invalid domain name a..b"),
    ("health_check 1s domain \\1.x", "health_check: invalid domain name \\1.x"),
    ("health_check 1s {", "health_check: unknown option {"),
    ("force_tcp x", "@3 ARGERR 'x'"),
    ("force_tcp x y", "@3 ARGERR 'x'"),
    ("prefer_udp x", "@3 ARGERR 'x'"),
    ("expire", "@3 ARGERR 'expire'"),
    ("expire 1", 'time: missing unit in duration "1"'),
    ("expire -1s", "expire can't be negative: -1s"),
    ("expire 1s 2s", "@3 unknown property '2s'"),
    ("max_age -1s", "max_age can't be negative: -1s"),
    ("max_age 1s", "max_age (1s) must not be less than expire (10s)"),
    ("max_age 20s\nexpire 30s", "max_age (20s) must not be less than expire (30s)"),
    ("max_idle_conns", "@3 ARGERR 'max_idle_conns'"),
    ("max_idle_conns -1", "max_idle_conns can't be negative: -1"),
    ("max_idle_conns x", 'strconv.Atoi: parsing "x": invalid syntax'),
    ("read_timeout 0", "read_timeout must be positive: 0s"),
    ("read_timeout -1s", "read_timeout must be positive: -1s"),
    ("read_timeout", "@3 ARGERR 'read_timeout'"),
    ("policy", "@3 ARGERR 'policy'"),
    ("policy x", "@3 unknown policy 'x'"),
    ("policy sequential x", "@3 unknown property 'x'"),
    ("max_concurrent", "@3 ARGERR 'max_concurrent'"),
    ("max_concurrent -1", "max_concurrent can't be negative: -1"),
    ("max_concurrent x", 'strconv.Atoi: parsing "x": invalid syntax'),
    ("next", "@3 ARGERR 'next'"),
    ("next NXDOMAIN x", "x is not a valid rcode"),
    ("next_on_nodata x", "@3 ARGERR 'x'"),
    ("failfast_all_unhealthy_upstreams x y", "@3 ARGERR 'y'"),
    ("failover", "@3 ARGERR 'failover'"),
    ("failover NOERROR", "NoError cannot be used in failover"),
    ("failover bogus", "bogus is not a valid rcode"),
    ("resolver", "@3 ARGERR 'resolver'"),
    ("resolver x", 'resolver must be an IP address or IP:port: "x"'),
    ("resolver 1.1.1.1 x:53", 'resolver must be an IP address or IP:port: "x:53"'),
    ("source_address", "@3 ARGERR 'source_address'"),
    ("source_address x", "@3 invalid IP address: x"),
    ("nosuch", "@3 unknown property 'nosuch'"),
    ("max_fails {", 'strconv.ParseUint: parsing "{": invalid syntax'),
]
BAD = [
    ("forward", "plugin/forward: @2 ARGERR 'forward'"),
    ("forward .", "plugin/forward: @2 ARGERR '.'"),
    ("forward . {\n}", "plugin/forward: @2 ARGERR '.'"),
    ("forward a..b 127.0.0.1", "plugin/forward: unable to normalize 'a..b'"),
]


@pytest.mark.parametrize(("lines", "error"), BAD_OPTIONS)
def test_bad_option(lines, error):
    with pytest.raises(SetupError) as caught:
        parse_block(FORWARD, f"forward . 127.0.0.1 {{\n{lines}\n}}")
    assert str(caught.value) == "plugin/forward: " + in_full(error)
    assert pickle.loads(pickle.dumps(caught.value)).line == caught.value.line > 0


@pytest.mark.parametrize(("text", "error"), BAD)
def test_bad(text, error):
    with pytest.raises(ConfigError) as caught:
        parse_block(FORWARD, text)
    assert str(caught.value) == in_full(error)


def test_table():
    table = markdown_table(FORWARD).splitlines()
    assert table[2].startswith("| `except NAMES...` | – | – | ")
    starts = (
        "| `health_check DURATION [no_rec] [domain FQDN]` | 500ms, off, . | – | ",
        "| `max_fails NUMBER` | 2 | at least 0 | ",
        "| `policy POLICY` | random | `random` or `round_robin` or `sequential` | ",
    )
    assert [sum(row.startswith(start) for row in table) for start in starts] == [1, 1, 1]
    assert FORWARD.syntax() == "forward FROM TO..."
