# SPDX-License-Identifier: Apache-2.0
"""_inflight: one question leaves every table it hangs in, and another enters, among few and among many."""

import pytest

from fastdns import _drive_micro

TURNS = 200_000


@pytest.mark.parametrize("held", [1, 100, 10_000])
def bench_question(repeated, held):
    assert repeated(_drive_micro.in_flight, held, TURNS, items=TURNS, unit="question") == TURNS
