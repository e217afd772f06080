# SPDX-License-Identifier: Apache-2.0
"""Go's time.Time, time.Duration and time.Location, as far as an expression can meet them.

Strategy: a time is a number of nanoseconds since 1970 and a zone; the calendar is Python's. So it has Go's precision
and no more of Go's package than the methods of `signatures.METHODS`, and is written by Go's layouts (`layouts` reads
them). Years are those of Python: 1 to 9999.
"""

from __future__ import annotations

import re
import zoneinfo
from datetime import UTC, datetime, timedelta, timezone, tzinfo

SECOND = 1_000_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
          "November", "December")  # fmt: skip
DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
UNITS = {"ns": 1, "us": 1000, "µs": 1000, "μs": 1000, "ms": 1_000_000, "s": SECOND, "m": 60 * SECOND,
         "h": 3600 * SECOND}  # fmt: skip
PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)")

# The elements of a layout, which shows how 2006-01-02 15:04:05 would be written; the alternatives stand in the order in
# which Go prefers them.
ELEMENT = re.compile(
    r"January|Jan|Monday|Mon|MST|2006|002|__2|01|02|03|04|05|06|15|PM|pm|_2|-07:00:00|-070000|-07:00|-0700|-07"
    r"|Z07:00:00|Z070000|Z07:00|Z0700|Z07|[.,]0+(?![0-9])|[.,]9+(?![0-9])|1|2|3|4|5"
)


def wrap(number: int) -> int:
    """A number as Go's int holds it."""
    return number if -(1 << 63) <= number < 1 << 63 else (number + (1 << 63)) % (1 << 64) - (1 << 63)


class Duration(int):
    """Nanoseconds."""

    __slots__ = ()

    def __str__(self) -> str:
        n = abs(int(self))
        sign = "-" if self < 0 else ""
        if n == 0:
            return "0s"
        if n < SECOND:
            size, unit = (1, "ns") if n < 1000 else (1000, "µs") if n < 1_000_000 else (1_000_000, "ms")
            return f"{sign}{n // size}{fraction(n % size, size)}{unit}"
        seconds, rest = divmod(n, SECOND)
        out = f"{seconds % 60}{fraction(rest, SECOND)}s"
        minutes = seconds // 60
        if minutes:
            out = f"{minutes % 60}m{out}"
        if minutes >= 60:
            out = f"{minutes // 60}h{out}"
        return sign + out


def fraction(part: int, whole: int) -> str:
    """`.5` of a whole, without zeros at its end."""
    if part == 0:
        return ""
    return "." + str(part).rjust(len(str(whole)) - 1, "0").rstrip("0")


def parse_duration(text: str) -> Duration:
    """Go's `1h30m`. Raises ValueError in its words."""
    rest = text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return Duration(0)
    total, at = 0, 0
    while at < len(rest):
        match = PART.match(rest, at)
        if match is None or not (match[1] or match[2]):
            number = re.match(r"[0-9]+(\.[0-9]*)?|\.[0-9]+", rest[at:])
            if number is None:
                raise ValueError(f'time: invalid duration "{text}"')
            unit = re.match(r"[^.0-9]*", rest[at + number.end() :])
            name = unit[0] if unit else ""
            raise ValueError(f'time: unknown unit "{name}" in duration "{text}"' if name
                             else f'time: missing unit in duration "{text}"')
        unit_ns = UNITS[match[3]]
        total += int(match[1] or 0) * unit_ns
        if match[2]:
            total += int(match[2]) * unit_ns // 10 ** len(match[2])
        at = match.end()
    if not rest or total >= 1 << 63:
        raise ValueError(f'time: invalid duration "{text}"')
    return Duration(-total if text[0] == "-" else total)


class Location:
    """A time zone and its name."""

    __slots__ = ("name", "zone")

    def __init__(self, name: str, zone: tzinfo) -> None:
        self.name = name
        self.zone = zone

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Location) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __str__(self) -> str:
        return self.name


UTC_LOCATION = Location("UTC", UTC)


def local() -> Location:
    """The zone of the host."""
    return Location("Local", datetime.now().astimezone().tzinfo or UTC)


def load_location(name: str) -> Location:
    """A zone by its name in the database. Raises ValueError in Go's words."""
    if name in ("", "UTC"):
        return UTC_LOCATION
    if name == "Local":
        return local()
    try:
        return Location(name, zoneinfo.ZoneInfo(name))
    except (OSError, ValueError, zoneinfo.ZoneInfoNotFoundError):
        raise ValueError(f"unknown time zone {name}") from None


