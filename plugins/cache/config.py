# SPDX-License-Identifier: Apache-2.0
"""The grammar of cache, and what it means in the numbers that compiled code takes."""

from collections.abc import Mapping
from typing import Any

from fastdns.corefile.names import normalize
from fastdns.corefile.options import ARGERR, zones_arg
from fastdns.corefile.types import Choice, Duration, Int, Percent, Text
from fastdns.plugin import Arg, Directive, Dispenser, Option, Settings

SHARDS = 256
CAPACITY = 10000
CAPACITY_MAX = 1 << 26
TTL_MAX = 0x7FFFFFFF
MIN_TTL = 5
NANO = 1_000_000_000

TTL = Int(1, below="cache TTL can not be zero or negative: {value}")
FLOOR = Int(0, below="cache min TTL can not be negative: {value}")
SNAPSHOT_EVERY = Duration(0, below="invalid negative interval for snapshot")
STALE = {"stale_for": 0.0, "verify": False, "verify_timeout": 0.0, "stale_ttl": 0.0, "recheck": 0.0}


def stale_ttl(text: str, d: Dispenser) -> float:
    """RESP_TTL: a duration of whole seconds."""
    seconds = Duration(
        0,
        below="invalid negative response TTL for serve_stale",
        bad="invalid serve_stale response TTL: {error}",
    ).read(text, d)
    if seconds % 1:
        raise d.fail("serve_stale response TTL must be a whole number of seconds")
    if seconds > 0xFFFFFFFF:
        raise d.fail("serve_stale response TTL exceeds the DNS TTL range")
    return seconds


def recheck(text: str, d: Dispenser) -> float:
    """RECHECK: at most five minutes."""
    return Duration(
        0,
        300,
        below="invalid negative failure recheck for serve_stale",
        above="serve_stale failure recheck cannot exceed 5 minutes",
        bad="invalid serve_stale failure recheck: {error}",
    ).read(text, d)


def serve_stale(d: Dispenser) -> Mapping[str, Any]:
    """`serve_stale [D [immediate [RESP_TTL [RECHECK]] | verify [TIMEOUT [RESP_TTL [RECHECK]]]]]`."""
    words = d.remaining_args()
    if len(words) > 5:
        raise d.arg_err()
    found: dict[str, Any] = {**STALE, "stale_for": 3600.0}
    if words:
        found["stale_for"] = Duration(0, below="invalid negative duration for serve_stale").read(words[0], d)
    if len(words) > 1:
        bad = "invalid value for serve_stale refresh mode: {folded}"
        found["verify"] = Choice(("immediate", "verify"), bad=bad, fold=True).read(words[1], d) == "verify"
    rest = words[2:]
    if found["verify"] and rest:
        found["verify_timeout"] = Duration(
            0,
            below="invalid negative timeout for serve_stale verify",
            bad="invalid serve_stale verify timeout: {error}",
        ).read(rest.pop(0), d)
    if len(rest) > 2:
        raise d.arg_err()
    if rest:
        found["stale_ttl"] = stale_ttl(rest[0], d)
    if len(rest) > 1:
        found["recheck"] = recheck(rest[1], d)
    return found


class Unsaid(int):
    """A default that another option may replace."""


def _kind(kind: str, ttl: int) -> tuple[Arg, ...]:
    return (
        Arg(f"{kind}_capacity", Int(), default=CAPACITY, show="CAPACITY"),
        Arg(f"{kind}_ttl", TTL, default=Unsaid(ttl), optional=True, show="TTL"),
        Arg(f"{kind}_min_ttl", FLOOR, default=MIN_TTL, optional=True, show="MINTTL"),
    )


def disable(d: Dispenser) -> Mapping[str, Any]:
    """`disable success|denial [ZONES...]`: the last line of a kind counts."""
    words = d.remaining_args()
    if not words:
        raise d.arg_err()
    if words[0] not in ("success", "denial"):
        raise d.fail('cache type for disable must be "success" or "denial"')
    return {f"disable_{words[0]}": tuple(normalize(word) for word in words[1:]) or (".",)}


