# SPDX-License-Identifier: Apache-2.0
"""From two answers of the server to the figures of the time between them.

Strategy: the server tells sums since its start (`ctl_top`), so a rate is a difference, and whoever looks has figures of
an interval of his own. A worker that was not there before has none yet. The lists of `top` come as figures: they are of
the sketches' windows, not of the interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Answer = dict[str, Any]
LISTS = {"clients": "client", "names": "name", "suffixes": "suffix"}
LISTS_MISSING = "no clients and names: write `top` into the server blocks of the Corefile"
COUNTS_MISSING = "no response codes and durations: write `prometheus` into the server blocks of the Corefile"


def another_server(before: Answer, after: Answer) -> bool:
    """Whether the counters began anew between the two."""
    return _pids(before, "supervisor") != _pids(after, "supervisor") or after["at"] <= before["at"]


def _pids(answer: Answer, role: str) -> set[int]:
    return {one["pid"] for one in answer["processes"] if one["role"] == role}


def quantile(bounds: Sequence[float], counts: Sequence[int], part: float) -> float | None:
    """A quantile as Prometheus finds it: on a straight line through its bucket; None where nothing was counted. What is
    above all bounds is at the last one."""
    total = sum(counts)
    if total <= 0:
        return None
    rank, passed, low = part * total, 0, 0.0
    for bound, count in zip(bounds, counts, strict=False):
        if count and passed + count >= rank:
            return low + (bound - low) * max(0.0, rank - passed) / count
        passed += count
        low = bound
    return low


def _durations(before: Answer | None, after: Answer | None) -> Answer | None:
    """A histogram of the time between: its answers, mean and quantiles in seconds."""
    if after is None:
        return None
    counts, total = list(after["counts"]), after["sum"]
    if before is not None:
        counts = [max(0, new - old) for new, old in zip(counts, before["counts"], strict=True)]
        total -= before["sum"]
    answers = sum(counts)
    return {
        "answers": answers,
        "mean": _round(max(0.0, total) / answers, 6) if answers else None,
        **{name: _round(quantile(after["bounds"], counts, part), 6) for name, part in (("p50", 0.5), ("p99", 0.99))},
    }


def _round(value: float | None, places: int) -> float | None:
    return None if value is None else round(value, places)


def _rate(new: float, old: float, seconds: float) -> float:
    return round(max(0.0, new - old) / seconds, 3)


def _processes(before: Answer, after: Answer, seconds: float) -> list[Answer]:
    old = {one["pid"]: one for one in before["processes"]}
    out = []
    for one in after["processes"]:
        told: Answer = {key: one[key] for key in ("role", "index", "pid") if key in one}
        was = old.get(one["pid"], {})
        for name, key in (("queries_per_second", "queries"), ("cpu", "cpu_seconds")):
            if key in one:
                known = was.get(key) is not None and one[key] is not None
                told[name] = _rate(one[key], was[key], seconds) if known else None
        out.append(told)
    return out


def _upstreams(before: Answer, after: Answer, seconds: float) -> list[Answer]:
    """The slowest first; those that answered nothing behind them, by what fails."""
    old = {one["to"]: one for one in before["upstreams"]}
    out = []
    for one in after["upstreams"]:
        was = old.get(one["to"], {})
        times = _durations(was.get("times"), one["times"]) or {"answers": 0, "mean": None, "p50": None, "p99": None}
        out.append({
            "to": one["to"],
            "answers_per_second": round(times["answers"] / seconds, 3),
            "mean": times["mean"],
            "p50": times["p50"],
            "p99": times["p99"],
            "servfails_per_second": _rate(one["servfails"], was.get("servfails", one["servfails"]), seconds),
            "checks_failed": one["checks_failed"],
            "failing_checks": one["failed_checks"],
            "drained": one["drained"],
        })
    return sorted(out, key=lambda one: (-(one["mean"] or 0.0), -one["failing_checks"], one["to"]))


def _lists(observed: Answer | None) -> Answer | None:
    """Each row with its rate and its part of all queries (of all for names that do not exist, for suffixes)."""
    if observed is None:
        return None
    out: Answer = {key: observed[key] for key in ("seconds", "queries", "nxdomain")}
    for kind, label in LISTS.items():
        whole = observed["nxdomain" if kind == "suffixes" else "queries"]
        out[kind] = [{label: row[label], "least": row["least"], "most": row["most"],
                      "queries_per_second": round(row["least"] / observed["seconds"], 3),
                      "share": round(row["least"] / whole, 4) if whole else None} for row in observed[kind]]
    return out


def between(before: Answer, after: Answer) -> Answer:
    """The figures of the time between two answers of one server; times in seconds, shares as parts of one."""
    seconds = after["at"] - before["at"]
    hits = max(0, after["cache_hits"] - before["cache_hits"])
    asked = hits + max(0, after["cache_misses"] - before["cache_misses"])
    every = _processes(before, after, seconds)
    workers = [one for one in every if one["role"] == "worker"]
    known = [one["queries_per_second"] for one in workers if one.get("queries_per_second") is not None]
    return {
        "seconds": round(seconds, 3),
        "generation": after["generation"],
        "uptime_seconds": after["uptime_seconds"],
        "queries_per_second": round(sum(known), 3) if known else None,
        "hit_ratio": round(hits / asked, 4) if asked else None,
        "latency": _durations(before["durations"], after["durations"]) if after["counted"] else None,
        "workers": workers,
        "others": [one for one in every if one["role"] != "worker"],
        "rcodes": {name: _rate(count, before["responses"].get(name, 0), seconds)
                   for name, count in after["responses"].items()} if after["counted"] else None,
        "upstreams": _upstreams(before, after, seconds),
        "lists": _lists(after["observed"]),
        "notes": [text for there, text in ((after["counted"], COUNTS_MISSING),
                                           (after["observed"] is not None, LISTS_MISSING)) if not there],
    }
