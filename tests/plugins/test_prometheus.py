# SPDX-License-Identifier: Apache-2.0
"""prometheus: what a query adds to which series, and that the compiled layout is the declared one."""

from __future__ import annotations

import dns.message
import dns.rdatatype
import pytest

from fastdns import _count, chain, metrics
from fastdns._drive import Bench
from fastdns._stats import Stats
from fastdns.check.examine import examine
from fastdns.corefile.dispenser import Dispenser
from fastdns.corefile.lexer import tokenize
from fastdns.corefile.source import Source, load_source
from fastdns.errors import ConfigError
from fastdns.plugin import BlockContext, BlockPlan, Event
from fastdns.plugins.prometheus import Prometheus
from fastdns.plugins.prometheus._prometheus import stage

MS = 1_000_000
Values = dict[str, tuple[int, ...]]


class Counter:
    """Two listeners and two zones, of which the last pair is not reached."""

    def __init__(self) -> None:
        self.stats = Stats.create(8)
        cells = {
            (0, 0): metrics.cell(self.stats, "dns://:53", ".", "", "cache"),
            (0, 1): metrics.cell(self.stats, "dns://:53", "a.", "", "cache"),
            (1, 0): metrics.cell(self.stats, "dns://:54", ".", "", "cache"),
        }
        self.bench = Bench(stage(2, 2, cells), self.stats, 1)

    def ask(self, query: dns.message.Message, size: int = 0, **fields: object) -> None:
        fields.setdefault("start_ns", 1)
        fields.setdefault("now_ns", 1)
        reply = None
        if size:
            reply = dns.message.make_response(query).to_wire()
            fields["ulen"] = size
        self.bench.run(query.to_wire(), reply=reply, **fields)

    def read(self) -> Values:
        """Value or (count, sum) of each series that was counted, by name and the values of its labels."""
        out = {}
        for s in metrics.read(self.stats):
            if s.name.startswith("coredns_"):
                values = ",".join(v for n, v in s.labels if n not in ("server", "view"))
                key = f"{s.name.removeprefix('coredns_dns_')}({values})"
                out[key] = s.values if s.kind != "histogram" else (s.values[-1], s.values[-2])
        return out


def ask(kind: str = "A", **options: object) -> dns.message.Message:
    return dns.message.make_query("www.example.org.", kind, **options)


def test_one_query() -> None:
    counter = Counter()
    counter.ask(ask(), 100)
    values = counter.read()
    values.pop("request_duration_seconds(.)")
    assert values == {
        "requests_total(.,udp,1,A)": (1,),
        "request_size_bytes(.,udp)": (1, 33),
        "response_size_bytes(.,udp)": (1, 100),
        "responses_total(.,cache,NOERROR)": (1,),
    }


def test_every_label() -> None:
    counter = Counter()
    counter.ask(ask("AAAA", want_dnssec=True), 50, proto=1, family=2, zone=1, rcode=3)
    values = counter.read()
    assert values["requests_total(a.,tcp,2,AAAA)"] == (1,)
    assert values["do_requests_total(a.)"] == (1,)
    assert values["responses_total(a.,cache,NXDOMAIN)"] == (1,)
    assert values["request_size_bytes(a.,tcp)"] == (1, 44)


@pytest.mark.parametrize("kind", metrics.TYPE_LABELS[:-1])
def test_counted_types(kind: str) -> None:
    counter = Counter()
    number = dns.rdatatype.from_text(kind)
    wire = bytearray(ask().to_wire())
    wire[-4:-2] = number.to_bytes(2, "big")
    counter.bench.run(bytes(wire), rcode=2)
    assert counter.read()[f"requests_total(.,udp,1,{kind})"] == (1,)


@pytest.mark.parametrize("kind", ["TYPE65280", "TYPE259", "TYPE260", "CAA", "DNAME", "TYPE1000"])
def test_all_other_types(kind: str) -> None:
    counter = Counter()
    counter.ask(ask(kind))
    assert counter.read()["requests_total(.,udp,1,other)"] == (1,)


