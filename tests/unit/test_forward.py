# SPDX-License-Identifier: Apache-2.0
"""The Python face of the compiled forward stage: what it refuses, and that its numbers mean what the names say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fastdns import metrics as core
from fastdns._forward import EVENTS, RCODES, stage
from fastdns._stats import OVERFLOW_LABEL, Stats
from fastdns.plugins.forward import metrics

TREE = Path(__file__).resolve().parents[2]
ADDRESS = "127.0.0.1"


def settings(stats: Stats, **changes: object) -> dict[str, object]:
    upstream = {"address": ADDRESS, "port": 53, "to": f"{ADDRESS}:53", **metrics.upstream_slots(stats, 1, 0, "x")}
    return {
        "zone": b"\0",
        "ignored": [],
        "upstreams": [upstream],
        "policy": 0,
        **dict.fromkeys(("force_tcp", "prefer_udp", "failfast", "next_on_nodata", "has_next"), False),
        **dict.fromkeys(("max_fails", "max_attempts", "max_age", "max_idle_conns", "max_concurrent"), 0),
        "read_timeout": 2.0,
        "expire": 10.0,
        "limit_text": "",
        "next": (),
        "failover": (),
        "source": "",
        "wake_fd": -1,
        "label": -1,
        "descriptors": 64,
        **metrics.stanza_slots(stats, 1, 0, False),
        **changes,
    }


def test_stage() -> None:
    stats = Stats.create(4)
    made = stage(settings(stats, zone=b"\4test\0", ignored=[b"\1a\4test\0"], next=(3, 4095), source="::1"), stats)
    assert made.name == "forward" and made.owner is not None


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"zone": b""}, "no name"),
        ({"zone": bytes(256)}, "no name"),
        ({"ignored": [b"\0", b""]}, "no name"),
        ({"upstreams": []}, "1 to 255 upstreams"),
        ({"next": (4096,)}, "no rcode"),
        ({"failover": (-1,)}, "no rcode"),
    ],
)
def test_refused(changes: dict[str, object], error: str) -> None:
    stats = Stats.create(4)
    with pytest.raises(ValueError, match=error):
        stage(settings(stats, **changes), stats)


def test_too_many_upstreams() -> None:
    stats = Stats.create(4)
    one = settings(stats)["upstreams"]
    assert isinstance(one, list)
    with pytest.raises(ValueError, match="1 to 255 upstreams"):
        stage(settings(stats, upstreams=one * 256), stats)


@pytest.mark.parametrize("address", ["localhost", "", "1.2.3", "::g"])
def test_addresses_are_numbers(address: str) -> None:
    stats = Stats.create(4)
    (one,) = settings(stats)["upstreams"]  # type: ignore[misc]
    with pytest.raises(OSError):
        stage(settings(stats, upstreams=[{**one, "address": address}]), stats)


def test_events_are_those_of_the_counters() -> None:
    text = (TREE / "fastdns" / "_inflight.pxd").read_text()
    numbers = dict(re.findall(r"^    COUNT_(\w+) = (\d+)$", text, re.M))
    assert [numbers[name] for name in numbers] == [str(n) for n in range(len(EVENTS))]
    assert f"    COUNTS = {len(EVENTS)}\n" in text
    names = [name.lower() for name in numbers]
    assert [name.replace("to_tcp", "moved_to_tcp") for name in names] == list(EVENTS)


def test_durations_have_a_place_for_each_rcode() -> None:
    assert len(metrics.RCODE_LABELS) == RCODES == len(set(metrics.RCODE_LABELS))
    assert metrics.RCODE_LABELS[0] == "NOERROR" and metrics.RCODE_LABELS[12] == "12"
    assert metrics.RCODE_LABELS[-1] == OVERFLOW_LABEL
    assert metrics.DURATION.bounds == tuple(round(b * core.NANO) for b in core.TIME_BUCKETS)
    assert metrics.DURATION.bounds == tuple(250_000 << n for n in range(16))
