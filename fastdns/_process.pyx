# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""System calls about processes that Python's standard library lacks.

Strategy: one function for each call, errors as OSError; nothing else lives here.
"""

from fastdns._sys cimport (
    PR_SET_CHILD_SUBREAPER, SIGEV_THREAD_ID, SYS_timer_create, SYS_timer_delete, SYS_timer_settime, c_syscall, errno,
    itimerspec, memset, prctl, sigevent,
)


def set_child_subreaper() -> None:
    """Make this process the one that orphaned descendants are handed to (prctl(2)). OSError."""
    if prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0:
        raise OSError(errno, "prctl")


def thread_timer(tid: int, signal: int, nanoseconds: int) -> int:
    """Sends `signal` to a thread of this process, by its kernel id, after each `nanoseconds` of that thread's own CPU
    time. The timer's number (timer_create(2)). OSError."""
    cdef sigevent event
    cdef itimerspec every
    cdef int number = 0
    memset(&event, 0, sizeof(event))
    event.sigev_notify = SIGEV_THREAD_ID
    event.sigev_signo = signal
    event.sigev_thread = tid
    every.it_interval.tv_sec = nanoseconds // 1000000000
    every.it_interval.tv_nsec = nanoseconds % 1000000000
    every.it_value = every.it_interval
    # A thread's CPU clock: its id inverted, 4 for a thread, 2 for time by the scheduler.
    if c_syscall(SYS_timer_create, <long>(~<int>tid << 3 | 6), &event, &number) < 0:
        raise OSError(errno, "timer_create")
    if c_syscall(SYS_timer_settime, <long>number, <long>0, &every, NULL) < 0:
        failed = errno
        c_syscall(SYS_timer_delete, <long>number)
        raise OSError(failed, "timer_settime")
    return number


def thread_timer_stop(number: int) -> None:
    """Deletes a timer of `thread_timer`."""
    c_syscall(SYS_timer_delete, <long><int>number)
