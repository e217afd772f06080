# SPDX-License-Identifier: Apache-2.0
"""The methods of times, durations and the like: what `signatures.METHODS` names.

Strategy: one table by type, of plain functions that get the value first.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from .times import UTC_LOCATION, Duration, Location, Month, Time, Weekday, add_date, format_time, local, wrap
from .values import go_int


def _month(time_: Time) -> Month:
    return Month(time_.clock.month)


def _rounded(value: int, to: int, half: bool) -> int:
    """Go's Truncate and Round: toward zero, and halves away from it."""
    if to <= 0:
        return value
    rest = abs(value) % to
    whole = abs(value) - rest + (to if half and rest * 2 >= to else 0)
    return -whole if value < 0 else whole


def _zero_based(time_: Time, to: Duration, half: bool) -> Time:
    """Go counts a time's multiples from the year 1."""
    zero = 62135596800 * 1_000_000_000
    if to <= 0:
        return time_
    rest = (time_.ns + zero) % to
    return Time(time_.ns - rest + (int(to) if half and rest * 2 >= to else 0), time_.location)


def methods() -> dict[type, dict[str, Callable[..., Any]]]:
    """What `signatures.METHODS` names, by Python's types."""
    text: dict[str, Callable[..., Any]] = {"String": str}
    clock: dict[str, Callable[..., Any]] = {
        name.capitalize(): operator.attrgetter(f"clock.{name}") for name in ("year", "day", "hour", "minute", "second")
    }
    return {
        Time: {
            **clock, **text,
            "Nanosecond": lambda when: when.ns % 1_000_000_000,
            "YearDay": lambda when: when.clock.timetuple().tm_yday,
            "Unix": lambda when: when.ns // 1_000_000_000, "UnixMilli": lambda when: when.ns // 1_000_000,
            "UnixMicro": lambda when: when.ns // 1000, "UnixNano": lambda when: when.ns,
            "Month": _month, "Weekday": lambda when: Weekday((when.clock.weekday() + 1) % 7),
            "Format": format_time, "AddDate": add_date,
            "Before": lambda when, other: when.ns < other.ns, "After": lambda when, other: when.ns > other.ns,
            "Equal": lambda when, other: when.ns == other.ns,
            "Compare": lambda when, other: (when.ns > other.ns) - (when.ns < other.ns),
            "Add": lambda when, by: Time(when.ns + by, when.location),
            "Sub": lambda when, other: Duration(wrap(when.ns - other.ns)),
            "Truncate": lambda when, to: _zero_based(when, to, False),
            "Round": lambda when, to: _zero_based(when, to, True),
            "UTC": lambda when: Time(when.ns, UTC_LOCATION), "Local": lambda when: Time(when.ns, local()),
            "In": lambda when, zone: Time(when.ns, zone), "Location": lambda when: when.location,
            "IsZero": lambda when: when.ns == -62135596800 * 1_000_000_000,
        },
        Duration: {
            **text,
            "Hours": lambda span: span / 3.6e12, "Minutes": lambda span: span / 6e10,
            "Seconds": lambda span: span / 1e9,
            "Milliseconds": lambda span: go_int(span / 1e6), "Microseconds": lambda span: go_int(span / 1e3),
            "Nanoseconds": int, "Abs": lambda span: Duration(abs(span)),
            "Truncate": lambda span, to: Duration(_rounded(span, to, False)),
            "Round": lambda span, to: Duration(_rounded(span, to, True)),
        },
        Month: text, Weekday: text, Location: text,
    }  # fmt: skip


METHODS = methods()
