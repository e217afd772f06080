# SPDX-License-Identifier: Apache-2.0
#
# How much of a CPU quota is left: so that a worker's Python thread stops before the kernel stops the whole server.
#
# The kernel gives a control group its quota anew each period (100 ms as a rule) and halts all of its threads when that
# is spent, the hot ones too: niceness does not help there. So the hot thread looks at the group's use while queries
# are in Python, sixteen times a period, and calls the quota spent when
#   - the group has used three quarters of it within the last period, wherever the kernel's own periods begin, and
#   - Python in this worker has used its floor: an eighth of the quota, shared by the workers. Others in the group, or
#     hits alone, may use it up; Python must not starve for that.
# The Python thread then begins nothing new (_bridge). What it has begun goes on.

from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    QUOTA_LOOKS = 16            # a period
    QUOTA_MARKS = 32            # two periods of them, a power of two
    QUOTA_FLOOR = 8             # the floor's share of the quota: one in so many

cdef struct Mark:
    uint64_t at_ns              # CLOCK_MONOTONIC; 0: never set
    double group_ns             # CPU that the group had used by then
    double own_ns               # ... and this process's threads but the hot one

cdef struct Quota:
    int fd                      # the group's cpu.stat or cpuacct.usage; -1: no quota is watched
    uint32_t scale              # nanoseconds in the unit of that file
    uint64_t quota_ns           # CPU time a period
    uint64_t period_ns
    uint64_t floor_ns           # of this worker's Python, a period
    uint64_t next_ns            # the next look
    uint64_t pressed_ns         # until a period after the quota was spent last
    uint32_t at
    uint32_t spent              # written by the hot thread, read by the Python thread
    Mark marks[QUOTA_MARKS]

cdef void quota_close(Quota *q) noexcept nogil
    # Watches nothing (any more).
cdef int quota_open(Quota *q, object path, uint32_t scale, uint64_t quota_ns, uint64_t period_ns,
                    uint32_t workers) except -1
    # Watches the group whose use is in the file `path`. OSError; ValueError for a quota or period of 0.
cdef void quota_look(Quota *q, uint64_t now_ns) noexcept nogil
    # The hot thread's look, at most QUOTA_LOOKS a period.
cdef void quota_judge(Quota *q, uint64_t now_ns, double group_ns, double own_ns) noexcept nogil
    # Sets `spent` by what was read.