class Numbered(int):
    """A month or a day of the week: a number with a name."""

    __slots__ = ()
    names: tuple[str, ...] = ()
    first = 0

    def __str__(self) -> str:
        return self.names[int(self) - self.first]


class Month(Numbered):
    """1 to 12."""

    __slots__ = ()
    names = MONTHS
    first = 1


class Weekday(Numbered):
    """0 (Sunday) to 6."""

    __slots__ = ()
    names = DAYS


class Time:
    """A moment, in a zone."""

    __slots__ = ("location", "ns")

    def __init__(self, ns: int, location: Location = UTC_LOCATION) -> None:
        self.ns = ns
        self.location = location

    @classmethod
    def of(cls, when: datetime, nanosecond: int, location: Location) -> Time:
        """What a clock in the zone shows."""
        away = (when if when.tzinfo else when.replace(tzinfo=location.zone)) - EPOCH
        return cls((away.days * 86400 + away.seconds) * SECOND + nanosecond, location)

    @property
    def clock(self) -> datetime:
        """Calendar and clock in the zone, in whole seconds. Raises OverflowError beyond Python's years."""
        return (EPOCH + timedelta(seconds=self.ns // SECOND)).astimezone(self.location.zone)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Time) and self.ns == other.ns

    def __hash__(self) -> int:
        return hash(self.ns)

    def __str__(self) -> str:
        return format_time(self, "2006-01-02 15:04:05.999999999 -0700 MST")


def add_date(time: Time, years: int, months: int, days: int) -> Time:
    """The calendar moved on; what is beyond a month's end flows into the next one."""
    clock = time.clock
    month = clock.year * 12 + clock.month - 1 + years * 12 + months
    start = clock.replace(tzinfo=None, year=month // 12, month=month % 12 + 1, day=1)
    return Time.of(start + timedelta(days=clock.day - 1 + days), time.ns % SECOND, time.location)


def offset_location(seconds: int, name: str = "") -> Location:
    """A zone that is a fixed number of seconds east of UTC."""
    return Location(name, timezone(timedelta(seconds=seconds), name or "UTC"))


# ---- times as texts


def zone_text(element: str, offset: int) -> str:
    """`-0700` and its kin."""
    if element[0] == "Z" and offset == 0:
        return "Z"
    sign, away = ("-" if offset < 0 else "+"), abs(offset)
    parts = [f"{away // 3600:02}", f"{away // 60 % 60:02}", f"{away % 60:02}"]
    digits = sum(char.isdigit() for char in element) // 2
    return sign + (":" if ":" in element else "").join(parts[:digits])


def written(time: Time, clock: datetime, element: str) -> str:
    """One element of a layout."""
    if element[0] in ".,":
        digits = f"{time.ns % SECOND:09}"[: len(element) - 1]
        if element[1] == "9":
            digits = digits.rstrip("0")
        return element[0] + digits if digits else ""
    if element[0] in "-Z":
        offset = clock.utcoffset() or timedelta()
        return zone_text(element, offset.days * 86400 + offset.seconds)
    day = clock.toordinal() - clock.replace(month=1, day=1).toordinal() + 1
    twelve = clock.hour % 12 or 12
    half = "PM" if clock.hour >= 12 else "AM"
    return {
        "January": MONTHS[clock.month - 1], "Jan": MONTHS[clock.month - 1][:3],
        "Monday": DAYS[(clock.weekday() + 1) % 7], "Mon": DAYS[(clock.weekday() + 1) % 7][:3],
        "MST": zone_name(clock), "2006": f"{clock.year:04}", "06": f"{clock.year % 100:02}",
        "01": f"{clock.month:02}", "1": str(clock.month), "02": f"{clock.day:02}", "2": str(clock.day),
        "_2": f"{clock.day:2}", "002": f"{day:03}", "__2": f"{day:3}", "15": f"{clock.hour:02}",
        "03": f"{twelve:02}", "3": str(twelve), "04": f"{clock.minute:02}", "4": str(clock.minute),
        "05": f"{clock.second:02}", "5": str(clock.second), "PM": half, "pm": half.lower(),
    }[element]  # fmt: skip


def zone_name(clock: datetime) -> str:
    """The zone's abbreviation, or its distance from UTC where it has none."""
    name = clock.tzname() or "UTC"
    offset = clock.utcoffset() or timedelta()
    return zone_text("-0700", offset.days * 86400 + offset.seconds) if name == "UTC" and offset else name


def format_time(time: Time, layout: str) -> str:
    """The time by a layout."""
    clock = time.clock
    return ELEMENT.sub(lambda match: written(time, clock, match[0]), layout)
