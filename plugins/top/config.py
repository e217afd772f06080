# SPDX-License-Identifier: Apache-2.0
"""The grammar of top."""

from fastdns.corefile.types import Duration, Int, Located
from fastdns.plugin import Directive, Option

SHOWN_MOST = 100


def number(what: str, low: int, high: int) -> Int:
    """A whole number whose errors name it, its bounds and the line."""
    out = Located(f"{what} must be {low} to {high}, not {{value}}")
    return Int(low, high, below=out, bad=Located(f"{what} must be {low} to {high}, not {{text}}"))


def seconds(what: str, low: float, high: float, words: str) -> Duration:
    """A duration whose errors name it, its bounds and the line."""
    out = Located(f"{what} must be {words}, not {{duration}}")
    return Duration(low, high, below=out, bad=Located(f"{what} must be {words}, not {{text}}"))


TOP = Directive(
    "top",
    options=(
        Option("window", seconds("window", 1.0, 600.0, "1s to 10m"), default=10.0, show="DURATION",
               help="Figures are of the last one to two windows."),
        Option("entries", number("entries", 64, 4096), default=256, show="COUNTERS",
               help="Counters that each worker has for each list, rounded up to a power of two."),
        Option("samples", number("samples", 100, 1_000_000), default=4000, show="RATE",
               help="Queries a second that a worker counts one by one; of more, a part is counted for all."),
        Option("ipv4_prefix", number("ipv4_prefix", 8, 32), default=32, show="LENGTH",
               help="Bits of an IPv4 address that make a client."),
        Option("ipv6_prefix", number("ipv6_prefix", 16, 128), default=64, show="LENGTH",
               help="Bits of an IPv6 address that make a client."),
        Option("depth", number("depth", 1, 8), default=4, show="LABELS",
               help="Labels of the longest suffix that names which do not exist are counted by."),
        Option("metrics", number("metrics", 1, SHOWN_MOST), show="COUNT",
               help="Exports the first COUNT of each list at /metrics, clients among them; without it none."),
    ),
    once=True,
    help="Counts the busiest clients and names, for `fastdns top`.",
)
