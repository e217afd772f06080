# SPDX-License-Identifier: Apache-2.0
#
# Latencies counted in log-linear buckets, as HdrHistogram lays them out.
#
# Strategy: three significant digits need 2,048 buckets of one unit, then 1,024 for each doubling; the unit is a
# nanosecond, so the place of a value is a shift and an addition. The whole table is allocated once; recording is
# one increment. A value beyond the table's end is counted in the last bucket, its true size only in `sum` and `high`.

from libc.stdint cimport uint32_t, uint64_t

from fastdns._sys cimport c_clzll

cdef enum:
    DIGITS = 3
    SUB_BITS = 11                       # 2,048 buckets of the finest unit: 10^3 must differ from 10^3 + 1
    SUB_HALF = 1024
    DOUBLINGS = 32                      # of the finest range: 2,048 << 31 ns is more than the highest value
    BUCKETS = (DOUBLINGS + 1) * SUB_HALF
    HIGHEST_S = 3600                    # seconds

cdef struct Distribution:
    uint64_t *buckets                   # BUCKETS of them
    uint64_t count
    uint64_t sum
    uint64_t low, high


cdef inline uint32_t bucket_of(uint64_t ns) noexcept nogil:
    cdef uint32_t doubling
    if ns > <uint64_t>HIGHEST_S * 1000000000u:
        ns = <uint64_t>HIGHEST_S * 1000000000u
    doubling = 64 - SUB_BITS - <uint32_t>c_clzll(ns | (2 * SUB_HALF - 1))
    return (doubling << (SUB_BITS - 1)) + <uint32_t>(ns >> doubling)


cdef inline void distribution_add(Distribution *d, uint64_t ns) noexcept nogil:
    d.buckets[bucket_of(ns)] += 1
    d.count += 1
    d.sum += ns
    if ns < d.low:
        d.low = ns
    if ns > d.high:
        d.high = ns


cdef class Histogram:
    cdef Distribution d
