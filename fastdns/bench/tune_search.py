# SPDX-License-Identifier: Apache-2.0
"""Which numbers of sockets the tuner tries.

Strategy: a pure function over what it is told of each number, so that curves that were made up can test it: up a ladder
until more does not help, then between the rungs.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from .tune_curve import TOLERANCE

PATIENCE = 2
"""So many numbers in a row that do not help end the search."""
REFINEMENTS = 4


def ladder(cpus: int, most: int) -> list[int]:
    """Numbers of sockets to try, ascending: 1, 2, 3, 4, 6, 8, 12, 16 … and the number of CPUs."""
    steps = {cpus} if cpus <= most else set()
    step = 1
    while step <= most:
        steps |= {step, step * 3 // 2} if step > 1 else {step}
        step *= 2
    return sorted(number for number in steps if number <= most)


def search(measure: Callable[[int], float], cpus: int, most: int, tolerance: float = TOLERANCE) -> dict[int, float]:
    """Capacity by sockets: up the ladder until more does not help, then between rungs for the smallest that does."""
    found: dict[int, float] = {}
    best, idle = 0.0, 0
    for sockets in ladder(cpus, most):
        found[sockets] = measure(sockets)
        idle = 0 if found[sockets] > best * (1 + tolerance) else idle + 1
        best = max(best, found[sockets])
        if idle >= PATIENCE and sockets >= min(cpus, most):
            break
    for _ in range(REFINEMENTS):
        between = _between(found, tolerance)
        if between is None:
            break
        found[between] = measure(between)
    return dict(sorted(found.items()))


def _between(found: dict[int, float], tolerance: float) -> int | None:
    """A number that was not tried and may be the one: just below the smallest good one, or beside the best."""
    numbers = sorted(found)
    best = max(numbers, key=lambda number: found[number])
    good = next(number for number in numbers if found[number] >= found[best] * (1 - tolerance))
    # Steps of less than an eighth drown in the tolerance.
    gaps = [(low, high) for low, high in pairwise(numbers) if high - low > max(1, low // 8)]
    for low, high in gaps:
        if high == good:
            return (low + high) // 2
    for low, high in gaps:
        # A peak between two rungs shows as a best one whose neighbour is clearly lower.
        if best in (low, high) and min(found[low], found[high]) < found[best] * (1 - tolerance):
            return (low + high) // 2
    return None
