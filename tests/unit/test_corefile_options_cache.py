# SPDX-License-Identifier: Apache-2.0
"""The option rows on the whole grammar of CoreDNS's `cache`: lines read by count, a numeric probe, modes.

Strategy: the plugin's own rows; each bad line is checked against the text that CoreDNS 1.14.7 printed for it.
"""

from __future__ import annotations

import pickle

import pytest

from fastdns.corefile.dispenser import Dispenser
from fastdns.corefile.lexer import tokenize
from fastdns.corefile.options import Settings
from fastdns.corefile.tables import markdown_table
from fastdns.errors import ConfigError, SetupError
from fastdns.plugins.cache.config import CACHE
from tests.grammar import in_full, parse_block

KEYS = ("dns://example.org.:53", "tls://example.net.:853")


def parse(text: str) -> list[Settings]:
    """Settings of the bare directive."""
    return CACHE.parse(Dispenser("Corefile", tokenize(text), KEYS, "cache"))


def test_defaults():
    (found,) = parse("cache")
    assert found.zones == ("example.org.", "example.net.")
    assert (found.success_capacity, found.success_ttl, found.success_min_ttl) == (10000, 3600, 5)
    assert (found.ttl, found.keepttl, found.servfail, found.given) == (None, False, 5.0, frozenset())


@pytest.mark.parametrize(
    ("line", "ttl", "zones"),
    [
        ("cache 30", 30, ("example.org.", "example.net.")),
        ("cache +30 a.test", 30, ("a.test.",)),
        ("cache A.test b.test:53", None, ("a.test.", "b.test.")),
        ("cache 30 40", 30, ("40.",)),
        ("cache 10.0.0.0/31", None, ("0.0.0.10.in-addr.arpa.", "1.0.0.10.in-addr.arpa.")),
        ("cache 5 a..b", 5, ()),
    ],
)
def test_ttl_and_zones(line, ttl, zones):
    (found,) = parse(line)
    assert (found.ttl, found.zones) == (ttl, zones)


def test_every_option():
    (found,) = parse(
        "cache 60 a.test {\n success 100 10 1\n denial 200 20\n prefetch 3 2m 20%\n serve_stale 30m VERIFY 1s 7s 10s\n"
        " serve_stale_policy Prefer_Positive\n servfail 1m\n disable denial x.test\n keepttl\n}"
    )
    assert (found.success_capacity, found.success_ttl, found.success_min_ttl) == (100, 10, 1)
    assert (found.denial_capacity, found.denial_ttl, found.denial_min_ttl) == (200, 20, 5)
    assert (found.amount, found.duration, found.percentage) == (3, 120.0, 20)
    assert (found.stale_for, found.verify, found.verify_timeout, found.stale_ttl, found.recheck) == (
        1800,
        True,
        1,
        7,
        10,
    )
    assert (found.serve_stale_policy, found.servfail, found.disable_success, found.disable_denial) == (
        "prefer_positive", 60.0, (), ("x.test.",))  # fmt: skip
    assert found.keepttl is True
    assert (found.file, found.line) == ("Corefile", 1)


def test_an_optional_word_left_out_keeps_the_value():
    (found,) = parse("cache {\n success 100 10 1\n success 200\n}")
    assert (found.success_capacity, found.success_ttl, found.success_min_ttl) == (200, 10, 1)


def test_surplus_words_of_success_are_dropped_as_in_coredns():
    assert parse("cache {\n success 10 10 1 1 x\n}")[0].success_capacity == 10


def test_settings_are_plain_read_only_values():
    (found,) = parse("cache 60 {\n keepttl\n}")
    again = pickle.loads(pickle.dumps(found))
    assert again == found
    assert (again.given, again.line) == (frozenset({"keepttl"}), 1)
    with pytest.raises(TypeError):
        found["ttl"] = 1
    with pytest.raises(AttributeError):
        _ = found.nosuch
    assert found.replace(ttl=7).ttl == 7
    assert found.ttl == 60


