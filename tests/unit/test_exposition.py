# SPDX-License-Identifier: Apache-2.0
"""The metrics text: other people's parsers read it, names pass Prometheus's lint, and numbers look like Go's."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families as families

from fastdns import metrics
from fastdns._stats import Series, Stats
from fastdns.server import exposition, process_metrics


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (1, "1"), (-3, "-3"), (0.00025, "0.00025"), (0.000025, "2.5e-05"), (8.192, "8.192"), (16000, "16000"),
        (1000000, "1e+06"), (1234567, "1.234567e+06"), (0.001591219, "0.001591219"), (100000, "100000"),
        (1e21, "1e+21"), (123456.5, "123456.5"), (2.5, "2.5"), (-0.5, "-0.5"), (12345678.25, "1.234567825e+07"),
    ],
)  # fmt: skip
def test_numbers_as_go_prints_them(value: float, text: str) -> None:
    assert exposition.number(value) == text


@settings(max_examples=300, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_lose_nothing(value: float) -> None:
    assert float(exposition.number(value)) == value


def counted() -> Stats:
    stats = Stats.create(8)
    metrics.declare(stats)
    cell = metrics.cell(stats, "dns://:53", ".", "", "cache")
    stats.add(1, cell["requests"], 7)
    stats.add(3, cell["requests"], 5)
    for raw in (1, 250_000, 300_000, 10**11):
        stats.observe(1, cell["duration"], metrics.DURATION.bounds, raw)
    stats.add(1, cell["written"] + 3)
    return stats


def parsed(stats: Stats) -> dict[str, dict]:
    text = exposition.render(metrics.read(stats)).decode()
    return {f.name: {(s.name, tuple(sorted(s.labels.items()))): s.value for s in f.samples} for f in families(text)}


def test_a_parser_reads_what_was_counted() -> None:
    found = parsed(counted())
    block = (("server", "dns://:53"), ("view", ""), ("zone", "."))
    labels = (("family", "1"), ("proto", "udp"), ("server", "dns://:53"), ("type", "A"), ("view", ""), ("zone", "."))
    assert found["coredns_dns_requests"] == {("coredns_dns_requests_total", labels): 12.0}
    seconds = found["coredns_dns_request_duration_seconds"]
    name = "coredns_dns_request_duration_seconds"
    assert seconds[f"{name}_count", block] == 4
    assert seconds[f"{name}_sum", block] == pytest.approx(100.000550001)
    buckets = {dict(k)["le"]: v for (n, k), v in seconds.items() if n.endswith("_bucket")}
    assert (buckets["0.00025"], buckets["0.0005"], buckets["8.192"], buckets["+Inf"]) == (2, 3, 3, 4)
    assert found["coredns_panics"] == {("coredns_panics_total", ()): 0.0}
    assert found["coredns_health_request_duration_seconds"]["coredns_health_request_duration_seconds_count", ()] == 0


def test_families_and_series_are_sorted_and_written_once() -> None:
    text = exposition.render(metrics.read(counted())).decode()
    names = re.findall(r"^# TYPE (\S+)", text, re.M)
    assert names == sorted(set(names))
    assert text.endswith("\n")
    assert "fastdns_extra_rcode" not in text


def test_words_pass_lint() -> None:
    series = metrics.read(counted()) + process_metrics.read(1, True)
    for one in series:
        assert re.fullmatch(r"[a-z_][a-z0-9_]*", one.name)
        assert one.help and not one.help.startswith(one.name)
        if one.kind == "counter":
            assert one.name.endswith("_total")
        if one.kind == "gauge":
            assert not one.name.endswith(("_total", "_count", "_bucket", "_sum"))
        if one.kind == "histogram":
            assert one.name.endswith(("_seconds", "_bytes"))
        assert all(re.fullmatch(r"[a-z_]+", name) for name, _ in one.labels)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_any_label_value_survives(value: str) -> None:
    series = Series("x_total", (("a", value),), "counter", (), "h", 1, (1,))
    (family,) = families(exposition.render([series]).decode())
    assert family.samples[0].labels == {"a": value}


def test_help_stays_on_its_line() -> None:
    text = exposition.render([Series("x", (), "gauge", (), "a\nb\\", 1, (-2,))]).decode()
    assert text == "# HELP x a\\nb\\\\\n# TYPE x gauge\nx -2\n"


def test_processes_are_added_up() -> None:
    import os

    found = {s.name: s.values[0] for s in process_metrics.read(os.getpid(), False)}
    assert found["process_resident_memory_bytes"] > 1 << 20
    assert found["process_cpu_seconds_total"] > 0
    assert found["process_open_fds"] > 2
    assert found["process_start_time_seconds"] > 10**18
    gone = {s.name: s.values[0] for s in process_metrics.read(2**22 - 1, False)}
    assert gone["process_open_fds"] == 0


def test_declarations() -> None:
    stats = Stats.create(8)
    metrics.attach(stats, 2)
    counter = metrics.Counter("t_total", "T.", ("a",))
    gauge = metrics.Gauge("t_timestamp_seconds", "T.")
    histogram = metrics.Histogram("t_seconds", "T.", ("a",), (0.5, 1))
    counter.inc("x")
    counter.inc("x", by=2)
    gauge.set(1.5)
    histogram.observe(0.75, "x")
    found = parsed(stats)
    assert found["t"]["t_total", (("a", "x"),)] == 3
    assert found["t_timestamp_seconds"]["t_timestamp_seconds", ()] == 1.5
    assert found["t_seconds"]["t_seconds_sum", (("a", "x"),)] == 0.75
    with pytest.raises(ValueError, match="labels"):
        counter.inc()
    with pytest.raises(ValueError, match="labels"):
        counter.grid(stats, ("x",), (("b", ("y",)),))
    share = metrics.Gauge("t_open", "T.")
    share.add(3)
    share.add(-1)
    assert parsed(stats)["t_open"] == {("t_open", ()): 2.0}


def test_both_kinds_of_cache_entries_show_once_there_is_one() -> None:
    class Entries:
        counts = (0, 0)

        def entries(self, block: int) -> tuple[int, int]:
            return self.counts if block == 7 else (9, 9)

    stats, segment = Stats.create(8), Entries()
    metrics.cache_site(stats, 0, 7, "dns://:53", ".", "")
    metrics.cache_site(stats, 1, 8, "dns://:53", "other.", "")
    assert metrics.cache_entries(stats, segment, 0) == []
    segment.counts = (3, 0)
    found = [(dict(series.labels), series.values) for series in metrics.cache_entries(stats, segment, 0)]
    where = {"server": "dns://:53", "zones": ".", "view": ""}
    assert found == [({**where, "type": "success"}, (3,)), ({**where, "type": "denial"}, (0,))]
