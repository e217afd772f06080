# SPDX-License-Identifier: Apache-2.0
"""The figures that commands of the control socket show: sums of counters, processes, upstreams, the machine.

Strategy: everything is read out of shared memory and /proc when asked for. No name, address or text of a client is in
any counter, so none can be in a report.
"""

from __future__ import annotations

import contextlib
import os
import platform
import time
from typing import TYPE_CHECKING, Any

import psutil

from .. import metrics
from .._stats import Series
from . import banner, cgroup

if TYPE_CHECKING:
    from .._stats import Stats
    from .ctl_site import Site

NANO = 1_000_000_000


def process(stats: Stats, one: dict[str, Any]) -> dict[str, Any]:
    """A process as the supervisor knows it, with what the kernel and its threads say."""
    out = {key: one[key] for key in ("role", "pid", "state", "generation")}
    with contextlib.suppress(psutil.Error):
        found = psutil.Process(one["pid"])
        with found.oneshot():
            times = found.cpu_times()
            out["cpu_seconds"] = round(times.user + times.system, 2)
            out["memory"] = found.memory_info().rss
    if one["role"] == "worker" and one["row"] >= 0:
        now = time.monotonic_ns()
        out["index"] = one["index"]
        for key, row in (("beat_ago", one["row"]), ("python_beat_ago", one["row"] + 1)):
            beat = stats.get_row(row, metrics.beat_slot(stats, row))
            out[key] = round(max(0, now - beat) / NANO, 3) if beat else None
    return out


def _total(series: list[Series], name: str) -> int:
    return sum(one.values[0] for one in series if one.name == name)


def _by(series: list[Series], name: str, label: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in series:
        if one.name == name and one.values[0]:
            key = dict(one.labels).get(label, "")
            found[key] = found.get(key, 0) + one.values[0]
    return dict(sorted(found.items()))


def stats(site: Site) -> dict[str, Any]:
    """Queries, replies, and the cache by block."""
    series = metrics.read(site.stats)
    out: dict[str, Any] = {
        "generation": site.generation,
        "uptime_seconds": uptime(),
        "workers": len(metrics.workers(site.stats)),
        "queries": _total(series, "coredns_dns_requests_total"),
        "queries_by_type": _by(series, "coredns_dns_requests_total", "type"),
        "responses": _by(series, "coredns_dns_responses_total", "rcode"),
        "cache": {
            "requests": _total(series, "coredns_cache_requests_total"),
            "hits": _by(series, "coredns_cache_hits_total", "type"),
            "misses": _total(series, "coredns_cache_misses_total"),
            "evictions": _total(series, "coredns_cache_evictions_total"),
            "served_stale": _total(series, "coredns_cache_served_stale_total"),
            "blocks": [],
        },
    }
    if site.segment is not None:
        out["cache"] |= {"memory": site.segment.taken, "memory_most": site.segment.octets}
        for one in site.caches():
            success, denial = site.segment.entries(one["id"])
            out["cache"]["blocks"].append({"block": one["id"], "zones": one["zones"], "success": success,
                                           "denial": denial, "success_capacity": one["success"],
                                           "denial_capacity": one["denial"]})
    return out


def uptime() -> int:
    """Seconds since the supervisor started."""
    with contextlib.suppress(psutil.Error):
        return max(0, int(time.time() - psutil.Process(os.getppid()).create_time()))
    return 0


def upstreams(site: Site) -> list[dict[str, Any]]:
    """Every upstream of the running configuration, by block and stanza."""
    words = site.stats.snapshot(words=True)
    drained = {one.labels[0][1] for one in words if one.name == "forward_drained" and one.values[0]}
    ids = {str(number) for number in site.block_ids}
    checks = {one.labels: one.values[0] for one in words if one.name == "forward_check"}
    looped = {one.labels for one in words if one.name == "forward_looped" and one.values[0]}
    times: dict[str, tuple[int, int]] = {}
    for one in words:
        if one.name == "coredns_proxy_request_duration_seconds":
            to = dict(one.labels).get("to", "")
            count, total = times.get(to, (0, 0))
            # A histogram's values: its buckets, the sum, the count.
            times[to] = count + one.values[-1], total + one.values[-2]
    out = []
    for one in words:
        labels = dict(one.labels)
        if one.name != "forward_fails" or labels["block"] not in ids:
            continue
        count, total = times.get(labels["to"], (0, 0))
        out.append({
            "block": int(labels["block"]),
            "zones": site.plan["blocks"][site.block_ids.index(int(labels["block"]))]["zones"],
            "stanza": int(labels["stanza"]),
            "to": labels["to"],
            "failed_checks": one.values[0],
            "checking": bool(checks.get(one.labels)),
            "drained": labels["to"] in drained,
            "looping": one.labels in looped,
            "answers": count,
            "mean_ms": round(total / count / 1e6, 3) if count else None,
        })
    return out


def report(site: Site) -> dict[str, Any]:
    """Versions, machine, limits, configuration by its hash, and every counter by its name."""
    quota = cgroup.cpu_quota()
    totals: dict[str, int] = {}
    for one in metrics.read(site.stats):
        if one.kind == "counter" and one.values[0]:
            totals[one.name] = totals.get(one.name, 0) + one.values[0]
    return {
        "version": banner.version_lines(),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "usable_cpus": len(os.sched_getaffinity(0)),
        "cpu_quota": round(quota.cpus, 3) if quota else None,
        "memory_limit": cgroup.memory_limit(),
        "config_sha512": site.plan.get("hash", ""),
        "directives": sorted({name for block in site.plan["blocks"] for name in block["directives"]}),
        "blocks": len(site.plan["blocks"]),
        "listeners": [{"server": at["server"], "sockets": at["sockets"], "steer": at["steer"]}
                      for at in site.plan["listeners"]],
        "counters": dict(sorted(totals.items())),
        "stats": stats(site),
    }
