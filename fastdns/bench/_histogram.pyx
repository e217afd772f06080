# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""Latencies: log-linear buckets, percentiles, and HdrHistogram's format for other tools.

Strategy: `_histogram.pxd` counts, in nanoseconds; this file answers questions in seconds. `encode` writes the V2
format of HdrHistogram (compressed, base64), which its libraries for Python, Java, Go, C and others read, so none of
them is needed here.
"""

import base64
import struct
import zlib

from libc.stdint cimport int64_t, uint32_t, uint64_t

from fastdns._sys cimport calloc, free, memcpy
from fastdns.bench._histogram cimport (
    BUCKETS, DIGITS, HIGHEST_S, SUB_BITS, SUB_HALF, Distribution, bucket_of, distribution_add,
)

_COOKIE = 0x1C849303 | 0x10              # version 2; 0x10: counts are of variable length
_COMPRESSED_COOKIE = 0x1C849304 | 0x10
_HEADER = struct.Struct(">iiiiqqd")      # cookie, octets behind, offset, digits, lowest, highest, ratio


cdef uint64_t lowest_in(uint32_t bucket) noexcept nogil:
    cdef uint32_t doubling
    if bucket < 2 * SUB_HALF:
        return bucket
    doubling = (bucket >> (SUB_BITS - 1)) - 1
    return <uint64_t>(bucket - (doubling << (SUB_BITS - 1))) << doubling


cdef uint64_t highest_in(uint32_t bucket) noexcept nogil:
    return lowest_in(bucket + 1) - 1


cdef class Histogram:
    """How often each latency occurred, to three significant digits. Everything public is in seconds."""

    def __cinit__(self):
        self.d.buckets = <uint64_t *>calloc(BUCKETS, sizeof(uint64_t))
        if self.d.buckets == NULL:
            raise MemoryError("a histogram")
        self.d.low = <uint64_t>-1

    def __dealloc__(self):
        free(self.d.buckets)

    @property
    def count(self) -> int:
        return self.d.count

    @property
    def mean(self) -> float:
        return self.d.sum / 1e9 / self.d.count if self.d.count else 0.0

    @property
    def min(self) -> float:
        return self.d.low / 1e9 if self.d.count else 0.0

    @property
    def max(self) -> float:
        return self.d.high / 1e9

    @property
    def stddev(self) -> float:
        """Standard deviation, from the buckets' middles."""
        cdef double squares = 0, away, mean
        cdef uint32_t i
        if self.d.count == 0:
            return 0.0
        mean = <double>self.d.sum / <double>self.d.count
        for i in range(BUCKETS):
            if self.d.buckets[i]:
                away = <double>(lowest_in(i) + highest_in(i)) / 2 - mean
                squares += away * away * <double>self.d.buckets[i]
        return (squares / <double>self.d.count) ** 0.5 / 1e9

    def record(self, seconds: float, times: int = 1) -> None:
        """Count a latency. ValueError when it or `times` is negative."""
        if not seconds >= 0 or times < 0:
            raise ValueError(f"latency {seconds!r}, {times!r} times: neither may be negative")
        cdef uint64_t ns = <uint64_t>(min(seconds, 1e9) * 1e9 + 0.5)
        cdef uint64_t n = times
        if n:
            distribution_add(&self.d, ns)
            self.d.buckets[bucket_of(ns)] += n - 1
            self.d.count += n - 1
            self.d.sum += ns * (n - 1)

    def percentile(self, p: float) -> float:
        """The latency that `p` percent of the answers did not exceed; 0.0 when nothing was counted.

        ValueError when `p` is outside 0 .. 100.
        """
        if not 0 <= p <= 100:
            raise ValueError(f"percentile {p!r} is outside 0 .. 100")
        cdef uint64_t seen = 0, wanted
        cdef uint32_t i
        if self.d.count == 0:
            return 0.0
        wanted = max(1, <uint64_t>(p / 100.0 * <double>self.d.count + 0.5))
        for i in range(BUCKETS):
            seen += self.d.buckets[i]
            if seen >= wanted:
                return min(highest_in(i), self.d.high) / 1e9
        return self.max

    def buckets(self) -> list:
        """(lowest, highest, count) of each bucket that holds something, in seconds, ascending."""
        cdef uint32_t i
        return [
            (lowest_in(i) / 1e9, highest_in(i) / 1e9, self.d.buckets[i]) for i in range(BUCKETS) if self.d.buckets[i]
        ]

    def merge(self, other: Histogram) -> None:
        """Add what `other` counted."""
        cdef Distribution *o = &other.d
        cdef uint32_t i
        for i in range(BUCKETS):
            self.d.buckets[i] += o.buckets[i]
        self.d.count += o.count
        self.d.sum += o.sum
        self.d.low = min(self.d.low, o.low)
        self.d.high = max(self.d.high, o.high)

    def copy(self) -> Histogram:
        cdef Histogram twin = Histogram()
        memcpy(twin.d.buckets, self.d.buckets, BUCKETS * sizeof(uint64_t))
        twin.d.count, twin.d.sum, twin.d.low, twin.d.high = self.d.count, self.d.sum, self.d.low, self.d.high
        return twin

    def encode(self) -> bytes:
        """HdrHistogram's V2 format, compressed, in base64; its values are nanoseconds."""
        payload = bytearray()
        cdef uint32_t i = 0, run, end = BUCKETS
        while end and self.d.buckets[end - 1] == 0:
            end -= 1
        while i < end:
            run = i
            while self.d.buckets[run] == 0:     # ends: the last bucket before `end` is not empty
                run += 1
            if run > i:
                zigzag(payload, -<int64_t>(run - i))
                i = run
            else:
                zigzag(payload, <int64_t>self.d.buckets[i])
                i += 1
        head = _HEADER.pack(_COOKIE, len(payload), 0, DIGITS, 1, <uint64_t>HIGHEST_S * 1000000000u, 1.0)
        packed = zlib.compress(head + bytes(payload))
        return base64.b64encode(struct.pack(">ii", _COMPRESSED_COOKIE, len(packed)) + packed)

    @staticmethod
    def decode(encoded: bytes) -> Histogram:
        """What `encode` wrote, by us or by another library with the same range and digits.

        ValueError when it is anything else. The sum, the lowest and the highest value are those of the buckets.
        """
        try:
            raw = base64.b64decode(encoded, validate=True)
            cookie, size = struct.unpack_from(">ii", raw)
            inflater = zlib.decompressobj()
            data = inflater.decompress(raw[8:8 + size], _HEADER.size + 9 * BUCKETS)
            inner, octets, offset, digits, lowest, highest, _ratio = _HEADER.unpack_from(data)
        except (ValueError, struct.error, zlib.error) as error:
            raise ValueError(f"not an HdrHistogram: {error}") from None
        shape = cookie, inner, offset, digits, lowest, highest
        if shape != (_COMPRESSED_COOKIE, _COOKIE, 0, DIGITS, 1, <uint64_t>HIGHEST_S * 1000000000u):
            raise ValueError("an HdrHistogram of another version, range or precision")
        return filled(data[_HEADER.size:_HEADER.size + octets])


