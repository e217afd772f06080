# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""System calls about processes that Python's standard library lacks.

Strategy: one function for each call, errors as OSError; nothing else lives here.
"""

from fastdns._sys cimport PR_SET_CHILD_SUBREAPER, errno, prctl


def set_child_subreaper() -> None:
    """Make this process the one that orphaned descendants are handed to (prctl(2)). OSError."""
    if prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0:
        raise OSError(errno, "prctl")
