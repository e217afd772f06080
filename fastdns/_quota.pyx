# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""How much of a CPU quota is left (see _quota.pxd for the rule).

Strategy: a ring of marks (moment, CPU used by then). What was used within the last period is the use now less the use
a period ago, between two marks by proportion; so a long pause between looks needs no rule of its own. A look is one
pread and two clocks. A file that cannot be read, or says no number, limits nothing.
"""

import os

from libc.stdint cimport uint32_t, uint64_t

from fastdns._sys cimport (
    CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID, c_close, c_pread, clock_gettime, fd_store_release32, memset,
    timespec,
)


cdef void quota_close(Quota *q) noexcept nogil:
    if q.fd >= 0:
        c_close(q.fd)
    q.fd = -1
    fd_store_release32(&q.spent, 0)


cdef int quota_open(Quota *q, object path, uint32_t scale, uint64_t quota_ns, uint64_t period_ns,
                    uint32_t workers) except -1:
    if quota_ns == 0 or period_ns < QUOTA_LOOKS or workers == 0:
        raise ValueError(f"a quota of {quota_ns} ns in {period_ns} ns for {workers} workers")
    memset(q, 0, sizeof(Quota))
    q.fd = -1
    q.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    q.scale = scale
    q.quota_ns = quota_ns
    q.period_ns = period_ns
    q.floor_ns = quota_ns // QUOTA_FLOOR // workers
    return 0


cdef double nanoseconds_of(int clock) noexcept nogil:
    # Nanoseconds, as a double: exact for 104 days of CPU.
    cdef timespec t
    clock_gettime(clock, &t)
    return t.tv_sec * 1e9 + t.tv_nsec


cdef double group_use(const Quota *q) noexcept nogil:
    # The first number in the file, in nanoseconds; -1 where there is none.
    cdef char text[64]
    cdef ssize_t n = c_pread(q.fd, text, sizeof(text), 0)
    cdef ssize_t i = 0
    cdef double value = 0
    while i < n and not c'0' <= text[i] <= c'9':
        i += 1
    if i >= n:
        return -1
    while i < n and c'0' <= text[i] <= c'9':
        value = value * 10 + (text[i] - c'0')
        i += 1
    return value * q.scale


cdef void quota_look(Quota *q, uint64_t now_ns) noexcept nogil:
    cdef double group_ns
    if now_ns < q.next_ns:
        return
    q.next_ns = now_ns + q.period_ns // QUOTA_LOOKS
    group_ns = group_use(q)
    if group_ns < 0:
        fd_store_release32(&q.spent, 0)
        return
    quota_judge(q, now_ns, group_ns, nanoseconds_of(CLOCK_PROCESS_CPUTIME_ID) - nanoseconds_of(CLOCK_THREAD_CPUTIME_ID))


cdef void quota_judge(Quota *q, uint64_t now_ns, double group_ns, double own_ns) noexcept nogil:
    cdef uint64_t then = now_ns - q.period_ns if now_ns > q.period_ns else 0
    cdef Mark *newer = &q.marks[q.at & (QUOTA_MARKS - 1)]
    cdef Mark *m
    cdef Mark base
    cdef double share
    cdef uint32_t i
    cdef bint spent
    newer.at_ns = now_ns
    newer.group_ns = group_ns
    newer.own_ns = own_ns
    base = newer[0]
    for i in range(1, QUOTA_MARKS):
        m = &q.marks[(q.at - i) & (QUOTA_MARKS - 1)]
        if m.at_ns == 0:
            break
        base = m[0]
        if m.at_ns <= then:
            if newer.at_ns > m.at_ns:
                share = <double>(then - m.at_ns) / <double>(newer.at_ns - m.at_ns)
                base.group_ns += share * (newer.group_ns - m.group_ns)
                base.own_ns += share * (newer.own_ns - m.own_ns)
            break
        newer = m
    q.at += 1
    spent = (group_ns - base.group_ns) * 4 >= <double>q.quota_ns * 3 and own_ns - base.own_ns >= q.floor_ns
    if spent:
        q.pressed_ns = now_ns + q.period_ns
    fd_store_release32(&q.spent, spent)


cdef class Gauge:
    """A quota as the hot thread sees it: for tests, and to look at one by hand. Nanoseconds all.

    `path`: the group's cpu.stat (scale 1000) or cpuacct.usage (scale 1).
    """

    cdef Quota quota

    def __cinit__(self):
        self.quota.fd = -1

    def __init__(self, path, scale: int, quota_ns: int, period_ns: int, workers: int = 1):
        quota_close(&self.quota)
        quota_open(&self.quota, path, scale, quota_ns, period_ns, workers)

    def __dealloc__(self):
        quota_close(&self.quota)

    def look(self, now_ns: int) -> bool:
        """Looks as the hot thread does; whether the quota is spent."""
        quota_look(&self.quota, now_ns)
        return self.quota.spent != 0

    def judge(self, now_ns: int, group_ns: float, own_ns: float) -> bool:
        """Judges figures that the caller brings."""
        quota_judge(&self.quota, now_ns, group_ns, own_ns)
        return self.quota.spent != 0

    @property
    def group_ns(self) -> float:
        """What the file says now; -1 where it says no number."""
        return group_use(&self.quota)