BAD_OPTIONS = [
    ("success", "@3 ARGERR 'success'"),
    ("success x", 'strconv.Atoi: parsing "x": invalid syntax'),
    ("success 1 0", "cache TTL can not be zero or negative: 0"),
    ("success 1 x", 'strconv.Atoi: parsing "x": invalid syntax'),
    ("success 1 2 -1", "cache min TTL can not be negative: -1"),
    ("success 1 2 x", 'strconv.Atoi: parsing "x": invalid syntax'),
    ("success 99999999999999999999", 'strconv.Atoi: parsing "99999999999999999999": value out of range'),
    ("denial", "@3 ARGERR 'denial'"),
    ("denial 1 -4", "cache TTL can not be zero or negative: -4"),
    ("denial 1 2 -1", "cache min TTL can not be negative: -1"),
    ("prefetch", "@3 ARGERR 'prefetch'"),
    ("prefetch a", 'strconv.Atoi: parsing "a": invalid syntax'),
    ("prefetch -1", "prefetch amount should be positive: -1"),
    ("prefetch 1 2", 'time: missing unit in duration "2"'),
    ("prefetch 1 2s 3", "last character of percentage should be `%`, but is: '3'"),
    ("prefetch 1 2s x%", 'strconv.Atoi: parsing "x": invalid syntax'),
    ("prefetch 1 2s 9%", "percentage should fall in range [10, 90]: 9"),
    ("prefetch 1 2s 91%", "percentage should fall in range [10, 90]: 91"),
    ("prefetch 1 2s 20% x", "@3 ARGERR 'x'"),
    ("prefetch 1 1x", 'time: unknown unit "x" in duration "1x"'),
    ("serve_stale x", 'time: invalid duration "x"'),
    ("serve_stale -1h", "invalid negative duration for serve_stale"),
    ("serve_stale 1h later", "invalid value for serve_stale refresh mode: later"),
    ("serve_stale 1h verify x", 'invalid serve_stale verify timeout: time: invalid duration "x"'),
    ("serve_stale 1h verify -1s", "invalid negative timeout for serve_stale verify"),
    ("serve_stale 1h verify 1s 7", 'invalid serve_stale response TTL: time: missing unit in duration "7"'),
    ("serve_stale 1h immediate 1500ms", "serve_stale response TTL must be a whole number of seconds"),
    ("serve_stale 1h immediate -1s", "invalid negative response TTL for serve_stale"),
    ("serve_stale 1h immediate 1s 6m", "serve_stale failure recheck cannot exceed 5 minutes"),
    ("serve_stale 1h immediate 1s -6m", "invalid negative failure recheck for serve_stale"),
    ("serve_stale 1h immediate 1s x", 'invalid serve_stale failure recheck: time: invalid duration "x"'),
    ("serve_stale 1h immediate 1s 1s 1s", "@3 ARGERR '1s'"),
    ("serve_stale 1h verify 1s 1s 1s 1s", "@3 ARGERR '1s'"),
    ("serve_stale 1h verify 1s 1200000h", "serve_stale response TTL exceeds the DNS TTL range"),
    ("serve_stale_policy prefer_positive", "serve_stale_policy requires serve_stale"),
    ("serve_stale\nserve_stale_policy", "@4 ARGERR 'serve_stale_policy'"),
    ("serve_stale\nserve_stale_policy x", "invalid serve_stale_policy: x"),
    ("serve_stale_policy prefer_positive\nserve_stale_policy x", "serve_stale_policy can only be specified once"),
    ("serve_stale\nserve_stale_policy prefer_positive x", "@4 ARGERR 'x'"),
    (
        "serve_stale\nserve_stale_policy prefer_positive\nserve_stale_policy prefer_positive",
        "serve_stale_policy can only be specified once",
    ),
    ("servfail", "@3 ARGERR 'servfail'"),
    ("servfail 5", 'time: missing unit in duration "5"'),
    ("servfail -1s", "invalid negative ttl for servfail"),
    ("servfail 301s", "caching SERVFAIL responses over 5 minutes is not permitted"),
    ("servfail 1s 2s", "@3 ARGERR '2s'"),
    ("disable", "@3 ARGERR 'disable'"),
    ("disable both", 'cache type for disable must be "success" or "denial"'),
    ("keepttl 1", "@3 ARGERR '1'"),
    ("keepttl 1 2", "@3 ARGERR '2'"),
    ("nosuch 1", "@3 ARGERR 'nosuch'"),
    ("nosuch", "@3 ARGERR 'nosuch'"),
    ("success {", "@3 ARGERR 'success'"),
    ("success 5 {\n}", "@3 Unexpected token '{', expecting argument"),
]
BAD = [
    ("cache 0", "plugin/cache: cache TTL can not be zero or negative: 0"),
    ("cache -5 x", "plugin/cache: cache TTL can not be zero or negative: -5"),
    ("cache 30\ncache", "plugin/cache: this plugin can only be used once per Server Block"),
    ("cache x {\n keepttl }\n}", "plugin/cache: @3 ARGERR '}'"),
]


@pytest.mark.parametrize(("lines", "error"), BAD_OPTIONS)
def test_bad_option(lines, error):
    with pytest.raises(SetupError) as caught:
        parse_block(CACHE, f"cache {{\n{lines}\n}}")
    assert str(caught.value) == "plugin/cache: " + in_full(error)
    assert pickle.loads(pickle.dumps(caught.value)).line == caught.value.line > 0


@pytest.mark.parametrize(("text", "error"), BAD)
def test_bad(text, error):
    with pytest.raises(ConfigError) as caught:
        parse_block(CACHE, text)
    assert str(caught.value) == in_full(error)


def test_table():
    table = markdown_table(CACHE).splitlines()
    bounds = "TTL at least 1; MINTTL at least 0"
    starts = (
        f"| `success CAPACITY [TTL [MINTTL]]` | 10000, 3600, 5 | {bounds} | ",
        "| `servfail DURATION` | 5s | 0s to 5m0s | ",
        "| `keepttl` | off | – | ",
    )
    assert [sum(row.startswith(start) for row in table) for start in starts] == [1, 1, 1]
    assert CACHE.syntax() == "cache [TTL] [ZONES...]"
