# SPDX-License-Identifier: Apache-2.0
"""Numbers, durations, names and addresses: Go's readings and Go's complaints."""

from __future__ import annotations

import ipaddress
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastdns.corefile import addresses, names, units
from fastdns.corefile.addresses import host_port, host_ports_or_files, join_host_port, split_host_port


def say(function, *args):
    try:
        return function(*args)
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0), ("+5", 5), ("-05", -5), ("9223372036854775807", 2**63 - 1), ("-9223372036854775808", -(2**63)),
        ("9223372036854775808", 'strconv.Atoi: parsing "9223372036854775808": value out of range'),
        ("99999999999999999999x", 'strconv.Atoi: parsing "99999999999999999999x": value out of range'),
        ("", 'strconv.Atoi: parsing "": invalid syntax'), ("1_0", 'strconv.Atoi: parsing "1_0": invalid syntax'),
        (" 1", 'strconv.Atoi: parsing " 1": invalid syntax'), ("٣", 'strconv.Atoi: parsing "٣": invalid syntax'),
        ("-", 'strconv.Atoi: parsing "-": invalid syntax'), ("0x1", 'strconv.Atoi: parsing "0x1": invalid syntax'),
        ('"\n', 'strconv.Atoi: parsing "\\"\\n": invalid syntax'),
    ],
)  # fmt: skip
def test_atoi(text, value):
    assert say(units.atoi, text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4294967295", 2**32 - 1), ("+1", 'strconv.ParseUint: parsing "+1": invalid syntax'),
        ("4294967296", 'strconv.ParseUint: parsing "4294967296": value out of range'),
        ("-1", 'strconv.ParseUint: parsing "-1": invalid syntax'),
    ],
)  # fmt: skip
def test_parse_uint(text, value):
    assert say(units.parse_uint, text, 32) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1.0), ("+.5", 0.5), ("5.", 5.0), ("-0", 0.0), ("1_0", 10.0), ("0.3_3e1_0", 3.3e9), ("1e-400", 0.0),
        ("0x1p-2", 0.25), ("0X.8P0", 0.5), ("0x_1_0p-8", 0.0625), ("INF", float("inf")), ("-infinity", -float("inf")),
        *((bad, f'strconv.ParseFloat: parsing "{bad}": invalid syntax') for bad in (
            "", ".", "e5", "1e", "1__0", "0_.5", "0._5", " 1", "\uff11", "+nan", "0x1", "0xp1", "0x_.8p0", "0b1")),
        *((out, f'strconv.ParseFloat: parsing "{out}": value out of range') for out in ("1e400", "-1e400", "0x1p9999")),
        ('a"b', 'strconv.ParseFloat: parsing "a\\"b": invalid syntax'),
    ],
)  # fmt: skip
def test_parse_float(text, value):
    assert say(units.parse_float, text) == value


def test_nan_is_a_float():
    assert math.isnan(units.parse_float("NaN"))


def test_a_very_long_number_costs_nothing():
    assert "out of range" in say(units.atoi, "9" * 1_000_000)
    assert units.atoi("0" * 100_000 + "7") == 7


@pytest.mark.parametrize(
    ("text", "ns", "shown"),
    [
        ("0", 0, "0s"), ("-0", 0, "0s"), ("5s", 5 * 10**9, "5s"), ("1.5h", 5400 * 10**9, "1h30m0s"),
        ("2h45m", 9900 * 10**9, "2h45m0s"), ("-1m.5s", -60500000000, "-1m0.5s"), ("300ms", 3 * 10**8, "300ms"),
        ("1us1ns", 1001, "1.001µs"), ("1µs", 1000, "1µs"), ("1μs", 1000, "1µs"), ("5.s", 5 * 10**9, "5s"),
        ("999ns", 999, "999ns"), ("1.000000001s", 10**9 + 1, "1.000000001s"), ("100h", 36 * 10**13, "100h0m0s"),
        ("9223372036854775807ns", 2**63 - 1, "2562047h47m16.854775807s"),
    ],
)  # fmt: skip
def test_duration(text, ns, shown):
    assert units.parse_duration_ns(text) == ns
    assert units.format_duration_ns(ns) == shown
    assert units.parse_duration(text) == ns / 1e9


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", 'time: invalid duration ""'), ("x", 'time: invalid duration "x"'), (".s", 'time: invalid duration ".s"'),
        ("10", 'time: missing unit in duration "10"'), ("1s5", 'time: missing unit in duration "1s5"'),
        ("1x", 'time: unknown unit "x" in duration "1x"'), ("1 s", 'time: unknown unit " s" in duration "1 s"'),
        ("1é", 'time: unknown unit "\\xc3\\xa9" in duration "1\\xc3\\xa9"'), ("--1s", 'time: invalid duration "--1s"'),
        ("9223372036854775808ns", 'time: invalid duration "9223372036854775808ns"'),
        ("99999999999999999999x", 'time: invalid duration "99999999999999999999x"'),
        ("2562048h", 'time: invalid duration "2562048h"'),
    ],
)  # fmt: skip
def test_bad_duration(text, error):
    assert say(units.parse_duration, text) == error


@given(st.integers(-(2**63), 2**63 - 1))
@example(-(2**63))
def test_a_printed_duration_reads_back(ns):
    assert units.parse_duration_ns(units.format_duration_ns(ns)) == ns