@pytest.mark.parametrize(
    ("fields", "size", "label"),
    [
        ({"rcode": 0}, 40, "cache,NOERROR"),
        ({"rcode": 16}, 40, "cache,BADSIG"),
        ({"rcode": 12}, 40, "cache,RCODE12"),
        ({"rcode": 2}, 0, ",SERVFAIL"),
        ({"rcode": 5}, 0, ",REFUSED"),
        ({"rcode": 3}, 0, ",NOERROR"),
        ({"dropped": True}, 0, ",NOERROR"),
    ],
)
def test_rcode_and_plugin(fields: dict, size: int, label: str) -> None:
    counter = Counter()
    counter.ask(ask(), size, **fields)
    values = counter.read()
    assert values[f"responses_total(.,{label})"] == (1,)
    assert values["response_size_bytes(.,udp)"] == (1, size)


def test_rare_rcodes_share_a_few_places_first_come_first_served() -> None:
    counter = Counter()
    for rcode in (3841, 3841, *range(100, 100 + metrics.EXTRA_RCODES), 4095):
        counter.ask(ask(), 40, rcode=rcode)
    counter.ask(ask(), 40, rcode=3841, listener=1)
    values = counter.read()
    assert values["responses_total(.,cache,RCODE3841)"] == (1,), "the second listener's"
    found = {s.labels[4][1]: s.values[0] for s in metrics.read(counter.stats)
             if s.name == "coredns_dns_responses_total" and s.labels[0][1] == "dns://:53"}
    want = {"RCODE3841": 2} | {f"RCODE{n}": 1 for n in range(100, 99 + metrics.EXTRA_RCODES)} | {"overflow": 2}
    assert found == want


def test_what_belongs_to_no_cell_is_not_counted() -> None:
    counter = Counter()
    for fields in ({"listener": 1, "zone": 1}, {"listener": 2}, {"zone": 2}, {"background": True}):
        counter.ask(ask(), 40, **fields)
    assert counter.read() == {}


def test_duration_is_never_before_the_batch_and_grows_while_a_query_waits() -> None:
    counter = Counter()
    far = 1 << 62
    counter.ask(ask(), 40, start_ns=far, now_ns=far + 3 * MS)
    counter.ask(ask(), 40, start_ns=far + 9 * MS, now_ns=far)
    assert counter.read()["request_duration_seconds(.)"] == (2, 3 * MS)


def test_the_compiled_layout_is_the_declared_one() -> None:
    times, sizes = _count.bounds()
    assert (times, sizes) == (metrics.DURATION.bounds, metrics.REQUEST_SIZE.bounds)
    assert metrics.RESPONSE_SIZE.bounds == sizes
    for number in range(70000):
        label = metrics.TYPE_LABELS[_count.type_place(number)]
        want = metrics.TYPES[number] if number in metrics.COUNTED_TYPES else "other"
        assert label == want


def test_a_cell_out_of_bounds_is_refused() -> None:
    stats = Stats.create(8)
    cell = metrics.cell(stats, "dns://:53", ".", "", "")
    with pytest.raises(ValueError, match="no cell"):
        stage(1, 1, {(1, 0): cell})
    with pytest.raises(ValueError, match="listeners"):
        stage(0, 1, {})


def parse(text: str) -> list:
    return Prometheus.parse(Dispenser("Corefile", tokenize(text, "Corefile"), ("dns://.:53",), "prometheus"))


def instance(stats: Stats, chain: tuple[str, ...] = ("prometheus", "errors", "cache")) -> Prometheus:
    class Key:
        scheme, port = "dns", 53

    block = BlockContext(
        index=0, block_id=1, zones=("example.org.", "example.net."), keys=(Key,),
        servers=("dns://:53", "dns://:54", "dns://127.0.0.1:53"), listeners=(0, 1), chain=chain, stats=stats,
        position=0,
    )
    return Prometheus(parse("prometheus")[0], block)


def enabled(stats: Stats) -> set[tuple[str, str]]:
    return {(s.labels[0][1], s.labels[3][1]) for s in metrics.read(stats)
            if s.name == "coredns_plugin_enabled" and s.values[0] and s.labels[1][1] == "example.org."}


