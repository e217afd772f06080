# SPDX-License-Identifier: Apache-2.0
"""Latencies in log-linear buckets; HdrHistogram's format."""

class Histogram:
    """How often each latency occurred, to three significant digits, up to an hour. Everything public is in seconds."""

    def __init__(self) -> None: ...
    @property
    def count(self) -> int: ...
    @property
    def mean(self) -> float: ...
    @property
    def min(self) -> float: ...
    @property
    def max(self) -> float: ...
    @property
    def stddev(self) -> float: ...
    def record(self, seconds: float, times: int = 1) -> None:
        """Count a latency. ValueError when it or `times` is negative."""

    def percentile(self, p: float) -> float:
        """The latency that `p` percent of the answers did not exceed; 0.0 when nothing was counted.

        ValueError when `p` is outside 0 .. 100."""

    def buckets(self) -> list[tuple[float, float, int]]:
        """(lowest, highest, count) of each bucket that holds something, in seconds, ascending."""

    def merge(self, other: Histogram) -> None:
        """Add what `other` counted."""

    def copy(self) -> Histogram: ...
    def encode(self) -> bytes:
        """HdrHistogram's V2 format, compressed, in base64; its values are nanoseconds."""

    @staticmethod
    def decode(encoded: bytes) -> Histogram:
        """What `encode` wrote, by us or by another library with the same range and digits; ValueError otherwise."""