@given(st.text())
def test_any_word_is_a_value_or_a_value_error(text):
    for function in (
        units.atoi,
        units.parse_uint,
        units.parse_float,
        units.parse_duration,
        units.parse_percent,
        host_port,
        split_host_port,
    ):
        assert say(function, text) is not None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10%", 10), ("90%", 90), ("9%", "percentage should fall in range [10, 90]: 9"),
        ("x%", 'strconv.Atoi: parsing "x": invalid syntax'),
        ("20", "last character of percentage should be `%`, but is: '0'"),
    ],
)  # fmt: skip
def test_percent(text, value):
    assert say(units.parse_percent, text, 10, 90) == value


def test_quote():
    text = 'a"\\\n\x00\x7fé\u2028\u200b\U0001f600\ud800'.replace("\ud800", "\udcff")
    assert units.quote(text) == '"a\\"\\\\\\n\\x00\\x7fé\\u2028\\u200b\U0001f600\\xff"'


def test_zones():
    assert names.zones_of("tls://A.Example:853") == ["a.example."]
    assert names.zones_of("a..b") == []
    assert names.origins(["b.test", "a..b", "10.0.0.0/31"], ["dns://x.:53"]) == [
        "b.test.", "0.0.0.10.in-addr.arpa.", "1.0.0.10.in-addr.arpa."]  # fmt: skip
    assert names.origins([], ["dns://x.:53", "tls://y.:853"]) == ["x.", "y."]
    assert names.fallthrough_zones([]) == ["."]
    assert names.fallthrough_zones(["A", "b."]) == ["a.", "b."]


@pytest.mark.parametrize(
    ("name", "good"),
    [
        (".", True), ("a", True), ("a.b.", True), ("", False), ("..", False), (".a", False), ("a..", False),
        ("x" * 63, True), ("x" * 64, False), ("\\120" * 63, True), ("\\120" * 64, False), ("\\..a", True),
        (("x" * 63 + ".") * 4, True), (("x" * 63 + ".") * 4 + "a", False), ("a\\", False), ("é" * 31, True),
        ("é" * 32, False),
    ],
)  # fmt: skip
def test_domain_names(name, good):
    assert names.is_domain_name(name) is good


@pytest.mark.parametrize(
    ("name", "fq"), [("a", "a."), ("a.", "a."), ("a\\.", "a\\.."), ("a\\\\.", "a\\\\."), ("", "."), (".", ".")]
)
def test_fqdn(name, fq):
    assert names.fqdn(name) == fq


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1.2.3.4:53", ("1.2.3.4", "53")), ("[::1]:53", ("::1", "53")), ("a:", ("a", "")), (":53", ("", "53")),
        ("1.2.3.4", "address 1.2.3.4: missing port in address"), ("::1", "address ::1: too many colons in address"),
        ("[::1]", "address [::1]: missing port in address"), ("[::1", "address [::1: missing ']' in address"),
        ("[a]b:1", "address [a]b:1: missing port in address"),
        ("[a]:b:1", "address [a]:b:1: too many colons in address"),
        ("a]:1", "address a]:1: unexpected ']' in address"), ("a[:1", "address a[:1: unexpected '[' in address"),
        ("", "missing port in address"),
    ],
)  # fmt: skip
def test_split_host_port(text, found):
    assert say(split_host_port, text) == found


@given(st.ip_addresses(), st.integers(0, 65535))
def test_host_port_round_trip(ip: ipaddress.IPv4Address | ipaddress.IPv6Address, port):
    text = join_host_port(str(ip), port)
    assert split_host_port(text) == (str(ip), str(port))
    assert host_port(str(ip), port) == text == host_port(text, 1)


def test_host_port_says_what_is_no_address():
    assert say(host_port, "dns.test:53") == "must specify an IP address: `dns.test'"
    assert host_port("fe80::1%eth0") == "[fe80::1%eth0]:53"


def test_upstreams(tmp_path):
    conf = tmp_path / "resolv.conf"
    conf.write_text(
        "# nameserver 9.9.9.9\nnameserver 10.0.0.1 # tail\n nameserver\tfe80::1%eth0\nnameserver\n"
        "domain a.test\nsearch b.test c.test\noptions ndots:99 timeout:0 attempts:x rotate ndots\n"
    )
    written = ["127.0.0.1", "::1", "[::1]:54", "tls://9.9.9.9", "dns://1.1.1.1:5", "dns://1.1.1.1"]
    assert host_ports_or_files(written) == [
        "127.0.0.1:53", "[::1]:53", "[::1]:54", "tls://9.9.9.9:853", "dns://1.1.1.1:5", "1.1.1.1:53"]  # fmt: skip
    assert host_ports_or_files([str(conf)]) == ["10.0.0.1:53", "[fe80::1]:53"]
    read = addresses.read_resolv_conf(str(conf))
    assert read == (("10.0.0.1", "fe80::1%eth0"), ("b.test", "c.test"), 15, 1, 1)
    empty = tmp_path / "empty"
    empty.touch()
    assert say(host_ports_or_files, [str(empty)]) == "no nameservers found"
    assert say(host_ports_or_files, ["tls://"]) == 'invalid address: "tls://"'
    assert say(host_ports_or_files, ["/no/file"]) == (
        'not an IP address or file "/no/file": failed to open file "/no/file": '
        '"open /no/file: no such file or directory"'
    )
    assert say(host_ports_or_files, [str(tmp_path)]) == "no nameservers found"
    assert "not an IP address or file" in say(host_ports_or_files, ["a\0b"])