def test_plugin_enabled_follows_reloads() -> None:
    stats = Stats.create(8)
    metrics.attach(stats, 2)
    plugin = instance(stats)
    plugin.start_server(None)
    all_of_it = {("dns://:53", name) for name in ("prometheus", "errors", "cache")}
    assert enabled(stats) == all_of_it
    plugin.on_event(Event.RESTART)
    assert enabled(stats) == set()
    plugin.on_event(Event.RESTART_FAILED)
    assert enabled(stats) == all_of_it
    assert [s.values for s in metrics.read(stats) if s.name == "coredns_build_info"] == [(1,)]


def test_the_plugin_label_is_the_stage_behind() -> None:
    stats = Stats.create(8)
    assert instance(stats).writer() == "errors"
    assert instance(stats, ("prometheus",)).writer() == ""
    assert instance(stats).compiled().name == "prometheus"


def test_grammar_and_what_it_asks_for() -> None:
    (config,) = parse("prometheus")
    assert config["address"] == "localhost:9153"
    (config,) = parse("prometheus [::1]:9253 {\n runtime_metrics\n}")
    plan = BlockPlan(4, (), ())
    Prometheus.plan(config, plan)
    facts = {"block": 4, "service": "metrics", "address": "[::1]:9253", "runtime_metrics": True, "tls": "",
             "at": ("Corefile", 1)}
    assert plan.asks == [("http", facts)]


COUNT = "Error during parsing: Wrong argument count or unexpected line ending after"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("prometheus a", "address a: missing port in address"),
        ("prometheus a b", f"Corefile:1 - {COUNT} 'b'"),
        ("prometheus {\n runtime_metrics x\n}", f"Corefile:2 - {COUNT} 'x'"),
        ("prometheus {\n foo\n}", "Corefile:2 - Error during parsing: unknown option: foo"),
        ("prometheus {\n tls\n}", f"Corefile:2 - {COUNT} 'tls'"),
        ("prometheus {\n tls a b\n}", f"Corefile:2 - {COUNT} 'b'"),
        ("prometheus {\n tls a\n tls b\n}", "Corefile:3 - Error during parsing: tls block already specified"),
        ("prometheus\nprometheus", "this plugin can only be used once per Server Block"),
    ],
)
def test_errors_are_worded_as_in_coredns(text: str, error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert str(caught.value) == f"plugin/prometheus: {error}"


TLS = "prometheus :9253 {{\n  tls {}\n }}"


@pytest.mark.parametrize(
    ("one", "two", "error"),
    [
        (TLS.format("a"), "prometheus :9253",
         "prometheus with tls a (Corefile:2) and prometheus without tls (Corefile:8)"),
        ("prometheus :9253", TLS.format("a"),
         "prometheus without tls (Corefile:2) and prometheus with tls a (Corefile:6)"),
        (TLS.format("a"), TLS.format("b"), "prometheus with tls a (Corefile:2) and prometheus with tls b (Corefile:8)"),
        ("health :9253", TLS.format("a"), "health without tls and prometheus with tls a (Corefile:6)"),
    ],
)
def test_an_address_has_one_way_to_be_spoken_to(one: str, two: str, error: str) -> None:
    text = f". {{\n {one}\n whoami\n}}\na.test {{\n {two}\n whoami\n}}\n"
    source = Source("Corefile", text.encode())
    with pytest.raises(ConfigError) as caught:
        chain.load(load_source(source, chain.known(), chain.not_built()))
    assert str(caught.value) == f"plugin/prometheus: :9253 is asked for twice: {error}"
    assert [one.message for one in examine(source).findings.ordered()] == [str(caught.value)]
    other = text.replace(f" {two}\n", f" {two.replace('9253', '9254')}\n")
    chain.load(load_source(Source("Corefile", other.encode()), chain.known(), chain.not_built()))


def test_blocks_that_say_the_same_share_an_address() -> None:
    text = f". {{\n {TLS.format('a')}\n whoami\n}}\na.test {{\n {TLS.format('a')}\n whoami\n}}\n"
    chain.load(load_source(Source("Corefile", text.encode()), chain.known(), chain.not_built()))