def check(settings: Settings, d: Dispenser) -> Settings | None:
    """What several options together must keep."""
    if "serve_stale_policy" in settings.given and "serve_stale" not in settings.given:
        raise d.fail("serve_stale_policy requires serve_stale")
    return None


CACHE = Directive(
    "cache",
    args=(Arg("ttl", TTL, probe=True), zones_arg()),
    options=(
        Option(
            "success",
            args=_kind("success", 3600),
            surplus="ignore",
            help="Answers and referrals: entries held, and the bounds of their TTL in seconds.",
        ),
        Option(
            "denial",
            args=_kind("denial", 1800),
            surplus="ignore",
            help="NXDOMAIN, NODATA and failures: entries held, and the bounds of their TTL in seconds.",
        ),
        Option(
            "prefetch",
            args=(
                Arg("amount", Int(0, below="prefetch amount should be positive: {value}"), default=0, show="AMOUNT"),
                Arg("duration", Duration(), default=60.0, optional=True, show="DURATION"),
                Arg("percentage", Percent(10, 90), default=10, optional=True, show="PERCENTAGE%"),
            ),
            help="Refreshes an entry in the background when AMOUNT queries asked for it with no pause of DURATION "
            "between them and PERCENTAGE of its TTL is left.",
        ),
        Option(
            "serve_stale",
            parse=serve_stale,
            defaults=STALE,
            usage="serve_stale [DURATION [immediate [TTL [RECHECK]] | verify [TIMEOUT [TTL [RECHECK]]]]]",
            help="Serves expired entries for DURATION (1h): at once, or when asking first (for TIMEOUT) fails.",
        ),
        Option(
            "serve_stale_policy",
            Choice(("prefer_positive",), bad="invalid serve_stale_policy: {text}", fold=True),
            repeat="once",
            show="POLICY",
            help="An answer, though expired, goes before a denial or an empty answer that came later.",
        ),
        Option(
            "servfail",
            Duration(
                0,
                300,
                below="invalid negative ttl for servfail",
                above="caching SERVFAIL responses over 5 minutes is not permitted",
            ),
            5.0,
            show="DURATION",
            help="How long SERVFAIL and NOTIMP are kept; 0: not at all.",
        ),
        Option(
            "disable",
            parse=disable,
            defaults={"disable_success": (), "disable_denial": ()},
            usage="disable success|denial [ZONES...]",
            help="Keeps no entries of that kind for names below ZONES (all).",
        ),
        Option(
            "snapshot",
            args=(
                Arg("snapshot", Text(), default="", show="PATH"),
                Arg("snapshot_interval", SNAPSHOT_EVERY, default=300.0, optional=True, show="INTERVAL"),
            ),
            repeat="once",
            help="Saves the entries to the file PATH every INTERVAL (0: not) and at the end; loads them at the start.",
        ),
        Option("keepttl", help="Hands out the TTL that an entry was stored with."),
    ),
    once=True,
    unknown=ARGERR,
    check=check,
    help="Keeps answers for names below ZONES, at most TTL seconds.",
)


def capacity(written: int) -> int:
    """Entries that CoreDNS holds for a CAPACITY: 256 shards of CAPACITY / 256, at least four each."""
    return min(max(written // SHARDS, 4) * SHARDS, CAPACITY_MAX)


def ttls(settings: Settings) -> tuple[tuple[int, int], tuple[int, int]]:
    """((maximum, minimum) of success, (maximum, minimum) of denial) in seconds. The line's own TTL stands where none
    follows."""
    pairs = []
    for kind in ("success", "denial"):
        most = settings[f"{kind}_ttl"]
        if settings["ttl"] is not None and isinstance(most, Unsaid):
            most = settings["ttl"]
        pairs.append((min(most, TTL_MAX), min(settings[f"{kind}_min_ttl"], TTL_MAX)))
    return pairs[0], pairs[1]