cdef Histogram filled(bytes payload):
    cdef Histogram h = Histogram()
    cdef uint64_t at = 0, value
    cdef int64_t count
    cdef uint32_t shift, n = 0, octet
    while n < len(payload):
        value = shift = 0
        while True:
            if n >= len(payload):
                raise ValueError("not an HdrHistogram: it ends inside a count")
            octet = payload[n]
            n += 1
            if shift == 56:             # the ninth octet has eight bits
                value |= <uint64_t>octet << shift
                break
            value |= <uint64_t>(octet & 0x7f) << shift
            if not octet & 0x80:
                break
            shift += 7
        count = <int64_t>(value >> 1) ^ -<int64_t>(value & 1)
        if count < 0:
            at += <uint64_t>-count
        else:
            if at >= BUCKETS:
                raise ValueError("not an HdrHistogram of this range: too many counts")
            if count:
                h.d.buckets[at] = <uint64_t>count
                h.d.count += <uint64_t>count
                h.d.sum += <uint64_t>count * ((lowest_in(<uint32_t>at) + highest_in(<uint32_t>at)) // 2)
                h.d.low = min(h.d.low, lowest_in(<uint32_t>at))
                h.d.high = highest_in(<uint32_t>at)
            at += 1
    return h


cdef zigzag(out, int64_t count):
    # LEB128 of the count with its sign in the lowest bit; more than 56 bits do not occur here.
    cdef uint64_t value = (<uint64_t>count << 1) ^ <uint64_t>(count >> 63)
    while value >= 0x80:
        out.append(<int>(value & 0x7f) | 0x80)
        value >>= 7
    out.append(<int>value)
