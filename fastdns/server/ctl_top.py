# SPDX-License-Identifier: Apache-2.0
"""What `fastdns top` asks for: sums of counters since the start, and the lists of whoever keeps some (`top`).

Strategy: the server keeps nothing for those who watch. It tells sums and the time at which they were read; who asks
twice has the figures of the time between, and any number may ask. Clients' addresses are in this answer, if the
Corefile has `top`, and in no other.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any

import psutil

from .. import metrics
from .._stats import Series
from . import ctl_report
from .ctl_commands import Host, command
from .ctl_site import Answer, Refused, Site

NANO = 1_000_000_000
COUNT = 10
COUNT_MOST = 100
CPUCLOCK_SCHED = 2  # <linux/posix-timers.h>

Histogram = dict[str, Any]


def cpu_seconds(pid: int) -> float | None:
    """CPU time of a process and of all its threads; None where the kernel does not tell."""
    try:
        # A process's clock counts nanoseconds; /proc, which may be hidden, counts hundredths of a second.
        return time.clock_gettime(~pid << 3 | CPUCLOCK_SCHED)
    except OSError:
        with contextlib.suppress(psutil.Error):
            times = psutil.Process(pid).cpu_times()
            return float(times.user + times.system)
    return None


def processes(site: Site, found: list[dict[str, Any]], series: list[Series]) -> list[dict[str, Any]]:
    """CPU time of the server's processes that live, and what each worker has read from its sockets."""
    queries = next((one.slot for one in series
                    if one.name == "fastdns_ingress_total" and one.labels == (("event", "query"),)), None)
    out = []
    supervisor = {"role": "supervisor", "pid": os.getppid()}
    for one in [*found, supervisor]:
        if one["pid"] <= 0:
            continue
        told = {"role": one["role"], "pid": one["pid"], "cpu_seconds": cpu_seconds(one["pid"])}
        if one["role"] == "worker" and one["row"] >= 0 and one["index"] >= 0:
            told["index"] = one["index"]
            told["queries"] = 0 if queries is None else site.stats.get_row(one["row"], queries)
        elif one["role"] == "worker":
            told["role"] = "spare"
        out.append(told)
    return sorted(out, key=lambda told: (told["role"] != "worker", told.get("index", -1), told["role"], told["pid"]))


def summed(series: list[Series], name: str, label: str = "") -> dict[str, Histogram]:
    """A family of histograms by the value of a label: upper bounds in seconds, counts of the buckets, the sum."""
    out: dict[str, Histogram] = {}
    for one in series:
        if one.name == name:
            key = dict(one.labels).get(label, "")
            into = out.setdefault(key, {"bounds": [bound / NANO for bound in one.bounds],
                                        "counts": [0] * (len(one.bounds) + 1), "sum": 0.0})
            into["counts"] = [a + b for a, b in zip(into["counts"], one.values, strict=False)]
            into["sum"] += one.values[-2] / NANO
    return out


def upstreams(site: Site, series: list[Series]) -> list[dict[str, Any]]:
    """The upstreams of the configuration, each once, with the histogram of its answers and what failed."""
    times = summed(series, "coredns_proxy_request_duration_seconds", "to")
    failures: dict[str, int] = {}
    servfails: dict[str, int] = {}
    for one in series:
        labels = dict(one.labels)
        if one.name == "coredns_proxy_healthcheck_failures_total":
            failures[labels["to"]] = failures.get(labels["to"], 0) + one.values[0]
        elif one.name == "coredns_proxy_request_duration_seconds" and labels["rcode"] == "SERVFAIL":
            servfails[labels["to"]] = servfails.get(labels["to"], 0) + sum(one.values[:-2])
    out: dict[str, dict[str, Any]] = {}
    for known in ctl_report.upstreams(site):
        to = known["to"]
        into = out.setdefault(to, {"to": to, "failed_checks": 0, "drained": known["drained"],
                                   "checks_failed": failures.get(to, 0), "servfails": servfails.get(to, 0),
                                   "times": times.get(to)})
        into["failed_checks"] = max(into["failed_checks"], known["failed_checks"])
    return list(out.values())


def totals(series: list[Series], name: str, label: str = "") -> dict[str, int]:
    """A family of counters, summed by the value of a label."""
    out: dict[str, int] = {}
    for one in series:
        if one.name == name:
            key = dict(one.labels).get(label, "")
            out[key] = out.get(key, 0) + one.values[0]
    return dict(sorted(out.items()))


def told(site: Site, found: list[dict[str, Any]], count: int) -> Answer:
    """The whole answer."""
    at = time.monotonic()
    series = metrics.read(site.stats)
    counted = any("prometheus" in block["directives"] for block in site.plan["blocks"])
    return {
        "at": round(at, 6),
        "generation": site.generation,
        "uptime_seconds": ctl_report.uptime(),
        "processes": processes(site, found, series),
        "counted": counted,  # whether `prometheus` counts rcodes and durations
        "responses": totals(series, "coredns_dns_responses_total", "rcode"),
        "durations": summed(series, "coredns_dns_request_duration_seconds").get(""),
        "cache_hits": sum(totals(series, "coredns_cache_hits_total").values()),
        "cache_misses": sum(totals(series, "coredns_cache_misses_total").values()),
        "upstreams": upstreams(site, series),
        "observed": None if site.observer is None else site.observer.observed(count),
    }


@command("top", count=int)
async def top(host: Host, words: Answer) -> Answer:
    """Sums of the counters, and at most `count` rows of each list."""
    count = words.get("count", COUNT)
    if not 1 <= count <= COUNT_MOST:
        raise Refused(f"count is 1 to {COUNT_MOST}")
    answer = await host.ask("workers")
    return await host.slowly(lambda _going: told(host.site, answer["processes"], count))
